"""``submissions/ledger.csv``: a row for every finished run and vote, so that a score can be traced to what made it."""

import csv
import hashlib
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from ..errors import DataError, PhalanxError, one_line
from ..runtime.files import sha256_file, write_text
from ..runtime.locks import lock
from ..runtime.provenance import commit
from ..runtime.reading import LIST, MissingFile, fault, read_rows
from ..runtime.sidecar import Sidecar, read_sidecar
from .reader import FoldResult, FoldRun, folds_of
from .vote_score import stored

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
    task: str = ""
    data: str = ""  # name of the data set
    model: str = ""  # architecture/encoder, or what has no architecture its encoder; of a vote of several: vote
    metric: str = ""  # by which the run was validated
    higher_is_better: str = ""  # direction of the metric: true or false
    folds: str = ""  # metric of each fold: "0:0.9712 1:0.9688"
    out_of_fold: str = ""  # metric over all held-out images; of a run's CSV the run's, of a vote the vote's own
    members: str = ""  # of a vote, or the weights that made a CSV; with their weights and the quorum
    file: str = ""
    sha256: str = ""  # of the CSV; of a run: of its folds' weights' hashes, in order
    public: str = ""  # the leaderboard's scores, given by the user
    private: str = ""
    note: str = ""


COLUMNS = tuple(field.name for field in fields(LedgerRow))
LATER = ("task", "data", "model", "metric", "higher_is_better", "private")  # columns that earlier ledgers lack
EARLIER = {"score": "public"}  # columns of earlier ledgers
GIVEN = ("public", "private", "note")  # by the user


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
        **about(folds[:1]),
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
    known = _known(file, sidecar) if sidecar else {}
    return LedgerRow(
        time=_now(),
        kind="vote" if members else "file",
        name=file.stem,
        commit=commit() or "",
        **known,
        members="; ".join([how, *named] if how else named),
        file=str(file),
        sha256=digest,
    )


def about(folds: Sequence[FoldRun]) -> dict[str, str]:
    """Task, data set and model of folds, as a row has them; of several models ``vote``. Raises as `FoldRun.recipe`."""
    found: dict[str, list[str]] = {"task": [], "data": [], "model": []}
    for fold in folds:
        recipe = fold.recipe
        data, model = (recipe[name] if isinstance(recipe.get(name), dict) else {} for name in ("data", "model"))
        parts = (model.get("arch") or model.get("architecture"), model.get("encoder"))
        found["task"].append(str(recipe.get("task", "segment")))
        found["data"].append(str(data.get("name", "")))
        found["model"].append("/".join(str(part) for part in parts if part))
    several = {"task": "", "data": "", "model": "vote"}
    return {key: values[0] if len(set(values)) == 1 else several[key] for key, values in found.items() if values}


def _known(file: Path, sidecar: Sidecar) -> dict[str, str]:
    """Task, data set, model and out-of-fold metric of a CSV, as far as its sidecar and the runs that made it show them.

    A CSV of one run has the run's metric if all its folds predicted it, with the weights that they have now.
    """
    folds = [FoldRun(Path(folder.rpartition(": ")[2])) for folder in sidecar.run_hashes]
    found = dict[str, str]()
    with suppress(PhalanxError):  # runs that are elsewhere, or were deleted
        found = about(folds)
    score = stored(sidecar.vote, file)
    if score is not None:
        metric = score.metric
        return found | {
            "task": score.task, "data": score.data, "metric": metric.name,
            "higher_is_better": str(metric.higher_is_better).lower(), "out_of_fold": metric.text(score.value),
        }  # fmt: skip
    if sidecar.vote is None and len({fold.folder.parent for fold in folds}) == 1:
        with suppress(PhalanxError):
            own = run_row(folds[0].folder.parent, every=False)
            now = sorted(fold.weights_digest() or "" for fold in folds_of(folds[0].folder.parent))
            if own is not None and now == sorted(sidecar.run_hashes.values()):
                names = ("metric", "higher_is_better", "folds", "out_of_fold")
                found |= {name: getattr(own, name) for name in names}
    return found


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
    names = [EARLIER.get(name, name) for name in header]
    lacking = set(COLUMNS) - set(names)
    if len(set(names)) < len(names) or not lacking <= set(LATER) or not set(names) <= set(COLUMNS):
        text = f"line 1: the header is {one_line(','.join(header))!r}; a ledger's is {','.join(COLUMNS)}"
        raise fault(ledger, text, REMEDY)
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise fault(ledger, f"row {number} has {len(row)} fields of {len(names)}", REMEDY)
    return [LedgerRow(**dict(zip(names, row, strict=True))) for row in rows]


def add(ledger: Path, row: LedgerRow) -> bool:
    """Adds a row, whole or not at all, however many processes do so at once; returns whether anything changed.

    What is known already (kind, name and hash) is not added again, but takes a score or note that is given, and what
    was not known of it before. A CSV that was voted stays a vote.
    """
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with lock(ledger.with_name(f".{ledger.name}.lock")):
        rows = read(ledger)
        for place, old in enumerate(rows):
            same = old.kind == row.kind or {old.kind, row.kind} == {"vote", "file"}
            if same and (old.name, old.sha256) == (row.name, row.sha256):
                given = {name: getattr(row, name) or getattr(old, name) for name in GIVEN}
                found = {name: getattr(old, name) or getattr(row, name) for name in ("task", "data", "model")}
                scored = row if row.out_of_fold else old  # a vote is scored when its members' folds are there
                names = ("metric", "higher_is_better", "folds", "out_of_fold")
                new = replace(old, **given, **found, **{name: getattr(scored, name) for name in names})
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


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
