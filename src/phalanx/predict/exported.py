"""A run as ONNX files, predicted by onnxruntime without torch: the folder's description, its hashes, its members."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

import numpy as np
from pydantic import Field

from ..config import Place, SegmentData, SegmentPredict, Strict, validate_as
from ..config.loss import Head
from ..data.records import Record
from ..errors import ConfigError, DataError, brief, one_line
from ..runtime.files import sha256_file
from ..runtime.provenance import digest
from ..runtime.reading import fault, read_mapping
from .exclusive import SOFTMAX_FLOOR
from .maps import FLOOR, ProbabilityMaps
from .soft import RunMember, made_with, map_options, on_grids
from .views import probabilities, views_of

DESCRIPTION_FILE = "export.json"
FORMAT = "phalanx-export-1"
REMEDY = "export the run again (phalanx export)"
INSTALL_HINT = "install it by: .venv/bin/pip install '.[onnx]'"


class ExportOptions(Strict):
    """Options of ``export``."""

    SPELLED: ClassVar = {"data.root": "root"}

    out: Path | None = None
    weights: Literal["final", "best", "last"] = "final"
    root: Place | None = None
    images: Place | None = None
    runs: Path = Path("runs")


class Difference(Strict):
    """Between PyTorch and onnxruntime on one picture."""

    coarse: float  # largest of the logits, of masks before they are enlarged or refined
    masks: float  # fraction of all classes' pixels whose mask differs at the threshold; 0 of labels
    rounding: float | None = (
        None  # PyTorch's own difference from 64 bits, if `coarse` is more than is allowed without it
    )


class OnnxFile(Strict):
    """A fold's network in one file."""

    file: Annotated[str, Field(pattern=r"^[^/\\\x00]+\.onnx$")]
    sha256: str
    data_sha256: str | None = None  # of FILE.data, where the weights of a network of more than 2 GiB are
    trained: str  # the fold's folder
    weights_sha256: str
    differences: dict[str, Difference]  # by picture: random, real


class Export(Strict):
    """What the descriptions of all exports, in ``export.json``, have in common."""

    format: str
    name: str
    head: Head = "sigmoid"
    weights: str
    side: Annotated[int, Field(ge=1, le=1 << 15)]
    folds: Annotated[list[OnnxFile], Field(min_length=1)]
    made_with: dict[str, str]


class ExportDescription(Export):
    """Of masks. The network takes uint8[1, 1, side, side] and gives logits float32[1, C, side, side], whose sigmoids
    are the probabilities of the classes, also of a softmax."""

    format: Literal["phalanx-export-1"]
    data: SegmentData
    predict: SegmentPredict


Description = TypeVar("Description", bound=Export)


def load_runtime() -> Any:
    """The onnxruntime package.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"onnxruntime cannot be loaded ({error}); {INSTALL_HINT}") from None
    return onnxruntime


def read_description(folder: Path) -> ExportDescription:
    """The description of an export of masks. Raises as :func:`read_export`."""
    return read_export(folder, ExportDescription)


def read_export(folder: Path, kind: type[Description]) -> Description:
    """The description of an export, once it and all its files are found as they were written.

    Raises:
        DataError: a file is missing, cut or altered, or of another format.
    """
    path = folder / DESCRIPTION_FILE
    values = read_mapping(path, remedy=REMEDY)
    [expected] = get_args(kind.model_fields["format"].annotation)
    try:
        if values.get("format") != expected:
            raise ValueError(f"its format is {brief(values.get('format'), 40)}, not {expected!r}")
        if values.pop("digest", None) != digest(values):
            raise ValueError("it was altered")
        about: Description = validate_as(kind, values)
    except ValueError as error:
        raise fault(path, f"not the description of an export ({one_line(str(error))})", REMEDY) from None
    hashes = {one.file: one.sha256 for one in about.folds}
    hashes |= {f"{one.file}.data": one.data_sha256 for one in about.folds if one.data_sha256}
    if len(about.folds) > len({one.file for one in about.folds}):
        raise fault(path, "names a file twice", REMEDY)
    for name, expected in hashes.items():
        _check_file(folder / name, expected)
    for other in sorted([*folder.glob("*.onnx"), *folder.glob("*.onnx.data")]):
        if other.name not in hashes:
            raise fault(
                other, f"is not of this export, as {DESCRIPTION_FILE} describes it", f"move it away, or {REMEDY}"
            )
    return about


def _check_file(path: Path, expected: str) -> None:
    """Raises DataError unless a file has the SHA-256 that is expected."""
    try:
        found = sha256_file(path)
    except FileNotFoundError:
        raise DataError(f"{path}: is missing; {REMEDY}") from None
    except OSError as error:
        raise fault(path, f"cannot be read ({error.strerror})", REMEDY) from None
    if found != expected:
        raise DataError(f"{path}: was altered or cut off (its SHA-256 is not that in {DESCRIPTION_FILE}); {REMEDY}")


def open_session(path: Path, threads: int | None = None) -> Any:
    """An onnxruntime session on the CPU.

    Raises:
        ConfigError: no onnxruntime. DataError: it cannot load the file.
    """
    runtime = load_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = threads or 0
    try:
        return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of onnxruntime's own kinds, by what it finds
        raise DataError(
            f"{path}: onnxruntime {runtime.__version__} cannot load it ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}); use the version named in {DESCRIPTION_FILE}, or a later one"
        ) from None


class ExportFold:
    """One ONNX file of an export.

    Args:
        predict: options of prediction, changes included; the grid or window must be ``about.side``.
    """

    needs_images, on_gpu = True, False

    def __init__(
        self, folder: Path, about: ExportDescription, one: OnnxFile, predict: SegmentPredict, threads: int | None
    ):
        self.name, self.data, self.predict, self.classes = (
            str(folder / one.file),
            about.data,
            predict,
            about.data.classes,
        )
        self.head = about.head
        self.hashes = {self.name: one.weights_sha256}
        self.pairs, self.views = about.data.pair_indices, views_of(predict.tta)
        self.options = made_with(about.data, predict, "32")
        self.session = open_session(folder / one.file, threads)
        shape = [1, len(self.classes), about.side, about.side]
        check_graph(self.session, self.name, [1, 1, about.side, about.side], shape)
        self.key = digest(["onnx", one.sha256, *map_options(about.data, predict)])

    def maps(self, records: Sequence[Record], images: Sequence[np.ndarray]) -> list[ProbabilityMaps]:
        return on_grids(images, self.data, self.predict, lambda pictures, _: [self._maps_of(one) for one in pictures])

    def _maps_of(self, picture: np.ndarray) -> ProbabilityMaps:
        """Probability maps of uint8[S, S], averaged over the views; the network takes one picture at a time."""
        floor = SOFTMAX_FLOOR if self.head == "softmax" else min(FLOOR, self.predict.threshold)
        return probabilities(self._logits, picture[None, None], self.views, self.pairs, floor)[0]

    def _logits(self, images: np.ndarray) -> np.ndarray:
        return logits_of(self.session, self.name, images)


def check_graph(session: Any, name: str, images: list[int], logits: list[int]) -> None:
    """Compares what a network takes and gives with its description.

    Args:
        images, logits: their shapes.

    Raises:
        DataError: it takes other pictures, or gives other logits.
    """
    wanted = {"images": ("tensor(uint8)", images), "logits": ("tensor(float)", logits)}
    inputs, outputs = session.get_inputs(), session.get_outputs()
    found = {one.name: (one.type, list(one.shape)) for one in (*inputs, *outputs) if one.name in wanted}
    if len(inputs) != 1 or found != wanted:
        raise DataError(
            f"{name}: is not the network that {DESCRIPTION_FILE} describes, from uint8{images} to {logits[1]} classes; "
            f"{REMEDY}"
        )


def logits_of(session: Any, name: str, images: np.ndarray) -> np.ndarray:
    """Logits float32[1, C, ...] of one picture uint8[1, ...]. Raises DataError if they cannot be computed."""
    try:
        return session.run(["logits"], {"images": np.ascontiguousarray(images)})[0]
    except Exception as error:  # of onnxruntime's own kinds, such as too little memory
        text = one_line(f"{type(error).__name__}: {error}")
        raise DataError(f"{name}: onnxruntime cannot compute it ({text}); {REMEDY}") from None


def refuse_options(folder: Path, about: Export, weights: str, device: str, precision: str) -> None:
    """Raises ConfigError for weights, a device or a precision that an export does not have."""
    if weights not in ("final", about.weights):
        raise ConfigError(f"weights={weights}: {folder} holds the {about.weights} weights; export the run with it")
    if device not in ("auto", "cpu"):
        raise ConfigError(f"device={device}: an export is predicted on the CPU; predict with the run itself there")
    if precision not in ("auto", "32"):
        raise ConfigError(f"precision={precision}: an export computes in 32 bits; predict with the run itself")


def open_export(
    folder: Path,
    *,
    weights: str = "final",
    device: str = "auto",
    precision: str = "auto",
    changes: dict[str, Any] | None = None,
    threads: int | None = None,
) -> RunMember:
    """A member of soft votes: the mean of an export's networks.

    Args:
        changes: of the options of prediction that the run had.

    Raises:
        ConfigError: what an export cannot do: other weights, sizes, devices or precisions than it was made with.
        DataError: as :func:`read_description` and :func:`open_session`.
    """
    about = read_description(folder)
    refuse_options(folder, about, weights, device, precision)
    predict = about.predict.model_copy(update=changes or {})
    sizes = side_of(about.data, predict)
    if sizes != [about.side]:
        raise ConfigError(
            f"{folder}: its networks take {about.side} x {about.side} pixels alone, and grid=, scales= and window= ask "
            f"for {', '.join(map(str, sizes))}; export the run with these, or predict with the run itself"
        )
    return RunMember(str(folder), [ExportFold(folder, about, one, predict, threads) for one in about.folds])


def side_of(data: SegmentData, predict: SegmentPredict) -> list[int]:
    """Sides of the pictures that a network is given, each once."""
    return [predict.window.size] if predict.window else sorted(set(predict.sides(data.size)))
