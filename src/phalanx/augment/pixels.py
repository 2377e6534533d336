"""Pixel transforms by albumentations: brightness, contrast, blur and noise; nothing moves."""

import inspect
import os
import traceback
import warnings
from typing import Any

import numpy as np

from ..config import nearest
from ..errors import ConfigError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would look for updates on the network at import

HOLES = (
    "GridDropout",
)  # cuts holes into the image; the truth stays whole, so that the network learns to infer what they hide


class PixelTransforms:
    """A chain of albumentations' image-only transforms and GridDropout, built from ``[{name: ..., p: ..., ...}, ...]``.

    Raises:
        ConfigError: an unknown name, one that moves pixels (the warp does that, masks included), or an unknown
            or impossible option, or one whose output is not a grey 8-bit image.
    """

    def __init__(self, specs: list[dict[str, Any]], channels: int = 1):
        self.chain = None
        if not specs:
            return
        import albumentations

        base = albumentations.ImageOnlyTransform
        known: dict[str, Any] = {
            name: kind
            for name, kind in vars(albumentations).items()
            if inspect.isclass(kind) and issubclass(kind, base) and kind is not base
        }
        known |= {name: getattr(albumentations, name) for name in HOLES}
        steps = []
        for number, spec in enumerate(specs):
            options = dict(spec)
            name = options.pop("name", None)
            where = f"augment.pixel[{number}]"
            if name not in known:
                raise ConfigError(
                    f"{where}.name={name}: not a pixel transform of albumentations{nearest(str(name), known)}"
                )
            allowed = {*inspect.signature(known[name].__init__).parameters} - {"self", "fill_mask"}
            for option in options:
                if option not in allowed:
                    raise ConfigError(f"{where}.{option}: not an option of {name}{nearest(option, allowed)}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    values = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
                    steps.append(known[name](**values))
                    # some need colour, metadata or other types, and only raise once they are used
                    tried = known[name](**(values | {"p": 1.0}))(image=np.zeros((32, 32, channels), np.uint8))["image"]
                    if tried.dtype != np.uint8 or tried.shape != (32, 32, channels):
                        kind = "grey" if channels == 1 else "colour"
                        raise ValueError(f"makes {tried.dtype}{list(tried.shape)} of a {kind} uint8 image")
                except (ValueError, TypeError, KeyError) as error:
                    raise ConfigError(f"{where} ({name}): {' '.join(str(error).split())}") from None
        self.chain = albumentations.Compose(steps)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8[S, S] or [S, S, 3] to the same shape; all randomness comes from ``rng``."""
        if self.chain is None:
            return image
        self.chain.set_random_seed(int(rng.integers(2**31)))
        for step in self.chain.transforms:  # the chain seeds all alike: all would apply or none
            step.set_random_seed(int(rng.integers(2**31)))
        try:
            shaped = image.reshape(*image.shape[:2], -1)
            return np.ascontiguousarray(self.chain(image=shaped)["image"]).reshape(image.shape)
        except Exception as error:
            owners = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
            failed = [step for step in self.chain.transforms if any(owner is step for owner in owners)]
            error.add_note(f"pixel transform {', '.join(type(step).__name__ for step in failed) or 'unknown'}")
            raise
