"""Submission CSVs and their sidecars: the masks that were written, or one line."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phalanx.masks import rle
from phalanx.submission.matching import check_matching
from phalanx.submission.table import Submission, write

from .harness import Format, fuzz, seconds_of_a_test

CLASSES = ["a", "b,c", "손"]
VOTE = {"how": "soft", "members": ["a", "b"], "agreement": None}
KEY = hashlib.sha256(b"key").hexdigest()
SIZES = {"im1.png": (6, 8), "im2.png": (4, 4), 'q"x, y.png': (5, 3)}


def _rows() -> list[tuple[str, list[str]]]:
    rng = np.random.default_rng(1)
    return [
        (name, [rle.encode(rng.random(size) < 0.4) if label != 1 else "" for label in range(3)])
        for name, size in sorted(SIZES.items())
    ]


def content(submission: Submission) -> Any:
    """All that is read of a CSV, as commands use it."""
    return [
        (image, [part.tolist() for part in (stack.splits, stack.runs)], submission.sizes.get(image))
        for image in submission.images
        for stack in [submission.stack(image)]
    ], submission.classes


def read_with_sidecar(folder: Path) -> Any:
    return content(Submission.read(folder / "x.csv"))


def read_alone(folder: Path) -> Any:
    return content(Submission.read(folder / "x.csv", CLASSES, (6, 8)))


def read_pair(folder: Path) -> Any:
    pair = [Submission.read(folder / name) for name in ("x.csv", "y.csv")]
    check_matching(pair)
    return [content(one) for one in pair]


def formats(place: Path) -> list[Format]:
    write(place / "x.csv", _rows(), CLASSES, SIZES, {"run": hashlib.sha256(b"run").hexdigest()}, VOTE, KEY)
    files = {name: (place / name).read_bytes() for name in ("x.csv", "x.json")}
    other = {f"y{Path(name).suffix}": data for name, data in files.items()}
    return [
        Format("submission", files, read_with_sidecar, damaged=["x.csv"], sealed=True, text=True),
        Format("sidecar beside", files, read_with_sidecar, damaged=["x.json"], text=True),
        Format("submission alone", {"x.csv": files["x.csv"]}, read_alone, text=True),
        Format("submissions", {"x.csv": files["x.csv"], "y.csv": other["y.csv"]}, read_pair, text=True),
    ]  # fmt: skip


NAMES = ["submission", "sidecar beside", "submission alone", "submissions"]


@pytest.mark.parametrize("name", NAMES)
def test_damaged_submissions_are_read_or_refused(name, tmp_path):
    (form,) = (form for form in formats(tmp_path) if form.name == name)
    report = fuzz(form, tmp_path, seconds=seconds_of_a_test(slow=False))
    assert not report.findings
    assert report.cases
