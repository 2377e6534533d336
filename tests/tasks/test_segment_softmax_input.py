"""What a softmax makes of unusual ground truth: images without an object, shapes without area, shapes outside."""

import json

import cv2
import numpy as np
import pytest
import torch
from tests.label_maps import make, words

from phalanx.cli import main
from phalanx.config.compose import compose
from phalanx.data.images import Grid
from phalanx.data.layouts import truth
from phalanx.data.quarantine import kept_records
from phalanx.engine.fit import fit
from phalanx.errors import DataError
from phalanx.submission.table import Submission
from phalanx.tasks.segment import Segment

pytestmark = pytest.mark.usefixtures("one_thread")
SQUARE = [[8, 8], [24, 8], [24, 24], [8, 24]]


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Label maps, of which the first two, of one animal, are background throughout."""
    root = make(tmp_path_factory.mktemp("maps") / "set", train=12)
    for number in (0, 1):
        cv2.imwrite(str(root / f"train/labels/x{number:03d}.png"), np.zeros((48, 40), np.uint8))
    return root


def test_images_without_an_object_have_a_finite_loss_and_count_as_negative(maps, tmp_path):
    config = compose(words(maps, runs=tmp_path, epochs=1, validate_every=0, loss__class_weights="[1,2,3]"))
    records = kept_records(config.data)
    task = Segment(config, records, ())
    batch = task.training_set.collate([task.training_set[(0, i)] for i in (0, 1)])
    step = task.step(task.network, batch)
    step.loss.backward()
    assert torch.isfinite(step.loss)
    assert all(torch.isfinite(p.grad).all() for p in task.network.parameters() if p.grad is not None)
    for fold in (0, 1):
        fit(config, fold, records, Segment)
    found = [Submission.read(tmp_path / f"base/fold{fold}/oof.csv") for fold in (0, 1)]
    assert {"x000.png", "x001.png"} <= {image for one in found for image in one.images}  # scored, not left out


def polygons(root, *shapes):
    """Two patients with one image each in the competition's layout; ``shapes`` of the first: label and points."""
    for number, own in enumerate((shapes, [("normal", SQUARE)])):
        image = root / f"train/DCM/P{number}/x{number}.png"
        image.parent.mkdir(parents=True)
        cv2.imwrite(str(image), np.full((48, 40), 90, np.uint8))
        file = root / f"train/outputs_json/P{number}/x{number}.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"annotations": [{"label": name, "points": points} for name, points in own]}))
    return root


def config_of(root, runs, **changes):
    given = words(root, runs=runs, data__layout="competition", data__overlap="last", **changes)
    return compose({key: value for key, value in given.items() if not key.startswith("data.masks")} | {
        "data.masks": "null"})  # fmt: skip


def classes_of(record, data):
    """Class numbers uint8[48, 40] of a record."""
    planes = truth(record, data, Grid(48, 40, 48))[:48, :40, 0]
    assert ((planes & 1) & (planes >> 1 & 1)).max() == 0  # no pixel has two classes
    return (planes & 1) + 2 * (planes >> 1 & 1)


def test_polygons_that_overlap_leave_the_frame_or_lie_outside(tmp_path):
    """Of two classes the last one counts, what leaves the frame is cut, and one wholly outside leaves background."""
    root = polygons(
        tmp_path / "set", ("diseased", [[16, 16], [90, 16], [90, 30], [16, 30]]), ("normal", SQUARE),
        ("diseased", [[60, 60], [70, 60], [70, 70]]),
    )  # fmt: skip
    data = config_of(root, tmp_path).data
    found = classes_of(kept_records(data)[0], data)
    assert found[10, 10] == 1
    assert found[20, 20] == 2  # both: diseased is the last of data.classes
    assert found[20, 39] == 2
    assert found[40, 35] == 0


@pytest.mark.parametrize("points", [[[5, 5], [9, 5]], [[5, 5]], []])
def test_a_polygon_without_area_is_one_line(tmp_path, points, capsys):
    root = polygons(tmp_path / "set", ("diseased", points))
    config = config_of(root, tmp_path / "runs", folds=2)
    with pytest.raises(DataError, match=r"x0\.json"):
        classes_of(kept_records(config.data)[0], config.data)
    given = words(root, runs=tmp_path / "runs", data__layout="competition", data__overlap="last")
    given = {key: value for key, value in given.items() if not key.startswith("data.masks")} | {"data.masks": "null"}
    assert main(["train", *(f"{key}={value}" for key, value in given.items()), "fold=0"]) == 2
    error = capsys.readouterr().err.strip()
    assert "x0.json" in error
    assert "no area" in error or "polygon" in error or "points" in error
    assert "\n" not in error
    assert not (tmp_path / "runs").exists()


def test_a_value_of_no_class_is_one_line(tmp_path, capsys):
    root = make(tmp_path / "set", train=4)
    cv2.imwrite(str(root / "train/labels/x000.png"), np.full((48, 40), 7, np.uint8))
    given = words(root, runs=tmp_path / "runs")
    assert main(["train", *(f"{key}={value}" for key, value in given.items()), "fold=0"]) == 2
    error = capsys.readouterr().err.strip()
    assert "x000.png" in error
    assert "7" in error
    assert "\n" not in error
