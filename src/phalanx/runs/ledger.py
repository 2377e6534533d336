"""``submissions/ledger.csv``: a row for every finished run and vote, so that a score can be traced to what made it."""

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from ..errors import DataError, one_line
from ..runtime.files import sha256_file, write_text
from ..runtime.locks import lock
from ..runtime.provenance import commit
from ..runtime.reading import LIST, MissingFile, fault, read_rows
from ..runtime.sidecar import read_sidecar
from .reader import FoldResult, FoldRun, folds_of

REMEDY = "mend it by hand, or move it away to begin another"
LEDGER = Path("submissions") / "ledger.csv"


@dataclass(frozen=True)
class LedgerRow:
    """One run or vote, all fields as text; empty if unknown."""

    time: str  # UTC, when the row was first added
    kind: str  # run, vote or file (a CSV from elsewhere)
    name: str  # the run's, or the CSV's
    experiment: str = ""
    commit: str = ""  # of the code that trained the run, or voted
    metric: str = ""  # by which the run was validated
    higher_is_better: str = ""  # direction of the metric: true or false
    folds: str = ""  # metric of each fold: "0:0.9712 1:0.9688"
    out_of_fold: str = ""  # metric over all held-out images
    members: str = ""  # of a vote, or the weights that made a CSV; with their weights and the quorum
    file: str = ""
    sha256: str = ""  # of the CSV; of a run: of its folds' weights' hashes, in order
    score: str = ""  # the leaderboard's, given by the user
    note: str = ""


COLUMNS = tuple(field.name for field in fields(LedgerRow))
LATER = ("metric", "higher_is_better")  # columns that earlier ledgers lack


def run_row(run: Path, experiment: str = "", *, every: bool = True) -> LedgerRow | None:
    """The row of a run's folder; None while one of its folds is not finished.

    Args:
        every: all folds that were drawn must be there, and not only those that were begun.

    Raises:
        DataError: no run there, or one that cannot be read.
    """
    folds = [FoldRun(folder) for folder in _folders(run, every=every)]
    if not all(fold.result for fold in folds):
        return None
    scored = {fold: fold.result for fold in folds if fold.result and fold.result.value is not None}
    first = next(iter(scored.values()), None)
    digests = "".join(fold.weights_digest() or "" for fold in folds)
    return LedgerRow(
        time=_now(),
        kind="run",
        name=run.name,
        experiment=experiment,
        commit=folds[0].environment["commit"] or "",
        metric=first.metric.name if first else "",
        higher_is_better=str(first.metric.higher_is_better).lower() if first else "",
        folds=" ".join(f"{fold.number}:{result.text}" for fold, result in scored.items()),
        out_of_fold=_mean([*scored.values()]),
        file=str(run),
        sha256=hashlib.sha256(digests.encode()).hexdigest(),
        note=_control(folds[0]),
    )


def _control(fold: FoldRun) -> str:
    """That a run was trained on permuted labels; nothing of others."""
    data = fold.recipe.get("data")
    seed = data.get("shuffle_labels") if isinstance(data, dict) else None
    return f"control: data.shuffle_labels={seed}" if seed is not None else ""


def _folders(run: Path, *, every: bool) -> list[Path]:
    """The folders of a run's folds: all that were drawn, or only those that were begun.

    Raises:
        DataError: no run there.
    """
    begun = folds_of(run)
    if not begun:
        raise DataError(f"{run}: not a run; no fold was begun there")
    numbered = [fold for fold in begun if fold.number is not None]
    names = {f"fold{number}" for number in numbered[0].folds.values()} if numbered and every else set()
    names |= {fold.name for fold in begun}
    return [run / name for name in sorted(names, key=lambda name: (name == "all", len(name), name))]


def _mean(results: Sequence[FoldResult]) -> str:
    """The metric over all held-out images, or nothing."""
    if not results:
        return ""
    images = sum(result.images for result in results)
    return results[0].metric.text(sum((result.value or 0.0) * result.images for result in results) / images)


def csv_row(file: Path, members: Sequence[str] = (), how: str = "") -> LedgerRow:
    """The row of a submission CSV; of a vote if its sidecar or the caller names members and ``how`` they voted.

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
    named = [*members] or sorted(sidecar.run_hashes if sidecar else [])
    return LedgerRow(
        time=_now(),
        kind="vote" if members else "file",
        name=file.stem,
        commit=commit() or "",
        members="; ".join([how, *named] if how else named),
        file=str(file),
        sha256=digest,
    )


def note_run(run: Path, experiment: str) -> None:
    """Adds a finished run in ``runs/`` to the ledger. Other folders are for sweeps, trials, tests and demos."""
    row = run_row(run, experiment) if run.parent.resolve() == Path("runs").resolve() else None
    if row is not None and add(LEDGER, row):
        print(f"{LEDGER}: {row.name}, out of fold {row.metric} {row.out_of_fold or '-'}", flush=True)


def note_vote(file: Path, members: Sequence[str], how: str) -> None:
    """Adds a vote to the ledger if it was written into ``submissions/``."""
    if file.parent.resolve() != LEDGER.parent.resolve():
        return
    try:
        added = add(LEDGER, csv_row(file, members, how))
    except (DataError, OSError) as error:
        raise DataError(f"{file}: is written, but not its row in the ledger ({error}); then vote again") from None
    if added:
        print(f"{LEDGER}: {file.stem}", flush=True)


def read(ledger: Path) -> list[LedgerRow]:
    """Rows of a ledger, the oldest first; none if there is no such file.

    Raises:
        DataError: another table.
    """
    try:
        header, *rows = read_rows(ledger, LIST, REMEDY) or [[*COLUMNS]]
    except MissingFile:
        return []
    if tuple(header) == tuple(name for name in COLUMNS if name not in LATER):
        places = [COLUMNS.index(name) for name in LATER]
        for row in [header, *rows]:
            for place in places:
                row.insert(place, "")
        header = [*COLUMNS]
    if tuple(header) != COLUMNS:
        text = f"line 1: the header is {one_line(','.join(header))!r}; a ledger's is {','.join(COLUMNS)}"
        raise fault(ledger, text, REMEDY)
    for number, row in enumerate(rows, 1):
        if len(row) != len(COLUMNS):
            raise fault(ledger, f"row {number} has {len(row)} fields of {len(COLUMNS)}", REMEDY)
    return [LedgerRow(*row) for row in rows]


def add(ledger: Path, row: LedgerRow) -> bool:
    """Adds a row, whole or not at all, however many processes do so at once; returns whether anything changed.

    What is known already (kind, name and hash) is not added again, but takes a score or note that is given. A CSV
    that was voted stays a vote.
    """
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with lock(ledger.with_name(f".{ledger.name}.lock")):
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


def to_text(rows: Sequence[LedgerRow]) -> str:
    """A table for the terminal: by the leaderboard's score, then out of fold in the metric's direction, then the
    newest."""

    def order(row: LedgerRow) -> tuple[float, float, str]:
        return _number(row.score), _number(row.out_of_fold, lower=row.higher_is_better == "false"), row.time

    head = ("score", "out of fold", "metric", "kind", "name", "folds or members", "commit", "sha256", "date", "note")
    lines = [head] + [
        (
            row.score or "-", row.out_of_fold or "-", row.metric or "-", row.kind, row.name,
            _short(row.folds or row.members), row.commit[:8], row.sha256[:8], row.time[:10], row.note,
        )
        for row in sorted(rows, key=order, reverse=True)
    ]  # fmt: skip
    cells = [[one_line(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def _number(text: str, *, lower: bool = False) -> float:
    """A number to sort by, the best last; -inf if there is none."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    return (-number if lower else number) if math.isfinite(number) else -math.inf


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
