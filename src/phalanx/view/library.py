"""What the page shows: the images of a data set under opaque ids, and runs and CSVs with what they predicted."""

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import Config
from ..data.layouts import test_place, test_records, train_records
from ..data.records import Record
from ..errors import PhalanxError
from ..review.evaluate_options import EvaluateOptions
from ..review.evaluated import Evaluated
from ..review.scene_source import PredictedScenes, SceneSource
from ..runs.reader import FoldRun, fold_folders
from ..runtime.sidecar import is_csv
from ..visualize.palette import colours
from ..visualize.scene import LabelScene, Scene
from .options import ViewOptions
from .wire import plain


class Picture(NamedTuple):
    """An image of the data set.

    Attributes:
        id: what the page calls it; of no use in another session.
        fold: that holds it out in the first run; None if it is not known, or the image is not for training.
    """

    id: str
    record: Record
    split: str  # train or test
    fold: int | None


@dataclass
class Source:
    """A run or a CSV. ``evaluated`` or ``predicted`` is there once its state is ``ready``."""

    id: str
    name: str
    kind: str  # run or csv
    state: str = "waiting"  # waiting, working, ready or failed
    message: str = ""  # why it failed, or what the user should know
    evaluated: Evaluated | None = None
    predicted: PredictedScenes | None = None
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)  # figures, as JSON

    def has(self, image: str) -> bool:
        """Whether it predicted an image."""
        if self.evaluated is not None:
            return image in self.evaluated.number
        return self.predicted is not None and image in set(self.predicted.images)

    def scene(self, picture: Picture) -> tuple[Scene, bool]:
        """An image that it has, and whether the ground truth is part of it."""
        if self.evaluated is not None:
            return self.evaluated.scene(picture.record.name), True
        assert self.predicted is not None  # it has the image
        return self.predicted.scene(picture.record.name, picture.record.image), False


class Library:
    """Images and sources of one data set.

    Args:
        names: runs and CSVs, of one task.
        config: a recipe with that data set, whose root is known.
        evaluate: as ``TaskCommands.evaluate``.

    Raises:
        DataError: the data set cannot be read.
    """

    def __init__(
        self, names: Sequence[str], config: Config, scenes: SceneSource,
        evaluate: Callable[[str, EvaluateOptions], Evaluated], options: ViewOptions,
    ):  # fmt: skip
        self.config, self.scenes, self.options, self._evaluate = config, scenes, options, evaluate
        self._secret = secrets.token_bytes(16)
        self.sources = {
            (own := self.opaque(f"source {k}")): Source(own, name, "csv" if is_csv(name) else "run")
            for k, name in enumerate(names)
        }
        found = [("train", record) for record in train_records(config.data)]
        place = test_place(config.data)
        if place is not None and place.exists():
            found += [("test", record) for record in test_records(config.data)]
        folds = self._folds(names)
        self.pictures = {
            (own := self.opaque(f"{split} {record.name}")): Picture(
                own, record, split, folds.get(record.name) if split == "train" else None
            )
            for split, record in found
        }
        self.of_name = {one.record.name: one for one in reversed(self.pictures.values())}  # those for training first
        self.classes = scenes.classes

    @property
    def trained(self) -> set[str]:
        """Names of the images for training: those that a quarantine may list."""
        return {one.record.name for one in self.pictures.values() if one.split == "train"}

    def opaque(self, text: str) -> str:
        """An id that says nothing, and is of no use in another session."""
        return hashlib.blake2b(text.encode(), digest_size=9, key=self._secret).hexdigest()

    def _folds(self, names: Sequence[str]) -> Mapping[str, int]:
        for name in names:
            if not is_csv(name):
                try:
                    return FoldRun(fold_folders(name, self.options.runs, "last")[0]).folds
                except PhalanxError:  # the evaluation says what is wrong
                    continue
        return {}

    def load(self) -> None:
        """Evaluates the sources one after the other; takes long, so it is for a thread of its own."""
        for source in self.sources.values():
            source.state = "working"
            try:
                self._load(source)
                source.state = "ready"
            except (PhalanxError, OSError) as error:
                source.state, source.message = "failed", str(error)
            except Exception as error:  # the other sources are shown all the same
                source.state, source.message = "failed", f"unexpected error: {type(error).__name__}: {error}"

    def _load(self, source: Source) -> None:
        options, root = self.options, self.config.data.root
        asked = EvaluateOptions(root=root, threshold=options.threshold, runs=options.runs, device=options.device)
        try:
            source.evaluated = self._evaluate(source.name, asked)
            source.notes += source.evaluated.notes
        except PhalanxError:
            if source.kind != "csv":
                raise
            source.predicted = self.scenes.predicted(Path(source.name))
            source.notes.append("shown without scores: no ground truth is known of its images")
        source.numbers = self._numbers(source)

    def heat(self, source: Source, picture: Picture, c: int) -> np.ndarray | None:
        """Grad-CAM of a class, float64[h, w]; None without it."""
        scene = source.scene(picture)[0]
        if not isinstance(scene, LabelScene) or scene.heat is None or not 0 <= c < len(self.classes):
            return None
        return scene.heat(c)

    def session(self) -> dict[str, Any]:
        """What the page needs first, as JSON: classes with their colours, images, sources."""
        shades = colours(len(self.classes))
        return {
            "classes": [
                {"name": name, "colour": "#{:02x}{:02x}{:02x}".format(*rgb)}
                for name, rgb in zip(self.classes, shades, strict=True)
            ],
            "data": self.config.data.root.name if self.config.data.root else "",
            "images": [
                {
                    "id": one.id, "name": one.record.name, "patient": one.record.group, "split": one.split,
                    "fold": one.fold, "annotated": one.record.labels is not None,
                }
                for one in self.pictures.values()
            ],
            "sources": self.states(),
        }  # fmt: skip

    def states(self) -> list[dict[str, Any]]:
        """How far each source is."""
        return [
            {
                "id": one.id, "name": Path(one.name).name, "kind": one.kind, "state": one.state,
                "message": one.message, "notes": one.notes, "scored": one.evaluated is not None,
            }
            for one in self.sources.values()
        ]  # fmt: skip

    def _numbers(self, source: Source) -> dict[str, Any]:
        """Figures of a source that is ready, whole, per class and per image; images by their ids."""
        found = source.evaluated
        if found is None:
            assert source.predicted is not None  # it is ready
            return {"images": [one.id for name in source.predicted.images if (one := self.of_name.get(name))]}
        known = [k for k, name in enumerate(found.names) if name in self.of_name]
        sides = found.counts
        wrong = np.nan_to_num(sides.fp) + np.nan_to_num(sides.fn)
        return {
            "images": [self.of_name[found.names[k]].id for k in known],
            "metric": found.metric.name,
            "decimals": found.metric.decimals,
            "value": plain(found.value),
            "interval": plain(list(found.interval)) if found.interval is not None else None,
            "unit": found.unit,
            "per_image_name": found.per_image_name,
            "per_image": plain(found.per_image[known]),
            "per_class": plain(found.per_class[known]),
            "present": [np.flatnonzero(row).tolist() for row in found.present[known]],
            "wrong": [np.flatnonzero(row).tolist() for row in wrong[known]],
            "table": [plain(tuple(row)) for row in found.table()],
            "columns": ["class", found.metric.name, "images", "tp", "fp", "fn", "precision", "recall"],
            "attributes": {name: [texts[k] for k in known] for name, texts in found.attributes().items()},
        }
