"""Makes a run's networks into ONNX files, and measures that they are the same networks."""

import json
import warnings
from copy import deepcopy
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..config import PREPROCESSING, SegmentConfig, SegmentData, SegmentPredict
from ..data.images import Grid, read_grey
from ..data.layouts import test_records
from ..data.preprocess import preprocess
from ..data.records import scan
from ..errors import ConfigError, DataError
from ..models.build import Network, log_odds, normalise
from ..models.pointrend import PointRend
from ..models.segmenter import upsample
from ..runs.reader import FoldRun, fold_folders
from ..runtime.device import open_device
from ..runtime.files import sha256_file, sync_folder, write_json
from ..runtime.provenance import digest
from ..runtime.removal import remove_folder
from ..runtime.work import clear_work, work_folder
from .exported import (
    DESCRIPTION_FILE,
    INSTALL_HINT,
    Difference,
    ExportDescription,
    ExportOptions,
    OnnxFile,
    load_runtime,
    open_session,
    side_of,
)
from .members import FoldMember

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")
MAX_DIFFERENCE = 1e-4  # difference of coarse logits, and fraction of all classes' pixels whose mask differs
DATA_KEYS = {
    "name", "root", "phantom", "classes", "pairs", "size", "layout", "coco", "masks", *PREPROCESSING,
}  # fmt: skip


class WholeNetwork(nn.Module):
    """What an ONNX file computes: pictures uint8[B, 1, S, S] to final logits float32[B, C, S, S] and coarse ones.

    PointRend's steps are as many as the size asks for, so its loop is unrolled into the graph.
    """

    def __init__(self, network: Network):
        super().__init__()
        self.core, self.softmax = network.core, network.softmax

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x, size = normalise(images), (images.shape[-2], images.shape[-1])
        if isinstance(self.core, PointRend):
            coarse = self.core.segmenter(x)
            final, logits = self.core.refine(coarse, size), coarse.logits
        else:
            logits = self.core(x).logits
            final = upsample(logits, size)
        return log_odds(final) if self.softmax else final, logits


def group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: object
) -> Tensor:
    """`torch.nn.functional.group_norm` of maps[B, C, ...], as sums of short sums.

    The exporter would write InstanceNormalization, where onnxruntime adds up all pixels of a group one after another:
    at 512 pixels a trained network's logits were off by .0026, and by .00003 like this.
    """
    grouped = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    apart = grouped - _mean(grouped)
    shape = (1, -1, *[1] * (x.ndim - 2))
    normal = (apart * torch.rsqrt(_mean(apart * apart) + eps)).reshape(x.shape)
    scaled = normal if weight is None else normal * weight.reshape(shape)
    return scaled if bias is None else scaled + bias.reshape(shape)


def _mean(x: Tensor) -> Tensor:
    """The mean over all axes after the second, one at a time."""
    for axis in range(x.ndim - 1, 1, -1):
        x = x.mean(axis, keepdim=True)
    return x


def write_onnx(network: Network, side: int, path: Path) -> None:
    """Writes a network for pictures uint8[1, 1, side, side] as one file with outputs ``logits`` and ``coarse``.

    Raises:
        ConfigError: the packages are not installed, or the network cannot be expressed.
    """
    picture = torch.zeros(1, 1, side, side, dtype=torch.uint8)
    write_graph(WholeNetwork(network), picture, path, ["logits", "coarse"])


def write_graph(module: nn.Module, picture: Tensor, path: Path, outputs: list[str]) -> None:
    """Writes what a module computes of a picture as one file, with named outputs.

    Raises:
        ConfigError: the packages are not installed, or the module cannot be expressed.
    """
    load_runtime()
    try:
        import onnxscript  # noqa: F401  the exporter's, which it would miss with a long story
    except ImportError as error:
        raise ConfigError(f"onnxscript cannot be loaded ({error}); {INSTALL_HINT}") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(module.eval(), (picture,), strict=False)
            torch.onnx.export(
                program.run_decompositions({torch.ops.aten.group_norm.default: group_norm}), (), path, dynamo=True,
                verbose=False, external_data=False, input_names=["images"], output_names=outputs,
            )  # fmt: skip
        except Exception as error:  # the exporter raises many kinds
            text = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"{path.name}: torch cannot export this network ({type(error).__name__}: {text})"
            ) from None


def compare(network: Network, session: Any, picture: np.ndarray, threshold: float = 0.5) -> Difference:
    """How far onnxruntime is from PyTorch on a picture uint8[S, S], both on the CPU in 32 bits."""
    batch = picture[None, None]
    with torch.inference_mode():
        final, coarse = WholeNetwork(network).eval()(torch.from_numpy(batch))
    logits, rough = session.run(["logits", "coarse"], {"images": batch})
    level = np.float32(np.log(threshold / (1 - threshold)))
    masks = np.mean((logits >= level) != (final.numpy() >= level))
    return Difference(coarse=float(np.abs(rough - coarse.numpy()).max()), masks=float(masks))


def rounding(network: Network, picture: np.ndarray) -> float:
    """How far PyTorch's own coarse logits on a picture uint8[S, S] are, in 32 bits, from those in 64."""
    core = network.core.segmenter if isinstance(network.core, PointRend) else network.core
    x = normalise(torch.from_numpy(picture[None, None]))
    with torch.inference_mode():
        return float((core(x).logits - deepcopy(core).double()(x.double()).logits).abs().max())


def export_run(name: str, options: ExportOptions) -> Path:
    """Exports the folds of a run into one folder; returns it. Killed, it leaves nothing under its name.

    Raises:
        ConfigError: a run that cannot be exported, or a folder that exists. DataError: a network that differs in
            onnxruntime by more than ``MAX_DIFFERENCE``, or no image to try it on.
    """
    out = new_export(name, options)
    folders = fold_folders(name, options.runs, options.weights)
    configs = [FoldRun(folder).config_of(SegmentConfig) for folder in folders]
    data, predict = configs[0].data, configs[0].predict
    sides = side_of(data, predict)
    for folder, config in zip(folders, configs, strict=True):
        if config.model.metadata:
            raise ConfigError(
                f"{folder}: is conditioned on metadata (model.metadata), which an export cannot be; predict with "
                "the run itself"
            )
        if differing := _seen(config) ^ _seen(configs[0]):
            raise DataError(f"{folder}: has another {min(differing)[0]} than {folders[0]}; export them one by one")
    if len(sides) > 1:
        raise ConfigError(
            f"{name}: predicts on grids of {', '.join(map(str, sides))} pixels (predict.scales), an export on one; "
            "predict with the run itself"
        )
    pictures = {"random": random_picture(sides[0]), "real": real_picture(data, predict, options, sides[0])}
    out.parent.mkdir(parents=True, exist_ok=True)
    with work_folder(out, remove_export) as aside:
        files = []
        for folder in folders:
            fold = FoldMember(folder, weights=options.weights, device=open_device("cpu", "32"), changes={})
            files.append(export_fold(fold, aside / f"{folder.name}.onnx", sides[0], pictures))
        about = ExportDescription(
            format="phalanx-export-1", name=Path(name).name, head=configs[0].model.head, weights=options.weights,
            side=sides[0], folds=files,
            data=data, predict=predict, made_with={package: metadata.version(package) for package in PACKAGES},
        )  # fmt: skip
        values = json.loads(about.model_dump_json(exclude={"data"}))
        values["data"] = json.loads(data.model_dump_json(include=DATA_KEYS))
        write_json(aside / DESCRIPTION_FILE, values | {"digest": digest(values)})
        aside.rename(out)
        sync_folder(out.parent)
    return out


def new_export(name: str, options: ExportOptions) -> Path:
    """The folder that an export will be in, once what it needs is there.

    Raises:
        ConfigError: it exists, or packages are missing.
    """
    out = options.out or Path("exports") / Path(name).name
    if out.exists() or out.is_symlink():
        clear_work(out, remove_export)
        raise ConfigError(f"{out}: exists; move it away, or change out=")
    load_runtime()
    return out


def remove_export(folder: Path) -> None:
    """Removes an export if it is there; OutputError if anything else is in it."""
    remove_folder(folder, is_exported)


def is_exported(name: str) -> bool:
    """Whether an export has files of that name; large weights are next to their network."""
    return name == DESCRIPTION_FILE or name.endswith((".onnx", ".onnx.data"))


def _seen(config: SegmentConfig) -> set[tuple[str, str]]:
    """Options, as text, that the folds of an export must share."""
    values = config.data.model_dump(mode="json", include=DATA_KEYS - {"root", "phantom"})
    values |= {"predict": config.predict, "head": config.model.head}
    return {(f"data.{key}" if key in DATA_KEYS else key, str(value)) for key, value in values.items()}


def export_fold(fold: FoldMember, path: Path, side: int, pictures: dict[str, np.ndarray]) -> OnnxFile:
    """Writes a fold's network and compares it on the pictures.

    Raises:
        DataError: it differs by more than ``MAX_DIFFERENCE``.
    """
    write_onnx(fold.network, side, path)
    session = open_session(path)
    differences = {}
    for kind, picture in pictures.items():
        found = compare(fold.network, session, picture, fold.predict.threshold)
        print(f"{fold.name}: {kind} picture: coarse logits {found.coarse:.2g}, masks {found.masks:.2g} off", flush=True)
        if found.coarse > MAX_DIFFERENCE:  # of large pictures: as exact as PyTorch is as good as equal
            found = found.model_copy(update={"rounding": rounding(fold.network, picture)})
        limit = max(MAX_DIFFERENCE, 2 * (found.rounding or 0.0))
        for what, value, allowed in (
            ("coarse logits", found.coarse, limit),
            ("fraction of mask pixels", found.masks, MAX_DIFFERENCE),
        ):
            if not value <= allowed:  # NaN is not, either
                raise DataError(
                    f"{fold.name}: its {what} differ by {value:.3g} between PyTorch and onnxruntime on a {kind} "
                    f"picture, {allowed:.3g} is allowed; not exported. Predict with the run itself, or try other "
                    "versions of torch and onnxruntime"
                )
        differences[kind] = found
    [weights] = fold.hashes.values()
    more = path.with_name(f"{path.name}.data")
    return OnnxFile(
        file=path.name,
        sha256=sha256_file(path),
        data_sha256=sha256_file(more) if more.exists() else None,
        trained=fold.name,
        weights_sha256=weights,
        differences=differences,
    )


def random_picture(side: int) -> np.ndarray:
    """uint8[side, side] of noise."""
    return np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)


def real_picture(data: SegmentData, predict: SegmentPredict, options: ExportOptions, side: int) -> np.ndarray:
    """uint8[side, side]: the first image to predict, as the network receives it; of windows, the middle."""
    if options.images is not None:
        record = scan(options.images)[0]
    else:
        record = test_records(data.model_copy(update={"root": options.root or data.root}))[0]
    image = preprocess(read_grey(record.image), data)
    grid = Grid.of(image, max(side, predict.sides(data.size)[0]))
    start = (grid.side - side) // 2
    return grid.place(image)[start : start + side, start : start + side].copy()
