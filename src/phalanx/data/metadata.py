"""The metadata sheet: one row per patient, with uniform spelling and units, however people filled it in.

A value that is not understood counts as missing and is reported in a note; it is never guessed and never an error.
"""

import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import DataError, brief
from ..runtime.reading import decode, fault, numbered_rows, read_bytes
from .cells import MISSING, UNITS, clean, read_number, read_sex
from .headings import columns_by_meaning, find_headings, patient_columns, words
from .workbook import Tab, other_kind, read_workbook

if TYPE_CHECKING:
    import pandas as pd

SHEETS = ("meta_data.xlsx", "meta_data.csv")  # below a data set's root; the first that exists
COLUMNS = ("sex", "age", "height", "weight")
SEPARATORS = ",;\t|"
FEW = 0.1  # fraction of the patients up to which a sheet is taken for another data set's, or misread


class Rows(NamedTuple):
    """The rows of one sheet below its headings, as clean texts. ``patient``: the column of the patients."""

    name: str
    headings: list[str]
    cells: list[list[str]]
    patient: int
    places: dict[str, int]


def read_metadata(root: Path, groups: Collection[str] = (), wanted: Collection[str] = COLUMNS) -> "pd.DataFrame | None":
    """The metadata of a data set, or None if it has no sheet.

    Args:
        groups: the patients of the images; the column that has them is preferred if the headings' own has none.
        wanted: columns that notes are wanted of.

    Returns:
        One row per patient, indexed by ``patient`` (str, as written), with the columns ``sex`` ('male', 'female' or
        missing), ``age`` (years), ``height`` (cm) and ``weight`` (kg), float64 with NaN for missing.
        ``attrs["notes"]`` lists what was not understood, ``attrs["path"]`` is the file, ``attrs["column"]`` the heading
        of the patients.

    Raises:
        DataError: the sheet cannot be read, or no column names the patient.
    """
    found = [root / name for name in SHEETS if (root / name).exists()]
    if not found:
        return None

    import pandas as pd

    path = found[0]
    notes = [f"{other.name}: not read, since {path.name} exists" for other in found[1:]]
    tabs = read_workbook(path) if path.suffix == ".xlsx" else [_read_csv(path, notes)]
    tables = _tables(path, tabs, groups, notes)
    patients = [row[table.patient] for table in tables for row in table.cells]
    unnamed = sum(not row[table.patient] and any(row) for table in tables for row in table.cells)
    if unnamed:
        notes.append(f"{path.name}: {unnamed} row(s) without a patient, left out")
    absent = [column for column in COLUMNS if column in wanted and not any(column in table.places for table in tables)]
    if absent:
        notes.append(f"{path.name}: no column for {', '.join(absent)}; all missing")
    result = pd.DataFrame({"patient": patients})
    for column in COLUMNS:
        values: list[Any] = []
        unknown: dict[str, list[str]] = {}
        for table in tables:
            values += _read_cells(table, column, unknown)
        notes += [
            f"{path.name}: {column} {brief(text)} is not understood; missing for {_some(names)}"
            for text, names in unknown.items()
            if column in wanted
        ]
        result[column] = pd.Series(values, dtype=object if column == "sex" else float)
    result = result[result["patient"] != ""]
    duplicates = result["patient"][result["patient"].duplicated()].unique()
    differing = result[result["patient"].isin(duplicates)].groupby("patient", sort=False)[list(COLUMNS)]
    for name, several in (differing.nunique() > 1).any(axis=1).items():
        if several:
            count = (result["patient"] == name).sum()
            notes.append(f"{path.name}: {name} has {count} rows that differ; the first value of each column counts")
    result = result.groupby("patient", sort=True).first()  # the first value that is not missing
    result["sex"] = result["sex"].where(result["sex"].notna(), None)
    result.attrs = {"notes": notes, "path": str(path), "column": tables[0].headings[tables[0].patient]}
    return result


def match(table: "pd.DataFrame", groups: Iterable[str]) -> dict[str, str]:
    """The row of the table for each patient that has one: of the same name or, if only one row and one patient are
    alike, of one that differs in capitals, leading zeros or a decimal point (7 and 007, 12.0 and 12)."""
    names = set(table.index)
    wanted = dict.fromkeys(groups)
    found = {group: clean(group) for group in wanted if clean(group) in names}
    taken, alike, claims = set(found.values()), _by_likeness(names), _by_likeness(wanted.keys() - found.keys())
    for key, claimants in claims.items():
        rows = [name for name in alike.get(key, ()) if name not in taken]
        if len(claimants) == 1 and len(rows) == 1:
            found[claimants[0]] = rows[0]
    return found


def rows_of(table: "pd.DataFrame", groups: Iterable[str]) -> "pd.DataFrame":
    """The rows of the patients in the given order; missing values for those without one."""
    listed = list(groups)
    found = match(table, listed)
    return table.reindex([found.get(group) for group in listed])


def mismatch(table: "pd.DataFrame", groups: Collection[str]) -> str:
    """The fault of a sheet in which hardly any of the patients has a row, with examples; empty if it has none."""
    wanted = set(groups)
    found = match(table, wanted)
    if not wanted or len(found) > FEW * len(wanted):
        return ""
    rows, images = (", ".join(map(brief, sorted(each)[:3])) for each in (set(table.index), wanted - found.keys()))
    return (
        f"{table.attrs['path']}: {len(found) or 'none'} of {len(wanted)} patients ha{'s' if len(found) < 2 else 've'} "
        f"a row: its column {brief(table.attrs['column'])} has {rows or 'nothing'}, and the images are of {images}; "
        "call the column with the names of the image folders ID"
    )


def _by_likeness(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_likeness(name), []).append(name)
    return found


def _likeness(name: str) -> str:
    """What names have in common that differ in capitals, leading zeros or a decimal point alone."""
    text = clean(name).casefold()
    number = re.fullmatch(r"0*([0-9]+)(?:\.0+)?", text)
    return number[1] if number else text


def _tables(path: Path, tabs: list[Tab], groups: Collection[str], notes: list[str]) -> list[Rows]:
    """The sheets of a workbook that have patients: all visible ones, or hidden ones if no other has."""
    wanted = {_likeness(group) for group in groups}
    tables: list[Rows] = []
    useless: list[list[str]] = []
    for hidden in (False, True):
        for tab in tabs:
            if tab.hidden != hidden or not tab.rows:
                continue
            if hidden and tables:
                notes.append(f"{path.name}: the hidden sheet {brief(tab.name)} is not read")
                continue
            table, headings = _table(path, tab, wanted, notes)
            if table is not None and (table.places or len(tabs) == 1):
                tables.append(table)
                _note_oddities(path, tab, notes)
            elif table is not None:
                notes.append(f"{path.name}: the sheet {brief(tab.name)} is not read: it has no {', '.join(COLUMNS)}")
            else:
                useless.append(headings)
                notes.append(f"{path.name}: the sheet {brief(tab.name)} is not read: no column names the patient")
    if not tables and not useless:
        raise fault(path, "the sheet is empty", "give it a row of headings, or remove it")
    if not tables:
        raise DataError(
            f"{path}: no column names the patient (columns: {_some([h for h in useless[0] if h], 12)}); "
            "call one ID, with the names of the image folders in it"
        )
    if len(tables) > 1:
        names = ", ".join(brief(table.name) for table in tables)
        notes.append(f"{path.name}: the sheets {names} are read together")
    return tables


def _note_oddities(path: Path, tab: Tab, notes: list[str]) -> None:
    if tab.hidden_rows:
        notes.append(f"{path.name}: {tab.hidden_rows} hidden row(s) are read, too")
    if tab.unknown:
        notes.append(
            f"{path.name}: {tab.unknown} cell(s) have a formula without its value; missing. Open the sheet in Excel "
            "and save it"
        )


def _table(path: Path, tab: Tab, wanted: set[str], notes: list[str]) -> tuple[Rows | None, list[str]]:
    """The table of a sheet, None if no column names the patient; and its headings."""
    texts = [[clean(cell) for cell in row] for row in tab.rows]
    headings, end = find_headings(texts)
    width = len(headings)
    cells = [(row + [""] * width)[: max(width, len(row))] for row in texts[end:] if row != texts[end - 1]]
    places = columns_by_meaning(headings)
    patient = places.pop("patient", None)
    ranked = patient_columns(headings)

    def hits(column: int) -> int:
        return len({_likeness(row[column]) for row in cells if row[column]} & wanted)

    if wanted and (not ranked or not hits(ranked[0])):
        others = [place for place in range(width) if place not in places.values()]
        best = max(others, key=lambda place: (hits(place), place in ranked), default=None)
        if best is not None and 2 * hits(best) >= len(wanted):
            instead = f", not in {brief(headings[ranked[0]])}" if ranked else ""
            notes.append(f"{path.name}: the patients are in the column {brief(headings[best])}{instead}")
            patient = best
    if patient is None:
        return None, headings
    return Rows(tab.name, headings, cells, patient, places), headings


def _read_cells(table: Rows, column: str, unknown: dict[str, list[str]]) -> list[Any]:
    """The value of each row, None for missing; adds the spellings not understood with their patients."""
    if column not in table.places:
        return [None] * len(table.cells)
    place = table.places[column]
    read = read_sex if column == "sex" else _reader(column, table.headings[place])
    values: list[Any] = []
    for row in table.cells:
        text, patient = row[place], row[table.patient]
        filled = text.lower() not in MISSING
        values.append(read(text) if filled else None)
        if filled and patient and values[-1] is None:
            unknown.setdefault(text, []).append(patient)
    return values


def _reader(column: str, heading: str) -> Callable[[str], Any]:
    """``read_number`` with the unit in the heading, as in 'height (m)'."""
    units = [word for word in words(heading) if word in UNITS[column]]
    unit = units[-1] if units else None
    return lambda text: read_number(text, column, unit)


def _read_csv(path: Path, notes: list[str]) -> Tab:
    """The rows of a CSV with any separator and line ends, those left out that have more cells than there are headings:
    in most a decimal comma separates what belongs together."""
    remedy = "save it as a CSV in UTF-8"
    content = read_bytes(path, remedy=remedy)
    kind = other_kind(content) or ("an .xlsx" if content.startswith(b"PK") else "")
    if kind:
        raise fault(path, f"is {kind}, not a CSV", remedy)
    try:
        text = decode(content)
    except ValueError as error:
        try:  # Excel on a Korean machine writes CP949
            text = content.decode("cp949")
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise fault(path, f"{error} and not CP949" if "NUL" not in str(error) else str(error), remedy) from None
    text = re.sub(r"\Asep=.[\r\n]+", "", text)  # Excel's own line
    try:
        separator = max(SEPARATORS, key=lambda separator: _fit(text, separator))
        rows = [(line, row) for line, row in numbered_rows(text, separator) if any(cell.strip() for cell in row)]
    except ValueError as error:
        raise fault(path, str(error), remedy) from None
    headings, end = find_headings([[clean(cell) for cell in row] for _, row in rows[:50]])
    long = {line for line, row in rows[end:] if any(cell.strip() for cell in row[len(headings) :])}
    if long:
        notes.append(
            f"{path.name}: {len(long)} row(s) have more cells than there are headings, such as line {min(long)}; "
            "left out"
        )
    return Tab(path.name, [row for line, row in rows if line not in long])


def _fit(text: str, separator: str) -> tuple[int, int]:
    """How well a separator fits: columns whose headings mean something, and columns."""
    head = [row for _, row in numbered_rows(text[:20000], separator)][:50]
    headings, _ = find_headings([[clean(cell) for cell in row] for row in head if any(row)])
    return len(set(columns_by_meaning(headings).values())), len(headings)


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
