"""DICOM files as 8-bit grey.

The rule: modality rescale first (slope and intercept, or its table), then the file's VOI table or first window if
it has one (PS3.3 C.11.2), which becomes 0..255. Without either, the smallest of 8, 10, 12, 14 or 16 bits that holds
the brightest stored value becomes 0..255, as with a deep PNG; negative values count from the smallest in the image.
There a slope and intercept would only scale and shift what is rescaled anyway, so only the slope's sign matters.
MONOCHROME1, whose smallest value is white, is inverted last.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError

ENDINGS = (".dcm", ".dicom")


def is_dicom(path: Path, data: np.ndarray) -> bool:
    """Whether the bytes uint8[N] of a file are DICOM, by their magic bytes or, without them, by the file's name."""
    return data[128:132].tobytes() == b"DICM" or path.suffix.lower() in ENDINGS


def decode(path: Path, data: np.ndarray) -> np.ndarray:
    """The bytes uint8[N] of a DICOM file as uint8[H, W].

    Raises:
        DataError: not a DICOM image, several frames, colours by palette, or a compression that cannot be decoded here.
    """
    import pydicom

    try:
        image = pydicom.dcmread(BytesIO(data.tobytes()), force=True)
        syntax = image.file_meta.get("TransferSyntaxUID") if "file_meta" in image.__dict__ else None
        if "PixelData" not in image or "Rows" not in image:
            raise DataError(f"{path}: a DICOM file without an image, or none at all; restore it or remove its record")
        frames = int(image.get("NumberOfFrames") or 1)
        kind = str(image.get("PhotometricInterpretation", "MONOCHROME2"))
    except DataError:
        raise
    except Exception as error:  # the parser raises errors of many types
        raise DataError(f"{path}: not a readable DICOM file ({error}); restore it or remove its record") from None
    if frames > 1:
        raise DataError(f"{path}: contains {frames} frames; save the one to segment as its own file")
    if kind.startswith("PALETTE"):
        raise DataError(f"{path}: {kind} pixels; save the image in grey")
    if syntax is None:  # no file header: the standard's default
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    try:
        stored = pydicom.pixels.pixel_array(image)  # colours arrive as RGB
    except Exception as error:
        if syntax is not None and syntax.is_compressed:
            raise DataError(
                f"{path}: compressed as {syntax.name}, which cannot be decoded here. Decompress it (`dcmdjpeg`, "
                "`gdcmconv --raw`), or install pydicom's plug-ins: pip install pylibjpeg pylibjpeg-libjpeg "
                "pylibjpeg-openjpeg"
            ) from None
        text = " ".join(str(error).split())
        raise DataError(f"{path}: its pixels cannot be read ({text}); restore it or remove its record") from None
    try:
        grey = _grey(image, stored)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError) as error:
        raise DataError(f"{path}: its rescale or window cannot be used ({error}); correct the file") from None
    return np.ascontiguousarray(255 - grey if kind == "MONOCHROME1" else grey)


def to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Whole numbers from 0, at most 16 bits, to uint8, from the smallest of 8, 10, 12, 14 or 16 bits that holds all.

    >>> to_eight_bits(np.array([0, 2048, 4095]))
    array([  0, 128, 255], dtype=uint8)
    """
    bits = next(bits for bits in (8, 10, 12, 14, 16) if int(values.max()) < 1 << bits)
    return (values >> (bits - 8)).astype(np.uint8)


def _grey(image: Any, stored: np.ndarray) -> np.ndarray:
    """Stored values, or RGB, as uint8[H, W] by the rule above; MONOCHROME1 not yet inverted."""
    import cv2
    from pydicom.pixels import apply_modality_lut, apply_voi

    if stored.ndim == 3:
        return cv2.cvtColor(to_eight_bits(stored), cv2.COLOR_RGB2GRAY)
    if image.get("VOILUTSequence"):
        depth = int(image.VOILUTSequence[0].LUTDescriptor[2])
        return (apply_voi(apply_modality_lut(stored, image), image) >> (depth - 8)).astype(np.uint8)
    centres, widths = (_numbers(image.get(key)) for key in ("WindowCenter", "WindowWidth"))
    if centres and widths:
        rescaled = np.asarray(apply_modality_lut(stored, image), float)
        return window(rescaled, centres[0], widths[0], str(image.get("VOILUTFunction") or "LINEAR").upper())
    if image.get("ModalityLUTSequence"):
        return to_eight_bits(apply_modality_lut(stored, image).astype(np.int64))
    values = stored.astype(np.int64)
    grey = to_eight_bits(values - min(0, int(values.min())))
    slope = float(image.get("RescaleSlope") or 1)
    return 255 - grey if slope < 0 else grey


def window(values: np.ndarray, centre: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """A window on float64[H, W] as uint8[H, W] (PS3.3 C.11.2.1.2 and C.11.2.1.3), rounded.

    Raises:
        ValueError: an impossible width, or a function that the standard does not have.
    """
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise ValueError(f"WindowWidth {width:g}")
    if function == "SIGMOID":
        levels = 1 / (1 + np.exp(-4 * (values - centre) / width))
    elif function in ("LINEAR", "LINEAR_EXACT"):
        if function == "LINEAR":  # in the standard's words: 256 values from 0 have the centre 128 and the width 256
            centre, width = centre - 0.5, width - 1
        levels = (values - centre) / width + 0.5 if width else (values > centre).astype(float)
    else:
        raise ValueError(f"VOILUTFunction {function}")
    return np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)


def _numbers(value: Any) -> list[float]:
    """One number, several or none, as in DICOM elements."""
    if value is None or value == "":
        return []
    return [float(one) for one in (value if hasattr(value, "__iter__") and not isinstance(value, str) else [value])]
