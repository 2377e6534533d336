"""The detection task: boxes of objects, with masks if the architecture has them."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..config import Augment, DetectConfig
from ..config.detect import TWO_STAGES
from ..data import layouts
from ..data.box_set import BoxBatch, BoxSet
from ..data.cache import SampleCache
from ..data.images import image_size
from ..data.objects import Shape, box_truth, shapes_of
from ..data.records import Record
from ..data.rules import select_objects
from ..data.selection import Selection
from ..engine.loader import evaluated
from ..engine.nonfinite import bad_term
from ..engine.task import SHOWN_CLASSES, Event, HeldOutScore, PanelRow, Part, Step, of_class
from ..errors import DataError
from ..losses.box_weights import box_weights, counts_of
from ..models.detector import anchor_shapes, build_detector
from ..models.two_stages import Detections
from ..predict.detect import open_detector, to_stored
from ..runtime.distributed import Ranks
from ..runtime.files import delete, write_json
from ..runtime.metric import Metric
from ..runtime.reading import as_whole
from ..runtime.sidecar import Size
from ..runtime.terminal import say
from ..scoring.box_thresholds import f1_by_image
from ..scoring.boxes import BoxScore, score_boxes
from ..scoring.boxes_report import score_json, score_text
from ..submission.boxes import Boxes, BoxSubmission
from .detect_report import about_objects, image_f1, measure_objects, objects_csv
from .image_f1 import f1_of_images, logged
from .oof_files import intact_sidecar
from .panels import box_row, held_out_batches, worst_first
from .weights import check_copies, tell_weights

TRAINED_BY = "foreground_accuracy"  # of an image's samples of objects: what a training step gives
CLASS_FIGURE = "map50"  # that a validation has of each class
ROOT = 2**31  # seeds of the validation loss, one per image


class Detect:
    """Boxes of objects, scored by a metric of the recipe."""

    head_prefixes: tuple[str, ...] = (
        "heads.box_predictor.", "heads.mask_predictor.", "dense.inner.head.classification_head.cls_logits.",
    )  # fmt: skip

    opening: Sequence[Event] = ()

    def __init__(
        self,
        config: DetectConfig,
        train: Sequence[Record],
        held_out: Sequence[Record],
        monitored: Sequence[Record] = (),
        weights: np.ndarray | None = None,
    ):
        self.config, self.held_out, self.weights = config, list(held_out), weights
        self.metric = Metric(config.metric)
        self.measured: dict[str, float] = {}
        self.opening: Sequence[Event] = ()
        self.epochs = 0  # that are over
        self._per_image, self._counts_from = np.zeros(len(held_out)), 1.0  # F1 of the last evaluation, its threshold
        parts = {"train": train, "held_out": held_out, "monitored": monitored}
        shapes = {name: [shapes_of(record, config.data) for record in part] for name, part in parts.items()}
        self.truth: dict[Part, BoxSubmission] = {
            "held_out": box_truth(held_out, config.data, shapes["held_out"]),
            "monitored": box_truth(monitored, config.data, shapes["monitored"]),
        }
        for name, part in self.truth.items():
            if part.images and not any(len(one.corners) for one in part.boxes):
                what = {"held_out": "held-out images", "monitored": "monitored images"}[name]
                raise DataError(
                    f"metric={config.metric}: is not defined on the {len(part.images)} {what}, none of which has an "
                    "object; use fewer folds="
                )
        check_copies(config, weights)
        sides, objects = measure_objects(train, shapes["train"], config, None)
        if not objects.sum():
            raise DataError(f"none of the {len(train)} training images has an object; use fewer folds=")
        found = anchor_shapes(config, sides)
        say(about_objects(config, objects, found))
        self.network = build_detector(
            config,
            shapes=found,
            weights=self._class_weights(train, shapes["train"]),
            pretrained=config.model.init_from is None,
        )
        masks = config.model.architecture == "mask_rcnn"
        common: dict[str, Any] = {
            "data": config.data, "seed": config.seed, "cache": SampleCache(config.data), "progress": config.progress,
            "masks": masks,
        }  # fmt: skip
        self.training_set = BoxSet(train, shapes=shapes["train"], augment=config.augment, **common)
        self.evaluated: dict[Part, BoxSet] = {
            "held_out": BoxSet(held_out, shapes=shapes["held_out"], augment=Augment(), **common),
            "monitored": BoxSet(monitored, shapes=shapes["monitored"], augment=Augment(), **common),
        }
        self.loaders: dict[Part, DataLoader] = {}  # of these, once they are evaluated
        self._sizes: dict[Part, list[Size]] = {}

    def _class_weights(self, train: Sequence[Record], shapes: Sequence[Sequence[Shape]]) -> Tensor:
        """Float[C + 1] of the box head's classes, background first; they are printed and logged."""
        config, after = self.config, self.config.loss.count != "before"
        rule, classes = config.loss.class_weights, config.data.classes
        _, objects = measure_objects(train, shapes, config, self.weights if after else None)
        found = box_weights(rule, classes, objects, config.loss.beta)
        if rule != "none":
            self.opening = [tell_weights(config, rule, found, classes, counts_of(objects), after=after)]
        return torch.from_numpy(np.concatenate([[1.0], found.positive]))

    @staticmethod
    def select(config: DetectConfig, records: Sequence[Record]) -> Selection:
        """Which annotated images of the data set the recipe trains on, and how often."""
        return select_objects(records, config.data)

    @staticmethod
    def added(
        config: DetectConfig, fold: int | None, records: Sequence[Record], held_out: Sequence[Record]
    ) -> list[Record]:
        """None: boxes are trained on with images of the data set alone."""
        return []

    @staticmethod
    def files(config: DetectConfig, record: Record) -> list[Path]:
        """All files that an image and its objects are read from, the image's first."""
        return layouts.files(record, config.data)

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms of the loss."""
        if self.config.model.architecture not in TWO_STAGES:
            return ("label", "box", *(["centerness"] if self.config.model.architecture == "fcos" else []))
        masks = ["mask"] if self.config.model.architecture == "mask_rcnn" else []
        return ("objectness", "proposal", "label", "box", *masks)

    @property
    def about(self) -> list[tuple[str, str]]:
        """Classes and architecture, and the terms of the loss."""
        config = self.config
        found = f"{len(config.data.classes)}, boxes by {config.model.architecture}; metric {self.metric.name}"
        return [("classes", found), ("loss", " + ".join(self.terms))]

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of a step's values."""
        return TRAINED_BY, *(f"loss/{term}" for term in self.terms)

    def step(self, network: Any, batch: BoxBatch) -> Step:
        """Loss, accuracy on samples of objects and loss terms of a batch on the network's device."""
        terms, right = network(batch.images, batch.targets)
        terms = {name: terms[name] for name in self.terms}
        values = {f"loss/{name}": term.detach() for name, term in terms.items()}
        return Step(self.total(terms).mean(), {TRAINED_BY: right, **values}, {k: v.detach() for k, v in terms.items()})

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum float32[B] of the terms."""
        return sum((getattr(self.config.loss, name) * term for name, term in terms.items()), torch.zeros(()))

    def diagnose(self, batch: BoxBatch, terms: Mapping[str, Tensor]) -> str | None:
        """Which loss term of which image is not finite; None if all are."""
        return bad_term(terms, [self.training_set.records[row].name for row in batch.rows.tolist()])

    def end_epoch(self, epochs: int, means: Mapping[str, float]) -> list[Event]:
        """Counts the epochs."""
        self.epochs = epochs
        return []

    def state_dict(self) -> dict[str, Any]:
        """The epochs that are over."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a saved state. Raises ValueError if it is not one."""
        self.epochs = as_whole(state.get("epochs"), 0, self.config.epochs)

    def pinned_files(self) -> dict[str, str]:
        """The boxes that are trained on, monitored and held out: of all images, one file may contain them."""
        sets = [self.training_set, *self.evaluated.values()]
        found = {record.name: each for one in sets for record, each in zip(one.records, one.shapes, strict=True)}
        return {"objects.csv": objects_csv(found, self.config.data.classes)}

    def adapt_weights(self, weights: dict[str, Tensor], other: Any) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Another run's weights: with them come the anchors that they were trained with. A mask head that they do not
        have is new, and one that this network does not have is left out."""
        had, has = (config.model.architecture == "mask_rcnn" for config in (other, self.config))
        if had and not has:
            return {name: value for name, value in weights.items() if not name.startswith("heads.mask_")}, ()
        return weights, ("heads.mask_",) if has and not had else ()

    @torch.no_grad()
    def evaluate(self, network: Any, part: Part, device: torch.device, ranks: Ranks) -> float | None:
        """The metric of a part's images, without test-time augmentation; None if there are none. Processes that train
        together share the work.

        ``measured`` becomes the loss of training on these images, without augmentation and with norms as in
        prediction. Its random samples are the same each time, those of an image whatever images are with it.
        """
        examined = self.evaluated[part]
        if not examined.records:
            return None
        found, sums, side = dict[int, Boxes](), dict[str, float](), self.config.data.size
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            for batch in evaluated(self, part, self.config, device, ranks):
                maps = network.maps(batch.images)
                for row, one in zip(batch.rows.tolist(), network.predict(batch.images, maps), strict=True):
                    found[row] = to_stored(as_boxes(one), self.sizes(part)[row], side)
                for name, value in self._losses(network, batch, maps).items():
                    sums[name] = sums.get(name, 0.0) + value
        count, names = len(examined.records), sorted(["loss", *(f"loss/{term}" for term in self.terms)])
        totals = ranks.sum(*(sums.get(name, 0.0) for name in names))
        self.measured = {name: value / count for name, value in zip(names, totals, strict=True)}
        merged = {row: one for each in ranks.gather(found) if each for row, one in each.items()}
        boxes = tuple(merged[row] for row in range(count))
        truth = self.truth[part]
        score = self._score(BoxSubmission(self.config.name, truth.images, truth.classes, boxes), truth)
        if (rule := self.config.image_f1) is not None:
            self.measured = self.measured | logged(f1_of_images(rule, score, score.best_threshold().score))
        if part == "held_out":
            self._counts_from = score.best_threshold().score
            self._per_image = f1_by_image(score, self._counts_from)
        figures = zip(self.config.data.classes, score.figures[CLASS_FIGURE][1:].tolist(), strict=True)
        self.measured |= {of_class(CLASS_FIGURE, label): value for label, value in figures if np.isfinite(value)}
        return self._value(score)

    def pinned(self, count: int) -> list[int]:
        """The images with the lowest F1 in the last evaluation."""
        return worst_first(self._per_image, count)

    @torch.no_grad()
    def panels(self, network: Any, rows: Sequence[int], device: torch.device, side: int) -> list[PanelRow]:
        """Held-out images with their objects and the boxes that count at the last evaluation's best threshold."""
        examined, config, truth = self.evaluated["held_out"], self.config, self.truth["held_out"]
        sizes, found = self.sizes("held_out"), list[PanelRow]()
        for batch in held_out_batches(self, rows, config.predict.batch, device):
            for row, one in zip(batch.rows.tolist(), network.predict(batch.images), strict=True):
                boxes = to_stored(as_boxes(one), sizes[row], config.data.size)
                counted = boxes.above(np.full(len(config.data.classes), self._counts_from)).sorted()
                found.append(box_row(examined.records[row], sizes[row], truth.boxes[row], counted, config, side))
        return found

    def _losses(self, network: Any, batch: BoxBatch, maps: "OrderedDict[str, Tensor]") -> dict[str, float]:
        """Sums of the loss and its terms over the images of a batch."""
        sums: dict[str, float] = {}
        for k, row in enumerate(batch.rows.tolist()):
            torch.manual_seed(ROOT + row)
            own = OrderedDict((name, one[k : k + 1]) for name, one in maps.items())
            terms, _ = network.losses(batch.images[k : k + 1], batch.targets[k : k + 1], own)
            values = {f"loss/{name}": float(terms[name]) for name in self.terms} | {"loss": float(self.total(terms))}
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value
        return sums

    def sizes(self, part: Part) -> list[Size]:
        """Height and width of the stored images of a part."""
        if part not in self._sizes:
            self._sizes[part] = [image_size(record.image) for record in self.evaluated[part].records]
        return self._sizes[part]

    def _score(self, submission: BoxSubmission, truth: BoxSubmission) -> BoxScore:
        return score_boxes(submission, truth, iou=self.config.f1_iou)

    def _value(self, score: BoxScore) -> float:
        """The metric. That of F1 has the threshold that is best on these images, which is optimistic."""
        return score.best_threshold().f1 if self.metric.name == "f1_iou" else score.value(self.metric.name)

    def finish(self, folder: Path) -> HeldOutScore:
        """Predicts the held-out images as infer does, writes ``oof.csv``, scores it, writes ``oof_score.json``."""
        config = self.config
        for name in ("oof.csv", "oof.json"):  # of an earlier try: one without the other would be taken for a user's
            delete(folder / name)
        run = open_detector(str(folder), runs=config.runs, device=config.device, precision=config.precision)
        run.predict(self.held_out, config.predict.batch, progress=config.progress).write(
            folder / "oof.csv", key=run.key
        )
        truth = self.truth["held_out"]
        read = BoxSubmission.read(folder / "oof.csv", truth.classes)
        score = self._score(read, truth)
        value, threshold = self._value(score), score.best_threshold().score
        at_best, pairs = score_boxes(read, truth, iou=config.f1_iou, threshold=threshold), config.data.pairs
        about = {"metric": self.metric.to_json(), "value": value, "threshold": threshold}
        images = [f1_of_images(config.image_f1, at_best, threshold)] if config.image_f1 is not None else []
        found = {**score_json(at_best, images, pairs), **about, "per_image": image_f1(at_best)}
        write_json(folder / "oof_score.json", found)
        return HeldOutScore(value, score_text(at_best, images, pairs, most=SHOWN_CLASSES, file="oof_score.json"))

    @staticmethod
    def longer_words(config: DetectConfig) -> list[str]:
        """None: every epoch is like the first."""
        return []

    @staticmethod
    def damage(folder: Path, config: DetectConfig) -> str | None:
        """What is missing or damaged of what :meth:`finish` writes."""
        found = intact_sidecar(folder)
        return found if isinstance(found, str) else None


def as_boxes(found: Detections) -> Boxes:
    """Detections as boxes in pixels of the input."""
    corners, scores = (one.double().cpu().numpy() for one in (found.boxes, found.scores))
    return Boxes.of(corners, scores, found.labels.cpu().numpy())
