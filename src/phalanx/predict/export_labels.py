"""Makes the classifiers of a run into ONNX files, and measures that they are the same classifiers."""

import json
from copy import deepcopy
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..data.layouts import test_records
from ..data.prepared import channels_first, prepare_image
from ..data.records import scan
from ..errors import DataError
from ..runtime.device import open_device
from ..runtime.files import sha256_file, sync_folder, write_json
from ..runtime.provenance import digest
from ..runtime.work import work_folder
from .classify import ClassifierFold, ClassifierRun
from .export import MAX_DIFFERENCE, PACKAGES, new_export, remove_export, write_graph
from .exported import DESCRIPTION_FILE, Difference, ExportOptions, OnnxFile, logits_of, open_session
from .exported_labels import LabelExport


class WholeClassifier(nn.Module):
    """What an ONNX file computes: pictures uint8[1, 1 or 3, S, S] to logits float32[1, C]."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.predict(images)  # type: ignore[operator]


def export_run(name: str, options: ExportOptions) -> Path:
    """Exports the folds of a run into one folder; returns it. Killed, it leaves nothing under its name.

    Raises:
        ConfigError: a run that cannot be exported, or a folder that exists. DataError: a network that differs in
            onnxruntime by more than ``MAX_DIFFERENCE``, or no image to try it on.
    """
    out = new_export(name, options)
    run = ClassifierRun(name, runs=options.runs, weights=options.weights, device=open_device("cpu", "32"))
    pictures = _pictures(run, options)
    out.parent.mkdir(parents=True, exist_ok=True)
    with work_folder(out, remove_export) as aside:
        files = [_export_fold(fold, aside / f"{fold.folder.name}.onnx", pictures) for fold in run.folds]
        about = LabelExport(
            format="phalanx-export-labels-1", name=Path(name).name, head=run.head, weights=options.weights,
            side=run.config.data.size, data=run.config.data, predict=run.config.predict, folds=files,
            made_with={package: metadata.version(package) for package in PACKAGES},
        )  # fmt: skip
        values = json.loads(about.model_dump_json())
        write_json(aside / DESCRIPTION_FILE, values | {"digest": digest(values)})
        aside.rename(out)
        sync_folder(out.parent)
    return out


def _pictures(run: ClassifierRun, options: ExportOptions) -> dict[str, np.ndarray]:
    """What the networks are compared on, uint8[1, 1 or 3, S, S]: noise, and the first image to predict."""
    data = run.config.data
    if options.images is not None:
        record = scan(options.images)[0]
    else:
        record = test_records(data.model_copy(update={"root": options.root or data.root}))[0]
    real = channels_first(prepare_image(record, data)[0])[None]
    return {"random": np.random.default_rng(0).integers(0, 256, real.shape, np.uint8), "real": real}


def _export_fold(fold: ClassifierFold, path: Path, pictures: dict[str, np.ndarray]) -> OnnxFile:
    """Writes a fold's network and compares it on the pictures.

    Raises:
        DataError: it differs by more than ``MAX_DIFFERENCE``, and by more than twice PyTorch's own rounding.
    """
    whole = WholeClassifier(fold.network).eval()
    write_graph(whole, torch.from_numpy(pictures["random"]), path, ["logits"])
    session = open_session(path)
    differences = {}
    for kind, picture in pictures.items():
        batch = torch.from_numpy(picture)
        with torch.inference_mode():
            logits = whole(batch)
        found = Difference(
            coarse=float(np.abs(logits_of(session, path.name, picture) - logits.numpy()).max()), masks=0.0
        )
        print(f"{fold.folder}: {kind} picture: logits {found.coarse:.2g} off", flush=True)
        if found.coarse > MAX_DIFFERENCE:  # of large pictures: as exact as PyTorch is as good as equal
            with torch.inference_mode():
                exact = deepcopy(fold.network).double()(fold.network.standardised(batch).double())
            found = found.model_copy(update={"rounding": float((logits - exact).abs().max())})
        allowed = max(MAX_DIFFERENCE, 2 * (found.rounding or 0.0))
        if not found.coarse <= allowed:  # NaN is not, either
            raise DataError(
                f"{fold.folder}: its logits differ by {found.coarse:.3g} between PyTorch and onnxruntime on a {kind} "
                f"picture, {allowed:.3g} is allowed; not exported. Predict with the run itself, or try other versions "
                "of torch and onnxruntime"
            )
        differences[kind] = found
    more = path.with_name(f"{path.name}.data")
    return OnnxFile(
        file=path.name, sha256=sha256_file(path), data_sha256=sha256_file(more) if more.exists() else None,
        trained=str(fold.folder), weights_sha256=fold.weights, differences=differences,
    )  # fmt: skip
