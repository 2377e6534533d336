"""``manifest.json`` of a bundle and the hashes of its files: written once, checked before it predicts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ..config import Strict, validate_as
from ..errors import DataError, brief, one_line
from ..models.licences import Weights
from ..runtime.files import sha256_file
from ..runtime.provenance import digest
from ..runtime.reading import LIST, as_hash, fault, read_mapping, read_text

FORMAT = "phalanx-bundle-1"
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
REMEDY = "copy the bundle again, or make it again with phalanx bundle"
Inside = Annotated[str, Field(pattern=r"^(runs|exports|files)/[^/\x00]+$")]  # of the bundle's folder
# what an earlier step wrote: its CSV, or its probability maps
Result = Annotated[str, Field(pattern=r"^(csv|maps):[^/\x00]+$")]


class Step(Strict):
    """One command of the prediction.

    Attributes:
        members: runs and exports in the bundle, or results of earlier steps.
        words: options as ``key=value``.
        files: files in the bundle, by the option that names them.
        result: name of its CSV.
        maps: whether a later step takes its probability maps.
    """

    command: Literal["infer", "ensemble"]
    members: Annotated[list[Inside | Result], Field(min_length=1)]
    words: Annotated[list[str], Field(default_factory=list)]
    files: Annotated[dict[str, Inside], Field(default_factory=dict)]
    result: Annotated[str, Field(pattern=r"^[^/\x00]+$")]
    maps: bool = False


class FoldAbout(Strict):
    """What is recorded of a fold.

    Attributes:
        metric, value, images: out of fold; null if nothing was held out or it is not finished.
        snapshot: name and digest of the data set's version.
        pretrained: name, source and licence of the weights that it began with, ``recorded`` when it began; if not, as
            the libraries described them when the bundle was made.
        packages: versions that it was trained with.
    """

    fold: str
    weights_sha256: str
    metric: str | None
    value: float | None
    images: int
    snapshot: dict[str, str] | None
    pretrained: dict[str, str]
    recorded: bool
    python: str | None
    commit: str | None
    packages: dict[str, str]

    @property
    def weights(self) -> Weights:
        """The pretrained weights."""
        return Weights(**self.pretrained)


class RunAbout(Strict):
    """A run in the bundle, and its configuration."""

    name: str
    place: Inside
    task: str
    checkpoint: Literal["final", "best", "last"]
    folds: Annotated[list[FoldAbout], Field(min_length=1)]
    config: dict[str, Any]


class Manifest(Strict):
    """The contents of ``manifest.json``.

    Attributes:
        steps: the last one writes what the bundle predicts.
        requirements: packages with exact versions.
        wheels: whether these are in the bundle.
        warnings: about licences.
    """

    format: Literal["phalanx-bundle-1"] = "phalanx-bundle-1"
    name: str
    kind: Literal["run", "vote", "prediction"]
    networks: Literal["torch", "onnx"]
    steps: Annotated[list[Step], Field(min_length=1)]
    runs: Annotated[list[RunAbout], Field(min_length=1)]
    phalanx: str
    commit: str | None
    python: str
    machine: str
    platform: str | None
    requirements: list[str]
    wheels: bool
    warnings: list[str]

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of a bundle, once all its files, wheels apart, are found as they were written.

        Raises:
            DataError: it is not a bundle, or a file is missing, altered or added.
        """
        path = folder / MANIFEST
        values = read_mapping(path, LIST, REMEDY)
        try:
            if values.get("format") != FORMAT:
                raise ValueError(f"its format is {brief(values.get('format'), 40)}, not {FORMAT!r}")
            if values.pop("digest", None) != digest(values):
                raise ValueError("it was altered")
            found: Manifest = validate_as(cls, values)
        except ValueError as error:
            raise fault(path, f"not the manifest of a bundle ({one_line(str(error))})", REMEDY) from None
        check_files(folder)
        return found

    def to_json(self) -> dict[str, Any]:
        """JSON types, with their digest."""
        values = self.model_dump(mode="json")
        return values | {"digest": digest(values)}

    @property
    def pretrained(self) -> list[Weights]:
        """All pretrained weights, each once."""
        return list(dict.fromkeys(fold.weights for run in self.runs for fold in run.folds))


def sums_text(folder: Path, names: Iterable[str]) -> str:
    """SHA256SUMS of files, by their path from ``folder`` on, as sha256sum writes them."""
    return "".join(f"{sha256_file(folder / name)}  {name}\n" for name in sorted(names))


def check_files(folder: Path) -> None:
    """Compares the files of a bundle with SHA256SUMS: those that a prediction reads, so without wheels.

    Raises:
        DataError: one is missing or altered, or one was added where networks are.
    """
    listed = _read_sums(folder / SUMS)
    for name, expected in listed.items():
        if name.startswith("wheels/"):
            continue
        try:
            found = sha256_file(folder / name)
        except FileNotFoundError:
            raise DataError(f"{folder / name}: is missing; {REMEDY}") from None
        except OSError as error:
            raise fault(folder / name, f"cannot be read ({error.strerror})", REMEDY) from None
        if found != expected:
            raise DataError(f"{folder / name}: was altered or cut off (its SHA-256 is not that in {SUMS}); {REMEDY}")
    for part in ("runs", "exports", "files"):
        for place in sorted((folder / part).rglob("*")):
            if not place.is_dir() and place.relative_to(folder).as_posix() not in listed:
                raise DataError(f"{place}: is not of this bundle; move it away, or {REMEDY}")


def _read_sums(path: Path) -> dict[str, str]:
    found = {}
    for line in read_text(path, LIST, REMEDY).splitlines():
        value, _, name = line.partition("  ")
        try:
            found[name] = as_hash(value)
            if not name or name.startswith("/") or ".." in Path(name).parts:
                raise ValueError
        except ValueError:
            raise fault(path, f"has the line {brief(line)}, which is not a SHA-256 and a file", REMEDY) from None
    if MANIFEST not in found:
        raise fault(path, f"does not list {MANIFEST}", REMEDY)
    return found
