"""Results of trainings that never were, and a scale tiny enough to train in a test."""

import json
import shutil

import numpy as np
import pytest

from phalanx.cli import main
from phalanx.config.compose import config_folder
from phalanx.runtime.metric import Metric
from phalanx.sweep.results import SweepResult

CLASSES = ["Radius", "Ulna", "Pisiform"]


@pytest.fixture
def invented():
    """invented(row, seed, dice): a result whose patients' Dice by class is float[P, 3]."""

    def make(row: str, seed: int, dice: np.ndarray, **changes: object) -> SweepResult:
        names = [f"p{seed}-{number}" for number in range(len(dice))]
        values = {
            "table": "t", "row": row, "scale": "small", "data": "d", "seed": seed, "fold": 0,
            "metric": Metric("dice"), "value": float(np.mean(dice)), "seconds": 1.0, "curve": [[5, 0.5]],
            "patients": dict(zip(names, np.asarray(dice).tolist(), strict=True)),
            "images": dict.fromkeys(names, 2), "overrides": [], "recipe": {"seed": seed, "data": {"classes": CLASSES}},
            "command": "phalanx sweep t", "commit": "c0ffee0", "machine": "a machine",
        }  # fmt: skip
        return SweepResult(**(values | changes))

    return make


TABLE = """
title: Tiny
why: To see that it works.
overrides: {overrides}
rows:
  - {{name: plain, source: a report}}
  - {{name: same, source: a report, overrides: [optim.lr=1e-2], baseline: plain, outcome: open}}
  - {{name: faster, source: a report, overrides: [optim.lr=2e-2], baseline: plain, outcome: worked, published: tiny}}
  - {{name: broken, source: a report, overrides: ["loss.stages=[{{weights:{{dise:1}}}}]"]}}
"""


def make_place(folder, tiny):
    """Own configs in a folder: a scale ``tiny`` and tables ``one`` and ``two``, which begin alike."""
    shutil.copytree(config_folder(), folder / "configs", ignore=lambda _, names: ["sweep"] * ("sweep" in names))
    (folder / "configs/experiment/claims_tiny.yaml").write_text("# @package _global_\nepochs: 2\n")
    with (folder / "configs/published.yaml").open("a") as file:
        file.write("tiny: {gain: 0.01, score: validation, recipe: a recipe}\n")
    words = [word for word in tiny("unet", epochs=2) if not word.startswith("data.root")]
    (folder / "configs/sweep").mkdir()
    for name in ("one", "two"):
        (folder / f"configs/sweep/{name}.yaml").write_text(TABLE.format(overrides=json.dumps(words)))


@pytest.fixture
def place(tmp_path, monkeypatch, tiny):
    """A working folder as :func:`make_place` makes it."""
    make_place(tmp_path, tiny)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def swept(tmp_path_factory, tiny):
    """A place where both folds of the rows plain and faster were trained on hands that look like ``hands``."""
    folder = tmp_path_factory.mktemp("swept")
    make_place(folder, tiny)
    root = next(word for word in tiny("unet") if word.startswith("data.root"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["sweep", "one", "rows=plain,faster", "fold=0,1", "seeds=0", "scale=tiny", root]) == 0
    return folder


@pytest.fixture
def trained(place, swept):
    """``place`` with the runs of :func:`swept`, whose results are not written yet."""
    shutil.copytree(swept / "runs", place / "runs")
