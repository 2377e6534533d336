"""The metadata sheet: one row per patient, with uniform spelling and units, however people filled it in.

A value that is not understood counts as missing and is reported in a note; it is never guessed and never an error.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pandas as pd

from ..config.ranges import POSSIBLE
from ..errors import DataError

SHEETS = ("meta_data.xlsx", "meta_data.csv")  # below a data set's root; the first that exists
COLUMNS = ("sex", "age", "height", "weight")

# Words of a heading, Latin and Hangul runs apart, that identify its column.
HEADINGS = {
    "patient": {
        "id",
        "patient",
        "patientid",
        "pid",
        "subject",
        "subjectid",
        "case",
        "caseid",
        "group",
        "환자",
        "환자번호",
        "번호",
    },
    "sex": {"sex", "gender", "성별"},
    "age": {"age", "나이", "연령"},
    "height": {"height", "stature", "키", "신장"},
    "weight": {"weight", "bodyweight", "체중", "몸무게"},
}
MISSING = {"", "-", "na", "n/a", "nan", "none", "null", "unknown", "?", ".", "미상", "없음"}
SEXES = {"m": "male", "man": "male", "boy": "male", "f": "female", "w": "female", "woman": "female", "girl": "female"}
MIN_SIMILARITY = 0.72  # similarity from which a word of four letters or more is a typing error of male or female

# Factor to the unit of the table for each unit a cell or heading may name; None: no unit given.
UNITS: dict[str, dict[str | None, float]] = {
    "age": {None: 1, "y": 1, "yr": 1, "yrs": 1, "year": 1, "years": 1, "세": 1, "살": 1,
            "m": 1 / 12, "mo": 1 / 12, "month": 1 / 12, "months": 1 / 12, "개월": 1 / 12},
    "height": {None: 1, "cm": 1, "m": 100, "mm": 0.1, "in": 2.54, "inch": 2.54, "inches": 2.54},
    "weight": {None: 1, "kg": 1, "kgs": 1, "lb": 0.45359237, "lbs": 0.45359237, "pounds": 0.45359237},
}  # fmt: skip
MAX_METRES = 2.6  # a height up to this without a unit is in metres: nobody is 2.6 cm tall


def read_metadata(root: Path) -> pd.DataFrame | None:
    """The metadata of a data set, or None if it has no sheet.

    Returns:
        One row per patient, indexed by ``patient`` (str, as written), with the columns ``sex`` ('male', 'female' or
        missing), ``age`` (years), ``height`` (cm) and ``weight`` (kg), float64 with NaN for missing.
        ``attrs["notes"]`` lists what was not understood, ``attrs["path"]`` is the file.

    Raises:
        DataError: the sheet cannot be read, or no column names the patient.
    """
    found = [root / name for name in SHEETS if (root / name).is_file()]
    if not found:
        return None
    path = found[0]
    cells = _read_xlsx(path) if path.suffix == ".xlsx" else _read_csv(path)
    headings = columns_by_meaning([str(name) for name in cells.columns])
    if "patient" not in headings:
        raise DataError(
            f"{path}: no column names the patient (columns: {', '.join(map(str, cells.columns))}); "
            "call one ID, with the names of the image folders in it"
        )
    notes = [f"{other.name}: not read, since {path.name} exists" for other in found[1:]]
    patients = [clean(cell) for cell in cells.iloc[:, headings["patient"]]]
    unnamed = sum(
        not name and any(clean(cell) for cell in row)
        for name, row in zip(patients, cells.itertuples(index=False), strict=True)
    )
    if unnamed:
        notes.append(f"{path.name}: {unnamed} row(s) without a patient, left out")
    absent = [column for column in COLUMNS if column not in headings]
    if absent:
        notes.append(f"{path.name}: no column for {', '.join(absent)}; all missing")
    table = pd.DataFrame({"patient": patients})
    for column in COLUMNS:
        values: list[Any] = [None] * len(table)
        if column in headings:
            place = headings[column]
            read = read_sex if column == "sex" else _reader(column, str(cells.columns[place]))
            values, unknown = _read_cells(cells.iloc[:, place], patients, read)
            notes += [
                f"{path.name}: {column} {text!r} is not understood; missing for {_some(names)}"
                for text, names in unknown.items()
            ]
        table[column] = pd.Series(values, dtype=object if column == "sex" else float)
    table = table[table["patient"] != ""]
    duplicates = table["patient"][table["patient"].duplicated()].unique()
    for name in duplicates:
        rows = table.loc[table["patient"] == name, list(COLUMNS)]
        if any(rows[column].dropna().nunique() > 1 for column in COLUMNS):
            notes.append(f"{path.name}: {name} has {len(rows)} rows that differ; the first value of each column counts")
    table = table.groupby("patient", sort=True).first()  # the first value that is not missing
    table["sex"] = table["sex"].where(table["sex"].notna(), None)
    table.attrs = {"notes": notes, "path": str(path)}
    return table


def columns_by_meaning(headings: list[str]) -> dict[str, int]:
    """Index of the column for each meaning that has one; of several, the heading with the fewest other words.

    >>> columns_by_meaning(["Patient ID", "나이", "성별", "키(신장)", "Body weight (kg)"])
    {'patient': 0, 'sex': 2, 'age': 1, 'height': 3, 'weight': 4}
    """
    places = {}
    for meaning, words in HEADINGS.items():
        fits = []
        for place, heading in enumerate(headings):
            found = _words(heading)
            if words & set(found):
                fits.append((len(set(found) - words), place))
        if fits:
            places[meaning] = min(fits)[1]
    return places


def clean(cell: Any) -> str:
    """A cell as text: None and NaN are empty, whole floats lose their point, Excel's escapes and odd widths go.

    >>> clean("_x0008_남 "), clean(58.0), clean("Ｍ"), clean(None)
    ('남', '58', 'M', '')
    """
    if cell is None or cell is pd.NaT or (isinstance(cell, float) and cell != cell):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    # Excel writes characters that XML cannot hold as _xHHHH_
    text = unicodedata.normalize("NFKC", re.sub(r"_x[0-9A-Fa-f]{4}_", "", str(cell)))
    return "".join(c for c in text if unicodedata.category(c)[0] != "C").strip()


def read_sex(text: str) -> str | None:
    """'male' or 'female' from a word, an initial, Korean or Chinese, with noise around it or a typing error in it.

    >>> [read_sex(text) for text in ("M.", "_F", "남자", "여", "femal", "Mael", "M/F", "1")]
    ['male', 'female', 'male', 'female', 'female', 'male', None, None]
    """
    word = "".join(c for c in text.lower() if c.isalpha())
    male, female = any(c in "남男" for c in word), any(c in "여녀女" for c in word)
    if male or female:
        return None if male and female else "male" if male else "female"
    if word in SEXES:
        return SEXES[word]
    if len(word) < 4:
        return None
    likeness = {sex: SequenceMatcher(None, word, sex).ratio() for sex in ("male", "female")}
    best = max(likeness, key=lambda sex: likeness[sex])
    return best if likeness[best] >= MIN_SIMILARITY else None


def read_number(text: str, column: str, unit: str | None = None) -> float | None:
    """A number in the table's unit (years, cm, kg), or None if it is not a number or impossible for a person.

    Args:
        column: age, height or weight.
        unit: unit of the column, for cells without one.

    >>> [read_number(text, "height") for text in ("172", "172cm", "1.72", "1,72 m", "tall", "17200")]
    [172.0, 172.0, 172.0, 172.0, None, None]
    """
    match = re.fullmatch(r"(\d+(?:[.,]\d+)?)\s*([a-z가-힣]*)\.?", text.lower())
    if not match:
        return None
    value, named = float(match[1].replace(",", ".")), match[2] or unit
    if named not in UNITS[column]:
        return None
    if column == "height" and named is None and value <= MAX_METRES:
        named = "m"
    low, high = POSSIBLE[column]
    value = round(value * UNITS[column][named], 6)
    return value if low <= value <= high else None


def _read_cells(cells: Any, patients: list[str], read: Callable[[str], Any]) -> tuple[list[Any], dict[str, list[str]]]:
    """The value of each cell, None for missing; and the spellings not understood with their patients."""
    values: list[Any] = []
    unknown: dict[str, list[str]] = {}
    for patient, cell in zip(patients, cells, strict=True):
        text = clean(cell)
        filled = text.lower() not in MISSING
        values.append(read(text) if filled else None)
        if filled and patient and values[-1] is None:
            unknown.setdefault(text, []).append(patient)
    return values, unknown


def _reader(column: str, heading: str) -> Callable[[str], Any]:
    """``read_number`` with the unit in the heading, as in 'height (m)'."""
    units = [word for word in _words(heading) if word in UNITS[column]]
    unit = units[-1] if units else None
    return lambda text: read_number(text, column, unit)


def _words(heading: str) -> list[str]:
    return re.findall(r"[a-z]+|[가-힣]+", unicodedata.normalize("NFKC", heading).lower())


def _read_xlsx(path: Path) -> pd.DataFrame:
    try:
        return pd.read_excel(path, dtype=object, engine="openpyxl")
    except Exception as error:  # zip, XML and openpyxl each raise their own types
        raise DataError(f"{path}: not a readable sheet ({error}); save it again as .xlsx or .csv") from None


def _read_csv(path: Path) -> pd.DataFrame:
    data = path.read_bytes()
    for encoding in ("utf-8-sig", "cp949"):  # Excel on a Korean machine writes the latter
        try:
            text = data.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        raise DataError(f"{path}: neither UTF-8 nor CP949; save it as a CSV in UTF-8")
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    rows = list(csv.reader(io.StringIO(text), delimiter=separator))
    if not rows or not rows[0]:
        raise DataError(f"{path}: the sheet is empty; give it a row of headings, or remove it")
    width = len(rows[0])
    return pd.DataFrame([(row + [""] * width)[:width] for row in rows[1:]], columns=rows[0], dtype=object)


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
