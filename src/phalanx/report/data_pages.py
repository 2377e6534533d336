"""Pages of an exploration and of a check of a data set, made of the files and findings of these commands."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..checks.findings import Report
from .document import Block, Cell, Facts, Page, Picture, Section, Table, Text, count, data_uri, number, table
from .write import write_page

MANY = 8  # values of a mapping from which on they are a table
INDEX = "index.html"  # in the folder of an exploration
MAX_ROWS = 3000  # of a table; the CSV has all
TITLES = {"degrees": "rotation", "size": "size and metadata", "cooccurrence": "classes together"}


def eda_page(out: Path, name: str) -> Page:
    """The page of what ``phalanx eda`` wrote into a folder: its findings, every plot and every table.

    Args:
        name: of the data set.
    """
    facts = json.loads((out / "eda.json").read_text(encoding="utf-8"))
    plots = sorted(path for path in out.glob("*.png"))
    tables = sorted(path for path in out.glob("*.csv"))
    shown = {key: value for key, value in facts.items() if not (out / f"{key}.csv").is_file()}  # else below, as tables
    sections = [Section("summary", "Summary", tuple(_summary(shown)))]
    about = facts.get("figures")
    captions: Mapping[str, Any] = about if isinstance(about, dict) else {}
    known = [path.stem for path in tables]
    for path in plots:
        title = TITLES.get(path.stem, path.stem.replace("_", " ")).capitalize()
        blocks: list[Block] = [Picture(title, data_uri(path.read_bytes(), "png"), _caption(captions.get(path.stem)))]
        if path.stem in known:
            blocks.append(csv_table(path.with_suffix(".csv")))
        sections.append(Section(f"plot-{path.stem}", title, tuple(blocks)))
    others = [csv_table(path, folded=True) for path in tables if path.stem not in {plot.stem for plot in plots}]
    if others:
        sections.append(Section("tables", "Tables", tuple(others)))
    return Page("eda", f"Exploration of {name}", _counted(facts.get("images")), tuple(sections))


def write_eda_page(out: Path, name: str) -> Path:
    """Writes ``index.html`` into the folder of an exploration; returns its path. Raises OutputError as `write_page`."""
    write_page(out / INDEX, eda_page(out, name))
    return out / INDEX


def _counted(images: Any) -> str:
    if isinstance(images, dict):
        return ", ".join(f"{number} {split} images" for split, number in images.items())
    return f"{images} images" if isinstance(images, int) else ""


def _summary(facts: Mapping[str, Any]) -> list[Block]:
    """What is a single number or text as facts, lists of rows as tables, and what was left out."""
    items, blocks = list[tuple[str, str]](), list[Block]()
    for key, value in facts.items():
        if key in ("format", "left_out", "figures"):
            continue
        _flatten(key, value, items, blocks)
    left_out = [str(line) for line in facts.get("left_out", [])]
    lines = tuple(left_out) if left_out else ("nothing: every figure is of all images and patients",)
    return [
        Facts(tuple(items)), *blocks,
        Text(("Whom the figures leave out, and why:",)), Text(lines, listed=True),
    ]  # fmt: skip


def _flatten(key: str, value: Any, items: list[tuple[str, str]], blocks: list[Block]) -> None:
    name = key.replace("_", " ")
    if (
        isinstance(value, dict)
        and len(value) > MANY
        and not any(isinstance(one, dict | list) for one in value.values())
    ):
        rows = [[_label(inner), _cell(one)] for inner, one in value.items()]
        blocks.append(table(_slug(key), name.capitalize(), [name, "number"], rows, folded=True))
    elif isinstance(value, dict):
        for inner, one in value.items():
            _flatten(f"{key} {inner}", one, items, blocks)
    elif isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        columns = list(dict.fromkeys(column for row in value for column in row))
        rows = [[_cell(row.get(column)) for column in columns] for row in value]
        blocks.append(table(_slug(key), name.capitalize(), columns, rows, folded=len(rows) > 12))
    elif isinstance(value, list):
        if value:
            rows = [[_cell(one)] for one in value]
            blocks.append(table(_slug(key), f"{name.capitalize()}, {len(value)}", [name], rows, folded=len(rows) > 12))
        else:
            items.append((name, "none"))
    else:
        items.append((name, _cell(value).text))


def _label(text: str) -> Cell:
    """A name; one that is a whole number is sorted as that."""
    return count(int(text)) if text.isdecimal() else Cell(text)


def _slug(key: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in key.lower())


def _cell(value: Any) -> Cell:
    if value is None:
        return number(None)
    if isinstance(value, bool):
        return Cell(str(value).lower())
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return Cell(f"{value:.4g}", value)
    return Cell(json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value))


def _caption(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value or "")


def csv_table(path: Path, *, folded: bool = False) -> Table:
    """A CSV of ours as a table; columns of numbers are sorted as such."""
    with path.open(newline="", encoding="utf-8") as file:  # there may be a million rows
        lines = csv.reader(file)
        header = next(lines, [])
        shown = list(islice(lines, MAX_ROWS))
        rows = len(shown) + sum(1 for _ in lines)
    numeric = [_is_numeric([row[k] for row in shown if k < len(row)]) for k in range(len(header))]
    cells = [[_number(text) if numeric[k] else Cell(text) for k, text in enumerate(row)] for row in shown]
    note = f"The first {MAX_ROWS} of {rows} rows; {path.name} has all." if rows > MAX_ROWS else ""
    name = path.stem.replace("_", " ").capitalize()
    return table(f"csv-{path.stem}", name, header, cells, note=note, folded=folded)


def _is_numeric(texts: Sequence[str]) -> bool:
    given = [text for text in texts if text]
    return bool(given) and all(_real(text) is not None for text in given)


def _real(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _number(text: str) -> Cell:
    value = _real(text)
    if value is None or not math.isfinite(value):
        return number(None)
    return Cell(text if len(text) < 9 else f"{value:.6g}", value)


def check_page_of(report: Report, name: str) -> Page:
    """The page of what ``phalanx check`` found: every finding with its remedy, to filter by kind, file or text."""
    counts = report.counts
    kinds: dict[tuple[str, str], list[Any]] = {}
    for finding in report.findings:
        kinds.setdefault((finding.severity, finding.kind), []).append(finding)
    overview = [[severity, kind, count(len(found)), found[0].remedy] for (severity, kind), found in kinds.items()]
    rows = [[one.severity, one.kind, one.file, one.text, one.remedy] for one in report.findings]
    shown = rows[:MAX_ROWS]
    blocks: list[Block] = [
        Facts((
            *((f"{split} images", str(number)) for split, number in report.images.items()),
            *((f"{severity}s", str(number)) for severity, number in counts.items()),
            ("left out, in quarantine", str(len(report.quarantined))),
        ))
    ]  # fmt: skip
    if report.quarantined:
        blocks.append(table("quarantined", "In quarantine, not checked", ["image"],
                            [[image] for image in report.quarantined], folded=True))  # fmt: skip
    if not rows:
        blocks.append(Text(("No problem was found.",)))
        return Page("check", f"Check of {name}", report.root, (Section("summary", "Summary", tuple(blocks)),))
    note = f"The first {MAX_ROWS} of {len(rows)}; the JSON file has all." if len(rows) > MAX_ROWS else ""
    blocks.append(table("kinds", "Kinds of problems", ["severity", "kind", "number", "what to do"], overview))
    bad = report.bad_images()
    sections = [
        Section("summary", "Summary", tuple(blocks)),
        Section("findings", "All findings", (
            table("findings", "Findings", ["severity", "kind", "file", "what", "what to do"], shown, note=note),
        )),
    ]  # fmt: skip
    if bad:
        sections.append(Section("unusable", "Images with errors", (
            table("unusable", "What quarantine= would list", ["image", "first reason"], list(bad.items())),
        )))  # fmt: skip
    return Page("check", f"Check of {name}", report.root, tuple(sections))
