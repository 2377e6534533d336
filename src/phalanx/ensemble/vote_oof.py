"""The out-of-fold score of a vote: the members' out-of-fold predictions, voted by the same rule and scored."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import PhalanxError
from ..predict.stored import MapsFolder
from ..runs.reader import FoldRun, fold_folders, folds_of
from ..runs.vote_score import VoteScore, store
from ..runtime.sidecar import is_csv, read_sidecar


class NoScoreError(PhalanxError):
    """A vote cannot be scored out of fold; the text says why."""


def add_score(out: Path, score: Callable[[], VoteScore]) -> None:
    """Scores a vote that was written, and stores that in its sidecar; a note says why if it has no such score."""
    try:
        found = score()
        store(out, found)
    except (PhalanxError, OSError) as error:
        print(f"note: {out}: has no out-of-fold score: {error}", flush=True)
        return
    print(f"{out}: out of fold {found.text}", flush=True)


def runs_of(members: Sequence[str], runs: Path, weights: str = "final") -> list[Path]:
    """The folder of each member's run: of a run by name or folder, of a CSV or maps the one that predicted it.

    Raises:
        NoScoreError: a member that is not of all folds of one run, with the weights that these have now.
    """
    if weights != "final":
        raise NoScoreError(f"weights={weights}: out-of-fold predictions are those of the final weights")
    found = [_run_of(name, runs) for name in members]
    for name, run in zip(members, found, strict=True):
        if found.count(run) > 1:
            raise NoScoreError(f"{name}: another member is of the same run, {run}")
    return found


def _run_of(name: str, runs: Path) -> Path:
    hashes = None
    if is_csv(name):
        sidecar, _ = read_sidecar(Path(name), verify=False)
        if sidecar is None:
            raise NoScoreError(f"{name}: has no sidecar that names its run")
        if sidecar.vote is not None:
            raise NoScoreError(f"{name}: is a vote itself; vote its members")
        hashes = sidecar.run_hashes
    elif (Path(name) / "maps.json").is_file():
        hashes = MapsFolder(Path(name)).hashes
    elif (Path(name) / "export.json").is_file():
        raise NoScoreError(f"{name}: is an export, without out-of-fold predictions")
    if hashes is None:
        folders = fold_folders(name, runs)
        if folders[0].resolve() == Path(name).resolve():
            raise NoScoreError(f"{name}: is a single fold, which the test images alone are new to")
        return folders[0].parent
    places = sorted({str(Path(folder).parent) for folder in hashes})
    if len(places) != 1 or not Path(places[0]).is_dir():
        raise NoScoreError(f"{name}: was not predicted by one run that is still there ({', '.join(places) or 'none'})")
    run = Path(places[0])
    now = sorted(fold.weights_digest() or "" for fold in folds_of(run))
    if now != sorted(hashes.values()):
        raise NoScoreError(f"{name}: was not predicted by all folds of {run} as they are now; predict it again")
    return run


def scored_folds(run: Path) -> list[FoldRun]:
    """The folds of a run, all finished, by number.

    Raises:
        NoScoreError: one is not, or held nothing out.
    """
    folds = folds_of(run)
    for fold in folds:
        if fold.number is None or fold.result is None:
            raise NoScoreError(f"{fold.folder}: {'held nothing out' if fold.number is None else 'is not finished'}")
    return folds


def refuse_changes(changes: Sequence[str]) -> None:
    """Raises NoScoreError if the members are predicted otherwise than out of fold."""
    if changes:
        raise NoScoreError(f"{changes[0]}: the members' out-of-fold predictions were made with their own options")


def refuse_other_images(name: Path, images: Sequence[str], first: Sequence[str]) -> None:
    """Raises NoScoreError if two members held out other images."""
    if set(images) != set(first):
        raise NoScoreError(f"{name}: its folds held out other images than those of the first member")
