"""``submissions/ledger.csv``: a row for every finished run and vote, so that a score can be traced to what made it."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..errors import DataError
from ..runtime.files import sha256_file, write_text
from ..runtime.provenance import commit
from ..runtime.sidecar import read_sidecar

LEDGER = Path("submissions") / "ledger.csv"


@dataclass(frozen=True)
class Row:
    """One run or vote. Texts, as they stand in the file; empty where there is nothing to tell."""

    time: str  # UTC, when the row was first added
    kind: str  # run, vote or file (a CSV from elsewhere)
    name: str  # the run's, or the CSV's
    experiment: str
    commit: str  # of the code that trained the run, or voted
    folds: str  # Dice of each fold: "0:0.9712 1:0.9688"
    out_of_fold: str  # mean Dice over all images held out
    members: str  # of a vote, or the weights behind a CSV; with their weights and the quorum
    file: str
    sha256: str  # of the CSV; of a run: of its folds' weights' hashes, in order
    score: str = ""  # what the leaderboard said, told by hand
    note: str = ""


COLUMNS = tuple(field.name for field in fields(Row))


def run_row(run: Path, experiment: str = "", *, every: bool = True) -> Row | None:
    """The row of a run's folder; None while one of its folds is not finished.

    Args:
        every: all folds that were drawn must be there, and not only those that were begun.

    Raises:
        DataError: no run there, or one that cannot be read.
    """
    try:
        with min(run.glob("*/folds.csv"), default=run / "fold0" / "folds.csv").open(encoding="utf-8") as file:
            numbers = sorted({int(row["fold"]) for row in csv.DictReader(file)})
        folders = [run / f"fold{number}" for number in numbers] if any(run.glob("fold*")) else []
        folders = [folder for folder in folders if every or folder.is_dir()]
        folders += [run / "all"] if (run / "all").is_dir() else []
        if not all((folder / "done.json").is_file() for folder in folders):
            return None
        hashes, folds, dice = [], [], list[float]()
        for folder in folders:
            hashes.append(_json(folder / "final" / "state.json")["files"]["weights.safetensors"])
            if folder.name != "all":
                found = _json(folder / "oof_score.json")
                folds.append(f"{folder.name.removeprefix('fold')}:{found['dice']:.4f}")
                dice += found["per_image"].values()
        made_by = _json(folders[0] / "environment.json")["commit"]
    except FileNotFoundError as error:
        raise DataError(f"{run}: no run with finished folds ({error.filename} is missing)") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{run}: not a readable run ({type(error).__name__}: {error})") from None
    return Row(
        time=_now(), kind="run", name=run.name, experiment=experiment, commit=made_by or "", folds=" ".join(folds),
        out_of_fold=f"{sum(dice) / len(dice):.4f}" if dice else "", members="", file=str(run),
        sha256=hashlib.sha256("".join(hashes).encode()).hexdigest(),
    )  # fmt: skip


def csv_row(file: Path, members: Sequence[str] = (), how: str = "") -> Row:
    """The row of a submission CSV; of a vote where its sidecar or the caller tells members and ``how`` they voted.

    Raises:
        DataError: no such file, or one that does not fit its sidecar.
    """
    sidecar, _ = read_sidecar(file)  # which compares the CSV with its hash
    try:
        digest = sidecar.sha256 if sidecar else sha256_file(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None
    if sidecar and sidecar.vote and not members:
        members, how = sidecar.vote["members"], sidecar.vote["how"]
    told = [*members] or sorted(sidecar.run_hashes if sidecar else [])
    return Row(
        time=_now(), kind="vote" if members else "file", name=file.stem, experiment="", commit=commit() or "", folds="",
        out_of_fold="", members="; ".join([how, *told] if how else told), file=str(file), sha256=digest,
    )  # fmt: skip


def note_run(run: Path, experiment: str) -> None:
    """Adds a finished run in ``runs/`` to the ledger. Runs kept elsewhere are of sweeps, trials, tests and demos."""
    row = run_row(run, experiment) if run.parent.resolve() == Path("runs").resolve() else None
    if row is not None and add(LEDGER, row):
        print(f"{LEDGER}: {row.name}, out-of-fold Dice {row.out_of_fold or '-'}", flush=True)


def note_vote(file: Path, members: Sequence[str], how: str) -> None:
    """Adds a vote to the ledger where it was written into ``submissions/``."""
    if file.parent.resolve() != LEDGER.parent.resolve():
        return
    try:
        added = add(LEDGER, csv_row(file, members, how))
    except (DataError, OSError) as error:
        raise DataError(f"{file}: is written, but not its row in the ledger ({error}); then vote again") from None
    if added:
        print(f"{LEDGER}: {file.stem}", flush=True)


def read(ledger: Path) -> list[Row]:
    """Rows of a ledger, the oldest first; none where there is no such file.

    Raises:
        DataError: another table.
    """
    if not ledger.is_file():
        return []
    try:
        with ledger.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[*COLUMNS]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{ledger}: cannot be read ({error})") from None
    if tuple(header) != COLUMNS:
        raise DataError(f"{ledger} line 1: the header is {','.join(header)!r}; a ledger's is {','.join(COLUMNS)}")
    for number, row in enumerate(rows, 1):
        if len(row) != len(COLUMNS):
            raise DataError(f"{ledger} row {number}: {len(row)} fields of {len(COLUMNS)}; mend it by hand")
    return [Row(*row) for row in rows]


def add(ledger: Path, row: Row) -> bool:
    """Adds a row, whole or not at all, however many processes do so at once; tells whether anything changed.

    What is known already (kind, name and hash) is not added again, but takes a score or note that is given. A CSV
    that was voted keeps being a vote.
    """
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(ledger.with_name(f".{ledger.name}.lock")):
        rows = read(ledger)
        for place, old in enumerate(rows):
            same = old.kind == row.kind or {old.kind, row.kind} == {"vote", "file"}
            if same and (old.name, old.sha256) == (row.name, row.sha256):
                new = replace(old, score=row.score or old.score, note=row.note or old.note)
                if new == old:
                    return False
                rows[place] = new
                break
        else:
            rows.append(row)
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(asdict(one).values() for one in rows)
        write_text(ledger, text.getvalue())
    return True


def to_text(rows: Sequence[Row]) -> str:
    """A table for the terminal: by the leaderboard's score, then out of fold, then the newest."""

    def order(row: Row) -> tuple[float, float, str]:
        return _number(row.score), _number(row.out_of_fold), row.time

    head = ("score", "out of fold", "kind", "name", "folds or members", "commit", "sha256", "date", "note")
    lines = [head] + [
        (
            row.score or "-", row.out_of_fold or "-", row.kind, row.name, _short(row.folds or row.members),
            row.commit[:8], row.sha256[:8], row.time[:10], " ".join(row.note.split()),
        )
        for row in sorted(rows, key=order, reverse=True)
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    return number if math.isfinite(number) else -math.inf


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
