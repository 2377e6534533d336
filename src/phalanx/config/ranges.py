"""The numbers of the metadata sheet: their units, what is possible, and ranges of them as a config writes them."""

import math
import re
from typing import NamedTuple

UNITS = {"age": "years", "height": "cm", "weight": "kg"}
POSSIBLE = {"age": (0, 120), "height": (30, 260), "weight": (1, 400)}  # of a person


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``, both ends included; an open end is infinite."""

    low: float
    high: float

    def __str__(self) -> str:
        return "..".join(f"{end:g}" if math.isfinite(end) else "" for end in self)


def parse_range(text: str, measure: str) -> Range:
    """A range of a measure (a key of ``UNITS``) from text.

    Raises:
        ValueError: no range, one that holds nothing, or one in another unit.

    >>> parse_range("..17", "age"), parse_range("150..172.5", "height")
    (Range(low=-inf, high=17.0), Range(low=150.0, high=172.5))
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)?\.\.(\d+(?:\.\d+)?)?", text.replace(" ", ""))
    if not match or not any(match.groups()):
        raise ValueError(f"{measure}: {text!r} is no range; write ..17 (up to 17), 18..64 or 65.. (from 65 on)")
    low, high = float(match[1] or -math.inf), float(match[2] or math.inf)
    if low > high:
        raise ValueError(f"{measure}: {text} holds nothing; the lower end comes first")
    least, most = POSSIBLE[measure]
    if any(math.isfinite(end) and not least <= end <= most for end in (low, high)):
        raise ValueError(f"{measure}: {text} ends where nobody is; {measure} is in {UNITS[measure]}, {least}..{most}")
    return Range(low, high)
