"""Sections about what runs were made from: configuration, versions, data and pretrained weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import Config, flatten
from ..data.digests import NAME as DIGESTS
from ..errors import PhalanxError
from ..models.licences import weights_of
from ..review.evaluated import Evaluated
from ..runs.pretrained import Pretrained, pretrained_of, warnings_of
from ..runs.reader import FoldRun
from ..runtime.files import sha256_file
from .document import Section, Text, table

ABSENT = "–"


def configuration(evaluations: Sequence[Evaluated]) -> Section:
    """All keys, those in which the runs differ first."""
    trained = [(one.name, _flat(one.config)) for one in evaluations]
    names = [name for name, _ in trained]
    keys = list(dict.fromkeys(key for _, values in trained for key in values))
    rows = {key: [key, *(_text(values.get(key, ABSENT)) for _, values in trained)] for key in keys}
    differing = [key for key in keys if len(set(rows[key][1:])) > 1 and key != "name"]
    blocks: list[Any] = []
    if len(trained) > 1 and differing:
        blocks.append(
            table("differing", "Keys in which the runs differ", ["key", *names], [rows[k] for k in differing])
        )
    elif len(trained) > 1:
        blocks.append(Text(("The configurations differ in the name alone.",)))
    blocks.append(table("configuration", "Whole configuration", ["key", *names], rows.values(), folded=True))
    return Section("configuration", "Configuration", tuple(blocks))


def _flat(config: Config) -> dict[str, Any]:
    return flatten(config.model_dump(mode="json"))


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]" if value else "[]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(one)}" for key, one in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def origin(evaluations: Sequence[Evaluated]) -> Section:
    """Versions of software, digests of data and weights, and licences of pretrained weights."""
    versions: dict[str, list[str]] = {}
    data, weights, notes = list[list[str]](), list[list[str]](), list[str]()
    runs = [(one.name, fold) for one in evaluations for fold in one.folds]
    for place, (run, fold) in enumerate(runs):
        for key, value in _environment(fold, notes).items():
            versions.setdefault(key, [ABSENT] * len(runs))[place] = value
        data.append([run, fold.name, *_digests(fold, notes)])
    licences = {one.name: _pretrained(one, notes) for one in evaluations}
    for name, found in licences.items():
        weights += [[name, *one.weights, "at training" if one.recorded else "by the libraries now"] for one in found]
    blocks: list[Any] = []
    if runs:
        same = {key: len(set(values)) == 1 for key, values in versions.items()}
        if all(same.values()):
            rows = [[key, values[0]] for key, values in versions.items()]
            blocks.append(table("versions", "Versions", ["what", "of all folds"], rows))
        else:
            columns = ["what", *(f"{run}, {fold.name}" for run, fold in runs)]
            blocks.append(table("versions", "Versions", columns, [[key, *values] for key, values in versions.items()]))
        blocks.append(table(
            "data", "Data", ["run", "fold", "data set", "snapshot", "images", "SHA-256 of the list of digests",
                             "weights"], data,
            note="The snapshot is that of phalanx data with the training images. digests.csv of each fold has the "
                 "SHA-256 of every image and annotation; equal lists are equal data.",
        ))  # fmt: skip
    blocks.append(table(
        "weights", "Pretrained weights", ["run", "weights", "source", "licence", "recorded"], weights,
        note="As the library that offers the weights records it. Whoever publishes a result checks it at the source.",
    ))  # fmt: skip
    warned = warnings_of(one.weights for found in licences.values() for one in found)
    if warned:
        blocks.append(Text(tuple(f"Warning: {line}" for line in warned), listed=True))
    if notes:
        blocks.append(Text(tuple(dict.fromkeys(notes)), listed=True))
    return Section("origin", "Versions, data, licences", tuple(blocks))


def _pretrained(one: Evaluated, notes: list[str]) -> list[Pretrained]:
    """What the folds of a run began with, each once."""
    found: list[Pretrained] = []
    try:
        found = [pretrained_of(fold) for fold in one.folds]
    except PhalanxError as error:
        notes.append(str(error))
    return list(dict.fromkeys(found)) or [Pretrained(weights_of(one.config.model), False)]


def _environment(fold: FoldRun, notes: list[str]) -> dict[str, str]:
    try:
        about = fold.environment
    except PhalanxError as error:
        notes.append(str(error))
        return {}
    packages = about.get("packages")
    found = {"python": str(about.get("python", ABSENT))}
    found |= {str(name): str(value) for name, value in packages.items()} if isinstance(packages, dict) else {}
    found["commit"] = str(about["commit"] or "not known")
    found["gpu"] = str(about["gpu"] or "none")
    return found


def _digests(fold: FoldRun, notes: list[str]) -> list[str]:
    """Data set, its snapshot, images, digest of the list of digests, and of the weights."""
    weights, path, root = ABSENT, fold.folder / DIGESTS, fold.config.data.root
    try:
        weights = fold.weights_digest() or ABSENT
    except PhalanxError as error:
        notes.append(str(error))
    listed = sha256_file(path) if path.is_file() else ABSENT
    return [Path(root).name if root else ABSENT, _snapshot(fold, notes), str(len(fold.folds)), listed, weights]


def _snapshot(fold: FoldRun, notes: list[str]) -> str:
    """The name of the version of the data, and how many of its images were left out."""
    try:
        found = fold.snapshot
    except PhalanxError as error:
        notes.append(str(error))
        return ABSENT
    if found is None:
        return ABSENT
    if not found.get("snapshot"):
        return f"none; data {found['name']}"
    left_out = found.get("left_out") or 0
    return f"{found['name']}, without {left_out} of its images" if left_out else str(found["name"])
