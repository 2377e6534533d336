"""What figures of matplotlib share: names as they are, titles that fit, and the file."""

import textwrap
import warnings
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from ..runtime.files import write_bytes
from .png import MADE_BY, refuse_others


def plain(text: str) -> str:
    """A name as matplotlib takes it for text: no formula begins with it, and a legend leaves none out.

    >>> plain("_a$b$")
    ' _a\\\\$b\\\\$'
    """
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def fitted(text: str, place: Axes | Figure, size: float) -> str:
    """A text in as many lines as a place is too narrow for, since names of runs and classes may be long."""
    dpi, font = place.dpi if isinstance(place, Figure) else place.figure.dpi, FontProperties(size=size)

    def width(line: str) -> float:
        return float(text_to_path.get_text_width_height_descent(line, font, ismath=False)[0]) / 72 * dpi

    letters = max(1, len(text))
    lines = textwrap.wrap(text, letters)
    while letters > 1 and max(map(width, lines), default=0) > place.bbox.width:
        letters = letters * 9 // 10
        lines = textwrap.wrap(text, letters)
    return plain("\n".join(lines))


def titled(axes: Axes, text: str, size: float = 10) -> None:
    """Sets a title that fits the axes."""
    axes.set_title(fitted(text, axes, size), loc="left", fontsize=size)


def save(figure: Figure, path: Path, *, replace: bool = False) -> None:
    """Writes a figure as a PNG.

    Args:
        replace: whatever is there, as in a folder that is this program's own.

    Raises:
        OutputError: the file exists and was not written by this program.
    """
    if not replace:
        refuse_others(path)
    data = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # letters that no font here has are boxes
        FigureCanvasAgg(figure).print_png(data, metadata={"Software": MADE_BY})
    write_bytes(path, data.getvalue())
