"""Rules that leave images out of training: what they drop, what stays, what is refused."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from phalanx.cli import main
from phalanx.config import validate
from phalanx.config.compose import compose, split_words
from phalanx.data.drop import find, kept
from phalanx.data.polygons import rasterise, read_annotations
from phalanx.data.quarantine import read_quarantine
from phalanx.data.records import train_records
from phalanx.errors import ConfigError, DataError
from phalanx.masks.rle import decode


@pytest.fixture(scope="module")
def ringed(hands, tmp_path_factory) -> Path:
    """The hands, two of them with something bright."""
    root = tmp_path_factory.mktemp("ringed") / "hands"
    shutil.copytree(hands, root)
    for record, radius in zip(train_records(root)[2:7:4], (9, 23), strict=True):
        image = cv2.imread(str(record.image), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(record.image), cv2.circle(image, (64, 64), radius, 250, -1))
    return root


@pytest.fixture
def finished(runs, tmp_path) -> Path:
    """A folder of runs with a copy of one whose folds are finished, without its weights."""
    for fold in ("fold0", "fold1"):
        (tmp_path / "runs/unet" / fold).mkdir(parents=True)
        for name in ("config.yaml", "oof_score.json"):
            shutil.copy(runs / "unet" / fold / name, tmp_path / "runs/unet" / fold / name)
    return tmp_path / "runs"


def data_of(root, *words):
    return compose(split_words([f"data.root={root}", "name=new", *words])).data


def dense_dice(runs, root) -> dict[str, float]:
    """Mean Dice of each out-of-fold image from dense masks."""
    config = data_of(root)
    labels = {record.name: record.labels for record in train_records(root)}
    values: dict[str, list[float]] = {}
    for path in runs.glob("unet/fold*/oof.csv"):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                planes = rasterise(read_annotations(labels[row["image_name"]], config.classes), (128, 128), 29)
                label = config.classes.index(row["class"])
                truth = planes[:, :, label // 8] >> label % 8 & 1
                mask = decode(row["rle"], (128, 128))
                total = truth.sum() + mask.sum()
                dice = 2 * (truth & mask).sum() / total if total else 1.0
                values.setdefault(row["image_name"], []).append(dice)
    return {name: float(np.mean(found)) for name, found in values.items()}


def test_the_bright_rule_is_tukeys_fence_over_dense_counts(ringed):
    records = train_records(ringed)
    shares = {r.name: (cv2.imread(str(r.image), cv2.IMREAD_GRAYSCALE) >= 240).mean() for r in records}
    low, high = np.percentile(list(shares.values()), [25, 75])
    step = max(high - low, 1e-4)
    between = (np.mean(sorted(shares.values())[-2:]) - high) / step  # the brightest alone lies above
    counts = []
    for distances in (1.5, between):
        found = find(records, data_of(ringed, f"data.drop.bright={distances}"), Path("runs"))
        # none of these hands has a band of noise, so nothing else is taken off
        assert {one.name for one in found} == {n for n, share in shares.items() if share > high + distances * step}
        assert all(one.value == pytest.approx(shares[one.name]) for one in found)
        counts.append(len(found))
    assert counts[0] >= 2
    assert counts[1] == 1


def test_what_eda_calls_an_outlier_is_what_the_rule_drops(ringed, tmp_path):
    assert main(["eda", f"data.root={ringed}", f"out={tmp_path}", "workers=1", "progress=false"]) == 0
    table = pd.read_csv(tmp_path / "images.csv")
    told = table.loc[table["bright_outlier"] & (table["split"] == "train"), "image_name"]
    found = find(train_records(ringed), data_of(ringed, "data.drop.bright=1.5"), Path("runs"))
    assert sorted(told) == sorted(one.name for one in found)


def test_the_dice_rule_is_that_of_dense_masks(hands, runs):
    records, dice = train_records(hands), dense_dice(runs, hands)
    order = sorted(dice, key=lambda name: (dice[name], name))
    worst = find(records, data_of(hands, "data.drop.dice={run:unet,worst:3}"), runs)
    assert [one.name for one in worst] == order[:3]
    assert [one.value for one in worst] == pytest.approx([dice[name] for name in order[:3]])
    between = (dice[order[4]] + dice[order[5]]) / 2
    below = find(records, data_of(hands, f"data.drop.dice={{run:unet,below:{between}}}"), runs)
    assert [one.name for one in below] == order[:5]


def test_a_dropped_image_is_left_out_of_training_and_still_scored(hands, runs, finished, tiny, capsys):
    dice = dense_dice(runs, hands)
    worst = sorted(dice, key=lambda name: (dice[name], name))[:4]
    rule = {"data__drop": "{dice:{run:unet,worst:4}}", "runs": finished, "epochs": 1}
    words = ["train", *tiny("unet", fold="0,1", name="new", **rule)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    reference = dict(row.split(",")[::2] for row in (runs / "unet/fold0/folds.csv").read_text().split())
    for fold in ("0", "1"):
        place = finished / "new" / f"fold{fold}"
        assert (place / "folds.csv").read_bytes() == (runs / "unet/fold0/folds.csv").read_bytes()
        scored = json.loads((place / "oof_score.json").read_text())["per_image"]
        assert set(scored) == {name for name, of in reference.items() if of == fold}
        rows = list(csv.DictReader((place / "dropped.csv").open()))
        assert [row["image_name"] for row in rows] == worst  # of the whole set, the same in every fold
        assert all(float(row["value"]) == pytest.approx(dice[row["image_name"]]) for row in rows)
        rows = [row for row in rows if reference[row["image_name"]] != fold]
        assert f"data.drop: {len(rows)} of {12 - len(scored)} training images left out" in printed
        assert all(f"  {row['image_name']} (out-of-fold Dice 0." in printed for row in rows)
        log = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
        assert log[0]["images"] == 12 - len(scored) - len(rows)
    # finished folds are left alone; a fold that goes on needs the rule to say the same
    path = finished / "unet/fold1/oof_score.json"
    score = json.loads(path.read_text())
    score["per_image"] = dict.fromkeys(score["per_image"], 0.0)
    path.write_text(json.dumps(score))
    assert main(words) == 0
    (finished / "new/fold0/done.json").unlink()
    assert main(words) == 2
    assert "fold0/dropped.csv: this run began with other images left out" in capsys.readouterr().err
    shutil.rmtree(finished / "new/fold0")  # a fold that begins must drop what the other folds dropped
    assert main(words) == 2
    assert "fold1/dropped.csv: this run began with other images left out" in capsys.readouterr().err
    assert not (finished / "new/fold0").exists()
    assert main(["train", *tiny("unet", fold=1, name="new", **rule, data__drop__dice__worst=5)]) == 2
    assert "was started with data.drop.dice.worst=4, now it is 5" in capsys.readouterr().err


def test_both_rules_apply_and_a_rule_that_leaves_nothing_is_refused(ringed, finished):
    records = train_records(ringed)
    found = find(records, data_of(ringed, "data.drop={bright:1.5,dice:{run:unet,worst:2}}"), finished)
    bright = {one.name for one in found if one.rule == "bright"}
    low = {one.name for one in found if one.rule == "dice"}
    assert len(low) == 2
    assert {record.name for record in records} - {record.name for record in kept(records, found)} == bright | low
    everything = find(records, data_of(ringed, "data.drop.dice={run:unet,worst:99}"), finished)
    with pytest.raises(ConfigError, match=r"data\.drop: leaves no training image"):
        kept(records, everything)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.drop={}", "data.drop.bright: give bright or dice, or data.drop=null for no rule"),
        ("data.drop.bright=-1", "data.drop.bright=-1: input should be greater than or equal to 0"),
        ("data.drop.bright=inf", "data.drop.bright=inf: input should be a finite number"),
        ("data.drop.dice={run:unet}", "data.drop.dice.below: give either below or worst"),
        ("data.drop.dice={run:unet,worst:2,below:0.5}", "data.drop.dice.below: give either below or worst"),
        ("data.drop.dice={worst:2}", "data.drop.dice.run: missing"),
        ("data.drop.dice={run:unet,worst:0}", "data.drop.dice.worst=0"),
        ("data.drop.dice={run:new,worst:2}", "data.drop.dice.run: new is this run"),
        ("data.drop.brihgt=2", "data.drop.brihgt: no such option; did you mean bright?"),
    ],
)
def test_a_wrong_rule_is_told_before_anything_is_read(hands, word, message):
    with pytest.raises(ConfigError) as raised:
        data_of(hands, word)
    assert message in str(raised.value)


def test_a_rule_that_drops_nothing_is_refused(hands, finished):
    records = train_records(hands)
    with pytest.raises(ConfigError, match=r"bright=1e\+06: no training image is brighter than that \(the most: \d"):
        find(records, data_of(hands, "data.drop.bright=1e6"), finished)
    with pytest.raises(ConfigError, match=r"below=0: no training image is below that in .*unet \(the lowest: 0\."):
        find(records, data_of(hands, "data.drop.dice={run:unet,below:0}"), finished)


def test_a_run_that_cannot_tell_is_refused(hands, finished):
    records, data = train_records(hands), data_of(hands, "data.drop.dice={run:unet,worst:2}")
    with pytest.raises(ConfigError, match=r"dice\.run=unte: no such run in .*; did you mean unet\?"):
        find(records, data_of(hands, "data.drop.dice={run:unte,worst:2}"), finished)
    with pytest.raises(DataError, match="other classes; name a run on this data set"):
        find(records, data.model_copy(update={"classes": data.classes[:-1]}), finished)
    path = finished / "unet/fold1/oof_score.json"
    score = json.loads(path.read_text())
    name = min(score["per_image"])
    renamed = {"other.png" if key == name else key: dice for key, dice in score["per_image"].items()}
    path.write_text(json.dumps(score | {"per_image": renamed}))
    with pytest.raises(DataError, match=r"unet: was scored on other\.png, which is no training image of"):
        find(records, data, finished)
    path.write_text("{}")
    with pytest.raises(DataError, match="fold1: no readable run"):
        find(records, data, finished)
    path.unlink()
    with pytest.raises(ConfigError, match=r"unet: has no out-of-fold Dice of .* train all its folds first"):
        find(records, data, finished)
    (finished / "unet/fold0/oof_score.json").unlink()
    with pytest.raises(ConfigError, match="unet: has no finished fold with held-out images"):
        find(records, data, finished)


def test_images_in_quarantine_may_be_known_to_the_run(hands, finished, tmp_path):
    records = train_records(hands)
    (tmp_path / "q.txt").write_text(f"{records[0].name} # seen\n")
    data = data_of(hands, "data.drop.dice={run:unet,worst:2}", f"data.quarantine={tmp_path / 'q.txt'}")
    assert len(find(records[1:], data, finished)) == 2


def test_a_rule_becomes_a_quarantine_to_edit(hands, finished, tmp_path, capsys):
    out, first = tmp_path / "q.txt", train_records(hands)[0].name
    words = ["quarantine", f"data.root={hands}", f"out={out}", f"runs={finished}"]
    assert main(words) == 2
    assert "data.drop: names no rule" in capsys.readouterr().err
    rule = "data.drop.dice={run:unet,worst:3}"
    assert main([*words, rule]) == 0
    found = find(train_records(hands), data_of(hands, rule), finished)
    assert read_quarantine(out) == {one.name: one.reason for one in found}
    (tmp_path / "mine.txt").write_text(f"{first} # an implant\n")
    assert main([*words, rule]) == 2
    assert "exists" in capsys.readouterr().err
    out.unlink()
    assert main([*words, rule, f"data.quarantine={tmp_path / 'mine.txt'}"]) == 0
    assert len(read_quarantine(out)) == 4
    assert read_quarantine(out)[first] == "an implant"


def test_a_recipe_without_rules_is_that_of_older_runs(hands):
    config = compose(split_words([f"data.root={hands}"]))
    old = config.model_dump(mode="json")
    del old["data"]["drop"]
    assert validate(old) == config
