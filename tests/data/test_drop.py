"""Rules that leave images out of training: what they drop, what stays in, what is refused."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from phalanx.cli import main
from phalanx.config import validate
from phalanx.config.compose import compose, split_words
from phalanx.data.drop import dropped
from phalanx.data.quarantine import read_quarantine
from phalanx.data.records import train_records
from phalanx.data.rules import select
from phalanx.data.selection import Selection
from phalanx.errors import ConfigError, DataError
from phalanx.runs.reader import FoldRun
from phalanx.tasks.selection import select_images


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
        for name in ("config.yaml", "oof_score.json", "done.json"):
            shutil.copy(runs / "unet" / fold / name, tmp_path / "runs/unet" / fold / name)
    return tmp_path / "runs"


def data_of(root, *words):
    return compose(split_words([f"data.root={root}", "name=new", *words])).data


def test_the_bright_rule_is_tukeys_fence_over_dense_counts(ringed):
    records = train_records(ringed)
    fractions = {r.name: (cv2.imread(str(r.image), cv2.IMREAD_GRAYSCALE) >= 240).mean() for r in records}
    low, high = np.percentile(list(fractions.values()), [25, 75])
    step = max(high - low, 1e-4)
    between = (np.mean(sorted(fractions.values())[-2:]) - high) / step  # only the brightest is above
    counts = []
    for distances in (1.5, between):
        limit = high + distances * step
        # none of these hands has a band of noise, so nothing else is cut off
        assert dropped(records, data_of(ringed, f"data.drop.bright={distances}"), {}) == {
            name: f"bright: {value:.3%} of the pixels are 240 or brighter, limit {limit:.3%}"
            for name, value in fractions.items()
            if value > limit
        }
        counts.append(sum(value > limit for value in fractions.values()))
    assert counts[0] >= 2
    assert counts[1] == 1


def test_what_eda_calls_an_outlier_is_what_the_rule_drops(ringed, tmp_path):
    assert main(["eda", f"data.root={ringed}", f"out={tmp_path}", "workers=1", "progress=false"]) == 0
    table = pd.read_csv(tmp_path / "images.csv")
    outliers = table.loc[table["bright_outlier"] & (table["split"] == "train"), "image_name"]
    assert set(outliers) == set(dropped(train_records(ringed), data_of(ringed, "data.drop.bright=1.5"), {}))


def test_the_dice_rule_drops_the_lowest_scores(hands):
    records = train_records(hands)
    scores = {record.name: 0.9 - 0.05 * (number * 5 % 12) for number, record in enumerate(records)}
    order = sorted(scores, key=lambda name: scores[name])
    worst = dropped(records, data_of(hands, "data.drop.dice={run:unet,worst:3}"), scores)
    assert worst == {
        name: f"dice: out-of-fold Dice {scores[name]:.4f}, limit {scores[order[2]]:.4f} (the 3 lowest)"
        for name in order[:3]
    }
    below = dropped(records, data_of(hands, f"data.drop.dice={{run:unet,below:{scores[order[5]]}}}"), scores)
    assert list(below) == order[:5]
    assert all(f"{scores[name]:.4f}, limit {scores[order[5]]:g}" in reason for name, reason in below.items())
    same = dropped(records, data_of(hands, "data.drop.dice={run:unet,worst:2}"), dict.fromkeys(scores, 0.5))
    assert list(same) == sorted(scores)[:2]  # equal scores: by name


def test_a_dropped_image_is_left_out_of_training_and_still_scored(hands, runs, finished, tiny, capsys):
    dice = FoldRun(runs / "unet/fold0").per_image | FoldRun(runs / "unet/fold1").per_image
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
        left_out = Selection.read(place / "selection.csv").left_out  # of the whole set, the same in every fold
        assert sorted(row.image for row in left_out) == sorted(worst)
        assert all(f"Dice {dice[row.image]:.4f}, limit {dice[worst[3]]:.4f}" in row.reason for row in left_out)
        rows = [row for row in left_out if reference[row.image] != fold]
        assert f"{len(rows)} of {12 - len(scored)} training images left out" in printed
        assert all(f"  {row.image} (data.drop: dice: out-of-fold Dice 0." in printed for row in rows)
        log = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
        assert log[0]["images"] == 12 - len(scored) - len(rows)
    # finished folds are left alone; a fold that continues needs the rule to select the same images
    path = finished / "unet/fold1/oof_score.json"
    score = json.loads(path.read_text())
    score["per_image"] = dict.fromkeys(score["per_image"], 0.0)
    path.write_text(json.dumps(score))
    assert main(words) == 0
    (finished / "new/fold0/done.json").unlink()
    assert main(words) == 2
    refused = r"fold{}/selection\.csv: this run began with another selection of training images \(\S+ had weight "
    assert re.search(refused.format(0), capsys.readouterr().err)
    shutil.rmtree(finished / "new/fold0")  # a fold that begins must drop what the other folds dropped
    assert main(words) == 2
    assert re.search(refused.format(1), capsys.readouterr().err)
    assert not (finished / "new/fold0").exists()
    assert main(["train", *tiny("unet", fold=1, name="new", **rule, data__drop__dice__worst=5)]) == 2
    assert "was started with data.drop.dice.worst=4, now it is 5" in capsys.readouterr().err


def test_both_rules_apply_and_a_rule_that_leaves_nothing_is_refused(ringed):
    records = train_records(ringed)
    bright = dropped(records, data_of(ringed, "data.drop.bright=1.5"), {})
    low = [min(bright), next(record.name for record in records if record.name not in bright)]
    scores = {record.name: 0.1 if record.name in low else 0.9 for record in records}
    both = dropped(records, data_of(ringed, "data.drop={bright:1.5,dice:{run:unet,worst:2}}"), scores)
    assert set(both) == {*bright, *low}
    assert re.fullmatch(r"bright: .+ limit .+%; dice: out-of-fold Dice 0\.1000, limit .+", both[low[0]])
    everything = select(records, data_of(ringed, "data.drop.dice={run:unet,worst:99}"), scores)
    with pytest.raises(ConfigError, match=r"data\.drop: leaves no training image"):
        everything.trained(records)


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
def test_a_wrong_rule_is_refused_before_anything_is_read(hands, word, message):
    with pytest.raises(ConfigError) as raised:
        data_of(hands, word)
    assert message in str(raised.value)


def test_a_rule_that_drops_nothing_is_refused(hands):
    records = train_records(hands)
    with pytest.raises(ConfigError, match=r"bright=1e\+06: no training image is brighter than that \(the most: \d"):
        dropped(records, data_of(hands, "data.drop.bright=1e6"), {})
    scores = {record.name: 0.25 for record in records}
    with pytest.raises(ConfigError, match=r"below=0\.2: no training image is below that in unet \(the lowest: 0\.2500"):
        dropped(records, data_of(hands, "data.drop.dice={run:unet,below:0.2}"), scores)


def test_scores_of_other_images_are_refused(hands, tmp_path):
    records, data = train_records(hands), data_of(hands, "data.drop.dice={run:unet,worst:2}")
    scores = {record.name: 0.5 for record in records}
    with pytest.raises(DataError, match=r"unet: was scored on other\.png, which is not a training image of"):
        dropped(records, data, scores | {"other.png": 0.5})
    first = scores.popitem()[0]
    with pytest.raises(ConfigError, match=rf"unet: has no out-of-fold Dice of {first} \(1 such .* train all its folds"):
        dropped(records, data, scores)
    # the run may have scored images that are in quarantine now
    assert len(dropped(records[1:-1], data, scores)) == 2


def test_a_rule_becomes_a_quarantine_to_edit(hands, finished, tmp_path, capsys):
    out, first = tmp_path / "q.txt", train_records(hands)[0].name
    words = ["quarantine", f"data.root={hands}", f"out={out}", f"runs={finished}"]
    assert main(words) == 2
    assert "data.drop: names no rule" in capsys.readouterr().err
    rule = "data.drop.dice={run:unet,worst:3}"
    assert main([*words, rule]) == 0
    config = compose(split_words([f"data.root={hands}", "name=new", f"runs={finished}", rule]))
    left_out = select_images(config, train_records(hands)).left_out
    assert read_quarantine(out) == {row.image: row.reason for row in left_out}
    assert len(left_out) == 3
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
