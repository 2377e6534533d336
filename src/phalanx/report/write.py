"""A page as one HTML file that needs no other: styles, script and pictures are inside, and nothing else may load."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..runtime.files import refuse_foreign, write_text
from .document import Page

if TYPE_CHECKING:
    from jinja2 import Environment


def mark_of(kind: str) -> str:
    """How a page of a kind begins, so that a later call knows its own file."""
    return f'name="generator" content="Phalanx {kind} page'


def check_page(path: Path, kind: str) -> None:
    """Refuses a name for a page before the work for it is done.

    Raises:
        OutputError: it is a link, a folder, or a file that is not a page of this kind.
    """
    refuse_foreign(path, mark_of(kind))


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("phalanx.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def render(page: Page) -> str:
    """The HTML of a page."""
    from markupsafe import Markup

    folder = Path(__file__).parent / "templates"
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return _templates().get_template("page.html.j2").render(
        page=page, style=Markup(style), script=Markup(script), policy=Markup(policy),
        mark=f"Phalanx {page.kind} page, version {__version__}",
    )  # fmt: skip


def write_page(path: Path, page: Page) -> None:
    """Writes a page, whole or not at all. Raises OutputError as :func:`check_page`."""
    check_page(path, page.kind)
    write_text(path, render(page))


def _hash(text: str) -> str:
    """The digest by which a browser knows an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
