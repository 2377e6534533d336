"""The loss: stages of weighted terms, and their options."""

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from .base import Count, Fraction, Positive, Strict


class Until(Strict):
    """End of a loss stage: after so many epochs, or when the training Dice of an epoch reaches a value."""

    epochs: Count | None = None
    dice: Fraction | None = None

    @model_validator(mode="after")
    def _one(self) -> "Until":
        if (self.epochs is None) == (self.dice is None):
            raise ValueError("epochs: give either this or dice")
        return self


class LossStage(Strict):
    weights: dict[str, Positive] = Field(min_length=1)
    until: Until | None = None  # null: to the end


# A number for each class by name; ``others`` stands for all that are not named, and a number alone for all.
PerClass = Annotated[
    dict[str, Positive],
    BeforeValidator(lambda value: {"others": value} if isinstance(value, int | float) else value),
]


class Bce(Strict):
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # labels become half of this, and 1 minus half of it
    pos_weight: PerClass = {}  # of pixels where the class is; 1 where nothing is said


class Focal(Strict):
    gamma: Annotated[float, Field(ge=0, le=10)] = 2.0
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None  # weight of true pixels, of the others 1 - alpha


class Tversky(Strict):
    alpha: PerClass = {}  # price of false positives; 0.3 where nothing is said
    beta: PerClass = {}  # of false negatives; 0.7
    gamma: Annotated[float, Field(ge=1, le=10)] = 1.0  # focal Tversky: (1 - index)^(1 / gamma)


class Point(Strict):
    dice_weight: Fraction = 0.5  # of soft Dice over an image's points; the rest is BCE. 0: the paper's loss


class LossOptions(Strict):
    bce: Bce | None = None  # null: the defaults, where a stage weighs the term
    focal: Focal | None = None
    tversky: Tversky | None = None
    point: Point | None = None

    def per_class(self) -> dict[str, PerClass]:
        """Every option that names classes, by its key."""
        found = {"bce.pos_weight": self.bce.pos_weight} if self.bce else {}
        return found | (
            {"tversky.alpha": self.tversky.alpha, "tversky.beta": self.tversky.beta} if self.tversky else {}
        )


class Loss(Strict):
    stages: list[LossStage] = Field(min_length=1)
    options: LossOptions = Field(default_factory=LossOptions)
    class_weights: PerClass = {}  # share of a class in every term's mean, which keeps its scale; 1 where not named

    @model_validator(mode="after")
    def _read(self) -> "Loss":
        weighed = {term for stage in self.stages for term in stage.weights}
        for name, kind in (("bce", Bce), ("focal", Focal), ("tversky", Tversky), ("point", Point)):
            if name in weighed:
                setattr(self.options, name, getattr(self.options, name) or kind())
            elif getattr(self.options, name) is not None:
                raise ValueError(f"options.{name}: no stage weighs {name!r}, so nothing would read it")
        return self

    @model_validator(mode="after")
    def _ordered(self) -> "Loss":
        if any(stage.until is None for stage in self.stages[:-1]):
            raise ValueError("stages: every stage but the last needs 'until', or those behind it never start")
        if self.stages[-1].until is not None:
            raise ValueError("stages: the last stage runs to the end and has no 'until'")
        return self
