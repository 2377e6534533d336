"""Members of a soft vote that torch computes: trained runs, rebuilt from their folders alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import SegmentConfig
from ..config.loss import Head
from ..data.attributes import read_sheet, sheet_values
from ..data.metadata import match
from ..data.records import Record
from ..errors import ConfigError, DataError
from ..models.build import build, described
from ..models.film import ConditionedNetwork
from ..models.segmenter import dry_run
from ..runs.checkpoint import check_fit, load_weights
from ..runs.reader import FoldRun, fold_folders
from ..runtime.device import Device, open_device
from ..runtime.provenance import digest
from ..runtime.terminal import say
from .exclusive import SOFTMAX_FLOOR
from .maps import FLOOR, ProbabilityMaps
from .soft import RunMember, made_with, map_options, on_grids
from .views import probabilities, trained_views


class FoldMember:
    """One fold of a run, or a run trained on everything.

    Args:
        changes: of the run's options of prediction.
        root: the data set with the metadata sheet of the patients; None: that of training.

    Raises:
        ConfigError: the folder has no such weights, or the network does not run at the sizes asked for.
        DataError: there is no sheet, and the run was trained with one.
    """

    needs_images = True

    def __init__(
        self, folder: Path, *, weights: str, device: Device, changes: dict[str, Any], root: Path | None = None
    ):
        config = FoldRun(folder).config_of(SegmentConfig)
        self.predict = config.predict.model_copy(update=changes)
        found = load_weights(folder / weights)
        if found is None:
            raise ConfigError(f"{folder}: has no {weights} weights yet; train it first (bash train.sh)")
        if weights == "last" and not (folder / "final").is_dir():
            say(f"note: {folder}: unfinished; predicts with the weights of its last checkpoint")
        self.name, self.config, self.classes = str(folder), config, config.data.classes
        self.head: Head = config.model.head
        self.floor = SOFTMAX_FLOOR if self.head == "softmax" else min(FLOOR, self.predict.threshold)
        self.hashes = {str(folder): found[1]}
        self.pairs = config.data.pair_indices
        self.side, self.device = config.data.size, device
        self.views = trained_views(self.name, config.augment, self.predict.tta)
        self.sides, self.on_gpu = self.predict.sides(config.data.size), device.torch.type == "cuda"
        network = build(config.model, classes=config.channels, size=config.data.size, pretrained=False)
        check_fit(folder / weights, found[0], network)
        network.load_state_dict(found[0])
        self.network = network.eval()
        self._check_sizes()
        self.network.to(device.torch)
        self.sheet = None
        if config.model.metadata:
            data = config.data.model_copy(update={"root": root or config.data.root})
            trained = set(FoldRun(folder).patients.values())  # for the column of the patients; others may be predicted
            self.sheet = read_sheet(data, config.model.metadata, trained, some=False)
            self.strangers: set[str] = set()
        sheet = None if self.sheet is None else self.sheet.to_csv()
        self.options = made_with(config.data, self.predict, device.precision)
        ways, seen = map_options(config.data, self.predict)
        self.key = digest([found[1], ways, seen, sheet, device.torch.type, device.precision])

    def maps(self, records: Sequence[Record], images: Sequence[np.ndarray]) -> list[ProbabilityMaps]:
        attributes = None if self.sheet is None else self._attributes(records)

        def ask(pictures: np.ndarray, which: list[int]) -> list[ProbabilityMaps]:
            return self._ask(pictures, None if attributes is None else attributes[which])

        return on_grids(images, self.config.data, self.predict, ask)

    def _ask(self, pictures: np.ndarray, attributes: Tensor | None) -> list[ProbabilityMaps]:
        """Probability maps of uint8[B, S, S]; ``attributes`` float32[B, T]."""
        batch = torch.from_numpy(pictures)[:, None].to(self.device.torch)
        network = self.network if attributes is None else ConditionedNetwork(self.network, attributes)
        with torch.inference_mode(), self.device.autocast():
            return probabilities(network.predict, batch, self.views, self.pairs, self.floor)

    def _attributes(self, records: Sequence[Record]) -> Tensor:
        """float32[B, T] of the images' patients on the device."""
        assert self.sheet is not None  # called only then
        groups = {record.group for record in records}
        groups -= match(self.sheet, groups).keys()
        if groups and not self.strangers:
            say(f"note: {self.name}: {min(groups)} has no row in the metadata sheet; taken as missing")
        self.strangers |= groups
        return torch.from_numpy(sheet_values(records, self.sheet, self.config.model.metadata)).to(self.device.torch)

    def _check_sizes(self) -> None:
        """Tries the network, without data, at sizes other than that of training."""
        window = self.predict.window
        for size in {*([window.size] if window else self.sides)} - {self.side}:
            try:
                dry_run(self.network, torch.zeros(1, 1, size, size, dtype=torch.uint8))
            except Exception as error:  # also assertions of third parties, which reject the user's choice
                keys = "predict.window" if window else "predict.input_size and predict.scales"
                raise ConfigError(
                    f"{self.name}: its network does not run on {size} x {size} pixels, as {keys} ask for: "
                    f"{described(error)}"
                ) from None


def open_run(
    name: str,
    *,
    runs: Path,
    weights: str,
    device: str,
    precision: str,
    changes: dict[str, Any],
    root: Path | None,
) -> RunMember:
    """A run by its name or folder, or one of its folds. ``changes`` and ``root``: as :class:`FoldMember`.

    Raises:
        ConfigError, DataError: as :class:`FoldMember`; folds that were not finished, or are of different classes.
    """
    place = open_device(device, precision)
    folders = fold_folders(name, runs, weights)
    folds = [FoldMember(f, weights=weights, device=place, changes=changes, root=root) for f in folders]
    other = next((fold for fold in folds if fold.classes != folds[0].classes), None)
    if other is not None:
        raise DataError(f"{other.name}: has other classes than {folds[0].name}; they cannot be averaged")
    other = next((fold for fold in folds if fold.head != folds[0].head), None)
    if other is not None:
        raise DataError(
            f"{other.name}: has a {other.head}, and {folds[0].name} a {folds[0].head}; they cannot be averaged"
        )
    return RunMember(name, folds)
