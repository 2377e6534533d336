"""The loss of classification, mixup and CutMix, and which of them fits which head."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ..errors import ConfigError
from .base import Count, Fraction, Strict
from .loss import DEFAULT_BETA, ClassWeights, Head, check_weights

HEADS: dict[str, tuple[Head, ...]] = {
    "ce": ("softmax",),
    "bce": ("sigmoid",),
    "focal": ("softmax", "sigmoid"),
    "asl": ("sigmoid",),
    "ldam": ("softmax",),
    "logit_adjusted": ("softmax",),
}


def _focusing(value: float) -> float:
    if 0 < value < 1:
        raise ValueError("give 0, or 1 or more: between the two its gradient is infinite at certain predictions")
    return value


Focusing = Annotated[float, Field(ge=0, le=10), AfterValidator(_focusing)]  # exponent of a modulating factor


class ClassFocal(Strict):
    gamma: Focusing = 2.0
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None  # weight of positives; negatives: 1 - alpha. sigmoid only


class Asl(Strict):
    gamma_neg: Focusing = 4.0
    gamma_pos: Focusing = 1.0
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.05  # subtracted from the probability of negatives


class Ldam(Strict):
    max_margin: Annotated[float, Field(gt=0, le=100)] = 0.5  # of the rarest class
    scale: Annotated[float, Field(gt=0, le=1000)] = 1.0  # of the logits; the paper's 30 is for a cosine head
    drw_epoch: Count | None = None  # epochs before classes are re-weighted by effective number; null: never


class LogitAdjusted(Strict):
    tau: Annotated[float, Field(gt=0, le=10)] = 1.0  # exponent of the class frequencies


class Marker(Strict):
    """An extra loss of the measured region; see losses/marker.py."""

    # heatmap: an auxiliary 1x1 convolution predicts the region; outside: activation outside it is penalised
    kind: Literal["heatmap", "outside"]
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0  # against the loss of the labels


class ClassifyLoss(Strict):
    """One loss with its options. Weights and margins are computed from the training fold alone."""

    name: Literal["ce", "bce", "focal", "asl", "ldam", "logit_adjusted"]
    focal: ClassFocal | None = None  # null: the defaults if it is the loss
    asl: Asl | None = None
    ldam: Ldam | None = None
    logit_adjusted: LogitAdjusted | None = None
    # a rule, a number per class by name with `others` for the rest (1), or a list in the order of data.classes
    class_weights: ClassWeights = "none"
    beta: Annotated[float, Field(gt=0, lt=1)] | None = None  # of the effective number; null: 0.9999
    # a rule counts images as an epoch shows them (data.balance), or each once; null: after
    count: Literal["after", "before"] | None = None
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # softmax: towards 1 / classes; sigmoid: towards 1/2
    # only images predicted with this confidence count in a step; null: all. See losses/classification.py
    min_confidence: Annotated[float, Field(gt=0, lt=1)] | None = None
    marker: Marker | None = None  # null: no loss of regions

    @model_validator(mode="after")
    def _used_options(self) -> "ClassifyLoss":
        for name, kind in (("focal", ClassFocal), ("asl", Asl), ("ldam", Ldam), ("logit_adjusted", LogitAdjusted)):
            if self.name == name:
                setattr(self, name, getattr(self, name) or kind())
            elif getattr(self, name) is not None:
                raise ValueError(f"{name}: the loss is {self.name!r}, so it would not be used")
        deferred = self.ldam is not None and self.ldam.drw_epoch is not None
        if deferred and self.class_weights != "none":
            raise ValueError("class_weights: ldam.drw_epoch sets the weights; give one of the two")
        if deferred or self.class_weights == "effective_number":
            self.beta = DEFAULT_BETA if self.beta is None else self.beta
        elif self.beta is not None:
            raise ValueError("beta: only class_weights=effective_number and ldam.drw_epoch use it")
        if isinstance(self.class_weights, str) and self.class_weights != "none":
            self.count = self.count or "after"
        elif self.count is not None:
            raise ValueError("count: only a rule of class_weights counts, as in class_weights=inverse")
        if self.class_weights == {}:
            raise ValueError("class_weights: names no class; give none, a rule, or a number per class")
        return self


class Mix(Strict):
    """Mixup and CutMix of the images of a batch and their labels, by timm."""

    mixup_alpha: Annotated[float, Field(ge=0, le=100)] = 0.0  # of the Beta distribution; 0: no mixup
    cutmix_alpha: Annotated[float, Field(ge=0, le=100)] = 0.0  # 0: no CutMix
    prob: Annotated[float, Field(gt=0, le=1)] = 1.0  # fraction of batches that are mixed
    switch_prob: Fraction | None = None  # of CutMix instead of mixup if both are on; null: 0.5

    @model_validator(mode="after")
    def _active(self) -> "Mix":
        if not self.mixup_alpha and not self.cutmix_alpha:
            raise ValueError("mixup_alpha: it and cutmix_alpha are 0, so nothing would be mixed; give one of them")
        if self.mixup_alpha and self.cutmix_alpha:
            self.switch_prob = 0.5 if self.switch_prob is None else self.switch_prob
        elif self.switch_prob is not None:
            raise ValueError("switch_prob: chooses between mixup and CutMix, and only one of them is on")
        return self


def check_loss(loss: ClassifyLoss, head: Head, classes: Sequence[str]) -> None:
    """Whether a loss fits the head and the classes.

    Args:
        classes: of the data set; ``loss.class_weights`` may name these and ``others``.

    Raises:
        ConfigError: it does not, with the heads or names that would.
    """
    if head not in HEADS[loss.name]:
        fits = ", ".join(name for name, heads in HEADS.items() if head in heads)
        raise ConfigError(
            f"loss.name={loss.name}: is for head={HEADS[loss.name][0]}, and the head is {head}; use one of {fits}, or "
            "change the head"
        )
    if loss.focal is not None and loss.focal.alpha is not None and head == "softmax":
        raise ConfigError("loss.focal.alpha: weighs positives against negatives (head=sigmoid); use class_weights")
    if head == "softmax" and len(classes) < 2:
        raise ConfigError(f"head=softmax: needs two classes or more, and there is {len(classes)}; use head=sigmoid")
    least = 1 / len(classes) if head == "softmax" else 0.5
    if loss.min_confidence is not None and loss.min_confidence <= least:
        raise ConfigError(
            f"loss.min_confidence={loss.min_confidence:g}: no prediction is below {least:g} with head={head}, so none "
            "would be dropped; give more, or null"
        )
    try:
        check_weights(loss.class_weights, classes)
    except ValueError as error:
        raise ConfigError(f"loss.{error}") from None
