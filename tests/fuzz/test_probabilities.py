"""CSVs of probabilities and their sidecars: the numbers that were written, or one line."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phalanx.submission.probabilities import Probabilities, write_probabilities
from phalanx.voting.probabilities import Ballot

from .harness import Format, fuzz, seconds_of_a_test

CLASSES = ["healthy", "b,c", "손"]
IMAGES = ["im1.png", "im2.png", 'q"x, y.png', "é.png"]


def content(table: Probabilities) -> Any:
    """All that is read, as commands use it."""
    assert np.isfinite(table.values).all()
    return table.images, table.classes, table.values.tolist(), table.head, table.sizes


def read_with_sidecar(folder: Path) -> Any:
    return content(Probabilities.read(folder / "p.csv"))


def read_alone(folder: Path) -> Any:
    return content(Probabilities.read(folder / "p.csv", CLASSES, "softmax", IMAGES))


def read_pair(folder: Path) -> Any:
    ballot = Ballot([Probabilities.read(folder / name) for name in ("p.csv", "q.csv")])
    return ballot.mean().tolist()


def formats(place: Path) -> list[Format]:
    values = np.random.default_rng(2).dirichlet(np.ones(3), len(IMAGES))
    write_probabilities(
        place / "p.csv", IMAGES, CLASSES, values, "softmax", sizes={"im1.png": (6, 8)},
        run_hashes={"run": hashlib.sha256(b"run").hexdigest()}, key=hashlib.sha256(b"key").hexdigest(),
    )  # fmt: skip
    files = {name: (place / name).read_bytes() for name in ("p.csv", "p.json")}
    pair = {"p.csv": files["p.csv"], "q.csv": files["p.csv"]}
    return [
        Format("probabilities", files, read_with_sidecar, damaged=["p.csv"], sealed=True, text=True),
        Format("sidecar of probabilities", files, read_with_sidecar, damaged=["p.json"], text=True),
        Format("probabilities alone", {"p.csv": files["p.csv"]}, read_alone, text=True),
        Format("members of probabilities", pair, read_pair, text=True),
    ]


NAMES = ["probabilities", "sidecar of probabilities", "probabilities alone", "members of probabilities"]


@pytest.mark.parametrize("name", NAMES)
def test_damaged_probabilities_are_read_or_refused(name, tmp_path):
    (form,) = (form for form in formats(tmp_path) if form.name == name)
    report = fuzz(form, tmp_path, seconds=seconds_of_a_test(slow=False))
    assert not report.findings
    assert report.cases
