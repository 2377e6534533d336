"""The columns that force one label on an image: the largest organ's, and negatives divided by what they resemble."""

import csv

import pytest

from phalanx.cli import main
from phalanx.phantom.ultrasound import RESEMBLED, forced_labels, make_ultrasound
from phalanx.phantom.ultrasound_canvas import ORGANS
from phalanx.phantom.ultrasound_plan import DECOYS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "us"
    options = {"ambiguous": 0.4, "two_organs": 0.3, "three_organs": 0.1, "wrong_labels": 0.1, "missing_labels": 0.05}
    return out, make_ultrasound(out, patients=6, test_patients=2, size=128, seed=3, progress=False, **options)


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return {row["image_name"]: row for row in csv.DictReader(file)}


def test_the_largest_written_organ_is_the_forced_label():
    assert forced_labels(("AC", "FL"), (), {"AC": 10, "FL": 20}) == ("FL", "FL")
    assert forced_labels(("AC", "FL"), (), {"FL": 20, "BPD": 99}) == ("FL", "FL")  # BPD was overlooked
    assert forced_labels(("AFI",), ("chest",), {"AC": 50}) == ("AFI", "AFI")  # taken for another
    assert forced_labels(("FL", "BPD"), (), {}) == ("BPD", "BPD")


def test_negatives_are_divided_by_what_they_resemble():
    assert forced_labels((), ("chest",), {}) == ("none", "no_AC")
    assert forced_labels((), ("placenta", "bladder"), {}) == ("none", "no_AFI")
    assert forced_labels((), ("lost_contact",), {}) == ("none", "na")
    assert forced_labels((), (), {"AC": 50}) == ("none", "na")  # an organ that was overlooked
    assert set(RESEMBLED) <= set(DECOYS)
    assert set(filter(None, RESEMBLED.values())) == set(ORGANS)


def test_the_columns_follow_the_written_labels(made):
    out, manifest = made
    rows = table(out / "train.csv") | table(out / "answers.csv")
    seen = set()
    for about in manifest["images"]:
        row = rows[about["image"]]
        written = [organ for organ in ORGANS if row[organ] == "1"]
        if about["missing_labels"]:
            assert row["largest"] == row["split"] == ""
            seen.add("blank")
        elif not written:
            assert row["largest"] == "none"
            assert row["split"] in {"na", *(f"no_{organ}" for organ in ORGANS)}
            seen.add(row["split"])
        else:
            there = [organ for organ in about["organs"] if organ in written]
            best = max(there, key=lambda organ: about["organs"][organ]) if there else written[0]
            assert row["largest"] == row["split"] == best
            seen.add("wrong" if about["wrong_label"] else "right")
    assert {"blank", "na", "wrong", "right"} < seen


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["data.table.label=largest", "data.classes=[AC,BPD,FL,AFI,3D,none]", "data.skip_unlabelled=true"],
        ["data.table.label=split", "data.skip_unlabelled=true",
         "data.classes=[AC,BPD,FL,AFI,3D,no_AC,no_BPD,no_FL,no_AFI,no_3D,na]"],
    ],
    ids=["several", "largest", "split"],
)  # fmt: skip
def test_every_column_can_be_read_and_checked(made, capsys, words):
    out, _ = made
    code = main(["check", "data=ultrasound", f"data.root={out}", "workers=1", "progress=false", *words])
    assert code == 0, capsys.readouterr().out
