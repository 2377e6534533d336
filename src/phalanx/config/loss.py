"""The loss: loss stages of weighted terms, and their options."""

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from .base import Count, Fraction, Positive, Strict


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
    class_weights: PerClass = {}  # weight of a class in the mean of every term; normalised, default 1

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
    def _ordered(self) -> "Loss":
        if any(stage.until is None for stage in self.stages[:-1]):
            raise ValueError("stages: every stage but the last needs 'until', or later stages never start")
        if self.stages[-1].until is not None:
            raise ValueError("stages: the last stage runs to the end and takes no 'until'")
        return self
