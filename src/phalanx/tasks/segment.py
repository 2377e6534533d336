"""The segmentation task: what it adds to the engine is its data set, network, loss, metrics and decoding."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..config import Augment, SegmentConfig
from ..data import layouts
from ..data.attributes import patients_of, poses, read_sheet, sheet_values
from ..data.cache import SampleCache
from ..data.dataset import Batch, TrainingSet, Unwarped
from ..data.records import Record
from ..data.selection import Selection
from ..data.truth import truth_of
from ..engine.loader import evaluated
from ..engine.nonfinite import first_bad
from ..engine.task import SHOWN_CLASSES, Event, HeldOutScore, PanelRow, Part, Step, of_class, of_group
from ..losses.class_weights import class_weights, count_pixels
from ..losses.segmentation import segmentation_loss
from ..losses.softmax import SoftmaxLoss, exclusive_dice
from ..losses.stages import StagedLoss, StepLoss, never_begins, stage_texts
from ..masks.planes_torch import downsample, label_map
from ..models.build import Output, build
from ..predict.opening import open_member
from ..predict.run import write_submission
from ..runtime.device import check_warp_device, open_device
from ..runtime.distributed import Ranks
from ..runtime.files import delete, write_json
from ..runtime.metric import Metric
from ..runtime.reading import as_whole
from ..runtime.terminal import say
from ..scoring.dice_torch import hard_dice
from ..scoring.f1_submission import f1_of_submissions
from ..scoring.mask_counts_torch import counts_of_logits
from ..scoring.score import DICE, score
from ..submission.table import Submission
from .image_f1 import logged_of_counts
from .oof_files import intact_sidecar
from .panels import held_out_batches, mask_row, masks_of, worst_first
from .selection import select_images
from .weights import check_copies, pixel_areas, tell_weights

POINT_HEAD = "core.head."  # of parameters, in a network that has one


class Segment:
    """Classes that overlap (sigmoids) or exclude each other (softmax), scored by mean Dice over images and classes."""

    metric: ClassVar[Metric] = DICE
    opening: Sequence[Event] = ()
    head_prefixes: tuple[str, ...] = (POINT_HEAD, "core.segmenter.head.")

    def __init__(
        self,
        config: SegmentConfig,
        train: Sequence[Record],
        held_out: Sequence[Record],
        monitored: Sequence[Record] = (),
        weights: np.ndarray | None = None,
    ):
        self.config, self.held_out, self.weights = config, list(held_out), weights
        self.measured: Mapping[str, float] = {}
        check_copies(config, weights)
        check_warp_device(config.augment.device, open_device(config.device, config.precision))
        self.loss = segmentation_loss(config)  # first: wrong options should not wait for images
        self.stage = self.stage_began = 0  # of the loss, and the epoch in which it began
        if text := never_begins(config.loss.stages, config.epochs):
            say(f"warning: {text}")
        data, pretrained = config.data, config.model.init_from is None  # else a run's weights follow
        self.network = build(config.model, classes=config.channels, size=data.size, pretrained=pretrained)
        # float32[N, T] of the images, if the network is conditioned on metadata
        self.attributes: dict[str, Tensor] = {}
        if self.network.segmenter.film is not None:
            sheet = read_sheet(config.data, config.model.metadata, patients_of(train))
            parts = {"train": train, "held_out": held_out, "monitored": monitored}
            self.attributes = {
                name: torch.from_numpy(sheet_values(part, sheet, config.model.metadata)) for name, part in parts.items()
            }
            self.network.segmenter.film.standardise_by(self.attributes["train"])
        common: dict[str, Any] = {"seed": config.seed, "cache": SampleCache(data), "progress": config.progress}
        self.training_set = TrainingSet(train, data=data, augment=config.augment, **common)
        whole = data.model_copy(update={"crop": None})  # whole images are what counts
        self.evaluated: dict[Part, TrainingSet] = {
            "held_out": TrainingSet(held_out, data=whole, augment=Augment(), **common),
            "monitored": TrainingSet(monitored, data=whole, augment=Augment(), **common),
        }
        self.loaders: dict[Part, DataLoader] = {}  # of these, once they are evaluated
        self._poses: dict[Part, dict[str, list[int]]] = {}  # likewise: numbers of the images in each
        self._per_image: dict[Part, np.ndarray] = {}  # likewise: Dice float64[N] of the last evaluation
        self._weigh_classes()

    def _weigh_classes(self) -> None:
        """Counts the pixels of background and classes, by which the loss of a softmax weighs them."""
        config, rule = self.config, self.config.loss.class_weights
        if not isinstance(self.loss, SoftmaxLoss) or not rule:
            return
        names, after = self.loss.names, config.loss.count != "before"
        areas, sizes = pixel_areas(self.training_set.cache, self.training_set.records, len(config.data.classes))
        counts = count_pixels(areas, sizes, self.weights if after else None)
        found = class_weights(rule, "softmax", names, counts, config.loss.beta)
        self.loss.set_weights(found)
        self.opening = [tell_weights(config, rule, found, names, counts, after=after)]

    @staticmethod
    def select(config: SegmentConfig, records: Sequence[Record]) -> Selection:
        """Which annotated images of the data set the recipe trains on, and how often."""
        return select_images(config, records)

    @staticmethod
    def added(
        config: SegmentConfig, fold: int | None, records: Sequence[Record], held_out: Sequence[Record]
    ) -> list[Record]:
        """None: masks are trained on with images of the data set alone."""
        return []

    @staticmethod
    def files(config: SegmentConfig, record: Record) -> list[Path]:
        """All files that an image and its annotation are read from, the image's first."""
        return layouts.files(record, config.data)

    @property
    def about(self) -> list[tuple[str, str]]:
        """Classes and head, and each stage of the loss."""
        config, texts = self.config, stage_texts(self.config.loss.stages)
        staged = len(texts) > 1
        rows = [("loss", f"stage {number}: {text}" if staged else text) for number, text in enumerate(texts, 1)]
        how = "exclude each other (softmax)" if config.model.head == "softmax" else "may overlap (sigmoids)"
        return [("classes", f"{len(config.data.classes)}, {how}; metric {self.metric.name}"), *rows]

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of a step's values in the present loss stage."""
        return self.metric.name, *(f"loss/{term}" for term in self.loss.stages[self.stage].weights)

    def step(self, network: Any, batch: Batch | Unwarped) -> Step:
        """Loss, training Dice and loss terms of a batch on the network's device."""
        found = batch.warp(self.training_set.pairs) if isinstance(batch, Unwarped) else batch
        output = network(found.images, rows_of(self.attributes.get("train"), found))
        result = loss_of(self.loss, self.stage, output, found.planes)
        values = {f"loss/{term}": parts.mean(1) for term, parts in result.terms.items()}
        values[self.metric.name] = result.dice.mean(1)
        return Step(result.total, values, result.terms)

    def inputs(self, batch: Batch | Unwarped) -> dict[str, Tensor]:
        """What may not be finite of a step's inputs, float[B, ...] by name. Missing metadata counts as zero."""
        found = dict(batch.maps._asdict()) if isinstance(batch, Unwarped) else {}
        if self.attributes:
            found["metadata"] = self.attributes["train"][batch.rows].nan_to_num(nan=0.0, posinf=torch.inf)
        return found

    def diagnose(self, batch: Batch | Unwarped, terms: Mapping[str, Tensor]) -> str | None:
        """Which input, or else which loss term of which class, of which image is not finite; None if all are.

        Args:
            terms: float[B, C] by name.
        """
        images = [self.training_set.records[i].name for i in batch.rows.tolist()]
        for name, values in self.inputs(batch).items():
            if (place := first_bad(values)) is not None:
                return f"the {name} of {images[place[0]]} given to the network is not finite"
        for term, values in terms.items():
            if (place := first_bad(values)) is not None:
                classes = self.config.data.classes  # a term of a softmax may be of all of them together
                of = f" of class {classes[place[1]]}" if values.shape[1] == len(classes) > 1 else ""
                return f"the loss term {term}{of} in {images[place[0]]} is not finite"
        return None

    def end_epoch(self, epochs: int, means: Mapping[str, float]) -> list[Event]:
        """Moves on to the next loss stage if it is time, and says so, or in the end that there was none."""
        dice, count = means[self.metric.name], len(self.loss.stages)
        if not self.loss.advance(self.stage, epochs - self.stage_began, dice):
            until = self.loss.stages[self.stage].until
            if epochs < self.config.epochs or until is None or until.dice is None:
                return []
            text = f"loss stage {self.stage + 2} of {count} never began: the training Dice is {dice:.4f}"
            return [("stage_unreached", {"text": f"{text}, and {until.dice:g} was to be reached"})]
        self.stage, self.stage_began = self.stage + 1, epochs
        if epochs == self.config.epochs:
            return []  # nothing is trained with it
        text = f"loss stage {self.stage + 1} of {count} begins: {stage_texts(self.loss.stages)[self.stage]}"
        return [("stage", {"stage": self.stage + 1, "text": text})]

    def state_dict(self) -> dict[str, Any]:
        """The loss stage."""
        return {"stage": self.stage, "stage_began": self.stage_began}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a saved loss stage. Raises ValueError if this recipe has no such stage."""
        self.stage = as_whole(state.get("stage"), 0, len(self.loss.stages) - 1)
        self.stage_began = as_whole(state.get("stage_began"), 0, self.config.epochs)

    def pinned_files(self) -> dict[str, str]:
        """The patient attributes that the network is conditioned on."""
        if not self.attributes:
            return {}
        import pandas as pd

        names = [record.name for record in self.training_set.records]
        rows = pd.DataFrame(self.attributes["train"].numpy(), columns=self.config.model.metadata, index=names)
        return {"attributes.csv": rows.to_csv(index_label="image_name", lineterminator="\n")}

    def adapt_weights(
        self, weights: dict[str, Tensor], other: SegmentConfig
    ) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Another run's weights under this network's names; a point head that they do not have is new."""
        had, has = (config.model.pointrend is not None for config in (other, self.config))
        if had == has:
            return weights, ()
        if has:
            return {key.replace("core.", "core.segmenter.", 1): value for key, value in weights.items()}, (POINT_HEAD,)
        rest = {key: value for key, value in weights.items() if not key.startswith(POINT_HEAD)}
        return {key.replace("core.segmenter.", "core.", 1): value for key, value in rest.items()}, ()

    @torch.no_grad()
    def evaluate(self, network: Any, part: Part, device: torch.device, ranks: Ranks) -> float | None:
        """Mean Dice of a part's images on the input size: quicker than the score, and close to it. None if there are
        no such images. Processes that train together share the work. ``measured`` becomes Dice by class and pose and,
        of the same masks, F1 at an IoU if the recipe has a rule for it, and IoU by class if it has one or classes
        exclude each other."""
        examined, attributes = self.evaluated[part], self.attributes.get(part)
        count, head = len(examined.records), self.config.model.head
        if not count:
            return None
        found, counts, rule = list[tuple[Tensor, Tensor]](), dict[int, np.ndarray](), self.config.image_f1
        counted = rule is not None or head == "softmax"
        for batch in evaluated(self, part, self.config, device, ranks):
            logits = network.final(batch.images, rows_of(attributes, batch))
            found.append((batch.rows, self._dice(logits, batch.planes)))
            if counted:
                pixels = counts_of_logits(logits, batch.planes, head).cpu().numpy()
                counts |= zip(batch.rows.tolist(), pixels, strict=True)
        sums = [dice.mean(1).sum() for _, dice in found]
        own = {row: each for rows, dice in found for row, each in zip(rows.tolist(), dice.cpu().numpy(), strict=True)}
        merged = {row: each for one in ranks.gather(own) for row, each in one.items()}
        each = np.stack([merged[row] for row in range(count)]).astype(float)
        self.measured, self._per_image[part] = self._detailed(part, each), each.mean(axis=1)
        if counted:
            names = [record.name for record in examined.records]
            figures = logged_of_counts(rule, self.config.data.classes, names, ranks.gather(counts))
            self.measured |= figures
        return ranks.sum(sum(torch.stack(sums).tolist()) if sums else 0.0)[0] / count

    def _detailed(self, part: Part, dice: np.ndarray) -> dict[str, float]:
        """Dice by class, and of rotated and upright hands, from float64[N, C] of a part's images."""
        name, means = self.metric.name, dice.mean(axis=0).tolist()
        found = {of_class(name, label): mean for label, mean in zip(self.config.data.classes, means, strict=True)}
        if part not in self._poses:
            self._poses[part] = poses(self.evaluated[part].records, self.config.data)
        for pose, rows in self._poses[part].items():
            found[of_group(name, pose)] = float(dice[rows].mean())
        return found

    def pinned(self, count: int) -> list[int]:
        """The worst rotated hand, then the worst images of the last evaluation."""
        rotated = self._poses["held_out"].get("rotated", [])
        return worst_first(self._per_image["held_out"], count, rotated)

    @torch.no_grad()
    def panels(self, network: Any, rows: Sequence[int], device: torch.device, side: int) -> list[PanelRow]:
        """Held-out images on the input size, with ground truth, prediction and errors."""
        records, config, found = self.evaluated["held_out"].records, self.config, list[PanelRow]()
        for batch in held_out_batches(self, rows, config.predict.batch, device):
            logits = network.final(batch.images, rows_of(self.attributes.get("held_out"), batch))
            dice, masks = self._dice(logits, batch.planes).mean(1).tolist(), masks_of(logits, config)
            for k, row in enumerate(batch.rows.tolist()):
                text = f"Dice {dice[k]:.4f}"
                found.append(mask_row(records[row], text, batch.images[k], batch.planes[k], masks[k], config, side))
        return found

    def _dice(self, logits: Tensor, planes: Tensor) -> Tensor:
        """Dice float32[B, C] of final logits against bit-planes."""
        if self.config.model.head == "softmax":
            return exclusive_dice(logits, label_map(planes))
        return hard_dice(logits, planes)

    def finish(self, folder: Path) -> HeldOutScore:
        """Predicts the held-out images by the path of a submission, writes ``oof.csv``, with ``predict.oof_prob``
        their probability maps, scores it and writes ``oof_score.json``."""
        config = self.config
        for name in ("oof.csv", "oof.json"):  # of an earlier try: one without the other would be taken for a user's
            delete(folder / name)
        member = open_member(str(folder), runs=config.runs, device=config.device, precision=config.precision)
        write_submission(
            folder / "oof.csv",
            [member],
            self.held_out,
            threshold=config.predict.threshold,
            batch=config.predict.batch,
            maps_folder=folder / "oof_prob" if config.predict.oof_prob else None,
            progress=config.progress,
        )
        truth = truth_of(self.held_out, config.data)
        patients = {record.name: record.group for record in self.held_out}
        found = score(Submission.read(folder / "oof.csv"), truth, patients)
        if config.image_f1 is not None:
            made = Submission.read(folder / "oof.csv")
            found = replace(found, f1=tuple(f1_of_submissions(made, truth, [config.image_f1], patients)))
        write_json(folder / "oof_score.json", found.to_json())  # oof.json is the sidecar of oof.csv
        return HeldOutScore(found.mean, found.to_text(classes=SHOWN_CLASSES, file="oof_score.json"))

    @staticmethod
    def longer_words(config: SegmentConfig) -> list[str]:
        """The last loss stage alone."""
        weights = ",".join(f"{term}:{weight:g}" for term, weight in config.loss.stages[-1].weights.items())
        if len(config.loss.stages) == 1:
            return []
        unused = config.loss.terms - config.loss.stages[-1].weights.keys()
        dropped = [f"loss.options.{name}=null" for name in sorted(unused) if getattr(config.loss.options, name, None)]
        return [f"'loss.stages=[{{weights:{{{weights}}}}}]'", *dropped]

    @staticmethod
    def damage(folder: Path, config: SegmentConfig) -> str | None:
        """What is missing or damaged of what :meth:`finish` writes, maps of all held-out images included if the
        recipe asks for them now."""
        found = intact_sidecar(folder)
        if isinstance(found, str):
            return found
        maps = ["maps.json", *(f"{name}.npz" for name in found.sizes)] if config.predict.oof_prob else []
        lacking = next((name for name in maps if not (folder / "oof_prob" / name).is_file()), None)
        return f"oof_prob/{lacking} is missing" if lacking else None


def rows_of(values: Tensor | None, batch: Batch) -> Tensor | None:
    """Rows float32[B, T] of the batch's images, on their device."""
    return None if values is None else values[batch.rows.cpu()].to(batch.images.device)


def loss_of(loss: StagedLoss, stage: int, output: Output, planes: Tensor) -> StepLoss:
    """Loss and training Dice of a network's output against bit-planes uint8[B, P, S, S]. Heads that only help to learn
    see the loss of the stage at their own size."""
    result = loss(stage, output.logits, output.points, planes)
    total = result.total
    for weight, logits in output.auxiliary:
        small = downsample(planes, (logits.shape[-2], logits.shape[-1]))
        total = total + weight * loss(stage, logits, None, small).total
    return result._replace(total=total)
