"""The task of a denoiser: images with Gaussian noise, restored. Its images become training images of a classifier."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..config import Augment, RestoreConfig
from ..data import layouts
from ..data.cache import SampleCache
from ..data.labels import labels_of
from ..data.noisy import NoisyBatch, NoisySet
from ..data.records import Record
from ..data.rules import select_restoring
from ..data.selection import Selection
from ..engine.loader import evaluated
from ..engine.nonfinite import bad_term
from ..engine.task import Event, HeldOutScore, PanelRow, Part, Step
from ..errors import DataError
from ..models.denoiser import build_denoiser
from ..predict.restore import SMALLEST, as_bytes, open_denoiser, psnr, restore
from ..runs.reader import FoldRun
from ..runtime.device import open_device
from ..runtime.distributed import Ranks
from ..runtime.files import write_json
from ..runtime.metric import Metric
from .panels import grey_of, held_out_batches, worst_first
from .weights import check_copies

METRIC = Metric("psnr", decimals=2)


class Restore:
    """Images with noise, scored by the peak signal-to-noise ratio (PSNR, dB) of what the network makes of them.

    It is trained and scored on the images of ``data.restore.classes`` alone.
    """

    measured: ClassVar[dict[str, float]] = {}
    head_prefixes: tuple[str, ...] = ("head.",)
    metric = METRIC
    opening: Sequence[Event] = ()

    def __init__(
        self,
        config: RestoreConfig,
        train: Sequence[Record],
        held_out: Sequence[Record],
        monitored: Sequence[Record] = (),
        weights: np.ndarray | None = None,
    ):
        self.config, self.weights = config, weights
        check_copies(config, weights)
        self.held_out = of_classes(held_out, config)
        if held_out and not self.held_out:
            raise DataError(
                f"data.restore.classes: none of the {len(held_out)} held-out images is of "
                f"{', '.join(config.data.restore.classes or [])}; use fewer folds=, or balanced ones (phalanx folds "
                "stratify=label)"
            )
        self._per_image = np.zeros(len(self.held_out))  # PSNR of the last evaluation
        pretrained = config.model.init_from is None  # else a run's weights follow
        self.network = build_denoiser(config.model, size=config.data.size, pretrained=pretrained)
        common: dict[str, Any] = {
            "levels": config.data.restore.levels, "seed": config.seed, "cache": SampleCache(config.data),
            "progress": config.progress,
        }  # fmt: skip
        self.training_set = NoisySet(train, augment=config.augment, **common)
        self.evaluated: dict[Part, NoisySet] = {
            "held_out": NoisySet(self.held_out, augment=Augment(), **common),
            "monitored": NoisySet(monitored, augment=Augment(), **common),
        }
        self.loaders: dict[Part, DataLoader] = {}  # of these, once they are evaluated

    @staticmethod
    def select(config: RestoreConfig, records: Sequence[Record]) -> Selection:
        """The images of the classes to restore."""
        return select_restoring(records, config.data)

    @staticmethod
    def added(
        config: RestoreConfig, fold: int | None, records: Sequence[Record], held_out: Sequence[Record]
    ) -> list[Record]:
        """None: it is trained on the data set alone."""
        return []

    @staticmethod
    def files(config: RestoreConfig, record: Record) -> list[Path]:
        """All files that an image and its labels are read from, the image's first."""
        return layouts.files(record, config.data)

    @property
    def about(self) -> list[tuple[str, str]]:
        """Levels of noise, and the loss."""
        levels = ", ".join(f"{level:g}" for level in self.config.data.restore.levels)
        return [("noise", f"standard deviations {levels}; metric {METRIC.name}"), ("loss", self.config.loss.name)]

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of a step's values."""
        return METRIC.name, f"loss/{self.config.loss.name}"

    def step(self, network: Any, batch: NoisyBatch) -> Step:
        """Loss and PSNR of a batch on the network's device."""
        clean = batch.clean.float() / 255
        restored = network(batch.noisy).float()
        gap = restored - clean
        errors = (gap**2 if self.config.loss.name == "mse" else gap.abs()).mean((1, 2, 3))
        terms: dict[str, Tensor] = {self.config.loss.name: errors.detach()}
        values = {METRIC.name: _psnr(restored.detach(), batch.clean), f"loss/{self.config.loss.name}": errors.detach()}
        return Step(errors.mean(), values, terms)

    def diagnose(self, batch: NoisyBatch, terms: Mapping[str, Tensor]) -> str | None:
        """Which image's error is not finite; None if all are."""
        return bad_term(terms, [self.training_set.records[row].name for row in batch.rows.tolist()])

    def end_epoch(self, epochs: int, means: Mapping[str, float]) -> list[Event]:
        """Nothing changes from epoch to epoch."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Nothing of the task changes while training."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError if the state is not empty."""
        if state:
            raise ValueError("has a state, and a denoiser has none")

    def pinned_files(self) -> dict[str, str]:
        """None: the selection names the images that are trained on."""
        return {}

    def adapt_weights(self, weights: dict[str, Tensor], other: Any) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Another run's weights as they are: the names of all denoisers agree."""
        return weights, ()

    @torch.no_grad()
    def evaluate(self, network: Any, part: Part, device: torch.device, ranks: Ranks) -> float | None:
        """Mean PSNR of a part's images, each with a level and noise of its own; None if there are none."""
        examined = self.evaluated[part]
        if not examined.records:
            return None
        found: dict[int, float] = {}
        for batch in evaluated(self, part, self.config, device, ranks):
            values = _psnr(network(batch.noisy).float(), batch.clean).double().tolist()
            found |= zip(batch.rows.tolist(), values, strict=True)
        merged = {row: value for one in ranks.gather(found) for row, value in one.items()}
        each = np.array([merged[row] for row in range(len(examined.records))])
        if part == "held_out":
            self._per_image = each
        return float(each.mean())

    def pinned(self, count: int) -> list[int]:
        """The images with the lowest PSNR in the last evaluation."""
        return worst_first(self._per_image, count)

    @torch.no_grad()
    def panels(self, network: Any, rows: Sequence[int], device: torch.device, side: int) -> list[PanelRow]:
        """Held-out images: with noise, restored, and as they were."""
        records, found = self.evaluated["held_out"].records, list[PanelRow]()
        for batch in held_out_batches(self, rows, self.config.predict.batch, device):
            restored = network(batch.noisy).float()
            values = _psnr(restored, batch.clean).tolist()
            for k, row in enumerate(batch.rows.tolist()):
                shown = {"noisy": as_bytes(batch.noisy[k]), "restored": as_bytes(restored[k]), "clean": batch.clean[k]}
                panels = [(title, _square(grey_of(image), side)) for title, image in shown.items()]
                found.append(PanelRow(records[row].name, f"PSNR {values[k]:.2f} dB", panels))
        return found

    def finish(self, folder: Path) -> HeldOutScore:
        """Restores the held-out images as ``phalanx restore`` does, and writes the PSNR of each, by level."""
        config, levels = self.config, self.config.data.restore.levels
        fold = open_denoiser(folder, open_device(config.device, config.precision))
        before, after = (np.zeros((len(self.held_out), len(levels))) for _ in range(2))
        for at, copy in enumerate(restore(fold, self.held_out, levels, seed=config.seed, batch=config.predict.batch)):
            place = divmod(at, len(levels))
            before[place], after[place] = psnr(copy.noisy, copy.clean), psnr(copy.restored, copy.clean)
        value = float(after.mean())
        write_json(folder / "oof_score.json", {
            "metrics": {METRIC.name: {"value": value}, f"{METRIC.name}_noisy": {"value": float(before.mean())}},
            "levels": [
                {"noise": level, "psnr_noisy": float(noisy), METRIC.name: float(restored)}
                for level, noisy, restored in zip(levels, before.mean(axis=0), after.mean(axis=0), strict=True)
            ],
            "per_image": {r.name: float(row.mean()) for r, row in zip(self.held_out, after, strict=True)},
        })  # fmt: skip
        lines = [
            f"noise {level:g}: PSNR {noisy:.2f} dB, restored {restored:.2f} dB"
            for level, noisy, restored in zip(levels, before.mean(axis=0), after.mean(axis=0), strict=True)
        ]
        return HeldOutScore(value, "\n".join(lines))

    @staticmethod
    def longer_words(config: RestoreConfig) -> list[str]:
        """None: every epoch is like the first."""
        return []

    @staticmethod
    def damage(folder: Path, config: RestoreConfig) -> str | None:
        """What is missing or damaged of what :meth:`finish` writes."""
        if not (folder / "oof_score.json").is_file():
            return "oof_score.json is missing"
        try:
            return None if FoldRun(folder).per_image else "oof_score.json is damaged"
        except DataError as error:
            return str(error)


def of_classes(records: Sequence[Record], config: RestoreConfig) -> list[Record]:
    """The images of ``data.restore.classes``; all if there are none named."""
    wanted = config.data.restore.classes
    if wanted is None:
        return list(records)
    labels = labels_of(records, config.data)
    columns = [config.data.classes.index(name) for name in wanted]
    return [record for record, row in zip(records, labels, strict=True) if (row[columns] == 1).any()]


def _square(image: np.ndarray, side: int) -> np.ndarray:
    """RGB uint8[side, side, 3] of a square grey image."""
    method = cv2.INTER_AREA if side < image.shape[0] else cv2.INTER_LINEAR
    return np.repeat(cv2.resize(image, (side, side), interpolation=method)[:, :, None], 3, axis=2)


def _psnr(restored: Tensor, clean: Tensor) -> Tensor:
    """float32[B] of images float[B, 1, S, S] of full scale 1, as they would be saved, and uint8[B, 1, S, S]."""
    error = ((as_bytes(restored).float() - clean.float()) / 255).square().mean((1, 2, 3))
    return -10 * error.clamp(min=SMALLEST).log10()
