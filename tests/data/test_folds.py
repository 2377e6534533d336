"""Folds: no patient on both sides, nearly equal, the same again; and files that do not fit are refused."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.data import folds as folding
from phalanx.data.records import Record
from phalanx.errors import ConfigError, DataError


def records_of(sizes):
    """Patient p has sizes[p] images."""
    pairs = [(f"image{p}-{i}.png", f"ID{p}") for p, size in enumerate(sizes) for i in range(size)]
    return [Record(name, group, Path(group) / name, None) for name, group in pairs]


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=40), st.integers(2, 6), st.integers(0, 5))
def test_folds_are_grouped_balanced_and_repeatable(sizes, count, seed):
    records = records_of(sizes)
    if len(sizes) < count:
        with pytest.raises(ConfigError, match=f"folds={count}: only {len(sizes)} patients; give"):
            folding.draw(records, count, seed)
        return
    folds = folding.draw(records, count, seed)
    assert set(folds) == {record.name for record in records}
    of_patient = {}
    for record in records:
        of_patient.setdefault(record.group, set()).add(folds[record.name])
    assert all(len(found) == 1 for found in of_patient.values())
    full = Counter(folds.values())
    assert set(full) == set(range(count))
    assert max(full.values()) - min(full.values()) <= max(sizes)  # one more patient would always have gone elsewhere
    assert folding.draw(records[::-1], count, seed) == folds  # whatever order the disk lists them in


def test_another_seed_draws_other_folds():
    records = records_of([1] * 50)
    assert folding.draw(records, 5, 0) != folding.draw(records, 5, 1)


def test_equal_patients_fill_equal_folds():
    assert set(Counter(folding.draw(records_of([2] * 50), 5, 3).values()).values()) == {20}


def test_a_written_file_is_read_back(tmp_path):
    records = records_of([2, 1, 3, 1])
    folds = folding.draw(records, 2, 0)
    path = tmp_path / "folds.csv"
    folding.write(path, records, folds)
    assert path.read_text().splitlines()[:2] == ["image_name,group,fold", f"image0-0.png,ID0,{folds['image0-0.png']}"]
    assert folding.read(path, records, 2) == folds


def test_rows_of_other_images_are_passed_over(tmp_path):
    """A fold file of the whole data set serves a part of it."""
    path = tmp_path / "folds.csv"
    records = records_of([1, 1, 1])
    folding.write(path, records, {"image0-0.png": 0, "image1-0.png": 1, "image2-0.png": 1})
    assert folding.read(path, records[:2], 2) == {"image0-0.png": 0, "image1-0.png": 1}


HEAD = "image_name,group,fold\n"
GOOD = HEAD + "image0-0.png,ID0,0\nimage0-1.png,ID0,0\nimage1-0.png,ID1,1\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD.replace("1.png,ID0,0", "1.png,ID0,1"), ":3: patient ID0 is in two folds; keep a patient in one"),
        (GOOD.replace("ID1,1", "ID1,2"), r":4: fold '2' is not one of 0\.\.1 \(folds=2\)"),
        (GOOD.replace("ID1,1", "ID1,-1"), ":4: fold '-1' is not"),
        (GOOD.replace("ID1,1", "ID1,"), ":4: fold '' is not"),
        (GOOD.replace("ID1,1", "ID1"), ":4: 2 cells; expected the header"),
        (GOOD.replace("ID1,1", "ID1,one"), ":4: fold 'one' is not"),
        (GOOD.replace("image0-1.png,ID0,0\n", ""), r": has no row for ID0/image0-1\.png; make a new fold file"),
        (GOOD + "image1-0.png,ID1,1\n", r":5: image1-0\.png appears twice"),
        (GOOD.replace("ID1,1", "ID1,0"), ": no image in fold 1; lower folds= or make a new"),
        (
            GOOD.replace("image0-1.png,ID0,0", "image0-1.png,ID7,1"),
            r": patient ID0 is in two folds \(image0-1",
        ),
        ("image,patient,fold\nx,y,0\n", ": expected the header image_name,group,fold"),
        (HEAD, ": expected the header"),
        ("", ": expected the header"),
        (b"\xff\xfe\x00", r": is not UTF-16 at byte 2; save it as a CSV in UTF-8"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_naming_file_and_row(tmp_path, content, message):
    path = tmp_path / "folds.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=r"folds\.csv" + message):
        folding.read(path, records_of([2, 1]), 2)


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(DataError, match=r"f\.csv: no such fold file; make it with `phalanx folds out="):
        folding.read(tmp_path / "f.csv", records_of([2, 1]), 2)


def stratified_by(records, of_patient):
    """A table of one column, ``kind``, by patient."""
    index = pd.Index([record.name for record in records], name="image_name")
    return pd.DataFrame({"kind": [of_patient[record.group] for record in records]}, index=index)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(1, 3), min_size=10, max_size=40), st.integers(2, 4), st.integers(0, 5))
def test_stratified_folds_are_grouped_even_and_repeatable(sizes, count, seed):
    records = records_of(sizes)
    table = stratified_by(records, {f"ID{p}": "rare" if p % 5 == 0 else "usual" for p in range(len(sizes))})
    folds = folding.draw_stratified(records, count, seed, table)
    folding.check(records, folds, count)
    assert folding.draw_stratified(records[::-1], count, seed, table[::-1]) == folds
    assert set(folds) == {record.name for record in records}


def test_a_rare_stratum_is_spread_as_evenly_as_it_can_be():
    """Six of sixty patients are rare: five folds get one each, and one of them a second."""
    records = records_of([2] * 60)
    table = stratified_by(records, {f"ID{p}": "rare" if p < 6 else "usual" for p in range(60)})
    for seed in range(3):
        folds = folding.draw_stratified(records, 5, seed, table)
        rare = Counter(folds[record.name] for record in records if table["kind"][record.name] == "rare")
        assert sorted(rare.values()) == [2, 2, 2, 2, 4]
        assert set(Counter(folds.values()).values()) <= {22, 24, 26}
    text = folding.balance(records, folds, 5, table)
    assert text.splitlines()[0].split() == ["fold", "images", "patients", "rare", "usual"]
    assert text.splitlines()[-1].split() == ["all", "120", "60", "10.0%", "90.0%"]


def test_split_patients_empty_folds_and_too_many_folds_are_refused():
    records = records_of([2, 1])
    with pytest.raises(ConfigError, match="patient ID0 is in two folds"):
        folding.check(records, {"image0-0.png": 0, "image0-1.png": 1, "image1-0.png": 1}, 2)
    with pytest.raises(ConfigError, match="fold 1 would have no image"):
        folding.check(records, dict.fromkeys(["image0-0.png", "image0-1.png", "image1-0.png"], 0), 2)
    with pytest.raises(ConfigError, match="folds=3: only 2 patients"):
        folding.draw_stratified(records, 3, 0, stratified_by(records, {"ID0": "a", "ID1": "a"}))


def test_one_patient_can_be_trained_on_but_not_held_out(tmp_path):
    from phalanx.config.compose import compose
    from phalanx.runs.folder import agreed_folds

    records, config = records_of([3]), compose({"data.root": str(tmp_path)})
    assert agreed_folds(tmp_path / "all", config, records) == {record.name: 0 for record in records}
    with pytest.raises(ConfigError, match=r"only one patient, so none can be held out; train on all .* with fold=all"):
        agreed_folds(tmp_path / "fold0", config, records)
    few = records_of([1, 2, 1])
    assert set(agreed_folds(tmp_path / "all", config, few).values()) == {0, 1, 2}
    many = records_of([1] * 20)  # as before: the same draw as that of the run's other folds
    assert agreed_folds(tmp_path / "all", config, many) == folding.draw(many, config.folds, config.seed)
