"""A data set to be shown: its images with their annotations, and samples as its task trains on them."""

from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from ..checks.findings import Report
from ..config import Augment
from ..data.cache import SampleCache
from ..data.dataset import ImageSet
from ..data.images import read_colour, read_grey
from ..data.quarantine import kept_records
from ..data.records import Record
from ..data.selection import Selection
from ..eda.measure import measure
from ..eda.tables import image_table
from ..errors import DataError
from ..runtime.processes import process_map
from ..visualize.marks import Marks
from ..visualize.sheets import Page

if TYPE_CHECKING:
    import pandas as pd


class NotApplicable(Exception):
    """A kind of picture that a data set, task or recipe does not have; its text is the reason."""


class Picture(NamedTuple):
    """One picture to write.

    Attributes:
        name: of its file, without number and ending.
        images: names of the images that it shows.
        drawn: the page.
        facts: what the index records besides, as JSON types.
    """

    name: str
    title: str
    images: list[str]
    drawn: Page
    facts: dict[str, Any]


class Sample(NamedTuple):
    """A sample as a network gets it: image uint8[S, S] or [S, S, 3] before normalisation, and its annotation."""

    image: np.ndarray
    marks: Marks


class Selecting(Protocol):
    """The part of a task's class that chooses training images."""

    @staticmethod
    def select(config: Any, records: Sequence[Record]) -> Selection: ...


class Subject:
    """A recipe with its data set; each task has a class of its own.

    Args:
        config: a recipe, whose ``data.root`` is a folder.
        kind: the task's class.
    """

    lacks: ClassVar[dict[str, str]] = {}  # kinds of pictures that the task does not have, with reasons
    draws: ClassVar[bool] = True  # whether annotations are drawn over images; labels are text

    def __init__(self, config: Any, kind: type[Selecting]):
        self.config, self.data, self.kind = config, config.data, kind
        self.classes: list[str] = list(config.data.classes)

    @cached_property
    def records(self) -> Sequence[Record]:
        """Annotated images outside the quarantine."""
        return kept_records(self.data)

    @cached_property
    def selection(self) -> Selection:
        """Which of them the recipe trains on."""
        return self.kind.select(self.config, self.records)

    @property
    def colour(self) -> bool:
        """Whether the network sees colours."""
        return bool(getattr(self.data, "colour", False))

    def read(self, record: Record) -> np.ndarray:
        """The stored image, uint8[H, W] or, in colour, [H, W, 3]."""
        return (read_colour if self.colour else read_grey)(record.image)

    def kind_of(self, record: Record) -> str:
        """What images are picked by, so that several kinds are shown; here all are alike."""
        return ""

    def picked(self, count: int) -> list[Record]:
        """Images of each kind in turn, of patients spread over the data set."""
        kinds: dict[str, list[Record]] = {}
        for record in self.records:
            kinds.setdefault(self.kind_of(record), []).append(record)
        spread = [_spread(found, count) for _, found in sorted(kinds.items())]
        found = [one[k] for k in range(count) for one in spread if k < len(one)]
        return found[:count]

    def common(self, augment: Augment) -> dict[str, Any]:
        """Arguments of every sample set; all share the prepared images of the few that are shown."""
        return {"augment": augment, "seed": self.config.seed, "cache": self.cache}

    @cached_property
    def cache(self) -> SampleCache:
        """Prepared images, in memory as far as ``data.cache_gb`` has room."""
        return SampleCache(self.data.model_copy(update={"cache": "ram"}))

    @cached_property
    def measured(self) -> "pd.DataFrame":
        """Size, brightness, noise bands and, of masks, rotation of each readable image, as `eda.tables` has them."""
        one = partial(measure, split="train", data=self.data)
        found = process_map(
            one, [self.measurable(record) for record in self.records], workers=self.config.workers, name="measure",
            unit="image", progress=self.config.progress, least=16,
        )  # fmt: skip
        readable = [row for row in found if not row.problem]
        if not readable:
            raise DataError(f"{self.data.root}: no usable image; {found[0].problem}")
        return image_table(readable, None)

    def measurable(self, record: Record) -> Record:
        """The record as it is measured: here without its annotation, which has no masks."""
        return record._replace(labels=None)

    def check(self) -> Report:
        """What ``phalanx check`` finds."""
        raise NotImplementedError

    def marks(self, record: Record, shape: tuple[int, int]) -> Marks:
        """The annotation of a record at its image's size."""
        raise NotImplementedError

    def sample_set(self, records: Sequence[Record], augment: Augment, *, crop: bool = False) -> ImageSet:
        """Samples as training makes them.

        Args:
            crop: of the recipe's crop, if it has one; else of whole images.
        """
        raise NotImplementedError

    def samples(self, batch: Any) -> list[Sample]:
        """The samples of a batch."""
        raise NotImplementedError

    def sample(self, records: Sequence[Record], augment: Augment, index: int, draw: int) -> Sample:
        """The sample of a record by its number, as epoch ``draw`` would show it, of the whole image."""
        found = self.sample_set(records, augment)
        return self.samples(batch_of(found, [(draw, index)]))[0]


def batch_of(found: ImageSet, keys: Sequence[tuple[int, int]]) -> Any:
    """The batch of samples by (epoch, number). Raises DataError if one of them cannot be made."""
    batch = found.collate([found[key] for key in keys])
    if isinstance(batch, Exception):
        raise batch
    return batch


def _spread(found: Sequence[Record], count: int) -> list[Record]:
    places = np.unique(np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int))
    return [found[k] for k in places]
