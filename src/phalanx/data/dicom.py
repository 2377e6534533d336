"""DICOM files as 8-bit grey: which are one image of a size and kind that is read. See `dicom_pixels` for the levels."""

import logging
import warnings
import zlib
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..errors import DataError
from .dicom_pixels import DEFLATED, Contradiction, grey_of, line, stored_values, whole
from .grey import to_eight_bits
from .headers import MAX_PIXELS, check_size

ENDINGS = (".dcm", ".dicom")
MARKS = (b"\x08\x00", b"\x02\x00\x00\x00")  # begin of a file without preamble: its first tag
OTHER_MARKS = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM", b"RIFF")
REMEDY = "restore it or remove its record"
EXPLICIT = b"\0" * 128 + b"DICM\2\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"  # the head of a file that is not deflated
MAX_INFLATED = 4 * MAX_PIXELS  # bytes of a deflated file
MAX_MM = 100.0  # of a pixel
MEANINGS = {1: ("MONOCHROME1", "MONOCHROME2"), 3: ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")}


def is_dicom(path: Path, content: bytes) -> bool:
    """Whether a file is DICOM, by its magic bytes or, without them, by its first tag or the file's name."""
    if content[128:132] == b"DICM":
        return True
    named = path.suffix.lower() in ENDINGS and not content.startswith(OTHER_MARKS)
    return named or content.startswith(MARKS)


def size_of(path: Path, content: bytes) -> tuple[int, int]:
    """Height and width of a DICOM file. Raises DataError as :func:`decode`, as far as the tags show it."""
    image = _parsed(path, content)
    return int(image.Rows), int(image.Columns)


def decode(path: Path, content: bytes) -> np.ndarray:
    """A DICOM file as uint8[H, W].

    Raises:
        DataError: not a DICOM image, several frames, colours by palette, contradictory tags, or a compression that
            cannot be decoded here.
    """
    image = _parsed(path, content)
    syntax = image.file_meta.TransferSyntaxUID
    try:
        stored = stored_values(image)
    except Contradiction as error:
        raise DataError(f"{path}: {error}; correct its tags, or {REMEDY}") from None
    except MemoryError:
        raise DataError(f"{path}: does not fit into memory; save the image smaller") from None
    except Exception as error:
        if syntax.is_compressed and syntax != DEFLATED:
            raise DataError(
                f"{path}: compressed as {syntax.name}, which cannot be decoded here ({line(error)[:200]}). Decompress "
                "it (`dcmdjpeg`, `gdcmconv --raw`), or install pydicom's plug-ins: pip install pylibjpeg "
                "pylibjpeg-libjpeg pylibjpeg-openjpeg"
            ) from None
        raise DataError(f"{path}: its pixels cannot be read ({line(error)}); {REMEDY}") from None
    try:
        if stored.ndim == 3:
            return cv2.cvtColor(to_eight_bits(stored), cv2.COLOR_RGB2GRAY)
        return np.ascontiguousarray(grey_of(image, stored))
    except MemoryError:
        raise DataError(f"{path}: does not fit into memory; save the image smaller") from None
    except Exception as error:  # values of any type may be in the tags
        raise DataError(f"{path}: its rescale or window cannot be used ({line(error)}); correct the file") from None


class Spacing(NamedTuple):
    """Size of a pixel in mm.

    Attributes:
        rows: between the centres of neighbouring rows.
        columns: between those of neighbouring columns.
        tag: that it was read from: PixelSpacing, or ImagerPixelSpacing, which is measured at the detector and larger
            than in the patient by the magnification of the projection (PS3.3 10.7.1).
    """

    rows: float
    columns: float
    tag: str


def spacing_of(path: Path, content: bytes) -> Spacing | None:
    """Size of a pixel of a DICOM file; None if it is not known. Raises DataError as :func:`decode`."""
    image = _parsed(path, content)
    for tag in ("PixelSpacing", "ImagerPixelSpacing"):
        try:
            rows, columns = (float(value) for value in image.get(tag) or ())
        except (TypeError, ValueError):
            continue
        if 0 < rows < MAX_MM and 0 < columns < MAX_MM:
            return Spacing(rows, columns, tag)
    return None


def _parsed(path: Path, content: bytes) -> Any:
    """The pydicom.Dataset of one image of a size that is read, with a transfer syntax that pydicom knows."""
    _quiet()
    import pydicom

    try:
        image = pydicom.dcmread(BytesIO(_inflated(content)), force=True)
        syntax = _syntax(image)
        there = {name for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if name in image}
        rows, columns, samples, frames = (
            whole(image, name) for name in ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")
        )
        kind = str(image.get("PhotometricInterpretation") or "").strip()
    except Contradiction as error:
        raise DataError(f"{path}: {error}; correct its tags, or {REMEDY}") from None
    except Exception as error:  # the parser raises errors of many types
        raise DataError(f"{path}: not a readable DICOM file ({line(error)}); {REMEDY}") from None
    if not there or rows is None or columns is None:
        raise DataError(f"{path}: a DICOM file without an image, or none at all; {REMEDY}")
    if there != {"PixelData"}:
        raise DataError(f"{path}: contains {min(there)}; save the image with 8 or 16 bits")
    check_size(path, rows, columns)
    if frames not in (None, 1):
        raise DataError(f"{path}: contains {frames} frames; save the one to segment as its own file")
    if kind.startswith("PALETTE"):
        raise DataError(f"{path}: {kind} pixels; save the image in grey")
    samples = samples or 1
    if kind not in MEANINGS.get(samples, ()):
        raise DataError(
            f"{path}: SamplesPerPixel {samples} with PhotometricInterpretation {kind or 'missing'}; save the image in "
            "grey"
        )
    image.SamplesPerPixel, image.PhotometricInterpretation = samples, kind
    image.file_meta.TransferSyntaxUID = syntax
    return image


@cache
def _quiet() -> None:
    """Silences pydicom: it warns of values that the standard forbids, and what cannot be used is an error here."""
    import pydicom

    warnings.filterwarnings("ignore", module=r"pydicom\.")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def _inflated(content: bytes) -> bytes:
    """A file whose data set is not deflated, as pydicom would inflate one to any size."""
    import pydicom

    if DEFLATED.encode() not in content[:4096]:
        return content
    file = BytesIO(content)
    pydicom.filereader.read_preamble(file, force=True)
    meta = pydicom.filereader._read_file_meta_info(file)
    if meta.get("TransferSyntaxUID") != DEFLATED:
        return content
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    data = stream.decompress(content[file.tell() :], MAX_INFLATED)
    if stream.unconsumed_tail:
        raise Contradiction(f"deflated from more than {MAX_INFLATED} bytes")
    if not stream.eof:
        raise ValueError("its deflated data is cut off")
    return EXPLICIT + data


def _syntax(image: Any) -> Any:
    """The transfer syntax of a file; of one without, that in which its tags were found."""
    import pydicom

    if "file_meta" not in image.__dict__:
        image.file_meta = pydicom.dataset.FileMetaDataset()
    named = image.file_meta.get("TransferSyntaxUID")
    if not named:
        implicit, little = image.original_encoding
        if little is False:
            return pydicom.uid.ExplicitVRBigEndian
        return pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
    syntax = pydicom.uid.UID(str(named))
    if not syntax.is_transfer_syntax or syntax.is_private:
        raise Contradiction(f"TransferSyntaxUID {str(named)[:64]!r} is not a transfer syntax")
    return syntax
