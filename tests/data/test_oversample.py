"""Patient attributes, strata, and the weights of training images."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from phalanx.config import Oversample, SegmentData, validate
from phalanx.config.compose import compose, split_words
from phalanx.data.attributes import read_attributes, strata
from phalanx.data.metadata import read_metadata
from phalanx.data.oversample import oversampled
from phalanx.data.records import train_records
from phalanx.errors import ConfigError, DataError
from phalanx.phantom.anatomy import HAND_CLASSES
from phalanx.runs.folder import changed_keys


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """Eight patients, six of them rotated."""
    from phalanx.phantom.hand import make_hands

    out = tmp_path_factory.mktemp("turned") / "hands"
    make_hands(out, patients=8, test_patients=1, size=128, seed=1, workers=1, progress=False)
    sheet = pd.DataFrame({"ID": [f"ID{i:03d}" for i in range(1, 9)], "sex": [*list("MFMFMF"), None, "?"]})
    (out / "meta_data.xlsx").unlink()
    sheet.to_csv(out / "meta_data.csv", index=False)
    manifest = json.loads((out / "manifest.json").read_text())
    for row in manifest["images"][:4]:  # the bones of a rotated hand are no concern of weights: lay two hands down
        path = out / "train" / "outputs_json" / row["group"] / f"{row['image']}.json"
        items = json.loads(path.read_text())["annotations"]
        for item in items:
            item["points"] = [[y, 127 - x] for x, y in item["points"]]
        path.write_text(json.dumps({"annotations": items}))
    return out


def data(root, **oversample):
    return SegmentData(name="t", root=root, classes=list(HAND_CLASSES), size=64, oversample=Oversample(**oversample))


def test_factors_of_one_image_are_multiplied_and_the_unknown_stays_one(turned):
    records = train_records(turned)
    weights, reasons = oversampled(records, data(turned, rotated=10, sex={"male": 1.34}))
    of_patient = {record.group: weight for record, weight in zip(records, weights, strict=True)}
    expected = [13.4, 10, 1.34, 1, 1.34, 1, 1, 1]
    assert [of_patient[f"ID{i:03d}"] for i in range(1, 9)] == pytest.approx(expected)
    texts = {record.group: reason for record, reason in zip(records, reasons, strict=True)}
    both = "rotated x 10, sex male x 1.34"
    assert [texts[f"ID{i:03d}"] for i in range(1, 5)] == [both, "rotated x 10", "sex male x 1.34", ""]
    for without in (data(turned, rotated=1, sex={"male": 1}), data(turned).model_copy(update={"oversample": None})):
        weights, reasons = oversampled(records, without)
        assert set(weights) == {1.0}
        assert set(reasons) == {""}


def test_factors_by_range_hold_both_ends(turned, tmp_path):
    ages, heights = [5, 17, 17.5, 18, 64, 65, 90, None], [150, 151, 160, 170, 171, None, 200, 130]
    sheet = pd.DataFrame({"ID": [f"ID{i:03d}" for i in range(1, 9)], "age": ages, "height": heights})
    sheet.to_csv(tmp_path / "meta_data.csv", index=False)
    records = train_records(turned)
    found, reasons = oversampled(records, data(tmp_path, age={"..17": 3, "65..": 2}, height={"151 .. 170": 0.5}))
    of_patient = {record.group: weight for record, weight in zip(records, found, strict=True)}

    def by_hand(age, height):
        factor = 1.0
        if age is not None and age <= 17:
            factor *= 3
        if age is not None and age >= 65:
            factor *= 2
        if height is not None and 151 <= height <= 170:
            factor *= 0.5
        return factor

    assert list(of_patient.values()) == [by_hand(*row) for row in zip(ages, heights, strict=True)]
    assert set(of_patient.values()) == {0.5, 1, 1.5, 2, 3}
    assert reasons[2:4] == ["age ..17 x 3, height 151..170 x 0.5"] * 2
    with pytest.raises(ConfigError, match=r"no training image is age=\.\.3;"):
        oversampled(records, data(tmp_path, age={"..3": 2}))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("age={17:3}", "age: '17' is not a range; write ..17 (up to 17)"),
        ("age={..:3}", "age: '..' is not a range"),
        ("age={..17:3,17..20:2}", "age: ..17 and 17..20 both contain 17"),
        ("weight={40..90:3,50..60:2,95..:2}", "weight: 40..90 and 50..60 both contain 50"),
        ("age={20..17:3}", "age: 20..17 is empty"),
        ("height={..1.7:3}", "height is in cm, 30..260"),
        ("height={..170:0}", "height[..170]=0: input should be greater than 0"),
        ("height={..170:inf}", "height[..170]=inf: input should be a finite number"),
        ("ages={..17:3}", "ages: no such option; did you mean age?"),
    ],
)
def test_a_wrong_range_is_refused_before_anything_is_read(words, message):
    with pytest.raises(ConfigError) as raised:
        compose(split_words([f"data.oversample.{words}"]))
    assert message in str(raised.value)
    assert "data.oversample." in str(raised.value)


def test_a_recipe_with_ranges_reads_back_as_it_was_written():
    config = compose(split_words(["data.oversample.age={..17:3,18..64:0.5,65..:2}"]))
    values = yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    assert changed_keys(values, validate(values).model_dump(mode="json")) == []
    assert validate(values) == config
    old = config.model_dump(mode="json")
    old["data"]["oversample"] = {"rotated": 10.0, "sex": {}}  # of a run before there were ranges
    assert changed_keys(old, validate(old).model_dump(mode="json")) == []


def test_a_factor_that_applies_to_nothing_is_refused(turned, hands):
    records = [record for record in train_records(turned) if record.group > "ID002"]
    with pytest.raises(ConfigError, match="no training image is rotated=True; correct the sheet, or drop it"):
        oversampled(records, data(turned, rotated=10))


def test_attributes_and_their_strata(turned):
    records = train_records(turned)
    found = read_attributes(records, data(turned), ["rotated", "sex"])
    assert list(found.columns) == ["rotated", "sex"]
    assert found["rotated"].sum() == 4
    named = strata(found)
    assert set(named["sex"]) == {"male", "female", "sex missing"}
    assert set(named["rotated"]) == {"rotated", "upright"}
    ages = strata(pd.DataFrame({"age": [20.0, 20, 20, 30, 40, 50, np.nan]}))["age"]
    assert ages.tolist() == ["age low", "age low", "age low", "age middle", "age high", "age high", "age missing"]


def test_unknown_attributes_missing_sheets_and_bones_are_refused(turned, tmp_path):
    records = train_records(turned)
    with pytest.raises(ConfigError, match="sxe: no such attribute of an image; did you mean sex"):
        read_attributes(records, data(turned), ["sxe"])
    with pytest.raises(DataError, match=r"has no meta_data\.xlsx or meta_data\.csv"):
        read_attributes(records, data(tmp_path), ["sex"])
    with pytest.raises(ConfigError, match="rotated: is measured from Ulna to finger-16"):
        read_attributes(records, data(turned).model_copy(update={"classes": ["Ulna"]}), ["rotated"])


def test_folds_are_stratified_by_the_command(turned, tmp_path, capsys):
    from phalanx.cli import main

    words = ["folds", "data=hand", f"data.root={turned}", "folds=2", f"out={tmp_path / 'f.csv'}"]
    assert main([*words, "stratify=sex,rotated"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["fold", "images", "patients", "female", "male", "sex", "missing", "rotated", "upright"]
    assert [row[:3] for row in rows[1:]] == [["0", "8", "4"], ["1", "8", "4"], ["all", "16", "8"]]
    assert [row[6] for row in rows[1:]] == ["25.0%"] * 3
    assert main([*words, "stratify=sex"]) == 2
    assert "exists; folds never change once made" in capsys.readouterr().err
    shutil.rmtree(tmp_path)


def test_the_sheet_is_the_one_written(turned):
    assert read_metadata(turned)["sex"].tolist()[:6] == ["male", "female"] * 3
