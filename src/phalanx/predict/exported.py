"""A run as ONNX files, predicted by onnxruntime without torch: the folder's description, its hashes, its members."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..config import Data, Predict, Strict, validate
from ..data.records import Record
from ..errors import ConfigError, DataError
from ..runtime.files import sha256_file
from ..runtime.provenance import digest
from .maps import FLOOR, ProbabilityMaps
from .soft import RunMember, map_options, on_grids
from .views import probabilities, views_of

DESCRIPTION_FILE = "export.json"
FORMAT = "phalanx-export-1"
INSTALL_HINT = "install it by: .venv/bin/pip install '.[onnx]'"


class Difference(Strict):
    """Between PyTorch and onnxruntime on one picture."""

    coarse: float  # largest of the logits before they are enlarged or refined
    masks: float  # fraction of all classes' pixels whose mask differs at the threshold
    rounding: float | None = (
        None  # PyTorch's own difference from 64 bits, if `coarse` is more than is allowed without it
    )


class OnnxFile(Strict):
    """A fold's network in one file."""

    file: str
    sha256: str
    trained: str  # the fold's folder
    weights_sha256: str
    differences: dict[str, Difference]  # by picture: random, real


class ExportDescription(Strict):
    """``export.json``. The network takes uint8[1, 1, side, side] and gives logits float32[1, C, side, side]."""

    format: Literal["phalanx-export-1"]
    name: str
    weights: str
    side: int
    data: Data
    predict: Predict
    folds: list[OnnxFile]
    made_with: dict[str, str]


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
    """The description of an export, once it and all its files are found as they were written.

    Raises:
        DataError: a file is missing, cut or altered, or of another format.
    """
    remedy = "export the run again (phalanx export)"
    try:
        values = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        if values.get("format") != FORMAT:
            raise ValueError(f"its format is {values.get('format')!r}, not {FORMAT!r}")
        if values.pop("digest", None) != digest(values):
            raise ValueError("it was altered")
        about: ExportDescription = validate(values, ExportDescription)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{folder / DESCRIPTION_FILE}: not the description of an export ({error}); {remedy}") from None
    for one in about.folds:
        path = folder / one.file
        if not path.is_file():
            raise DataError(f"{path}: is missing; {remedy}")
        if sha256_file(path) != one.sha256:
            raise DataError(f"{path}: was altered or cut off (its SHA-256 is not that in {DESCRIPTION_FILE}); {remedy}")
    return about


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

    needs_images = True

    def __init__(self, folder: Path, about: ExportDescription, one: OnnxFile, predict: Predict, threads: int | None):
        self.name, self.data, self.predict, self.classes = (
            str(folder / one.file),
            about.data,
            predict,
            about.data.classes,
        )
        self.hashes = {self.name: one.weights_sha256}
        self.pairs, self.views = about.data.pair_indices, views_of(predict.tta)
        self.session = open_session(folder / one.file, threads)
        self.key = digest(["onnx", one.sha256, *map_options(about.data, predict)])

    def maps(self, records: Sequence[Record], images: Sequence[np.ndarray]) -> list[ProbabilityMaps]:
        return on_grids(images, self.data, self.predict, lambda pictures, _: [self._maps_of(one) for one in pictures])

    def _maps_of(self, picture: np.ndarray) -> ProbabilityMaps:
        """Probability maps of uint8[S, S], averaged over the views; the network takes one picture at a time."""
        floor = min(FLOOR, self.predict.threshold)
        return probabilities(self._logits, picture[None, None], self.views, self.pairs, floor)[0]

    def _logits(self, images: np.ndarray) -> np.ndarray:
        return self.session.run(["logits"], {"images": np.ascontiguousarray(images)})[0]


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
    if weights not in ("final", about.weights):
        raise ConfigError(f"weights={weights}: {folder} holds the {about.weights} weights; export the run with it")
    if device not in ("auto", "cpu"):
        raise ConfigError(f"device={device}: an export is predicted on the CPU; predict with the run itself there")
    if precision not in ("auto", "32"):
        raise ConfigError(f"precision={precision}: an export computes in 32 bits; predict with the run itself")
    predict = about.predict.model_copy(update=changes or {})
    sizes = side_of(about.data, predict)
    if sizes != [about.side]:
        raise ConfigError(
            f"{folder}: its networks take {about.side} x {about.side} pixels alone, and grid=, scales= and window= ask "
            f"for {', '.join(map(str, sizes))}; export the run with these, or predict with the run itself"
        )
    return RunMember(str(folder), [ExportFold(folder, about, one, predict, threads) for one in about.folds])


def side_of(data: Data, predict: Predict) -> list[int]:
    """Sides of the pictures that a network is given, each once."""
    return [predict.window.size] if predict.window else sorted(set(predict.sides(data.size)))
