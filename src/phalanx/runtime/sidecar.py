"""``FILE.json`` next to ``FILE.csv``: what the table cannot contain, and a hash that shows later changes to it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError, brief
from .files import sha256_file, write_text
from .reading import LIST, MissingFile, as_hash, as_mapping, as_name, as_names, as_real, fault, read_json

FORMAT = "phalanx-submission-1"

REMEDY = "delete it, or write the CSV again"
MAX_PIXELS = 1 << 30  # of an image

Size = tuple[int, int]  # height, width in pixels


@dataclass(frozen=True)
class Sidecar:
    """Contents of a sidecar."""

    sha256: str  # of the CSV's bytes
    classes: Sequence[str]  # in the order of the data config
    sizes: Mapping[str, Size]  # of the images whose size was known
    run_hashes: Mapping[str, str] = field(default_factory=dict)  # name to hash of the runs it was made from
    vote: Mapping[str, Any] | None = None  # of a vote: how, members, and their agreement, as `Agreement.to_json`
    key: str | None = None  # of all that a prediction depends on
    head: str | None = (
        None  # of a table of probabilities: softmax or sigmoid; of masks that exclude each other: softmax
    )
    calibration: str | None = None  # digest of what its probabilities were calibrated with
    thresholds: Mapping[str, float] | None = (
        None  # of a CSV of boxes: of each class; boxes with lower scores are left out
    )
    made_by: Mapping[str, Any] | None = None  # the command, as `MadeBy`, for phalanx bundle

    def text(self) -> str:
        """The file's content, as JSON."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        return json.dumps({"format": FORMAT, **values}, indent=1) + "\n"


class MadeBy(NamedTuple):
    """The command that wrote a CSV, without what its result does not depend on.

    Attributes:
        command: infer or ensemble.
        members: a run, or all members of a vote, as they were named.
        words: options as ``key=value``; ``runs`` is among them if it was given.
        files: SHA-256 of the files that they name, by path.
    """

    command: str
    members: tuple[str, ...]
    words: tuple[str, ...]
    files: Mapping[str, str]

    @classmethod
    def of(cls, values: Any) -> "MadeBy":
        """The command that a sidecar records. Raises ValueError if it is not one."""
        found = as_mapping(values, "made_by")
        if found.keys() != set(cls._fields) or found["command"] not in ("infer", "ensemble"):
            raise ValueError(f"has a command without {', '.join(cls._fields)}")
        words = tuple(as_name(word) for word in found["words"]) if isinstance(found["words"], list) else ()
        members = tuple(as_names(found["members"], "the members of its command"))
        files = {as_name(path): as_hash(value) for path, value in as_mapping(found["files"], "files").items()}
        return cls(found["command"], members, words, files)


# of infer and ensemble: where they write, on what, and where they compute
NOT_OF_THE_RESULT = (
    "experiment", "name", "members", "out", "data.root", "images", "device", "devices", "workers", "batch", "progress",
    "part", "maps", "out_of_fold",
)  # fmt: skip


def note_command(
    csv: Path, command: str, members: Sequence[str], pairs: Mapping[str, str], files: Iterable[Path] = ()
) -> None:
    """Adds the command that wrote a CSV to its sidecar.

    Args:
        pairs: all options of the command; those that change nothing are left out.
        files: that the options name.

    Raises:
        DataError: no sidecar of this CSV. OSError: a file that an option names is gone.
    """
    sidecar, _ = read_sidecar(csv, verify=False)
    if sidecar is None:
        raise DataError(f"{csv}: has no sidecar to record its command in; {REMEDY}")
    words = [f"{key}={value}" for key, value in pairs.items() if key not in NOT_OF_THE_RESULT]
    made_by = MadeBy(command, tuple(members), tuple(words), {str(path): sha256_file(path) for path in files})
    if sidecar.made_by != (values := json.loads(json.dumps(made_by._asdict()))):
        write_text(sidecar_path(csv), replace(sidecar, made_by=values).text())


def is_csv(name: str | Path) -> bool:
    """Whether a file is a submission, by its name."""
    return str(name).lower().endswith(".csv")


def sidecar_path(csv: Path) -> Path:
    """Path of the sidecar of a CSV."""
    return csv.with_suffix(".json")


def read_sidecar(csv: Path, *, verify: bool = True) -> tuple[Sidecar | None, list[str]]:
    """The sidecar of a CSV, or None without one, and notes for the user. JSON of another kind is not a sidecar.

    Args:
        verify: compare the CSV with its hash, for which all of it is read.

    Raises:
        DataError: a sidecar that is damaged, or that belongs to another CSV than the one next to it.
    """
    path = sidecar_path(csv)
    if path == csv or not csv.is_file():
        return None, []
    try:
        found = read_json(path, LIST, REMEDY)
    except MissingFile:
        return None, []
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return None, [f"{path} is not a sidecar of the format {FORMAT}, and is not used"]
    try:
        sidecar = _checked(found)
    except ValueError as error:
        raise fault(path, f"is a damaged sidecar of {csv.name} ({error})", REMEDY) from None
    if not verify:
        return sidecar, []
    try:
        digest = sha256_file(csv)
    except OSError as error:
        raise DataError(f"{csv}: cannot be read ({error.strerror})") from None
    if digest != sidecar.sha256:
        raise DataError(
            f"{csv}: not the table its sidecar {path.name} was written with: it was cut off or edited later. "
            "Write it again, or delete the sidecar to read the CSV by itself"
        )
    return sidecar, []


def _checked(found: dict[str, Any]) -> Sidecar:
    """A sidecar of its JSON. Raises ValueError if it is not one."""
    hashes = {as_name(folder): as_name(value) for folder, value in _mapping_of(found, "run_hashes").items()}
    sizes = {image: checked_size(size, image) for image, size in _mapping_of(found, "sizes").items()}
    vote, key, head = found.get("vote"), found.get("key"), found.get("head")
    calibration = found.get("calibration")
    if vote is not None:
        as_name(as_mapping(vote, "vote").get("how"))
        as_names(vote.get("members"), "the vote's members")
    for value in (key, calibration):
        if value is not None:
            as_hash(value)
    if (made_by := found.get("made_by")) is not None:
        MadeBy.of(made_by)
    if head not in (None, "softmax", "sigmoid"):
        raise ValueError(f"has the head {brief(head, 40)}, which is neither softmax nor sigmoid")
    classes, thresholds = as_names(found.get("classes"), "classes"), None
    if found.get("thresholds") is not None:
        thresholds = {name: as_real(value, 0, 1) for name, value in _mapping_of(found, "thresholds").items()}
        if thresholds.keys() != set(classes):
            raise ValueError("has thresholds of other classes than its own")
    sha256 = as_hash(found.get("sha256"))
    return Sidecar(sha256, classes, sizes, hashes, vote, key, head, calibration, thresholds, made_by)


def _mapping_of(found: dict[str, Any], key: str) -> dict[str, Any]:
    return as_mapping(found.get(key), key)


def merged_hashes(members: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, str]:
    """Run hashes of several members, each with its name. Folders of one name and other weights, as runs of two machines
    have them, are both retained.

    >>> merged_hashes([("a.csv", {"runs/r/fold0": "12"}), ("b.csv", {"runs/r/fold0": "34"})])
    {'runs/r/fold0': '12', 'b.csv: runs/r/fold0': '34'}
    """
    found: dict[str, str] = {}
    for name, hashes in members:
        for folder, value in hashes.items():
            found[folder if found.get(folder, value) == value else f"{name}: {folder}"] = value
    return found


def checked_size(size: Any, image: str) -> Size:
    """A (height, width) of whole numbers of at least 1, or a DataError naming the image."""
    if (
        not isinstance(size, Sequence)
        or len(size) != 2
        or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in size)
        or size[0] * size[1] > MAX_PIXELS
    ):
        raise DataError(f"image {image!r}: size {brief(size, 60)} is not a (height, width) in pixels")
    return size[0], size[1]
