"""Which rows of a sheet are its headings, and which column means what.

Titles may stand above the headings, the headings may take two rows, and a row of units may follow them.
"""

import re
import unicodedata
from collections.abc import Sequence

from .cells import UNITS

MEASURED = {  # words of a heading, Latin and Hangul runs apart, that identify its column
    "sex": {"sex", "gender", "성별"},
    "age": {"age", "나이", "연령", "만나이"},
    "height": {"height", "stature", "키", "신장"},
    "weight": {"weight", "bodyweight", "체중", "몸무게"},
}
PATIENT = {
    "id", "patient", "patientid", "pid", "subject", "subjectid", "case", "caseid", "group", "환자", "환자번호",
    "피험자", "대상자", "등록번호", "차트번호",
}  # fmt: skip
NUMBER = {
    "번호",
    "순번",
    "연번",
    "일련번호",
    "no",
    "nr",
    "num",
    "number",
    "index",
    "idx",
}  # of the row, or of the patient
ALL_UNITS = {unit for units in UNITS.values() for unit in units if unit}
MAX_TITLES = 20  # rows among which the headings are looked for


def columns_by_meaning(headings: Sequence[str]) -> dict[str, int]:
    """Index of the column for each meaning that has one; of several, the heading with the fewest other words.

    A running number is the patient only if no other column is.

    >>> columns_by_meaning(["번호", "Patient ID", "나이", "성별", "키(신장)", "Body weight (kg)"])
    {'patient': 1, 'sex': 3, 'age': 2, 'height': 4, 'weight': 5}
    """
    found = [set(words(heading)) for heading in headings]
    places = {}
    patients = patient_columns(headings)
    if patients:
        places["patient"] = patients[0]
    for meaning, known in MEASURED.items():
        fits = [(len(each - known), place) for place, each in enumerate(found) if each & known]
        if fits:
            places[meaning] = min(fits)[1]
    return places


def patient_columns(headings: Sequence[str]) -> list[int]:
    """Columns whose heading may mean the patient, the likeliest first."""
    fits = []
    for place, heading in enumerate(headings):
        found = set(words(heading))
        if found & (PATIENT | NUMBER) and not any(found & known for known in MEASURED.values()):
            fits.append((not found & PATIENT, len(found - PATIENT - NUMBER), place))
    return [place for _, _, place in sorted(fits)]


def words(heading: str) -> list[str]:
    """Words of a heading in lower case, Latin and Hangul apart."""
    return re.findall(r"[a-z]+|[가-힣]+", unicodedata.normalize("NFKC", heading).lower())


def find_headings(rows: Sequence[Sequence[str]]) -> tuple[list[str], int]:
    """The headings of a sheet and the number of rows up to their end.

    Of the first rows, those whose cells mean most are the headings; the first row, if none means anything.

    Args:
        rows: clean texts.
    """
    headings, end, most = list(rows[0]) if rows else [], 1, _meanings(rows[0]) if rows else 0
    for place, row in enumerate(rows[:MAX_TITLES]):
        alone = _meanings(row)
        if alone > max(most, 1):
            headings, end, most = list(row), place + 1, alone
        if place + 1 < len(rows) and _is_text(rows[place + 1]):
            joined = _joined(row, rows[place + 1])
            count = _meanings(joined)
            if count > max(most, 1, alone, _meanings(rows[place + 1])) and patient_columns(joined):
                headings, end, most = joined, place + 2, count
    if end < len(rows) and _are_units(headings, rows[end]):
        headings, end = _joined(headings, rows[end]), end + 1
    return headings, end


def _meanings(row: Sequence[str]) -> int:
    """Number of columns with a meaning."""
    return len(set(columns_by_meaning(row).values()))


def _joined(upper: Sequence[str], lower: Sequence[str]) -> list[str]:
    width = max(len(upper), len(lower))
    pairs = zip([*upper, *[""] * (width - len(upper))], [*lower, *[""] * (width - len(lower))], strict=True)
    return [f"{above} {below}".strip() if above != below else above for above, below in pairs]


def _is_text(row: Sequence[str]) -> bool:
    """Whether no cell has a digit, as in the second row of headings."""
    return not any(letter.isdigit() for cell in row for letter in cell)


def _are_units(headings: Sequence[str], row: Sequence[str]) -> bool:
    """Whether a row below the headings has their units: no patient, and nothing but units."""
    places = columns_by_meaning(headings)
    filled = [cell for cell in row if cell]
    if not filled or ("patient" in places and places["patient"] < len(row) and row[places["patient"]]):
        return False
    return _is_text(row) and all(words(cell) and set(words(cell)) <= ALL_UNITS for cell in filled)
