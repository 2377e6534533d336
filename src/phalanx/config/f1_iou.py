"""How F1 at an IoU counts images: which class is the disease, and what happens in the cases that a name leaves open."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Strict, nearest

Both = Literal["any", "larger_area", "most_confident"]
Below = Literal["fn", "fn_and_fp"]


class F1AtIoU(Strict):
    """One disease: an image is positive if the ground truth has an object of its class."""

    positive: Annotated[str, Field(min_length=1)]  # class of the diseased organ
    # class of the normal organ, which competes with the disease for the image; null: lesions only
    negative: Annotated[str, Field(min_length=1)] | None = None
    iou: Annotated[float, Field(gt=0, le=1)] = 0.5  # of a diseased image, that the disease must be found with
    # an image predicted with both classes. any: it is diseased; larger_area: the class with more pixels, or with the
    # larger box, decides; most_confident: that with the higher confidence. Of equals the disease
    both: Both = "any"
    # a disease that is found below the IoU. fn: missed; fn_and_fp: also a false alarm, so the image counts twice
    below: Below = "fn"

    @model_validator(mode="after")
    def _consistent(self) -> "F1AtIoU":
        if self.positive == self.negative:
            raise ValueError(f"negative: {self.negative!r} is the positive class too; name the normal one, or null")
        if self.negative is None and self.both != "any":
            raise ValueError(f"both={self.both}: chooses between two classes; give negative= too")
        return self

    def check_classes(self, classes: Sequence[str], *, scored: bool = True) -> None:
        """Raises ValueError if a recipe's predictions cannot be counted by this rule.

        Args:
            classes: of the recipe.
            scored: its predictions have scores.
        """
        for key in ("positive", "negative"):
            label = getattr(self, key)
            if label is not None and label not in classes:
                raise ValueError(f"image_f1.{key}: {label!r} is not a class{nearest(label, classes)}")
        if self.both == "most_confident" and not scored:
            raise ValueError("image_f1.both=most_confident: masks have no score; use any or larger_area")
