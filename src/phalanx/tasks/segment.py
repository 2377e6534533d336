"""The segmentation task: what it adds to the engine is its data set, network, loss, metrics and decoding."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..config import Augment, Config
from ..data.attributes import read_sheet, sheet_values
from ..data.cache import SampleCache
from ..data.dataset import Batch, TrainingSet, Unwarped, collate
from ..data.oversample import image_weights
from ..data.records import Record
from ..data.truth import truth_of
from ..engine.task import Outcome
from ..errors import DataError
from ..losses.stages import Result, StagedLoss
from ..masks.planes_torch import downsample
from ..models.build import Network, Output, build
from ..predict.opening import open_member
from ..predict.run import write_submission
from ..runtime.device import check_warp_device, open_device
from ..runtime.distributed import Ranks
from ..runtime.files import write_json
from ..runtime.sidecar import read_sidecar
from ..scoring.dice_torch import hard_dice
from ..scoring.score import DICE, score
from ..submission.table import Submission


class Segment:
    """Overlapping classes by sigmoid, scored by mean Dice over images and classes."""

    metric = DICE

    def __init__(
        self, config: Config, train: Sequence[Record], held_out: Sequence[Record], watched: Sequence[Record] = ()
    ):
        """``watched``: images that are not trained on, whose Dice the engine may go by."""
        self.config, self.held_out = config, list(held_out)
        check_warp_device(config.augment.device, open_device(config.device, config.precision))
        self.loss = StagedLoss(config.loss, config.data.classes)  # first: wrong options should not wait for images
        first = config.model.init_from is None  # else a run's weights follow
        self.network = build(config.model, classes=len(config.data.classes), size=config.data.size, pretrained=first)
        # float32[N, T] of the images, where model.metadata asks for some
        self.traits = self.held_out_traits = self.watched_traits = None
        if self.network.segmenter.film is not None:
            sheet = read_sheet(config.data, config.model.metadata)
            self.traits, self.held_out_traits, self.watched_traits = (
                torch.from_numpy(sheet_values(part, sheet, config.model.metadata))
                for part in (train, held_out, watched)
            )
            self.network.segmenter.film.standardise_by(self.traits)
        self.weights = image_weights(train, config.data)  # how often an epoch shows each training image
        data, cache = config.data, SampleCache(config.data)
        common: dict[str, Any] = {"seed": config.seed, "cache": cache, "progress": config.progress}
        self.training_set = TrainingSet(train, data=data, augment=config.augment, **common)
        whole = data.model_copy(update={"crop": None})  # whole images are what counts
        self.validation_set = TrainingSet(held_out, data=whole, augment=Augment(), **common)
        self.watched_set = TrainingSet(watched, data=whole, augment=Augment(), **common)

    def step(self, network: Any, batch: Batch | Unwarped, stage: int) -> Result:
        """Loss and training Dice of a batch on the network's device."""
        if isinstance(batch, Unwarped):
            batch = batch.warp(self.training_set.pairs)
        return loss_of(self.loss, stage, network(batch.images, traits_of(self.traits, batch)), batch.planes)

    def inputs(self, batch: Batch | Unwarped) -> dict[str, Tensor]:
        """What may not be finite of what a step is given, float[B, ...] by name. Missing metadata counts as zero."""
        found = dict(batch.maps._asdict()) if isinstance(batch, Unwarped) else {}
        if self.traits is not None:
            found["metadata"] = self.traits[batch.which].nan_to_num(nan=0.0, posinf=torch.inf)
        return found

    @torch.no_grad()
    def validate(self, network: Network, device: torch.device, ranks: Ranks, watched: bool = False) -> float | None:
        """Mean Dice of the held-out images, or of the watched ones, on the working grid: quicker than the score, and
        close to it. None where there are no such images. Processes that train together share the work."""
        examined = self.watched_set if watched else self.validation_set
        values = self.watched_traits if watched else self.held_out_traits
        count = len(examined.records)
        if not count:
            return None
        keys = [(0, i) for i in range(ranks.rank, count, ranks.size)]
        loader = DataLoader(examined, self.config.predict.batch, sampler=keys, collate_fn=collate)
        total = 0.0
        for batch in loader:
            if isinstance(batch, Exception):
                raise batch
            traits = traits_of(values, batch)
            logits = network.predict(batch.images.to(device), None if traits is None else traits.to(device))
            total += hard_dice(logits, batch.planes.to(device)).mean(1).sum().item()
        return ranks.sum(total)[0] / count

    def finish(self, folder: Path) -> Outcome:
        """Predicts the held-out images by the path of a submission, writes ``oof.csv``, with ``predict.oof_prob``
        their probability maps, scores it and writes ``oof_score.json``."""
        config = self.config
        for name in ("oof.csv", "oof.json"):  # of an earlier try: one without the other would be taken for a user's
            (folder / name).unlink(missing_ok=True)
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
        write_json(folder / "oof_score.json", found.to_json())  # oof.json is the sidecar of oof.csv
        return Outcome(found.mean, found.to_text())

    @staticmethod
    def damage(folder: Path, config: Config) -> str | None:
        """What is missing or damaged of what :meth:`finish` writes, maps of all held-out images included if the
        recipe asks for them now."""
        missing = [name for name in ("oof.csv", "oof.json", "oof_score.json") if not (folder / name).is_file()]
        if missing:
            return f"{missing[0]} is missing"
        try:
            sidecar, _ = read_sidecar(folder / "oof.csv")
        except DataError as error:
            return str(error)
        if sidecar is None:
            return "oof.json is damaged"
        maps = ["maps.json", *(f"{name}.npz" for name in sidecar.sizes)] if config.predict.oof_prob else []
        lacking = next((name for name in maps if not (folder / "oof_prob" / name).is_file()), None)
        return f"oof_prob/{lacking} is missing" if lacking else None


def traits_of(values: Tensor | None, batch: Batch) -> Tensor | None:
    """Rows float32[B, T] of the batch's images, beside them."""
    return None if values is None else values[batch.which.cpu()].to(batch.images.device)


def loss_of(loss: StagedLoss, stage: int, output: Output, planes: Tensor) -> Result:
    """Loss and training Dice of a network's output against bit-planes uint8[B, P, S, S]. Heads that only help to learn
    see the loss of the stage at their own size."""
    result = loss(stage, output.logits, output.points, planes)
    total = result.total
    for weight, logits in output.auxiliary:
        small = downsample(planes, (logits.shape[-2], logits.shape[-1]))
        total = total + weight * loss(stage, logits, None, small).total
    return result._replace(total=total)
