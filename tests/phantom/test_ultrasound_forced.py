"""The columns that force one label on an image: the largest organ's, and negatives divided by what they resemble."""

import csv

import numpy as np
import pytest

from phalanx.cli import main
from phalanx.phantom.dataset import Order
from phalanx.phantom.ultrasound import RESEMBLED, SIZES, forced_labels, image_name, make_ultrasound, write_labels
from phalanx.phantom.ultrasound_canvas import ORGANS
from phalanx.phantom.ultrasound_plan import DECOYS, Fractions, plan


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny set, of which half of the images have no organ."""
    out = tmp_path_factory.mktemp("phantom") / "us"
    options = {"ambiguous": 0.5, "two_organs": 0.2, "wrong_labels": 0.0, "missing_labels": 0.05}
    return out, make_ultrasound(out, patients=2, test_patients=1, size=128, seed=3, progress=False, **options)


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


def test_the_columns_follow_the_written_labels(tmp_path):
    order = Order("ultrasound", 20, 128, 3, 5, 1, False, SIZES)
    people = [one for one in plan(order, Fractions(0.3, 0.3, 0.3, 0.1, 0.15, 0.05)) if one.split == "train"]
    rng = np.random.default_rng(0)
    areas = {
        image_name(person, shot): {organ: int(rng.integers(1, 99)) for organ in shot.organs}
        for person in people
        for shot in person.shots
    }
    write_labels(people, areas, tmp_path / "train.csv")
    rows, seen = table(tmp_path / "train.csv"), set()
    for person in people:
        for shot in person.shots:
            row = rows[image_name(person, shot)]
            written = [organ for organ in ORGANS if row[organ] == "1"]
            if shot.blank:
                assert row["largest"] == row["split"] == ""
                seen.add("blank")
            elif not written:
                assert row["largest"] == "none"
                seen.add(row["split"])
            else:
                there = [organ for organ in shot.organs if organ in written]
                best = max(there, key=areas[image_name(person, shot)].get) if there else written[0]
                assert row["largest"] == row["split"] == best
                seen.add("right" if shot.written == shot.organs else "wrong")
    assert seen == {"blank", "wrong", "right", "na", *(f"no_{organ}" for organ in ORGANS)}


def test_a_set_has_the_columns_of_its_areas(made):
    out, manifest = made
    rows = table(out / "train.csv") | table(out / "answers.csv")
    for about in manifest["images"]:
        if not about["missing_labels"]:
            assert rows[about["image"]]["largest"] == (about["largest"] or "none")


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
def test_every_column_can_be_read_and_checked(made, tmp_path, capsys, words):
    out, _ = made
    report = f"json={tmp_path / 'check.json'}"  # by default it is written into the present folder
    code = main(["check", "data=ultrasound", f"data.root={out}", "workers=1", "progress=false", report, *words])
    assert code == 0, capsys.readouterr().out
