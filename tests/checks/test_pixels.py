"""Checks of image files: each bad one is reported, whatever is wrong with it, and the rest is checked all the same."""

import json
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.data.dicoms import write

from phalanx.checks import pixels as module
from phalanx.checks.run import check
from phalanx.config import SegmentData
from phalanx.data.images import read_grey


@pytest.fixture
def folder(tmp_path):
    """Makes a data set of images by name, each with an annotation of its own."""
    rng = np.random.default_rng(0)

    def make(**files):
        for name in ("first.png", *(key.replace("__", ".") for key in files), "last.png"):
            place = tmp_path / "train/DCM" / name.split(".")[0] / name
            place.parent.mkdir(parents=True)
            picture = cv2.GaussianBlur(rng.integers(0, 256, (60, 80), np.uint8), (0, 0), 3) * 2
            Image.fromarray(picture).save(place.with_suffix(".png"))
            if (change := files.get(name.replace(".", "__"))) is not None:
                content = place.with_suffix(".png").read_bytes()
                place.with_suffix(".png").unlink()
                changed = change(place, content)
                if changed is not None:
                    place.write_bytes(changed)
            corner = int(rng.integers(10, 20))
            points = [[corner, corner], [corner + 20, corner], [corner + 20, corner + 20]]
            labels = tmp_path / "train/outputs_json" / name.split(".")[0] / f"{name.split('.')[0]}.json"
            labels.parent.mkdir(parents=True)
            labels.write_text(json.dumps({"annotations": [{"label": "a", "points": points}]}))
        return SegmentData(name="t", root=tmp_path, classes=["a"], size=64)

    return make


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


HUGE = chunk(b"IHDR", struct.pack(">IIBBBBB", 99999, 99999, 8, 0, 0, 0, 0))
BAD = {
    "cut__png": lambda path, content: content[:-200],
    "hole__png": lambda path, content: content[:100] + bytes(50) + content[150:],
    "empty__png": lambda path, content: b"",
    "text__jpg": lambda path, content: b"404",
    "huge__png": lambda path, content: content[:8] + HUGE + content[33:],
    "deep__dcm": lambda path, content: write(path, np.full((9, 9), 1 << 20, np.uint32)) and None,
    "float__tif": lambda path, content: Image.fromarray(np.zeros((9, 9), np.float32)).save(path),
    "gif__png": lambda path, content: b"GIF89a" + bytes(99),
}  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
def test_every_bad_image_is_reported_and_the_others_are_checked(folder, workers):
    report = check(folder(**BAD), workers=workers, progress=False)
    unreadable = {finding.image: finding for finding in report.findings if finding.kind == "unreadable"}
    assert set(unreadable) == {name.replace("__", ".") for name in BAD}
    assert all(finding.severity == "error" and "\n" not in finding.text for finding in unreadable.values())
    assert "MAX_PIXELS" in unreadable["huge.png"].text
    assert {f.image for f in report.findings if f.severity == "error"} == set(unreadable)
    assert report.images["train"] == len(BAD) + 2


@pytest.mark.parametrize("error", [StopIteration(), RuntimeError("inside\na library"), MemoryError()])
def test_an_unexpected_error_ends_no_check(folder, monkeypatch, error):
    def read(path):
        if path.name == "odd.png":
            raise error
        return read_grey(path)

    monkeypatch.setattr(module, "read_grey", read)
    report = check(folder(odd__png=lambda path, content: content), workers=1, progress=False)
    found = [finding for finding in report.findings if finding.severity == "error"]
    assert [(finding.image, finding.kind) for finding in found] == [("odd.png", "unreadable")]
    assert "\n" not in found[0].text


def test_turned_images_and_bytes_after_the_end_are_noted(folder):
    def turned(path, content):
        block = Image.Exif()
        block[274] = 6
        Image.fromarray(cv2.imdecode(np.frombuffer(content, np.uint8), 0)).save(path, exif=block)

    report = check(folder(long__png=lambda path, content: content + b"more", turned__png=turned), progress=False)
    notes = {(os.path.basename(f.file), f.kind): f for f in report.findings if f.kind in ("turned", "extra-bytes")}
    assert set(notes) == {("long.png", "extra-bytes"), ("turned.png", "turned")}
    assert all(finding.severity == "note" for finding in notes.values())
    assert notes["long.png", "extra-bytes"].text.startswith("4 bytes after the end")
