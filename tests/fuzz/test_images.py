"""Images, masks and cached samples, damaged at random, by the functions that the commands call."""

import hashlib
import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image
from tests.data.dicoms import lut, write
from tests.data.pictures import encoded, exif
from tests.data.tiffs import tiff
from tests.fuzz.harness import Format, fuzz, seconds_of_a_test

from phalanx.data.cache_folder import packed, unpacked
from phalanx.data.digests import Digests
from phalanx.data.images import Grid, header_of, image_size, read_grey
from phalanx.data.mask_files import read_labels, read_mask
from phalanx.data.prepared import Prepared
from phalanx.errors import DataError
from phalanx.masks.planes import PlaneRuns

SHAPE = (24, 32)
NAMES = (
    "png", "jpeg", "tiff", "tiff compressed", "bmp", "webp", "dicom", "dicom compressed", "dicom tables", "mask png",
    "cached sample", "digests.csv",
)  # fmt: skip


def read(path):
    """What the commands read of an image: its pixels and, from its header, its size, which must agree."""
    image = read_grey(path)
    assert image.dtype == np.uint8
    assert image.shape == image_size(path)
    assert image.flags.c_contiguous
    header_of(path)
    return image.shape, hashlib.sha256(image).digest()


def any_of(folder):
    """Reads all files of a folder; the errors of those that were altered name them."""
    found, errors = [], []
    for path in sorted(folder.iterdir()):
        try:
            found.append(read(path))
        except DataError as error:
            errors.append(str(error))
    if errors:
        raise DataError(" and ".join(errors))
    return found


def pictures():
    smooth = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 65536, SHAPE, np.uint16), (0, 0), 2)
    return smooth, (smooth >> 8).astype(np.uint8)


def dicoms(place, deep, grey):
    """Files by format and name."""
    place.mkdir()

    def made(name, values, syntax=None, **tags):
        path = write(place / name, values, **tags)
        if syntax is not None:
            image = pydicom.dcmread(path)
            image.compress(syntax) if syntax.is_encapsulated else None
            image.file_meta.TransferSyntaxUID = syntax
            image.save_as(path)
        return path.read_bytes()

    deflated, rle = pydicom.uid.DeflatedExplicitVRLittleEndian, pydicom.uid.RLELossless
    windowed = {"WindowCenter": 900, "WindowWidth": 2000, "RescaleSlope": 2, "RescaleIntercept": -100}
    tables = {"VOILUTSequence": [lut([256, 0, 8], grey.ravel()[:256].tobytes())], "PixelPaddingValue": 0}
    return {
        "dicom": {
            "a.dcm": made("a.dcm", deep, **windowed),
            "b.dcm": made("b.dcm", deep >> 4, stored=12, HighBit=11, kind="MONOCHROME1", PixelPaddingValue=7),
            "c.dcm": made("c.dcm", np.dstack([grey] * 3), kind="RGB"),
        },
        "dicom compressed": {
            "a.dcm": made("a.dcm", deep, deflated, **windowed),
            "b.dcm": made("b.dcm", grey, rle),
            "c.dcm": made("c.dcm", deep, rle),
        },
        "dicom tables": {
            "a.dcm": made("a.dcm", grey, **tables),
            "b.dcm": made("b.dcm", deep >> 6, ModalityLUTSequence=[lut([768, 0, 16], deep.tobytes())]),
        },
    }


def sample(deep):
    square = cv2.resize((deep >> 8).astype(np.uint8), (32, 32))
    return Prepared(square, PlaneRuns.of((square[:, :, None] > [90, 120]).astype(np.uint8) * 5), Grid(*SHAPE, 32))


def read_sample(folder):
    path = folder / f"{'a' * 64}.sample"
    found = unpacked("a" * 64, path.read_bytes())
    if found is None:
        raise DataError(f"{path}: made again")
    return [found.image.tobytes(), found.runs.planes().tobytes(), found.grid]


def read_masks(folder):
    labels, mask = read_labels(folder / "a.png"), read_mask(folder / "b.png")
    return labels.tobytes(), mask.tobytes(), read_mask(folder / "a.png").shape, read_labels(folder / "b.png").shape


def formats(place: Path) -> list[Format]:
    """Image files, of which each case alters one or two."""
    deep, grey = pictures()
    colours = np.dstack([grey, grey[::-1], grey[:, ::-1]])
    raw = deep.astype("<u2").tobytes()
    palette = Image.fromarray(grey).quantize(16)
    small = io.BytesIO()
    palette.save(small, "PNG", bits=4, exif=exif(6))
    tiles = [deep[y : y + 16, x : x + 16] for y in (0, 8) for x in (0, 16)]
    image_files = {
        "png": {
            "a.png": encoded(grey, "PNG"),
            "b.png": encoded(deep, "PNG"),
            "c.png": small.getvalue(),
            "d.png": encoded(np.dstack([colours, grey]), "PNG", exif=exif(5)) + b"more",
        },
        "jpeg": {
            "a.jpg": encoded(grey, "JPEG", exif=exif(8)),
            "b.jpg": encoded(colours, "JPEG", progressive=True, exif=exif(6)),
        },
        "tiff": {
            "a.tif": tiff(raw, SHAPE, 16, photometric=0, t274=6),
            "b.tif": tiff(deep.astype(">u2").tobytes(), SHAPE, 16, order=">", big=True),
            "c.tif": tiff([tile.tobytes() for tile in tiles], SHAPE, 16, tile=(16, 16)),
            "d.tif": tiff(np.packbits(grey > 99, axis=1).tobytes(), SHAPE, 1),
            "e.tif": tiff(colours.tobytes(), SHAPE, 8, photometric=2, samples=3),
        },
        "tiff compressed": {
            "a.tif": encoded(deep, "TIFF", compression="tiff_lzw"),
            "b.tif": encoded(colours, "TIFF", compression="packbits"),
            "c.tif": tiff(zlib.compress(raw), SHAPE, 16, t259=8, t317=2),
            "d.tif": encoded(colours, "TIFF", compression="jpeg"),
            "e.tif": encoded(grey > 99, "TIFF", compression="group4"),
        },
        "bmp": {"a.bmp": encoded(grey, "BMP"), "b.bmp": encoded(colours, "BMP"), "c.bmp": encoded(grey > 99, "BMP")},
        "webp": {"a.png": encoded(colours, "WEBP", exif=exif(3)), "b.png": encoded(colours, "WEBP", lossless=True)},
        **dicoms(place / "dicom", deep, grey),
    }
    masks = {"a.png": encoded(grey >> 4, "PNG", exif=exif(6)), "b.png": encoded(deep, "PNG")}
    table = Digests({f"{name}.png": (f"{name:064x}", f"{name + 9:064x}") for name in range(9)})
    return [
        *(Format(name, files, any_of) for name, files in image_files.items()),
        Format("mask png", masks, read_masks),
        Format("cached sample", {f"{'a' * 64}.sample": packed("a" * 64, sample(deep))}, read_sample, sealed=True),
        Format(
            "digests.csv",
            {"digests.csv": table.to_csv().encode()},
            lambda folder: Digests.read(folder / "digests.csv"),
            text=True,
        ),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_read_or_refused_in_a_line(tmp_path, name):
    (tmp_path / "good").mkdir()
    form = next(form for form in formats(tmp_path / "good") if form.name == name)
    report = fuzz(form, tmp_path, seconds=seconds_of_a_test(slow=False))
    assert report.cases > 10
    assert report.findings == []


def test_all_formats_are_tried(tmp_path):
    assert [form.name for form in formats(tmp_path)] == list(NAMES)
