"""Random augmentation of training images."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .base import Fraction, Strict


class Elastic(Strict):
    p: Fraction = 0.0
    strength: Fraction = 0.02  # standard deviation of the displacement, as a fraction of the image side
    cell: Fraction = 0.125  # spacing of the control points, as a fraction of the image side


class GridDistortion(Strict):
    p: Fraction = 0.0
    steps: Annotated[int, Field(ge=2, le=64)] = 5  # strips per side
    limit: Annotated[float, Field(ge=0, lt=1)] = 0.3  # the width of a strip is scaled by 1 - limit .. 1 + limit


class Augment(Strict):
    flip: Fraction = 0.0  # probability; classes of data.pairs are swapped with it, as by the two below
    vflip: Fraction = 0.0  # probability of a mirror upside down
    transpose: Fraction = 0.0  # probability that rows and columns change places; with the flips, turns by quarters too
    warp: Fraction = 0.0  # probability of shift, scale and rotation together
    shift: Fraction = 0.0  # maximum, as a fraction of the side
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0  # factor within 1 - scale .. 1 + scale
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0  # degrees either way
    elastic: Elastic = Elastic()
    grid_distortion: GridDistortion = GridDistortion()
    pixel: Annotated[
        list[dict[str, Any]], Field(max_length=64)
    ] = []  # albumentations image-only transforms: {name: ..., p: ..., ...}
    # Only what balancing or oversampling shows again is augmented; the first time in an epoch an image is as it is.
    copies_only: bool = False
    # Where the warp is computed. cuda: on the training GPU, if there are few CPU cores. The pixel transforms stay in
    # the loader's processes and come before the warp instead of after it, so the recipe differs.
    device: Literal["cpu", "cuda"] = "cpu"

    @model_validator(mode="after")
    def _copied(self) -> "Augment":
        if self.copies_only and self.device == "cuda":
            raise ValueError("copies_only: warps some images of a batch alone, which needs device=cpu")
        return self
