"""What a page consists of: sections with tables, charts, pictures and texts. It knows no task, no run and no HTML."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .svg import Chart, Forest

MISSING = "–"


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        sort: what the column is sorted by; None for text, NaN for a number that is missing.
        opens: name of the image that it opens, if any.
    """

    text: str
    sort: float | None = None
    opens: str = ""

    @property
    def key(self) -> str:
        """The number for sorting as text; empty if it is missing."""
        return "" if self.sort is None or math.isnan(self.sort) else f"{self.sort:.12g}"


class Table(NamedTuple):
    """A table whose rows can be sorted, and filtered by text if there are many.

    Attributes:
        numeric: whether each column has numbers.
        name: short, unique on the page; the filter and the tests find it by that.
        folded: only the caption is shown until it is opened.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    folded: bool = False
    kind: str = "table"


class Facts(NamedTuple):
    """Names with their values."""

    items: tuple[tuple[str, str], ...]
    kind: str = "facts"


class Text(NamedTuple):
    """Paragraphs, or points of a list."""

    lines: tuple[str, ...]
    listed: bool = False
    kind: str = "text"


class Plot(NamedTuple):
    """Charts beside each other."""

    charts: tuple[Chart | Forest, ...]
    kind: str = "plot"


class Picture(NamedTuple):
    """A picture as a data URI."""

    title: str
    uri: str
    about: str = ""
    kind: str = "picture"


class Item(NamedTuple):
    """An image of a gallery.

    Attributes:
        value: its figure; NaN if it is not defined.
        text: the same as text.
        attributes: what it can be filtered by, such as its fold.
        classes: in its ground truth or prediction.
        wrong: classes with something wrong.
        thumb, full: data URIs; empty if the page has no room for it.
        about: below the large picture.
        elsewhere: the large picture is that of a tile with this name in another gallery of the page.
    """

    name: str
    value: float
    text: str
    attributes: Mapping[str, str]
    classes: tuple[str, ...]
    wrong: tuple[str, ...]
    thumb: str = ""
    full: str = ""
    about: str = ""
    elsewhere: bool = False


class Gallery(NamedTuple):
    """Images to choose from.

    Attributes:
        filters: values of each attribute that images are filtered by.
        figure: what ``value`` of an item is called.
    """

    name: str
    figure: str
    items: tuple[Item, ...]
    filters: Mapping[str, Sequence[str]]
    classes: tuple[str, ...]
    note: str = ""
    kind: str = "gallery"


Block = Table | Facts | Text | Plot | Picture | Gallery


class Section(NamedTuple):
    """A heading and what is below it. ``name`` is short and unique, for links."""

    name: str
    title: str
    blocks: tuple[Block, ...]


class Page(NamedTuple):
    """A whole page.

    Attributes:
        kind: ``report``, ``eda`` or ``check``, by which a later call knows its own file.
    """

    kind: str
    title: str
    subtitle: str
    sections: tuple[Section, ...]


def number(value: float | None, decimals: int = 4, *, sign: bool = False) -> Cell:
    """A number with fixed decimals; a dash if it is missing or not finite."""
    if value is None or not math.isfinite(value):
        return Cell(MISSING, math.nan)
    return Cell(f"{value:{'+' if sign else ''}.{decimals}f}", float(value))


def count(value: float) -> Cell:
    """A whole number with thin groups of digits.

    >>> count(1234567).text
    '1 234 567'
    """
    return Cell(f"{value:,.0f}".replace(",", " "), float(value)) if math.isfinite(value) else Cell(MISSING, math.nan)


def span(interval: tuple[float, float] | None, decimals: int = 4, *, sign: bool = False) -> Cell:
    """A 95% interval, sorted by its lower end."""
    if interval is None or not all(map(math.isfinite, interval)):
        return Cell(MISSING, math.nan)
    low, high = (f"{end:{'+' if sign else ''}.{decimals}f}" for end in interval)
    return Cell(f"{low} to {high}", interval[0])


def table(
    name: str, caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell | str]], *, note: str = "",
    folded: bool = False,
) -> Table:  # fmt: skip
    """A table of cells and texts; a column is numeric if all its cells are numbers."""
    cells = tuple(tuple(one if isinstance(one, Cell) else Cell(str(one)) for one in row) for row in rows)
    numeric = tuple(bool(cells) and all(row[k].sort is not None for row in cells) for k in range(len(columns)))
    return Table(name, caption, tuple(columns), numeric, cells, note, folded)


def data_uri(data: bytes, kind: str = "jpeg") -> str:
    """A data URI of a picture; empty without one."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}" if data else ""
