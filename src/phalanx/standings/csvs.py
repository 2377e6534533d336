"""Where the votes and predictions in a folder of submissions stand."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import PhalanxError
from ..runs.reader import FoldRun
from ..runs.vote_score import stored
from ..runtime.sidecar import Sidecar, read_sidecar
from .standing import Group, Standing

UNKNOWN = Group("unknown", "", True, "")
NOT_PREDICTIONS = ("ledger.csv",)


def stand_csvs(folder: Path, runs: Sequence[Standing]) -> list[Standing]:
    """Votes and other CSVs in a folder, by name. Their content is not read: only their sidecars are.

    Args:
        runs: whose results a prediction of one of them has out of fold.
    """
    known = {run.path.resolve(): run for run in runs}
    found = []
    for path in sorted(folder.glob("*.csv")):
        if path.name in NOT_PREDICTIONS or path.name.startswith(".") or not path.is_file():
            continue
        found.append(_stand(path, known))
    return found


def _stand(path: Path, runs: Mapping[Path, Standing]) -> Standing:
    changed = path.stat().st_mtime
    try:
        sidecar, _ = read_sidecar(path, verify=False)
        score = stored(sidecar.vote, path) if sidecar is not None else None
    except (PhalanxError, OSError) as error:
        return Standing("file", str(path), path, UNKNOWN, "damaged", str(error), changed=changed)
    found = Standing("file", str(path), path, UNKNOWN, "finished", changed=changed)
    if sidecar is None:
        return found
    of_runs = _of(sidecar, runs)
    groups = {run.group for run in of_runs}
    if len(groups) == 1:
        found.group = of_runs[0].group
        found.metric = of_runs[0].metric
    if sidecar.vote is not None:
        found.kind, found.how = "vote", str(sidecar.vote["how"])
        found.members = tuple(sidecar.vote["members"])
        if score is not None:
            found.group = Group(score.task, score.metric.name, score.metric.higher_is_better, score.data)
            found.metric, found.value, found.interval = score.metric, score.value, score.interval
            found.images, found.patients = score.images, score.patients
    elif len(of_runs) == 1:
        found.members = (of_runs[0].name,)
        if _has_weights(sidecar, of_runs[0]):
            for name in ("value", "interval", "images", "patients"):
                setattr(found, name, getattr(of_runs[0], name))
    return found


def _of(sidecar: Sidecar, runs: Mapping[Path, Standing]) -> list[Standing]:
    """The runs that a CSV was made with, as far as they are listed."""
    places = dict.fromkeys(Path(folder.rpartition(": ")[2]).parent.resolve() for folder in sidecar.run_hashes)
    return [runs[place] for place in places if place in runs]


def _has_weights(sidecar: Sidecar, run: Standing) -> bool:
    """Whether a CSV was made with all folds of a run, and the run was not trained again since."""
    try:
        return sorted(sidecar.run_hashes.values()) == sorted(
            FoldRun(fold.folder).weights_digest() or "" for fold in run.folds
        )
    except PhalanxError:
        return False
