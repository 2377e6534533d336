"""Masks of classes from instances: their probabilities, their CSV, and that both join votes."""

import json

import numpy as np
import pytest
import torch
from tests.boxed import CLASSES, make_polygons, words

from phalanx.cli import main
from phalanx.models.two_stages import Detections
from phalanx.predict.instances import class_maps
from phalanx.predict.stored import MapsFolder
from phalanx.submission.table import Submission

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_probability_of_a_class_is_the_largest_score_times_mask():
    masks = torch.ones(3, 28, 28)
    masks[1] = 0.5
    boxes = torch.tensor([[0.0, 0, 16, 16], [8, 8, 24, 24], [8, 8, 24, 24]])
    found = Detections(boxes, torch.tensor([0.4, 0.9, 0.3]), torch.tensor([0, 0, 1]), masks)
    maps = class_maps(found, 3, 32)
    assert maps.shape == (3, 32, 32)
    assert maps[0, 4, 4] == pytest.approx(0.4)
    assert maps[0, 12, 12] == pytest.approx(0.45, abs=1e-3)  # 0.9 x 0.5 is more than 0.4, and not their sum
    assert maps[1, 12, 12] == pytest.approx(0.3, abs=1e-3)
    assert maps[2].max() == 0
    assert maps[:, 28:].max() == 0
    none = Detections(boxes[:0], torch.empty(0), torch.empty(0, dtype=torch.int64), masks[:0])
    assert class_maps(none, 2, 32).max() == 0


@pytest.mark.slow
def test_masks_of_a_run_join_hard_and_soft_votes(tmp_path, capsys):
    """Mask R-CNN learns discs and blocks, and its masks are those of a segmentation."""
    root, runs = make_polygons(tmp_path / "set", train=20), tmp_path / "runs"
    more = {"model": "mask_rcnn", "epochs": 16, "augment": "none", "name": "masks", "validate_every": 0}
    pairs = words(root, runs=runs, **more)
    assert main(["train", *(f"{k}={v}" for k, v in pairs.items()), "fold=0"]) == 0
    common = ["experiment=masks", f"runs={runs}", "device=cpu", "progress=false", "batch=3"]
    out = tmp_path / "masks.csv"
    assert main(["infer", *common, f"out={out}", "masks=true", "maps=true", "tta=hflip", "threshold=0.25"]) == 0
    assert main(["infer", *common, f"out={tmp_path / 'boxes.csv'}"]) == 0
    made = Submission.read(out)
    assert list(made.classes) == CLASSES
    assert len(made.images) == 4
    assert MapsFolder(out.with_suffix(".maps")).classes == CLASSES
    capsys.readouterr()
    score = [str(out), str(root / "test/answers_json"), f"data.classes=[{','.join(CLASSES)}]"]
    assert main(["score", *score, f"json={tmp_path / 'score.json'}"]) == 0, capsys.readouterr().err
    assert json.loads((tmp_path / "score.json").read_text())["dice"] > 0.5
    again = tmp_path / "again.csv"
    assert main(["infer", *common, f"out={again}", "masks=true", "threshold=0.4"]) == 0
    hard, soft = tmp_path / "hard.csv", tmp_path / "soft.csv"
    assert main(["ensemble", "mode=hard", f"members={out},{again}", f"out={hard}", "progress=false"]) == 0
    maps = out.with_suffix(".maps")
    images = f"images={root / 'test/DCM'}"
    assert (
        main(["ensemble", "mode=soft", f"members={maps}", f"out={soft}", images, "threshold=0.25", "progress=false"])
        == 0
    )
    one, other = Submission.read(soft), made
    assert all(np.array_equal(one.stack(name).runs, other.stack(name).runs) for name in made.images)


def test_runs_without_masks_and_options_of_masks_are_refused(tmp_path, capsys):
    root, runs = make_polygons(tmp_path / "set", train=4, empty=0), tmp_path / "runs"
    pairs = words(root, runs=runs, epochs=1, validate_every=0)
    assert main(["train", *(f"{k}={v}" for k, v in pairs.items()), "fold=0"]) == 0
    common = ["infer", "experiment=base", f"runs={runs}", "device=cpu", "progress=false", f"out={tmp_path / 'x.csv'}"]
    for words_of, expected in ((["masks=true"], "which has none"), (["maps=true"], "add masks=true")):
        capsys.readouterr()
        assert main([*common, *words_of]) == 2
        assert expected in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()
