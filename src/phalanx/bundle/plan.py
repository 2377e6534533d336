"""What a bundle predicts: the command that wrote a CSV, its members, the commands that wrote these, down to runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from ..config.words import text_value
from ..ensemble.box_thresholds import FILE as THRESHOLDS
from ..errors import ConfigError, DataError
from ..predict.exported import DESCRIPTION_FILE
from ..predict.stored import MapsFolder
from ..runs.reader import FoldRun, fold_folders, folds_of
from ..runtime.files import sha256_file
from ..runtime.reading import read_mapping
from ..runtime.sidecar import MadeBy, Sidecar, is_csv, read_sidecar, sidecar_path
from .manifest import Step

Checkpoint = Literal["final", "best", "last"]
CHECKPOINTS: tuple[Checkpoint, ...] = ("final", "best", "last")
AGAIN = "predict or vote it again by the same command (delete it first), then bundle"
MAX_DEPTH = 16  # of votes of votes


class Taken(NamedTuple):
    """A run that a bundle contains, or an export of it.

    Attributes:
        place: in the bundle.
        source: the folder of the run, or of its only fold that was named.
        checkpoint: which weights are taken.
    """

    name: str
    place: str
    source: Path
    folders: tuple[Path, ...]
    checkpoint: Checkpoint

    @property
    def thresholds(self) -> Path | None:
        """Thresholds of boxes stored with the run, which ``infer`` applies; None if there are none."""
        path = self.folders[0].parent / THRESHOLDS
        return path if path.is_file() else None


@dataclass
class Plan:
    """Steps, the runs that they read, and files by their place in the bundle."""

    kind: Literal["run", "vote", "prediction"]
    name: str
    onnx: bool
    steps: list[Step] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    made: dict[Path, int] = field(default_factory=dict)  # the step of each CSV

    def take_run(self, name: str, runs: Path, checkpoint: Checkpoint) -> Taken:
        """Adds the folds that a name stands for, unless they are there already.

        Raises:
            ConfigError: as ``fold_folders``; an export.
        """
        if (Path(name) / DESCRIPTION_FILE).is_file():
            raise ConfigError(f"{name}: is an export already; name its run, which format=onnx exports into the bundle")
        folders = tuple(fold_folders(name, runs, checkpoint))
        wanted = [folder.resolve() for folder in folders]
        for one in self.taken:
            if [folder.resolve() for folder in one.folders] == wanted and one.checkpoint == checkpoint:
                return one
        run = folders[0].parent
        base = f"{'exports' if self.onnx else 'runs'}/{run.resolve().name}"
        place = free_name(base, [one.place for one in self.taken])
        source = folders[0] if len(folders) == 1 and len(folds_of(run)) > 1 else run
        self.taken.append(Taken(place.partition("/")[2], place, source, folders, checkpoint))
        return self.taken[-1]

    def take_file(self, path: Path) -> str:
        """Adds a file; returns its place in the bundle."""
        place = free_name(f"files/{path.name}", [name for name, known in self.files.items() if known != path])
        self.files[place] = path
        return place


def free_name(name: str, used: list[str]) -> str:
    """A name that is not used yet.

    >>> free_name("a.json", ["a.json"]), free_name("b", ["a"])
    ('a_2.json', 'b')
    """
    stem, dot, ending = name.rpartition(".") if "." in name.rpartition("/")[2] else (name, "", "")
    number, found = 1, name
    while found in used:
        number += 1
        found = f"{stem}_{number}{dot}{ending}"
    return found


def plan_run(name: str, runs: Path, checkpoint: Checkpoint, pairs: Mapping[str, str], *, onnx: bool) -> Plan:
    """A plan that predicts with one run.

    Args:
        pairs: options of its prediction, valid ones.

    Raises:
        ConfigError: no such run, or one that is not finished.
    """
    plan = Plan("run", name, onnx)
    taken = plan.take_run(name, runs, checkpoint)
    plan.name = taken.name
    step = _step(plan, "infer", [taken.place], pairs, {})
    plan.steps.append(step.model_copy(update={"result": taken.name}))
    return plan


def plan_csv(csv: Path, *, onnx: bool) -> Plan:
    """A plan that makes the CSV of other images as this one was made.

    Raises:
        DataError: no sidecar, or one that does not record the command; a member that has changed since, or that is no
            longer there.
        ConfigError: a member that no network predicts.
    """
    plan = Plan("prediction", csv.stem, onnx)
    last = _add_csv(plan, csv, ())
    plan.kind = "vote" if last.command == "ensemble" else "prediction"
    return plan


def _add_csv(plan: Plan, csv: Path, above: tuple[Path, ...], maps: bool = False) -> Step:
    """Adds the steps that make a CSV; returns the last one."""
    if csv.resolve() in above or len(above) > MAX_DEPTH:
        raise DataError(f"{csv}: is made of itself, by its sidecar; {AGAIN}")
    if (number := plan.made.get(csv.resolve())) is not None:
        plan.steps[number] = plan.steps[number].model_copy(update={"maps": maps or plan.steps[number].maps})
        return plan.steps[number]
    sidecar, made_by = _made_by(csv)
    pairs = dict(word.split("=", 1) for word in made_by.words)
    runs = Path(text_value("runs", pairs.pop("runs", "runs"), {Path}) or "runs")
    checkpoint: Checkpoint = next((kind for kind in CHECKPOINTS if pairs.get("weights") == kind), "final")
    if pairs.get("weights") == checkpoint:
        del pairs["weights"]
    members, hashes = [], list[str]()
    for name in made_by.members:
        if is_csv(name) or (Path(name) / "maps.json").is_file():
            members.append(_add_result(plan, name, (*above, csv.resolve())))
            continue
        taken = plan.take_run(name, runs, checkpoint)
        members.append(taken.place)
        hashes += [str(FoldRun(folder).weights_digest(checkpoint)) for folder in taken.folders]
        _check_thresholds(csv, sidecar, taken, pairs)
    if changed := [value for value in hashes if value not in sidecar.run_hashes.values()]:
        raise DataError(
            f"{csv}: {len(changed)} of {len(hashes)} networks have other weights now than in its sidecar; {AGAIN}"
        )
    step = _step(plan, made_by.command, members, pairs, made_by.files)
    result = free_name(csv.stem, [one.result for one in plan.steps])
    plan.made[csv.resolve()] = len(plan.steps)
    plan.steps.append(step.model_copy(update={"result": result, "maps": maps}))
    return plan.steps[-1]


def _add_result(plan: Plan, name: str, above: tuple[Path, ...]) -> str:
    """Adds the steps that make a member that is a CSV or stored maps; returns how a step names their result."""
    if is_csv(name):
        return f"csv:{_add_csv(plan, Path(name), above).result}"
    csv = Path(name).with_suffix(".csv")
    stored = MapsFolder(Path(name))
    sidecar = read_sidecar(csv)[0] if csv.is_file() else None
    if sidecar is None or sidecar.key != stored.key:
        raise DataError(
            f"{name}: stored maps are predicted again by the command that their CSV records, and {csv} is not theirs; "
            f"{AGAIN}"
        )
    return f"maps:{_add_csv(plan, csv, above, maps=True).result}"


def _made_by(csv: Path) -> tuple[Sidecar, MadeBy]:
    """The sidecar of a CSV, and the command that wrote it. Raises DataError."""
    if not csv.is_file():
        raise DataError(f"{csv}: no such file; name a run, or a CSV that phalanx infer or ensemble wrote")
    sidecar, notes = read_sidecar(csv)
    if sidecar is None:
        why = notes[0] if notes else f"{sidecar_path(csv)} is missing"
        raise DataError(f"{csv}: nothing is known of how it was made ({why}); {AGAIN}")
    if sidecar.made_by is None:
        raise DataError(f"{sidecar_path(csv)}: does not record the command, as of an earlier version; {AGAIN}")
    return sidecar, MadeBy.of(sidecar.made_by)


def _check_thresholds(csv: Path, sidecar: Sidecar, taken: Taken, pairs: Mapping[str, str]) -> None:
    """Raises DataError if a run's stored thresholds are others than those that its CSV was made with."""
    if sidecar.thresholds is None or "postprocess" in pairs:
        return
    path = taken.thresholds
    if path is None or read_mapping(path).get("thresholds") != dict(sidecar.thresholds):
        raise DataError(f"{csv}: the thresholds that it was made with are no longer those of the run; {AGAIN}")


def _step(plan: Plan, command: str, members: list[str], pairs: Mapping[str, str], hashes: Mapping[str, str]) -> Step:
    """A step without a result; the file that an option names is taken into the bundle.

    Raises:
        DataError: it has changed.
    """
    words = {key: value for key, value in pairs.items() if key != "postprocess"}
    files = {}
    if "postprocess" in pairs:
        named = text_value("postprocess", pairs["postprocess"], {Path, type(None)})
        if named is None:
            words["postprocess"] = "null"
        else:
            path = Path(named)
            if not path.is_file():
                raise DataError(f"{path}: no such file, and postprocess= names it; restore it, or {AGAIN}")
            if hashes and sha256_file(path) != hashes.get(named):
                raise DataError(f"{path}: has changed since it was applied by postprocess=; restore it, or {AGAIN}")
            files["postprocess"] = plan.take_file(path)
    return Step(
        command="infer" if command == "infer" else "ensemble", members=members,
        words=[f"{key}={value}" for key, value in words.items()], files=files, result="-",
    )  # fmt: skip
