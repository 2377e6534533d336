"""One cell of the metadata sheet: as text, and as sex or as a number in the table's unit."""

import re
import unicodedata
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

from ..config.ranges import POSSIBLE

MAX_TEXT = 500  # characters of a cell that are looked at
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


def clean(cell: Any) -> str:
    """A cell as text: None and NaN are empty, whole floats lose their point, Excel's escapes and odd widths go.

    >>> clean("_x0008_남 "), clean(58.0), clean("Ｍ"), clean(None)
    ('남', '58', 'M', '')
    """
    if cell is None or type(cell).__name__ == "NaTType" or (isinstance(cell, float) and cell != cell):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return _clean(str(cell)[:MAX_TEXT])


@lru_cache(maxsize=1 << 14)
def _clean(text: str) -> str:
    # Excel writes characters that XML cannot hold as _xHHHH_
    text = unicodedata.normalize("NFKC", re.sub(r"_x[0-9A-Fa-f]{4}_", "", text))
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
