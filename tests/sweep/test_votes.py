"""Rows that are votes of other rows, and rows scored on test images: by hand, and refused when they cannot be."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from phalanx.cli import main
from phalanx.config import validate_as
from phalanx.data.rotation import LIMIT
from phalanx.ensemble import run as votes
from phalanx.errors import ConfigError, DataError
from phalanx.sweep.claims import document
from phalanx.sweep.results import changed, read_results
from phalanx.sweep.table import Table, read_table
from phalanx.sweep.verdict import Paired

VOTES = """
title: Votes
why: To see that it works.
scored_on: test
overrides: {overrides}
rows:
  - {{name: one, source: a report}}
  - {{name: other, source: a report, overrides: [optim.lr=2e-2]}}
  - name: both_folds
    source: a report
    vote: soft
    members: [{{row: one, folds: [0, 1]}}, {{row: other, folds: [1]}}]
    baseline: one
    outcome: worked
  - name: majority
    source: a report
    vote: hard
    members: [{{row: both_folds}}, {{row: one}}, {{row: other, folds: [0, 1]}}]
    baseline: both_folds
    outcome: worked
"""
GAP = """
title: Gap
why: To see that it works.
scored_on: rotated_test
gap: true
overrides: {overrides}
rows:
  - {{name: one, source: a report}}
  - {{name: other, source: a report, overrides: [optim.lr=2e-2], baseline: one, outcome: worked}}
"""


@pytest.fixture
def words(place, trained, tiny):
    words = json.dumps([word for word in tiny("unet", epochs=2) if not word.startswith("data.root")])
    (place / "configs/sweep/votes.yaml").write_text(VOTES.format(overrides=words))
    (place / "configs/sweep/gap.yaml").write_text(GAP.format(overrides=words))


@pytest.fixture
def untrained(monkeypatch):
    """Networks of two epochs put bones anywhere, and are no members to align: their agreement is only noted."""
    seen = []
    monkeypatch.setattr(votes, "report_agreement", lambda agreement, *, allow_misaligned: seen.append(agreement))
    return seen


def sweep(root, *words):
    return main(["sweep", *words, "scale=tiny", f"data.root={root}", "seeds=0"])


def dice_by_command(capsys, csv, hands):
    """What `phalanx score` says of a CSV on the test set: Dice by patient."""
    assert main(["score", str(csv), str(hands / "test/answers_json"), "--json", "score.json"]) == 0
    capsys.readouterr()
    return json.loads(Path("score.json").read_text())["per_patient"]


def test_votes_are_those_of_the_commands(words, hands, untrained, capsys):
    assert sweep(hands, "votes") == 0
    # compared before they voted: both_folds, that again as a member, the two folds of other, and the majority
    assert [len(agreement.names) for agreement in untrained] == [3, 3, 2, 3]
    found = {result.row: result for result in read_results()}
    assert set(found) == {"one", "other", "both_folds", "majority"}
    folders = {}
    for path in Path("runs/sweep/tiny/hands").glob("*/fold0/config.yaml"):
        folders["other" if "lr: 0.02" in path.read_text() else "one"] = path.parents[1]
    one, other = folders["one"], folders["other"]

    # both folds of `one` share a vote as large as that of the one fold of `other`
    soft = ["ensemble", "mode=soft", f"members={one}/fold0,{one}/fold1,{other}/fold1", "weights=1,1,2", "out=soft.csv"]
    assert main([*soft, f"data.root={hands}", "progress=false", "device=cpu"]) == 0
    assert main(["infer", f"experiment={other}", f"data.root={hands}", "out=mean.csv", "device=cpu"]) == 0
    hard = ["ensemble", "mode=hard", f"members=soft.csv,{one}/fold0/test.csv,mean.csv", "out=hard.csv"]
    assert main(hard) == 0
    for row, csv in (("both_folds", "soft.csv"), ("majority", "hard.csv"), ("one", one / "fold0/test.csv")):
        expected = dice_by_command(capsys, csv, hands)
        mine = {name: np.mean(dice) for name, dice in found[row].patients.items()}
        assert mine == pytest.approx(expected, abs=1e-4), row
        assert found[row].images == dict.fromkeys(expected, 2)
        assert found[row].scored_on == "test"
    assert len({round(result.value, 6) for result in found.values()}) == 4

    assert found["both_folds"].command == "phalanx sweep votes scale=tiny rows=both_folds seeds=0"
    assert str(hands) not in json.dumps(found["both_folds"].recipe)
    assert sweep(hands, "votes") == 0
    assert capsys.readouterr().out.count("as it was") == 4
    page = document()
    assert "Scored on the test images." in page
    assert "- both_folds: a report. Soft vote of one (folds 0, 1), other (fold 1)" in page
    assert "| tiny | hands | 2 | 1 |" in page  # votes are no trainings


def test_a_vote_is_stale_when_a_member_changes(words, hands, untrained, place):
    assert sweep(hands, "votes", "rows=both_folds") == 0
    (result,) = read_results()
    file = place / "configs/sweep/votes.yaml"
    text = file.read_text()
    for old, new, why in (
        ("optim.lr=2e-2", "optim.lr=3e-2", "members.1.recipe.optim.lr was 0.02, now it is 0.03"),
        ("{row: other, folds: [1]}", "{row: other}", "members.1.folds was [1], now it is [0]"),
        ("vote: soft", "vote: hard", "vote was soft, now it is hard"),
    ):
        assert text.count(old) == 1
        file.write_text(text.replace(old, new))
        table = read_table("votes")
        assert changed(result, table.recipe(table.row("both_folds"), "tiny", 0)) == why
    file.write_text(text)
    table = read_table("votes")
    result.recipe["members"][0]["recipe"]["optim"].pop("encoder_lr_factor")  # as if the option had come later
    assert changed(result, table.recipe(table.row("both_folds"), "tiny", 0)) is None
    file.write_text(text.replace("scored_on: test", "scored_on: rotated_test"))
    assert "both_folds.seed0.fold0.json`: was scored on test, the table is on rotated_test" in document()


def test_a_misaligned_member_stops_the_vote_and_the_row_fails(words, hands, monkeypatch, capsys):
    def refuse(agreement, *, allow_misaligned):
        assert not allow_misaligned
        raise DataError(f"{agreement.names[0]} is misaligned")

    monkeypatch.setattr(votes, "report_agreement", refuse)
    assert sweep(hands, "votes", "rows=one,both_folds") == 1
    assert re.search(r"failed: votes/both_folds seed 0 fold 0: .*fold0 is misaligned", capsys.readouterr().out)
    assert [result.row for result in read_results()] == ["one"]


def test_the_gap_is_from_out_of_fold_to_the_rotated_hands_alone(words, hands, capsys):
    assert sweep(hands, "gap") == 0
    manifest = json.loads((hands / "manifest.json").read_text())
    rotated = {row["image"]: row["group"] for row in manifest["images"] if row["split"] == "test" and row["rotated"]}
    tilted = [row for row in manifest["images"] if row["split"] == "test" and row["rotation_deg"] >= LIMIT]
    assert {row["image"] for row in tilted} == rotated.keys()
    assert 0 < len(rotated) < 4
    found = {result.row: result for result in read_results()}
    one = found["one"]
    assert one.images == {group: list(rotated.values()).count(group) for group in rotated.values()}
    folder = next(Path("runs/sweep/tiny/hands").glob("*/fold0"))
    held_out = json.loads((folder / "oof_score.json").read_text())
    by_fold = [json.loads(p.read_text())["dice"] for p in Path("runs/sweep/tiny/hands").glob("*/fold0/oof_score.json")]
    assert one.held_out["images"] == dict.fromkeys(held_out["per_patient"], 2)
    assert any(np.mean([np.mean(v) for v in one.held_out["patients"].values()]) == pytest.approx(d, abs=1e-4)
               for d in by_fold)  # fmt: skip
    assert "Scored on the rotated hands of the test images, compared with out of fold." in document()
    assert re.search(r"\| one \|.*; out of fold 0\.\d{4} \(1\)", document())


def test_a_gap_is_a_difference_of_differences(invented):
    rng = np.random.default_rng(0)
    made = {}
    for row in ("a", "b"):
        for seed in (0, 1):
            held = rng.random((4, 3))
            out = {"patients": {f"h{seed}-{n}": dice.tolist() for n, dice in enumerate(held)},
                   "images": {f"h{seed}-{n}": 2 for n in range(4)}}  # fmt: skip
            made[row, seed] = (invented(row, seed, rng.random((3, 3)), held_out=out), held)
    pair = Paired.of([made["a", s][0] for s in (0, 1)], [made["b", s][0] for s in (0, 1)], gap=True)
    gaps = {key: result.value - held.mean() for key, (result, held) in made.items()}
    np.testing.assert_allclose(pair.by_seed([0, 1, 2]), [gaps["a", s] - gaps["b", s] for s in (0, 1)])
    alone = Paired.of([made["a", s][0] for s in (0, 1)], [made["b", s][0] for s in (0, 1)])
    assert pair.patient_variance([0, 1, 2]) > alone.patient_variance([0, 1, 2])
    assert Paired.of([invented("a", 0, np.ones((3, 3)))], [made["b", 0][0]], gap=True).values == ()


def test_a_test_set_without_ground_truth_is_refused(words, hands, tmp_path, capsys):
    other = tmp_path / "other" / "hands"
    shutil.copytree(hands, other)
    shutil.rmtree(other / "test/answers_json")
    assert sweep(other, "votes", "rows=one") == 1
    assert "answers_json: no such folder; this table is scored on test images" in capsys.readouterr().out


def table(*rows, **changes):
    first = {"name": "a", "source": "s"}
    return validate_as(
        Table, {"name": "t", "title": "T", "why": "w", "scored_on": "test", "rows": [first, *rows]} | changes
    )


def a_vote(name="v", **changes):
    return {"name": name, "source": "s", "vote": "soft", "members": [{"row": "a"}]} | changes


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ([a_vote()], {"scored_on": "out_of_fold"}, "v: the members of a vote have seen each other's held-out images"),
        ([a_vote()], {"gap": True}, "v: the members of a vote have seen each other's held-out images"),
        ([{"name": "b", "source": "s", "published": "gap_fpn"}], {}, "b: a published gap belongs to a table with gap"),
        ([], {"scored_on": "out_of_fold", "gap": True}, "gap: is from out of fold to a test set"),
        ([a_vote(members=[])], {}, "v needs both 'vote' and 'members'"),
        ([a_vote(vote=None)], {}, "v needs both 'vote' and 'members'"),
        ([a_vote(overrides=["epochs=2"])], {}, "v is a vote and trains nothing"),
        ([a_vote(members=[{"row": "v"}])], {}, "its member 'v' is not a row above it"),
        ([a_vote(), a_vote("w", members=[{"row": "v"}])], {}, "w: its member v is a vote"),
        ([a_vote(), a_vote("w", vote="hard", members=[{"row": "v", "folds": [1]}])], {}, "w: its member v is a vote"),
        ([{"name": "b", "source": "s", "scales": ["full"]}, a_vote(members=[{"row": "b"}])], {}, "b does not run"),
    ],
)  # fmt: skip
def test_a_vote_that_cannot_be_held_is_refused(rows, changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        table(*rows, **changes)


def test_a_fold_that_a_member_does_not_have_is_refused():
    bad = table(a_vote(members=[{"row": "a", "folds": [7]}]))
    with pytest.raises(ConfigError, match=r"v at scale small: a has no fold 7 \(folds=3\)"):
        bad.recipe(bad.row("v"), "small", 0)
