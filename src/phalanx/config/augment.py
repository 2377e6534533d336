"""Random changes of training images."""

from typing import Annotated, Any, Literal

from pydantic import Field

from .base import Fraction, Strict


class Elastic(Strict):
    p: Fraction = 0.0
    strength: Fraction = 0.02  # standard deviation of the displacement, as a share of the image side
    cell: Fraction = 0.125  # distance of the control points, as a share of the image side


class GridDistortion(Strict):
    p: Fraction = 0.0
    steps: Annotated[int, Field(ge=2, le=64)] = 5  # strips a side
    limit: Annotated[float, Field(ge=0, lt=1)] = 0.3  # a strip becomes 1 - limit .. 1 + limit times as wide


class Augment(Strict):
    flip: Fraction = 0.0  # probability; classes of data.pairs change places with it
    warp: Fraction = 0.0  # probability of shift, scale and rotation together
    shift: Fraction = 0.0  # at most this share of the side
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0  # factor within 1 - scale .. 1 + scale
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0  # degrees either way
    elastic: Elastic = Elastic()
    grid_distortion: GridDistortion = GridDistortion()
    pixel: list[dict[str, Any]] = []  # albumentations image-only transforms: {name: ..., p: ..., ...}
    # Where the warp is computed. cuda: on the training GPU, so that few cores feed it; then the pixel transforms,
    # which stay in the loader's processes, come before the warp instead of after it, and the recipe is another one.
    device: Literal["cpu", "cuda"] = "cpu"
