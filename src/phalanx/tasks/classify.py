"""The classification task: labels of whole images, by a softmax (one class) or sigmoids (any number of classes)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..augment.mix import Mixer
from ..config import Augment, ClassifyConfig
from ..data import layouts
from ..data.cache import SampleCache
from ..data.dataset import LabelledBatch, LabelledSet
from ..data.label_table import labels_csv
from ..data.labels import labels_of
from ..data.records import Record
from ..data.restored import restored_csv, restored_of_fold
from ..data.selection import Selection
from ..data.shuffled import note_control, shuffle_labels
from ..engine.loader import evaluated
from ..engine.nonfinite import bad_term
from ..engine.task import COUNTED, SHOWN_CLASSES, Event, HeldOutScore, PanelRow, Part, Step, of_class
from ..errors import DataError
from ..losses.class_weights import count_labels
from ..losses.classification import ClassificationLoss
from ..models.classifier import build_classifier
from ..predict.classify import open_classifier, probabilities_of
from ..runtime.distributed import Ranks
from ..runtime.files import delete, write_json
from ..runtime.metric import Metric
from ..runtime.reading import as_whole
from ..runtime.terminal import say
from ..scoring.classify import ClassifyScore, score_classes, truth_probability
from ..scoring.classify_report import score_json, score_text
from ..scoring.several import score_several
from ..submission.probabilities import Probabilities, write_probabilities
from .marker import MarkerTerm
from .mining import select_with_failures
from .oof_files import intact_sidecar
from .panels import held_out_batches, label_row, worst_first
from .weights import check_copies, tell_weights

MARKER = "marker."  # parameters of the auxiliary heat map
TRAINED_BY = "accuracy"  # of an image: what a training step gives
FOLDED: dict[str, Any] = {"most": SHOWN_CLASSES, "file": "oof_score.json"}
CLASS_FIGURES = ("auc", "recall")  # that a validation has of each class


class Classify:
    """Labels of images, scored by a metric of the recipe."""

    head_prefixes: tuple[str, ...] = ("head.", MARKER)
    opening: Sequence[Event] = ()

    def __init__(
        self,
        config: ClassifyConfig,
        train: Sequence[Record],
        held_out: Sequence[Record],
        monitored: Sequence[Record] = (),
        weights: np.ndarray | None = None,
    ):
        self.config, self.held_out, self.weights = config, list(held_out), weights
        self.metric, self.head = Metric(config.metric), config.model.head
        self.measured: dict[str, float] = {}
        self.epochs = 0  # that are over
        self._certain = np.zeros(len(held_out))  # of the last evaluation: the probability of what is true
        data, classes = config.data, config.data.classes
        labels = {
            name: labels_of(part, data)
            for name, part in (("train", train), ("held_out", held_out), ("monitored", monitored))
        }
        if (seed := data.shuffle_labels) is not None:  # held-out labels stay
            say(f"note: {note_control(config.name, seed)}")
            for name, part in (("train", train), ("monitored", monitored)):
                if len(part):
                    labels[name] = shuffle_labels(labels[name], [record.group for record in part], seed)
        for name, part in (("held_out", held_out), ("monitored", monitored)):
            self._check_defined(labels[name], name, part)
        check_copies(config, weights)
        shown = labels["train"] if weights is None else labels["train"][weights > 0]
        after = config.loss.count != "before"
        counts = count_labels(shown)
        weighed = counts if weights is None or not after else count_labels(labels["train"], weights)
        self.loss = ClassificationLoss(config.loss, self.head, classes, counts, weighed)
        if config.loss.class_weights != "none":
            rule = config.loss.class_weights
            self.opening = [tell_weights(config, rule, self.loss.weights, classes, weighed, after=after)]
        later = config.loss.ldam.drw_epoch if config.loss.ldam is not None else None
        if later is not None and later >= config.epochs:
            say(
                f"warning: loss.ldam.drw_epoch={later}: classes are never re-weighted, as epochs={config.epochs}; give "
                f"epochs={later + 1} or more"
            )
        self.mixer = Mixer(config.mix) if config.mix else None
        pretrained = config.model.init_from is None  # else a run's weights follow
        self.network = build_classifier(
            config.model, classes=len(classes), size=data.size, channels=3 if data.colour else 1, pretrained=pretrained,
            marker=config.marker_maps,
        )  # fmt: skip
        self.marker = MarkerTerm(config, self.network, train) if config.loss.marker is not None else None
        common: dict[str, Any] = {
            "data": data, "seed": config.seed, "cache": SampleCache(data), "progress": config.progress
        }  # fmt: skip
        self.training_set = LabelledSet(
            train, labels=labels["train"], augment=config.augment,
            regions=self.marker is not None, **common,
        )  # fmt: skip
        self.evaluated: dict[Part, LabelledSet] = {
            "held_out": LabelledSet(held_out, labels=labels["held_out"], augment=Augment(), **common),
            "monitored": LabelledSet(monitored, labels=labels["monitored"], augment=Augment(), **common),
        }
        self.loaders: dict[Part, DataLoader] = {}  # of these, once they are evaluated

    def _check_defined(self, labels: np.ndarray, name: str, part: Sequence[Record]) -> None:
        """Raises DataError if the metric of images that are evaluated would not be defined, whatever is predicted."""
        if len(part) and not np.isfinite(self._score(labels.astype(float), labels, part).value(self.metric.name)):
            what = {"held_out": "held-out images", "monitored": "monitored images"}[name]
            raise DataError(
                f"metric={self.metric.name}: is not defined on the {len(part)} {what} (no class has both images with "
                "and without it); use fewer folds=, balanced ones (phalanx folds stratify=label), or metric=accuracy"
            )

    def _score(self, probabilities: np.ndarray, labels: np.ndarray, part: Sequence[Record]) -> ClassifyScore:
        """The scores of probabilities of images; missing ones in ``labels`` count as 0 in ``probabilities``."""
        config = self.config
        names: dict[str, Any] = {
            "images": [record.name for record in part], "patients": [record.group for record in part]
        }  # fmt: skip
        probabilities, classes = np.nan_to_num(probabilities), config.data.classes
        if config.data.targets == "shares":
            scored = [classes.index(name) for name in config.data.scored]
            return score_several(
                config.name, probabilities, classes, labels[:, scored], config.data.scored, head=self.head, **names
            )
        thresholds = np.full(len(classes), config.predict.threshold) if self.head == "sigmoid" else None
        return score_classes(config.name, probabilities, labels, classes, self.head, thresholds=thresholds, **names)

    @staticmethod
    def select(config: ClassifyConfig, records: Sequence[Record]) -> Selection:
        """Which labelled images the recipe trains on, and how often: see `tasks.mining`."""
        return select_with_failures(config, records)

    @staticmethod
    def added(
        config: ClassifyConfig, fold: int | None, records: Sequence[Record], held_out: Sequence[Record]
    ) -> list[Record]:
        """The images that the denoiser of this fold restored."""
        return restored_of_fold(config.data, fold, records, held_out)

    @staticmethod
    def files(config: ClassifyConfig, record: Record) -> list[Path]:
        """All files that an image and its labels are read from, the image's first."""
        return layouts.files(record, config.data)

    @property
    def about(self) -> list[tuple[str, str]]:
        """Classes and head, and the loss."""
        loss, classes = self.config.loss, self.config.data.classes
        how = "one per image (softmax)" if self.head == "softmax" else "any number per image (sigmoids)"
        marker = f" + {loss.marker.weight:g} {loss.marker.kind}" if loss.marker is not None else ""
        weights = loss.class_weights if isinstance(loss.class_weights, str) else "given"
        text = f"{loss.name}{marker}, class weights: {weights}"
        if loss.ldam is not None and loss.ldam.drw_epoch is not None:
            text += f"; re-weighted after {loss.ldam.drw_epoch} epochs"
        return [("classes", f"{len(classes)}, {how}; metric {self.metric.name}"), ("loss", text)]

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of a step's values."""
        loss = self.config.loss
        marker = [] if loss.marker is None else [f"loss/{loss.marker.kind}"]
        counted = [] if loss.min_confidence is None else [COUNTED]
        return TRAINED_BY, f"loss/{loss.name}", "loss/nll", *marker, *counted

    def step(self, network: Any, batch: LabelledBatch) -> Step:
        """Loss, training accuracy and loss terms of a batch on the network's device."""
        images, labels = self.network.standardised(batch.images), batch.labels
        if self.mixer is not None:
            images, labels = self.mixer(images, labels)
        if self.config.data.targets == "shares":  # the part that each of an image's labels has
            labels = labels / labels.sum(dim=1, keepdim=True)
        logits, maps = network(images, maps=True) if self.marker else (network(images), None)
        found = self.loss(logits, labels, self.epochs)
        terms, per_image = dict(found.terms), found.per_image
        if self.marker is not None:
            extra = self.marker(maps, batch)
            terms[self.marker.options.kind] = extra.detach()
            per_image = per_image + self.marker.options.weight * extra
        values = {f"loss/{term}": part for term, part in terms.items()}
        values[TRAINED_BY] = accuracy_of(logits.detach(), batch.labels, self.head, self.config.predict.threshold)
        if self.config.loss.min_confidence is not None:
            counted = self.loss.confident(logits, labels)
            values[COUNTED] = counted.float()
            per_image = torch.where(counted, per_image, 0.0)
        return Step(found.total if per_image is found.per_image else per_image.mean(), values, terms)

    def diagnose(self, batch: LabelledBatch, terms: Mapping[str, Tensor]) -> str | None:
        """Which loss term of which image is not finite; None if all are."""
        return bad_term(terms, [self.training_set.records[row].name for row in batch.rows.tolist()])

    def end_epoch(self, epochs: int, means: Mapping[str, float]) -> list[Event]:
        """Counts the epochs, by which LDAM defers its weights, and the samples that the confidence filter dropped."""
        before, self.epochs = self.loss.weights_at(self.epochs), epochs
        events: list[Event] = [("weights", {"deferred": True})] if self.loss.weights_at(epochs) is not before else []
        if COUNTED in means:
            events.append(("filter", filtered(epochs, means[COUNTED], round(means["images"]))))
        return events

    def state_dict(self) -> dict[str, Any]:
        """The epochs that are over."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a saved state. Raises ValueError if it is not one."""
        self.epochs = as_whole(state.get("epochs"), 0, self.config.epochs)

    def pinned_files(self) -> dict[str, str]:
        """The labels that are trained on, monitored and held out: of a folder per class, no file contains them. And
        which restored images are trained on, with their digests."""
        sets = [self.training_set, *self.evaluated.values()]
        labels = np.concatenate([one.labels.numpy() for one in sets])
        names = [record.name for one in sets for record in one.records]
        files = {"labels.csv": labels_csv(names, self.config.data.classes, labels)}
        if self.config.data.restored is not None:
            files["restored.csv"] = restored_csv(self.config.data.restored, self.training_set.records)
        return files

    def adapt_weights(self, weights: dict[str, Tensor], other: Any) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Another run's weights: the names of all classifiers agree, but for the auxiliary heat map."""
        if self.network.marker is None:
            return {name: value for name, value in weights.items() if not name.startswith(MARKER)}, ()
        return weights, () if any(name.startswith(MARKER) for name in weights) else (MARKER,)

    @torch.no_grad()
    def evaluate(self, network: Any, part: Part, device: torch.device, ranks: Ranks) -> float | None:
        """The metric of a part's images, without test-time augmentation; None if there are none. Processes that train
        together share the work. ``measured`` becomes the figures of each class that has them."""
        examined = self.evaluated[part]
        if not examined.records:
            return None
        rows, found = list[Tensor](), list[Tensor]()
        for batch in evaluated(self, part, self.config, device, ranks):
            rows.append(batch.rows)
            found.append(probabilities_of(network.predict(batch.images), self.head))
        own = (torch.cat(rows).numpy(), torch.cat(found).double().cpu().numpy()) if rows else None
        values = np.zeros((len(examined.records), len(self.config.data.classes)))
        for one in ranks.gather(own):
            if one is not None:
                values[one[0]] = one[1]
        labels = examined.labels.numpy()
        score = self._score(values, labels, examined.records)
        if part == "held_out":
            self._certain = truth_probability(values, np.where(np.isnan(labels), np.nan, labels > 0), self.head)
        self.measured = {
            of_class(figure, label): value
            for figure in CLASS_FIGURES
            for label, value in zip(score.classes, score.per_class(figure).tolist(), strict=True)
            if np.isfinite(value)
        }
        return score.value(self.metric.name)

    def pinned(self, count: int) -> list[int]:
        """The images to whose labels the last evaluation gave the least probability."""
        return worst_first(self._certain, count)

    @torch.no_grad()
    def panels(self, network: Any, rows: Sequence[int], device: torch.device, side: int) -> list[PanelRow]:
        """Held-out images on the input size, with the probabilities of their classes."""
        examined, config, found = self.evaluated["held_out"], self.config, list[PanelRow]()
        for batch in held_out_batches(self, rows, config.predict.batch, device):
            values = probabilities_of(network.predict(batch.images), self.head).double().cpu().numpy()
            for k, row in enumerate(batch.rows.tolist()):
                labels = examined.labels[row].double().numpy()
                found.append(label_row(examined.records[row], batch.images[k], labels, values[k], config, side))
        return found

    def finish(self, folder: Path) -> HeldOutScore:
        """Predicts the held-out images as infer does, writes ``oof.csv``, scores it, writes ``oof_score.json``."""
        config = self.config
        for name in ("oof.csv", "oof.json"):  # of an earlier try: one without the other would be taken for a user's
            delete(folder / name)
        run = open_classifier(str(folder), runs=config.runs, device=config.device, precision=config.precision)
        values = run.predict(self.held_out, config.predict.batch, progress=config.progress)
        names, labels = [record.name for record in self.held_out], self.evaluated["held_out"].labels
        write_probabilities(
            folder / "oof.csv", names, config.data.classes, values, self.head, run_hashes=run.hashes, key=run.key
        )
        read = Probabilities.read(folder / "oof.csv", config.data.classes, self.head, names)
        order = [read.images.index(name) for name in names]
        values = read.values[order]  # as a submission is scored, by what the file contains
        found = self._score(values, labels.numpy(), self.held_out)
        threshold = config.predict.threshold
        right = accuracy_of(torch.from_numpy(values), labels, self.head, threshold, logits=False)
        per_image = {r.name: value for r, value in zip(self.held_out, right.tolist(), strict=True)}
        write_json(folder / "oof_score.json", {**score_json(found, [self.metric.name]), "per_image": per_image})
        return HeldOutScore(found.value(self.metric.name), score_text(found, [self.metric.name], **FOLDED))

    @staticmethod
    def longer_words(config: ClassifyConfig) -> list[str]:
        """That LDAM has re-weighted the classes, if it did."""
        ldam = config.loss.ldam
        return ["loss.ldam.drw_epoch=1"] if ldam is not None and ldam.drw_epoch is not None else []

    @staticmethod
    def damage(folder: Path, config: ClassifyConfig) -> str | None:
        """What is missing or damaged of what :meth:`finish` writes."""
        found = intact_sidecar(folder)
        return found if isinstance(found, str) else None


def filtered(epoch: int, counted: float, samples: int) -> dict[str, Any]:
    """What the log says about the confidence filter of an epoch.

    Args:
        epoch: from 1.
        counted: fraction of the samples that reached the confidence.
    """
    dropped = samples - round(counted * samples)
    text = f"confidence filter: {dropped} of {samples} samples dropped"
    if dropped == samples:
        text = (
            f"warning: {text}, so epoch {epoch} taught nothing; lower loss.min_confidence, or start from a trained "
            "run (model.init_from)"
        )
    return {"dropped": dropped, "samples": samples, "text": text}


def accuracy_of(values: Tensor, labels: Tensor, head: str, threshold: float, *, logits: bool = True) -> Tensor:
    """Accuracy float[B] of each image: with a softmax whether the likeliest class is one of its own, with sigmoids the
    fraction of its labelled classes that are right; 0 of an image without any label.

    Args:
        values: logits, or probabilities, float[B, C].
        labels: float[B, C], NaN where not labelled.
    """
    if head == "softmax":
        return (labels.gather(1, values.argmax(1, keepdim=True))[:, 0] == 1).float()
    limit = float(np.log(threshold / (1 - threshold))) if logits else threshold
    known = ~labels.isnan()
    right = ((values >= limit) == (labels > 0.5)) & known
    return right.sum(1).float() / known.sum(1).clamp(min=1)
