"""Numbers of the metadata sheet: units, valid values, and ranges as a configuration writes them."""

import math
import re
from typing import NamedTuple

UNITS = {"age": "years", "height": "cm", "weight": "kg"}
POSSIBLE = {"age": (0, 120), "height": (30, 260), "weight": (1, 400)}  # minimum and maximum of a person


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``, both included; an open end is infinite."""

    low: float
    high: float

    def __str__(self) -> str:
        return "..".join(f"{end:g}" if math.isfinite(end) else "" for end in self)


def parse_range(text: str, measure: str) -> Range:
    """A range of a measure (a key of ``UNITS``), parsed from text.

    Raises:
        ValueError: not a range, an empty range, or one outside of the valid values.

    >>> parse_range("..17", "age"), parse_range("150..172.5", "height")
    (Range(low=-inf, high=17.0), Range(low=150.0, high=172.5))
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)?\.\.([0-9]{1,9}(?:\.[0-9]+)?)?", text.replace(" ", ""))
    if not match or not any(match.groups()):
        raise ValueError(f"{measure}: {text!r} is not a range; write ..17 (up to 17), 18..64 or 65.. (from 65 on)")
    low, high = float(match[1] or -math.inf), float(match[2] or math.inf)
    if low > high:
        raise ValueError(f"{measure}: {text} is empty; the lower end comes first")
    minimum, maximum = POSSIBLE[measure]
    if any(math.isfinite(end) and not minimum <= end <= maximum for end in (low, high)):
        raise ValueError(f"{measure}: {text} is out of range; {measure} is in {UNITS[measure]}, {minimum}..{maximum}")
    return Range(low, high)
