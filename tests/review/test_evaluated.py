"""Evaluations of runs: the same figures as those that finished folds recorded, whatever the task."""

import json

import numpy as np
import pytest
from tests.boxed import make_table
from tests.boxed import words as box_words
from tests.oof_runs import make_run, overconfident

from phalanx.cli import main
from phalanx.commands.tasks import TASKS
from phalanx.ensemble.detect_oof import out_of_fold
from phalanx.errors import ConfigError
from phalanx.review.evaluate_options import EvaluateOptions
from phalanx.review.scene import BoxScene, LabelScene, MaskScene, worst_classes
from phalanx.scoring.resampling import RESAMPLES


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    place = tmp_path_factory.mktemp("boxes")
    root = make_table(place / "set")
    words = box_words(root, "boxes", runs=place / "runs", name="boxes", folds=2, metric="f1_iou")
    assert main(["train", "fold=0,1", *(f"{key}={value}" for key, value in words.items())]) == 0
    return place / "runs"


def evaluated(task, name, runs):
    return TASKS[task].evaluate(name, EvaluateOptions(runs=runs))


def test_masks_have_the_dice_of_their_folds(runs):
    found = evaluated("segment", "fpn", runs)
    folds = [json.loads((runs / "fpn" / fold / "oof_score.json").read_text()) for fold in ("fold0", "fold1")]
    recorded = {image: value for fold in folds for image, value in fold["per_image"].items()}
    assert found.metric.name == "dice"
    assert dict(zip(found.names, found.per_image.tolist(), strict=True)) == pytest.approx(recorded)
    assert found.value == pytest.approx(np.mean(list(recorded.values())))
    first = np.array([image.fold == 0 for image in found.images])
    assert found.value_of(first) == pytest.approx(folds[0]["dice"])
    by_class = {row.label: row.value for row in found.table(first)}
    assert by_class == pytest.approx({label: one["dice"] for label, one in folds[0]["classes"].items()})
    present = {row.label: row.present for row in found.table(first)}
    assert present == {label: one["present"] for label, one in folds[0]["classes"].items()}
    assert set(found.attributes()) >= {"sex", "age", "height", "weight", "rotated"}


def test_pixels_are_counted_once_and_drawn_as_they_are(runs):
    found = evaluated("segment", "fpn", runs)
    worst = found.ranked()[0]
    assert found.per_image[worst] == found.per_image.min()
    scene = found.scene(found.names[worst])
    assert isinstance(scene, MaskScene)
    truth, made = scene.masks()
    counts = [side[worst] for side in found.counts]
    cells = [truth & made, ~truth & made, truth & ~made, ~truth & ~made]
    assert [side.tolist() for side in counts] == [cell.sum(axis=(1, 2)).tolist() for cell in cells]
    assert scene.faults().tolist() == (truth ^ made).sum(axis=(1, 2)).tolist()
    chosen = worst_classes(scene, 3)
    assert scene.faults()[chosen[0]] == scene.faults().max()


def test_two_runs_are_drawn_alike(runs):
    one, two = (evaluated("segment", name, runs) for name in ("fpn", "unet"))
    assert one.names == two.names
    assert one.resampled.shape == (RESAMPLES, 1 + len(one.classes))
    low, high = one.interval
    assert low <= one.value <= high
    assert (one.resampled - two.resampled).mean(axis=0)[0] == pytest.approx(one.value - two.value, abs=0.02)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_labels_have_the_figures_of_their_score(tmp_path, head, monkeypatch):
    from tests.labelled import make_folders
    from tests.labelled import make_table as labelled_table

    (make_folders if head == "softmax" else labelled_table)(tmp_path / "set")
    probabilities, labels = overconfident(40, head, seed=3)
    run = make_run(tmp_path / "run", probabilities, labels, head)
    for k in range(len(labels)):  # the run's images are not those of the set
        monkeypatch.setitem(PATHS, f"{k:04d}.png", tmp_path / f"{k:04d}.png")
    monkeypatch.setattr("phalanx.review.evaluate_labels.train_records", lambda data: [Named(name) for name in PATHS])
    found = evaluated("classify", run.name, tmp_path)
    score = found.extra["score"]
    assert found.metric.name == "macro_auc"
    assert found.value == pytest.approx(score.value("macro_auc"))
    assert [row.value for row in found.table()] == pytest.approx(score.per_class("auc").tolist())
    assert [row.precision for row in found.table()] == pytest.approx(score.per_class("precision").tolist())
    assert found.interval == pytest.approx(score.interval("macro_auc"))
    k = found.number["0003.png"]
    scene_labels = found.present[k]
    assert scene_labels.tolist() == (labels[3] == 1).tolist()
    certain = np.where(labels[3] == 1, probabilities[3], 1 - probabilities[3])
    expected = probabilities[3][labels[3] == 1].sum() if head == "softmax" else certain.mean()
    assert found.per_image[k] == pytest.approx(expected, abs=1e-6)


PATHS: dict = {}


class Named:
    """A record of an image that nobody opens."""

    def __init__(self, name):
        self.name, self.image, self.group = name, PATHS[name], name


def test_a_scene_of_labels_has_what_was_called(tmp_path):
    scene = LabelScene(tmp_path, (4, 4), np.array([1.0, 0.0, np.nan]), np.array([0.2, 0.9, 0.9]),
                       np.array([False, True, True]))  # fmt: skip
    assert scene.faults().tolist() == [1, 1, 0]
    assert worst_classes(scene, 5) == [0, 1]


def test_boxes_have_the_figures_of_their_score(boxes):
    found = evaluated("detect", "boxes", boxes)
    oof = out_of_fold(boxes / "boxes")
    assert (found.metric.name, found.unit) == ("f1_iou", "boxes")
    assert sorted(found.names) == sorted(oof.score.images)
    score = found.extra["score"]
    assert found.value == pytest.approx(score.value("f1"), nan_ok=True)
    objects = sum(int(one.objects.sum()) for one in score.matches)
    assert sum(row.tp + row.fn for row in found.table()) == objects
    scene = found.scene(found.names[found.ranked()[0]])
    assert isinstance(scene, BoxScene)
    k = found.number[found.names[found.ranked()[0]]]
    assert scene.faults().tolist() == (found.counts.fp[k] + found.counts.fn[k]).tolist()


def test_what_is_not_a_run_is_one_line(runs):
    with pytest.raises(ConfigError, match="no trained run of that name"):
        evaluated("segment", "fpm", runs)
