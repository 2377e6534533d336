"""Members of a vote by rank: ``top:3`` the three best runs out of fold, ``top:3:public`` by the leaderboard."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, NamedTuple

from ..errors import ConfigError
from ..runs.ledger import LEDGER, LedgerRow, read
from .csvs import stand_csvs
from .leaderboard import entries
from .standing import Group, Standing
from .table import list_runs

COLUMNS = ("oof", "public", "private")
FORM = re.compile(r"top:([0-9]{1,4})(?::([a-z]+))?(?::(.+))?")
Wanted = Literal["runs", "csvs", "any"]


class Candidate(NamedTuple):
    """A run with its number in a column, and the CSV that it predicted, if there is one."""

    run: Path
    csv: Path | None
    value: float
    group: Group

    def member(self, wanted: Wanted) -> str:
        """What a vote names: the CSV where only CSVs are voted, or where either is and it is there."""
        if wanted == "csvs" and self.csv is None:
            raise ConfigError(
                f"members: {self.run} has no CSV of its weights as they are now in submissions/; predict it first with "
                f"bash infer.sh experiment={self.run.name}"
            )
        return str(self.csv if self.csv is not None and wanted != "runs" else self.run)


def is_ranked(text: str) -> bool:
    """Whether members are named by their rank."""
    return text.startswith("top:") and not Path(text).exists()


def best_members(text: str, runs: Path, wanted: Wanted, ledger: Path = LEDGER) -> list[str]:
    """The members that ``top:N[:COLUMN[:NAME]]`` stands for, the best first; they are printed.

    Args:
        text: COLUMN is oof (default), public or private; NAME is a name of runs with ``*`` for any text.
        wanted: what the vote can read: runs, CSVs, or any of them.

    Raises:
        ConfigError: another text, fewer runs than that, or runs that may not be ranked together.
    """
    match = FORM.fullmatch(text)
    if match is None or not int(match[1]) or match[2] not in (None, *COLUMNS):
        raise ConfigError(
            f"members={text}: expected top:N or top:N:COLUMN with COLUMN one of {', '.join(COLUMNS)}, and perhaps "
            "names of runs, as in top:3:oof:brain_*"
        )
    count, column, pattern = int(match[1]), match[2] or "oof", match[3] or "*"
    listed = list_runs(runs, None)
    found = _out_of_fold(listed) if column == "oof" else _scored(listed, column, ledger)
    found = [one for one in found if fnmatchcase(one.run.name, pattern)]
    groups = list(dict.fromkeys(one.group for one in found))
    if len(groups) > 1:
        tables = "; ".join(f"{group.title}: {_names(found, group)}" for group in groups[:4])
        raise ConfigError(
            f"members={text}: may not be ranked together ({tables}); choose by name, as in top:3:oof:brain_*"
        )
    if len(found) < count:
        what = "finished with all folds" if column == "oof" else f"with a {column} score in {ledger}"
        raise ConfigError(f"members={text}: there are {len(found)} runs {what} in {runs}")
    found.sort(key=lambda one: (-one.value if one.group.higher_is_better else one.value, str(one.run)))
    names = [one.member(wanted) for one in found[:count]]
    shown = ", ".join(f"{name} ({one.value:.4f})" for name, one in zip(names, found, strict=False))
    print(f"members={text}: {shown}", flush=True)
    return names


def _names(found: Sequence[Candidate], group: Group) -> str:
    return ", ".join(one.run.name for one in found if one.group == group)


def _out_of_fold(runs: Sequence[Standing]) -> list[Candidate]:
    """Runs whose folds are all finished."""
    csvs = _csvs(runs)
    return [
        Candidate(run.path, csvs.get(run.name), run.value, run.group)
        for run in runs
        if run.value is not None and run.is_complete
    ]


def _csvs(runs: Sequence[Standing]) -> dict[str, Path]:
    """By run, the CSV in ``submissions/`` that its folds predicted as they are now."""
    found = stand_csvs(LEDGER.parent, runs) if LEDGER.parent.is_dir() else []
    return {one.members[0]: one.path for one in found if one.kind == "file" and one.value is not None and one.members}


def _scored(runs: Sequence[Standing], column: str, ledger: Path) -> list[Candidate]:
    """Runs whose own row, or that of their CSV, has a number in the ledger; of several the newest."""
    known, csvs = {run.path.resolve(): run for run in runs}, _csvs(runs)
    found: dict[Path, tuple[str, Candidate]] = {}
    for entry in entries(read(ledger)):
        value = getattr(entry, column)
        place = _run_of(entry.row)
        run = known.get(place.resolve()) if place is not None else None
        if value is None or run is None:
            continue
        path = Path(entry.row.file)
        csv = path if entry.row.kind == "file" and path.is_file() else csvs.get(run.name)
        if run.path not in found or entry.row.time > found[run.path][0]:
            found[run.path] = entry.row.time, Candidate(run.path, csv, value, run.group)
    return [candidate for _, candidate in found.values()]


def _run_of(row: LedgerRow) -> Path | None:
    """The run that a row is of; None of votes, and of CSVs of several runs or none."""
    if row.kind == "run":
        return Path(row.file) if row.file else None
    places = {Path(folder.rpartition(": ")[2]).parent for folder in row.members.split("; ") if folder}
    return places.pop() if row.kind == "file" and len(places) == 1 else None
