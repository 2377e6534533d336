"""The scores of an earlier run, as data.drop.dice takes them."""

import csv
import json
import shutil

import numpy as np
import pytest

from phalanx.config.compose import compose, split_words
from phalanx.data.polygons import rasterise, read_annotations
from phalanx.data.records import train_records
from phalanx.errors import ConfigError, DataError
from phalanx.masks.rle import decode
from phalanx.tasks.selection import earlier_scores, select_images


def config_of(root, runs, *words):
    return compose(split_words([f"data.root={root}", f"runs={runs}", "name=new", *words]))


@pytest.fixture
def finished(runs, tmp_path):
    """A folder of runs with a copy of one whose folds are finished, without its weights."""
    for fold in ("fold0", "fold1"):
        (tmp_path / "runs/unet" / fold).mkdir(parents=True)
        for name in ("config.yaml", "oof_score.json", "done.json"):
            shutil.copy(runs / "unet" / fold / name, tmp_path / "runs/unet" / fold / name)
    return tmp_path / "runs"


def test_scores_are_the_dice_of_dense_masks(hands, runs):
    config = config_of(hands, runs, "data.drop.dice={run:unet,worst:3}")
    classes, records = config.data.classes, train_records(hands)
    labels = {record.name: record.labels for record in records}
    values: dict[str, list[float]] = {}
    for path in runs.glob("unet/fold*/oof.csv"):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                planes = rasterise(read_annotations(labels[row["image_name"]], classes), (128, 128), 29)
                label = classes.index(row["class"])
                truth = planes[:, :, label // 8] >> label % 8 & 1
                mask = decode(row["rle"], (128, 128))
                total = truth.sum() + mask.sum()
                dice = 2 * (truth & mask).sum() / total if total else 1.0
                values.setdefault(row["image_name"], []).append(dice)
    dense = {name: float(np.mean(found)) for name, found in values.items()}
    assert earlier_scores(config, "unet") == pytest.approx(dense)
    selection = select_images(config, records)
    assert {row.image for row in selection.left_out} == set(sorted(dense, key=lambda name: dense[name])[:3])


def test_a_run_whose_scores_do_not_fit_is_refused(hands, finished):
    config = config_of(hands, finished)
    with pytest.raises(ConfigError, match=r"dice\.run=unte: no such run in .*; did you mean unet\?"):
        earlier_scores(config, "unte")
    others = config.model_copy(update={"data": config.data.model_copy(update={"classes": config.data.classes[:-1]})})
    with pytest.raises(DataError, match="fold0: has other classes; name a run on this data set"):
        earlier_scores(others, "unet")
    path = finished / "unet/fold1/oof_score.json"
    whole = path.read_text()
    path.write_text("{}")
    with pytest.raises(DataError, match=r"fold1/oof_score\.json: has no mapping as per_image"):
        earlier_scores(config, "unet")
    path.write_text(whole)
    (finished / "unet/fold1/done.json").unlink()  # a fold that is not finished has no scores yet
    assert (
        earlier_scores(config, "unet") == json.loads((finished / "unet/fold0/oof_score.json").read_text())["per_image"]
    )
    (finished / "unet/fold0/done.json").unlink()
    with pytest.raises(ConfigError, match="unet: has no finished fold with held-out images"):
        earlier_scores(config, "unet")
