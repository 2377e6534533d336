"""The sheet as people fill it in, and the table it must become."""

import random

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.data.cells import clean, read_number, read_sex
from phalanx.data.headings import columns_by_meaning
from phalanx.data.metadata import COLUMNS, read_metadata
from phalanx.errors import DataError
from phalanx.phantom.patients import FEMALE, MALE, draw_patients, write_sheet


def sheet(tmp_path, text, name="meta_data.csv", encoding="utf-8"):
    (tmp_path / name).write_bytes(text.encode(encoding))
    return read_metadata(tmp_path)


def test_the_synthetic_sheet_is_read_back_as_it_was_meant(tmp_path):
    people = draw_patients(300, 60, 0.5, 3)
    write_sheet(people, 3, tmp_path / "meta_data.xlsx")
    table = read_metadata(tmp_path)
    assert list(table.index) == sorted(person.group for person in people)
    assert table.attrs["notes"] == []
    gaps = 0
    for person in people:
        row = table.loc[person.group]
        meant = {"sex": "male" if person.male else "female", "age": person.age,
                 "height": round(person.height, 1), "weight": round(person.weight, 1)}  # fmt: skip
        for column, value in meant.items():
            gaps += row[column] != row[column] or row[column] is None
            assert pd.isna(row[column]) or row[column] == value, (person.group, column)
    assert 0.01 < gaps / (4 * len(people)) < 0.06  # of 3% planted


@pytest.mark.parametrize(
    "text", [*MALE, "남자", "남성", " 남", "_x0008_남", "Ｍ", "maile", "Mael", "malee", "M)", "男"]
)
def test_every_spelling_of_male(text):
    assert read_sex(clean(text)) == "male"


@pytest.mark.parametrize(
    "text", [*FEMALE, "여자", "여성", "_x0008_여", "femal", "Femail", "fmale", "emale", "FEMLAE", "女"]
)
def test_every_spelling_of_female(text):
    assert read_sex(clean(text)) == "female"


@pytest.mark.parametrize("text", ["M/F", "1", "0", "2", "x", "남녀", "other", "left", "yes", "table of contents", "?"])
def test_what_is_no_sex_stays_unknown(text):
    assert read_sex(text) is None


@given(st.sampled_from(["male", "female"]), st.integers(0, 5), st.integers(0, 3), st.randoms())
def test_one_typing_error_in_female_or_a_doubled_letter_is_understood(sex, place, kind, rng: random.Random):
    letters = list(sex)
    place %= len(letters)
    if kind == 0 or sex == "male":  # a four-letter word that loses one could be anything
        letters.insert(place, letters[place])
    elif kind == 1:
        del letters[place]
    elif kind == 2 and place:
        letters[place - 1], letters[place] = letters[place], letters[place - 1]
    else:
        letters[place] = rng.choice("xqz")
    assert read_sex("".join(letters)) == sex


@pytest.mark.parametrize(
    ("text", "column", "unit", "value"),
    [
        ("172", "height", None, 172), ("172cm", "height", None, 172), ("172.5 CM", "height", None, 172.5),
        ("1.72", "height", None, 172), ("1.72m", "height", None, 172), ("1,72", "height", None, 172),
        ("68 in", "height", None, 172.72), ("1720", "height", "mm", 172), ("172 cm", "height", "m", 172),
        ("70", "weight", None, 70), ("70kg.", "weight", None, 70), ("154.3 lb", "weight", None, 69.989303),
        ("154.3", "weight", "lb", 69.989303), ("34", "age", None, 34), ("34세", "age", None, 34),
        ("034Y", "age", None, 34), ("18 months", "age", None, 1.5),
        ("-5", "age", None, None), ("20대", "age", None, None), ("340", "age", None, None),
        ("7000", "weight", None, None), ("tall", "height", None, None), ("17 2", "height", None, None),
        ("17", "height", None, None), ("172/70", "height", None, None), ("1e2", "height", None, None),
    ],
)  # fmt: skip
def test_numbers_with_their_units(text, column, unit, value):
    assert read_number(text, column, unit) == (pytest.approx(value) if value is not None else None)


def test_headings_are_found_by_meaning():
    assert columns_by_meaning(["성별", "환자번호", "체중(kg)", "신장", "연령"]) == {
        "patient": 1, "sex": 0, "age": 4, "height": 3, "weight": 2,
    }  # fmt: skip
    assert columns_by_meaning(["PatientID", "Gender", "height_m"]) == {"patient": 0, "sex": 1, "height": 2}
    assert columns_by_meaning(["image", "package"]) == {}  # words, not parts of words
    assert columns_by_meaning(["weight of cast", "weight"])["weight"] == 1


def test_a_korean_csv_of_excel_with_units_gaps_and_oddities(tmp_path):
    text = "ID;나이;성별;키(m);몸무게\nID2;34세;남;1,72;70kg\n"
    text += "ID1;;_x0008_여;1.6;n/a\nID3;5O;alien;;132 lb\n;;;;\n;40;F;;\n"
    table = sheet(tmp_path, text, encoding="cp949")
    assert list(table.index) == ["ID1", "ID2", "ID3"]
    assert table["sex"].tolist() == ["female", "male", None]
    assert table["height"].tolist()[:2] == [160, 172]
    assert table["weight"].tolist()[1:] == [70, pytest.approx(59.874193)]
    assert table.isna().to_numpy().sum() == 5
    assert table.attrs["notes"] == [
        "meta_data.csv: 1 row(s) without a patient, left out",
        "meta_data.csv: sex 'alien' is not understood; missing for ID3",
        "meta_data.csv: age '5O' is not understood; missing for ID3",
    ]


def test_missing_columns_and_doubled_patients_are_noted(tmp_path):
    table = sheet(tmp_path, "patient,sex\n007,M\n007,F\n8,\n8,f\n")
    assert list(table.index) == ["007", "8"]
    assert list(table.columns) == list(COLUMNS)
    assert table["sex"].tolist() == ["male", "female"]
    assert [note.split(": ", 1)[1] for note in table.attrs["notes"]] == [
        "no column for age, height, weight; all missing",
        "007 has 2 rows that differ; the first value of each column counts",
    ]


def test_numeric_ids_of_excel_stay_whole(tmp_path):
    pd.DataFrame({"ID": [58.0, 7], "age": [30, None]}).to_excel(tmp_path / "meta_data.xlsx", index=False)
    assert list(read_metadata(tmp_path).index) == ["58", "7"]


def test_no_sheet_is_none_and_a_useless_one_is_refused(tmp_path):
    assert read_metadata(tmp_path) is None
    with pytest.raises(DataError, match=r"no column names the patient \(columns: who, age\); call one ID"):
        sheet(tmp_path, "who,age\nx,3\n")
    with pytest.raises(DataError, match="the sheet is empty"):
        sheet(tmp_path, "")
    with pytest.raises(DataError, match=r"meta_data\.xlsx: not a readable sheet"):
        sheet(tmp_path, "no zip", name="meta_data.xlsx")
