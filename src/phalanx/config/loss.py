"""The loss: loss stages of weighted terms, and their options."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from .base import Count, Fraction, Positive, Strict, nearest


class Until(Strict):
    """End of a loss stage: after a number of epochs, or when the training Dice of an epoch reaches a value."""

    epochs: Count | None = None
    dice: Fraction | None = None

    @model_validator(mode="after")
    def _one(self) -> "Until":
        if (self.epochs is None) == (self.dice is None):
            raise ValueError("epochs: give either epochs or dice")
        return self


class LossStage(Strict):
    weights: dict[str, Positive] = Field(min_length=1)
    until: Until | None = None  # null: to the end


# A number per class by name. ``others`` is for all classes that are not named; a plain number is for all.
PerClass = Annotated[
    dict[str, Positive],
    BeforeValidator(
        lambda value: {"others": value} if isinstance(value, int | float) and not isinstance(value, bool) else value
    ),
]


Head = Literal["softmax", "sigmoid"]  # classes exclude each other, or each is decided by itself
BACKGROUND = "background"  # channel 0 of a softmax segmentation: pixels that no class of data.classes has
Rule = Literal["none", "inverse", "one_minus_share", "effective_number"]
DEFAULT_BETA = 0.9999  # effective number of samples (Cui et al., 2019); also LDAM's deferred re-weighting
DEFAULT_PIXEL_BETA = 0.9999999  # the same of pixels, of which every class has more than 1 / (1 - DEFAULT_BETA)

# A rule, a number per class by name with ``others`` for the rest, or a list with a number per class in their order
ClassWeights = Annotated[
    Rule | Annotated[list[Positive], Field(min_length=1, max_length=1024)] | dict[str, Positive],
    BeforeValidator(
        lambda value: {"others": value} if isinstance(value, int | float) and not isinstance(value, bool) else value
    ),
]


def check_weights(weights: str | Sequence[float] | dict[str, float], classes: Sequence[str]) -> None:
    """Raises ValueError if weights name another class than ``classes`` and ``others``, or a list has another length."""
    for name in weights if isinstance(weights, dict) else ():
        if name not in (*classes, "others"):
            raise ValueError(f"class_weights: {name!r} is not a class{nearest(name, [*classes, 'others'])}")
    if isinstance(weights, list) and len(weights) != len(classes):
        raise ValueError(
            f"class_weights: {len(weights)} number(s) for {len(classes)} classes; one each, in the order of "
            f"{', '.join(classes[:6])}{', ...' if len(classes) > 6 else ''}"
        )


class Bce(Strict):
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # labels become half of this, and 1 minus half of this
    pos_weight: PerClass = {}  # weight of foreground pixels; default 1


class Focal(Strict):
    gamma: Annotated[float, Field(ge=0, le=10)] = 2.0
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None  # weight of foreground pixels; background: 1 - alpha


class Tversky(Strict):
    alpha: PerClass = {}  # weight of false positives; default 0.3
    beta: PerClass = {}  # weight of false negatives; default 0.7
    gamma: Annotated[float, Field(ge=1, le=10)] = 1.0  # focal Tversky: (1 - index)^(1 / gamma)


class Point(Strict):
    dice_weight: Fraction = 0.5  # of soft Dice over an image's points; the rest is BCE. 0: the paper's loss


class LossOptions(Strict):
    bce: Bce | None = None  # null: the defaults if a stage has the term
    focal: Focal | None = None
    tversky: Tversky | None = None
    point: Point | None = None

    def per_class(self) -> dict[str, PerClass]:
        """All options with numbers per class, by key."""
        found = {"bce.pos_weight": self.bce.pos_weight} if self.bce else {}
        return found | (
            {"tversky.alpha": self.tversky.alpha, "tversky.beta": self.tversky.beta} if self.tversky else {}
        )


class Loss(Strict):
    stages: list[LossStage] = Field(min_length=1, max_length=64)
    options: LossOptions = Field(default_factory=LossOptions)
    # sigmoids: weight of a class in the mean of every term, by name; normalised, default 1. softmax: weight of a pixel
    # of the class in ce, focal and point, by name, as a list from background on, or by a rule
    class_weights: ClassWeights = {}
    beta: Annotated[float, Field(gt=0, lt=1)] | None = None  # of the effective number; null: 0.9999999
    # a rule counts images as an epoch shows them, or each once; null: after
    count: Literal["after", "before"] | None = None

    @model_validator(mode="after")
    def _used_options(self) -> "Loss":
        terms = {term for stage in self.stages for term in stage.weights}
        for name, kind in (("bce", Bce), ("focal", Focal), ("tversky", Tversky), ("point", Point)):
            if name in terms:
                setattr(self.options, name, getattr(self.options, name) or kind())
            elif getattr(self.options, name) is not None:
                raise ValueError(f"options.{name}: no stage has the term {name!r}, so it would not be used")
        return self

    @model_validator(mode="after")
    def _counted(self) -> "Loss":
        self.class_weights = {} if self.class_weights == "none" else self.class_weights
        if self.class_weights == "effective_number":
            self.beta = DEFAULT_PIXEL_BETA if self.beta is None else self.beta
        elif self.beta is not None:
            raise ValueError("beta: only class_weights=effective_number uses it")
        if isinstance(self.class_weights, str):
            self.count = self.count or "after"
        elif self.count is not None:
            raise ValueError("count: only a rule of class_weights counts, as in class_weights=one_minus_share")
        return self

    @property
    def terms(self) -> set[str]:
        """Names of the terms of all stages."""
        return {term for stage in self.stages for term in stage.weights}

    @model_validator(mode="after")
    def _ordered(self) -> "Loss":
        if any(stage.until is None for stage in self.stages[:-1]):
            raise ValueError("stages: every stage but the last needs 'until', or later stages never start")
        if self.stages[-1].until is not None:
            raise ValueError("stages: the last stage runs to the end and takes no 'until'")
        return self
