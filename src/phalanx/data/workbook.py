"""The cells of an .xlsx file, read with limits: a few bytes may claim millions of cells, and are refused.

Merged cells all have the value of the first. A date is text, so that it is never taken for a number.
"""

import io
import posixpath
import re
import zipfile
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

from ..errors import brief
from ..runtime.reading import fault, read_bytes

MAX_BYTES = 64 << 20  # of all that is unpacked
MAX_ELEMENTS = 2_000_000  # of XML, in all parts
MAX_CELLS = 500_000  # of a sheet, the empty ones of its rows included
COLUMNS = 16384  # Excel's own limit
REMEDY = "save it again as .xlsx or .csv"
OLE = b"\xd0\xcf\x11\xe0"
PASSWORD = "EncryptedPackage".encode("utf-16-le")
DATE_FORMATS = {*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)}


class Tab(NamedTuple):
    """One sheet. ``rows``: its rows that are not empty, all of the same length; None for an empty cell."""

    name: str
    rows: list[list[Any]]
    hidden: bool = False
    hidden_rows: int = 0
    unknown: int = 0  # cells with a formula that was never calculated


class _Fault(ValueError):
    """What is wrong with a workbook."""


def read_workbook(path: Path) -> list[Tab]:
    """The sheets of an .xlsx file.

    Raises:
        DataError: it is not one, is damaged or protected, or has more than ``MAX_CELLS`` cells.
    """
    content = read_bytes(path, remedy=REMEDY)
    if kind := other_kind(content):
        raise fault(path, f"is {kind}, not an .xlsx", REMEDY)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _sheets(_Parts(archive))
    except _Fault as error:
        raise fault(path, str(error), REMEDY) from None
    except Exception as error:  # of zip, zlib and expat, which each raise their own types
        raise fault(path, f"not a readable sheet ({brief(str(error))[1:-1]})", REMEDY) from None


def other_kind(content: bytes) -> str:
    """What a file is that should be a sheet, in words; empty if it may be an .xlsx or text."""
    if content.startswith(OLE):
        return "protected by a password" if PASSWORD in content else "an .xls of Excel 97 to 2003"
    head = content[:1024].lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if head.startswith((b"<html", b"<!doctype html", b"<table", b"<meta")):
        return "a web page (HTML)"
    if head.startswith(b"<?xml"):
        return "XML"
    if content.startswith(b"%PDF"):
        return "a PDF"
    if content.startswith(b"PK") and b"opendocument.spreadsheet" in content[:200]:
        return "an .ods of LibreOffice"
    return ""


def _sheets(parts: "_Parts") -> list[Tab]:
    targets: dict[str, str] = {}
    listed: list[tuple[str, str, bool]] = []

    def relation(tag: str, found: dict[str, str]) -> None:
        if tag == "Relationship" and found.get("Type", "").endswith("/worksheet"):
            target = posixpath.normpath(posixpath.join("/xl", found.get("Target", "")))
            targets[found.get("Id", "")] = target.lstrip("/")

    def sheet(tag: str, found: dict[str, str]) -> None:
        if tag == "sheet":
            ids = [value for key, value in found.items() if key.rsplit(":", 1)[-1] == "id"]
            if ids and ids[0] in targets:
                listed.append((found.get("name", ""), targets[ids[0]], found.get("state", "visible") != "visible"))

    parts.parse("xl/_rels/workbook.xml.rels", relation)
    parts.parse("xl/workbook.xml", sheet)
    if not listed:
        raise _Fault("not a readable sheet (it has no sheets)")
    strings = _Strings()
    parts.parse("xl/sharedStrings.xml", strings.start, strings.end, strings.text)
    dates = _dates(parts)
    return [_tab(parts, place, name, hidden, strings.found, dates) for name, place, hidden in listed]


def _tab(parts: "_Parts", place: str, name: str, hidden: bool, strings: list[str], dates: list[bool]) -> Tab:
    cells = _Cells(strings, dates)
    parts.parse(place, cells.start, cells.end, cells.text)
    cells.merge()
    rows = dict(sorted(cells.rows.items()))
    width = max((max(found) for found in rows.values()), default=-1) + 1
    if len(rows) * width > MAX_CELLS:
        raise _Fault(f"has more than {MAX_CELLS} cells in {brief(name)}")
    values = [[found.get(column) for column in range(width)] for found in rows.values()]
    return Tab(name, values, hidden, len(cells.hidden & rows.keys()), cells.unknown)


class _Parts:
    """The parts of a workbook, within the limits on all of them together."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.names = {name.lower(): name for name in archive.namelist()}
        self.bytes = self.elements = 0

    def parse(
        self,
        name: str,
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None] | None = None,
        text: Callable[[str], None] | None = None,
    ) -> None:
        """Calls the functions with the tags, without their namespaces, and the text of a part, if there is one."""
        if name.lower() not in self.names:
            return
        info = self.archive.getinfo(self.names[name.lower()])
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _Fault("not a readable sheet (an unusual compression)")
        self.bytes += info.file_size
        if self.bytes > MAX_BYTES:
            raise _Fault(f"unpacks to more than {MAX_BYTES >> 20} MiB")
        parser = expat.ParserCreate()

        def counted(tag: str, found: dict[str, str]) -> None:
            self.elements += 1
            if self.elements > MAX_ELEMENTS:
                raise _Fault(f"has more than {MAX_ELEMENTS} cells and other elements")
            start(tag.rsplit(":", 1)[-1], found)

        def refuse(*_: object) -> None:
            raise _Fault("not a readable sheet (it defines entities)")

        parser.buffer_text = True
        parser.StartElementHandler = counted
        parser.StartDoctypeDeclHandler = refuse
        if end is not None:
            parser.EndElementHandler = lambda tag: end(tag.rsplit(":", 1)[-1])
        if text is not None:
            parser.CharacterDataHandler = text
        parser.Parse(self.archive.read(info), True)


class _Strings:
    """The texts that cells refer to by number; how to pronounce them is left out."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.parts: list[str] = []
        self.inside = self.spoken = False

    def start(self, tag: str, found: dict[str, str]) -> None:
        if tag == "si":
            self.parts = []
        self.spoken |= tag == "rPh"
        self.inside = tag == "t" and not self.spoken

    def end(self, tag: str) -> None:
        if tag == "si":
            self.found.append("".join(self.parts))
        self.spoken &= tag != "rPh"
        self.inside = False

    def text(self, data: str) -> None:
        if self.inside:
            self.parts.append(data)


def _dates(parts: _Parts) -> list[bool]:
    """Whether a cell of each style is a date."""
    formats: dict[str, bool] = {str(number): True for number in DATE_FORMATS}
    found: list[bool] = []
    inside = False

    def start(tag: str, about: dict[str, str]) -> None:
        nonlocal inside
        if tag == "numFmt":  # without colours, conditions and quoted words
            code = re.sub(r'"[^"]*"|\[[^\]]*\]|\\.', "", about.get("formatCode", "").lower())
            formats[about.get("numFmtId", "")] = bool(re.search("[ymdhs]", code)) and "general" not in code
        elif tag == "cellXfs":
            inside = True
        elif tag == "cellStyles":
            inside = False
        elif tag == "xf" and inside:
            found.append(formats.get(about.get("numFmtId", ""), False))

    parts.parse("xl/styles.xml", start)
    return found


class _Cells:
    """The values of a sheet by row and column, from 0."""

    def __init__(self, strings: list[str], dates: list[bool]) -> None:
        self.strings, self.dates = strings, dates
        self.rows: dict[int, dict[int, Any]] = {}
        self.hidden: set[int] = set()
        self.merged: list[str] = []
        self.unknown = 0
        self.row, self.column = -1, -1
        self.about: dict[str, str] = {}
        self.parts: list[str] = []
        self.inside = self.formula = self.spoken = False

    def start(self, tag: str, found: dict[str, str]) -> None:
        if tag == "row":
            self.row = _number(found.get("r", ""), self.row + 2) - 1
            self.column = -1
            if found.get("hidden") in ("1", "true"):
                self.hidden.add(self.row)
        elif tag == "c":
            self.column += 1
            if place := re.fullmatch(r"([A-Z]{1,3})([0-9]{1,9})", found.get("r", "")):
                self.column, self.row = _column(place[1]), int(place[2]) - 1
            if self.column >= COLUMNS:
                raise _Fault(f"has more than {COLUMNS} columns")
            self.about, self.parts, self.formula = found, [], False
        elif tag == "mergeCell":
            self.merged.append(found.get("ref", ""))
        self.formula |= tag == "f"
        self.spoken |= tag == "rPh"
        self.inside = tag in ("v", "t") and not self.spoken

    def end(self, tag: str) -> None:
        self.spoken &= tag != "rPh"
        self.inside = False
        if tag == "c":
            value = self._value("".join(self.parts))
            self.unknown += self.formula and value is None
            if value is not None:
                self.rows.setdefault(self.row, {})[self.column] = value

    def text(self, data: str) -> None:
        if self.inside:
            self.parts.append(data)

    def _value(self, text: str) -> Any:
        kind = self.about.get("t", "n")
        if not text:
            return None
        if kind == "s":
            number = _number(text.strip(), -1)
            if not 0 <= number < len(self.strings):
                raise _Fault(f"not a readable sheet (it has no text {brief(text)})")
            return self.strings[number] or None
        if kind == "b":
            return "TRUE" if text.strip() == "1" else "FALSE"
        if kind != "n":
            return text
        try:
            value = float(text)
            whole = value.is_integer() and abs(value) < 2**53
        except (ValueError, OverflowError):
            return text
        style = self.about.get("s", "")
        if style.isascii() and style.isdigit() and int(style[:9]) < len(self.dates) and self.dates[int(style[:9])]:
            return _date(value)
        return int(value) if whole else value

    def merge(self) -> None:
        """Fills merged cells with the value of the first, in rows that have some."""
        filled = 0
        for text in self.merged:
            found = re.fullmatch(r"([A-Z]{1,3})([0-9]{1,9}):([A-Z]{1,3})([0-9]{1,9})", text)
            if not found:
                continue
            left, right = _column(found[1]), min(_column(found[3]), COLUMNS - 1)
            top, bottom = int(found[2]) - 1, int(found[4]) - 1
            value = self.rows.get(top, {}).get(left)
            filled += len(self.rows) if bottom - top > len(self.rows) else bottom - top + 1
            if value is None:
                continue
            for row in (
                [row for row in self.rows if top <= row <= bottom] if bottom - top > 9 else range(top, bottom + 1)
            ):
                if row in self.rows:
                    filled += right - left + 1
                    if filled > MAX_CELLS:
                        raise _Fault(f"has more than {MAX_CELLS} merged cells")
                    for column in range(left, right + 1):
                        self.rows[row].setdefault(column, value)


def _number(text: str, otherwise: int) -> int:
    """A number of up to 9 digits, or what counts if it is not one."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else otherwise


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - 64
    return number - 1


def _date(days: float) -> str:
    try:
        return (date(1899, 12, 30) + timedelta(days=int(days))).isoformat()
    except (OverflowError, ValueError):
        return str(days)
