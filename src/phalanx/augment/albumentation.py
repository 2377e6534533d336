"""The warp as a transform of albumentations, for chains with its pixel transforms."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, NoReturn

import albumentations
import cv2
import numpy as np
from albumentations.core.type_definitions import Targets
from pydantic import Field, model_validator

from ..config import Augment, Count, Fraction, validate_as
from ..errors import DataError
from ..masks.planes import plane_count, swap_classes
from .draw import Crop, Draw, Window, draw
from .warp import resample

BILINEAR = ("uint8", "uint16", "int16", "float32", "float64")  # what OpenCV can interpolate
Label = Annotated[int, Field(ge=0)]
CARRIERS = {
    1: np.uint8,
    2: np.int16,
    4: np.float32,
    8: np.float64,
}  # by bytes per mask pixel, which is moved and never interpreted


class Options(Augment):
    """Options of a warp: those of a recipe, pairs and crop."""

    pairs: list[tuple[Label, Label]] = Field(default_factory=list)
    crop: Count | None = None
    foreground: Fraction = 0.0

    @model_validator(mode="after")
    def _usable(self) -> "Options":
        labels = [label for pair in self.pairs for label in pair]
        if len(set(labels)) < len(labels):
            raise ValueError("pairs: a class appears twice")
        if self.foreground and self.crop is None:
            raise ValueError("foreground: only applies to crops; give crop=, or leave it out")
        return self


class Warp(albumentations.DualTransform):
    """Crop, flip, shift, scale, rotation, elastic and grid distortion in one map, applied once to image and masks.

    All draws come from albumentations' generator, so ``Compose(..., seed=...)`` repeats them. Images of any
    height and width keep their size; pixels from outside are 0.

    Args:
        flip, warp, shift, scale, rotate, elastic, grid_distortion: as in ``config.Augment``; the last two are
            dictionaries such as ``{"p": 0.3, "strength": 0.01}``, whose lengths are fractions of the longer side.
        pairs: classes (a, b) that a mirror image swaps. With pairs every mask is bit-planes, uint8[H, W, P] or
            uint8[H, W], each of ``masks`` included; without pairs, masks may be of any kind.
        crop: side in pixels of a square window to return.
        foreground: fraction of the windows around a set pixel of ``mask``.
        p: fraction of the samples that are warped and cropped.

    Targets:
        image, images, mask, masks. Boxes, keypoints and volumes are refused.

    Raises:
        ConfigError: an impossible value, when built.
        DataError: an image or mask that cannot be warped, when called.

    >>> chain = albumentations.Compose([Warp(flip=0.5, pairs=[(0, 1)]), albumentations.CLAHE(p=0.2)], seed=3)
    >>> done = chain(image=np.zeros((40, 30), np.uint8), mask=np.ones((40, 30, 1), np.uint8))
    >>> done["image"].shape, np.unique(done["mask"]).tolist()  # flipped: class 0 became class 1
    ((40, 30), [2])
    """

    _targets = (Targets.IMAGE, Targets.MASK, Targets.BBOXES, Targets.KEYPOINTS)

    def __init__(
        self,
        flip: float = 0.0,
        warp: float = 0.0,
        shift: float = 0.0,
        scale: float = 0.0,
        rotate: float = 0.0,
        elastic: Mapping[str, float] = MappingProxyType({}),
        grid_distortion: Mapping[str, float] = MappingProxyType({}),
        pairs: Sequence[tuple[int, int]] = (),
        crop: int | None = None,
        foreground: float = 0.0,
        p: float = 1.0,
    ):
        super().__init__(p=p)
        values: dict[str, Any] = {
            "flip": flip, "warp": warp, "shift": shift, "scale": scale, "rotate": rotate, "elastic": elastic,
            "grid_distortion": grid_distortion, "pairs": pairs, "crop": crop, "foreground": foreground,
        }  # fmt: skip
        self.options = validate_as(Options, values)
        for name, value in self.options.model_dump(include=set(values)).items():
            setattr(self, name, value)  # albumentations serialises a transform by these names

    @property
    def targets_as_params(self) -> list[str]:
        return ["mask"] if self.options.foreground else []

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        crop = None if self.options.crop is None else Crop(self.options.crop, self.options.foreground)
        planes = np.zeros((1, 1, 1), np.uint8)
        if self.options.foreground:
            if data["mask"] is None:
                raise DataError("mask: None; foreground= needs it to find a set pixel")
            planes = data["mask"] if data["mask"].dtype == np.uint8 else (data["mask"] != 0).astype(np.uint8)
            planes = planes.reshape(*planes.shape[:2], -1)
        drawn = draw(self.random_generator, self.options, (height, width), max(height, width), planes, crop)
        return {"drawn": drawn if crop else drawn._replace(window=Window(0, 0, height, width))}

    def apply(self, img: np.ndarray, drawn: Draw, **params: Any) -> np.ndarray:
        """An image [H, W] or [H, W, C], bilinearly."""
        _check_size(img, drawn, "image")
        if img.dtype.name not in BILINEAR:
            raise DataError(f"image: {img.dtype} cannot be interpolated; give it as one of {', '.join(BILINEAR)}")
        return resample(drawn, [(img, cv2.INTER_LINEAR)])[0]

    def apply_to_mask(self, mask: np.ndarray, drawn: Draw, **params: Any) -> np.ndarray:
        """A mask [H, W] or [H, W, C], by nearest neighbour; bit-planes if there are pairs."""
        _check_size(mask, drawn, "mask")
        pairs = self.options.pairs
        if pairs:
            need = plane_count(max(label for pair in pairs for label in pair) + 1)
            if mask.dtype != np.uint8 or (mask.shape[2] if mask.ndim == 3 else 1) < need:
                raise DataError(
                    f"mask: {mask.dtype}{list(mask.shape)} is not bit-planes with the classes of pairs, which need "
                    f"uint8[H, W, {need}]; pack the masks (phalanx.masks.planes.pack), or leave pairs out"
                )
        if mask.dtype.itemsize not in CARRIERS or mask.dtype.hasobject:
            raise DataError(f"mask: {mask.dtype} cannot be warped; give it as an integer, bool or float type")
        carried = np.ascontiguousarray(mask).view(CARRIERS[mask.dtype.itemsize])
        warped = resample(drawn, [(carried, cv2.INTER_NEAREST)])[0].view(mask.dtype)
        if not (drawn.flipped and pairs):
            return warped
        return swap_classes(warped.reshape(*warped.shape[:2], -1), pairs).reshape(warped.shape)

    def _refuse(self, *given: Any, **params: Any) -> NoReturn:
        raise DataError("Warp moves images and masks only: draw boxes or points into a mask, or remove them")

    apply_to_bboxes = apply_to_keypoints = apply_to_volume = apply_to_volumes = _refuse
    apply_to_mask3d = apply_to_masks3d = _refuse


def _check_size(array: np.ndarray, drawn: Draw, what: str) -> None:
    if array.shape[:2] != drawn.content:
        raise DataError(f"{what}: is {array.shape[:2]} and the image {drawn.content}; bring both to one size")
