"""Grad-CAM of runs: heat maps of images, how much of their energy is in masks, and the same of controls."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..config import ClassifyConfig
from ..data.images import Grid
from ..data.mask_files import read_mask
from ..data.prepared import channels_first, prepare_image
from ..data.records import Record
from ..errors import ConfigError
from ..models.classifier import Classifier, build_classifier
from ..models.feature_cells import Cells
from ..runtime.progress import Progress
from ..scoring.resampling import Interval, bootstrap, interval
from ..visualize.gradcam import Explained, Inside, activation_maps, energy_inside, explained, heat_map
from .classify import ClassifierRun

FIGURES = ("share", "area", "ratio")


class Case(NamedTuple):
    """An image, and the class of it whose evidence is sought. ``mask``: its file, if there is one."""

    record: Record
    target: int
    probability: float
    mask: Path | None = None


class Explainer:
    """Networks that explain together: a run's folds, or networks with random weights in their place.

    Raises:
        ConfigError: a network has no layer whose features have places in the image.
    """

    def __init__(self, name: str, config: ClassifyConfig, networks: Sequence[Classifier]):
        self.name, self.config = name, config
        data, encoder = config.data, f"{name}: model.encoder={config.model.encoder}"
        self.networks: list[tuple[Classifier, Explained]] = []
        for network in networks:
            found = explained(network.eval(), data.size, 3 if data.colour else 1, encoder)
            self.networks.append((network, found))

    @property
    def layer(self) -> str:
        """Name of the layer that the heat is computed at."""
        return self.networks[0][1].name

    @property
    def cells(self) -> Cells:
        """Where the cells of its maps are."""
        return self.networks[0][1].cells

    def maps(self, cases: Sequence[Case], batch: int, *, progress: bool) -> Iterator[tuple[np.ndarray, Grid]]:
        """Yields, for each case, maps float[F, n, n] over the grid of its image, and that grid.

        Args:
            batch: images at once.

        Raises:
            ConfigError: the grad-cam library is not installed.
            DataError: an image that cannot be read.
        """
        with Progress(f"{self.name} cam", len(cases), unit="image", enabled=progress) as bar:
            for first in range(0, len(cases), batch):
                part = cases[first : first + batch]
                prepared = [prepare_image(case.record, self.config.data) for case in part]
                images = torch.from_numpy(np.stack([channels_first(image) for image, _ in prepared]))
                classes = np.array([case.target for case in part])
                found = []
                for network, layer in self.networks:
                    on_device = images.to(next(network.parameters()).device)
                    found.append(activation_maps(layer, network.standardised(on_device), classes))
                yield from zip(np.stack(found, axis=1), (grid for _, grid in prepared), strict=True)
                bar.update(len(part))

    def inside(self, cases: Sequence[Case], batch: int, *, progress: bool) -> list[Inside | None]:
        """How much of each case's energy is in its mask; None without a mask. Raises DataError for a bad mask."""
        maps = self.maps(cases, batch, progress=progress)
        return [energy_of(case, found, grid, self.cells) for case, (found, grid) in zip(cases, maps, strict=True)]


def energy_of(case: Case, maps: np.ndarray, grid: Grid, cells: Cells) -> Inside | None:
    """How much of the energy of maps float[F, n, n] is in a case's mask. Returns and raises as `Explainer.inside`."""
    return None if case.mask is None else energy_inside(heat_map(maps, grid, cells), mask_of(case, grid))


def mask_of(case: Case, grid: Grid) -> np.ndarray:
    """The mask of a case as bool[H, W] on its image's pixels. Raises DataError if it shows another part."""
    assert case.mask is not None  # asked of such cases alone
    mask = read_mask(case.mask)
    grid.same_frame(mask.shape, case.mask)
    return Grid(grid.height, grid.width, max(grid.height, grid.width)).sample(mask)


def explainer_of(run: ClassifierRun) -> Explainer:
    """The folds of a run."""
    return Explainer(run.name, run.config, [fold.network for fold in run.folds])


def random_explainer(run: ClassifierRun, seed: int) -> Explainer:
    """As many networks as a run has folds, with the initial weights of a seed (Adebayo et al., 2018)."""
    networks = []
    for number, fold in enumerate(run.folds):
        config = fold.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed * len(run.folds) + number)
            network = build_classifier(
                config.model, classes=len(run.classes), size=config.data.size, channels=3 if config.data.colour else 1,
                pretrained=False,
            )  # fmt: skip
        networks.append(network.to(run.device.torch))
    return Explainer("random weights", run.config, networks)


def check_control(run: ClassifierRun, control: ClassifierRun) -> None:
    """Raises ConfigError if a run cannot be the control of another: it has other classes, or is the same."""
    if control.classes != run.classes or control.head != run.head:
        raise ConfigError(
            f"control={control.name}: has other classes or another head than {run.name}; train it by the same recipe, "
            "with shuffled labels"
        )
    if set(control.hashes.values()) & set(run.hashes.values()):
        raise ConfigError(f"control={control.name}: shares its weights with {run.name}; name a run on shuffled labels")


@dataclass(frozen=True)
class Figure:
    """A mean over images with its 95% interval over patients; None where it is not defined."""

    mean: float | None
    interval: Interval

    @classmethod
    def of(cls, values: np.ndarray, patients: Sequence[str]) -> "Figure":
        """Of values float64[I], NaN where not defined, by patients drawn with replacement; one has no interval."""
        known = ~np.isnan(values)
        if not known.any():
            return cls(None, None)
        names, of_image = np.unique(np.array(patients)[known], return_inverse=True)
        span = interval(bootstrap(values[known, None], of_image)[:, 0]) if len(names) > 1 else None
        return cls(float(values[known].mean()), span)

    @property
    def is_positive(self) -> bool:
        """Whether the whole interval is above zero."""
        return self.interval is not None and self.interval[0] > 0

    @property
    def text(self) -> str:
        """``1.50 [1.20, 1.80]``."""
        if self.mean is None:
            return "not defined"
        span = f" [{self.interval[0]:.2f}, {self.interval[1]:.2f}]" if self.interval else ""
        return f"{self.mean:.2f}{span}"

    def to_json(self) -> dict[str, Any]:
        """Mean and interval."""
        return {"mean": self.mean, "interval": self.interval and list(self.interval)}


@dataclass(frozen=True)
class Located:
    """Shares, areas and ratios of the cases with a mask.

    Attributes:
        values: float64[I] of each of ``FIGURES``; NaN where not defined.
    """

    values: dict[str, np.ndarray]
    patients: Sequence[str]
    figures: dict[str, Figure] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "figures", {k: Figure.of(v, self.patients) for k, v in self.values.items()})

    @classmethod
    def of(cls, draws: Sequence[Sequence[Inside | None]], cases: Sequence[Case]) -> "Located":
        """Means over draws of a network, of the cases with a mask; a draw without heat does not count."""
        which = [i for i, case in enumerate(cases) if case.mask is not None]
        values = {}
        for name in FIGURES:
            all_draws = np.array([[getattr(draw[i], name) for i in which] for draw in draws], np.float64)
            known = ~np.isnan(all_draws)
            sums, counts = np.where(known, all_draws, 0).sum(axis=0), known.sum(axis=0)
            values[name] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        return cls(values, [cases[i].record.group for i in which])

    @property
    def without_heat(self) -> int:
        """Images with a mask, but without any positive evidence."""
        return int(np.isnan(self.values["share"]).sum())

    def above(self, control: "Located") -> Figure:
        """How much higher the ratio is than a control's, in pairs of the images where both are defined."""
        return Figure.of(self.values["ratio"] - control.values["ratio"], self.patients)

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return {name: figure.to_json() for name, figure in self.figures.items()} | {"without_heat": self.without_heat}
