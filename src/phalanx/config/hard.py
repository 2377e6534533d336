"""Training on the failures of an earlier run: the rule ``data.hard``."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Strict
from .data import Name

WEIGHT, PER_FAILURE = 3.0, 1.0


class Hard(Strict):
    """Failures of an earlier run, out of fold: images in which it took one class of a pair for the other.

    A failure on (A, B) is an image that has A and not B, for which B was predicted; or the other way round.
    """

    run: str = Field(min_length=1)  # name of the run; all its folds must be finished
    # classes that are confused; null: the pairs that this run confused more often than the average pair
    pairs: Annotated[list[tuple[Name, Name]], Field(min_length=1, max_length=512)] | None = None
    keep: Literal["only", "all"] = "only"  # only: train on failures and as many right images; all: on all images
    # keep=all: appearances of a failure per epoch; null: 3
    weight: Annotated[float, Field(gt=1, le=1000)] | None = None
    # keep=only: images of the same class that were right, per failure; null: 1
    per_failure: Annotated[float, Field(ge=0, le=1000)] | None = None

    @model_validator(mode="after")
    def _used(self) -> "Hard":
        if self.keep == "only" and self.weight is not None:
            raise ValueError("weight: only for keep=all; with keep=only, failures have weight 1 like the others")
        if self.keep == "all" and self.per_failure is not None:
            raise ValueError("per_failure: only for keep=only; with keep=all, every right image is trained on")
        seen = [tuple(sorted(pair)) for pair in self.pairs or []]
        for one, other in seen:
            if one == other:
                raise ValueError(f"pairs: {one} with itself; name two classes that are confused")
            if seen.count((one, other)) > 1:
                raise ValueError(f"pairs: {one} and {other} appear twice; a pair has no direction")
        self.weight = WEIGHT if self.keep == "all" and self.weight is None else self.weight
        self.per_failure = PER_FAILURE if self.keep == "only" and self.per_failure is None else self.per_failure
        return self
