"""Pixel transforms by albumentations: what changes brightness, contrast, blur and noise and moves nothing."""

import inspect
import os
import warnings
from typing import Any

import numpy as np

from ..config import nearest
from ..errors import ConfigError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for news at import


class PixelTransforms:
    """A chain of albumentations' image-only transforms, built from ``[{name: ..., p: ..., ...}, ...]``.

    Raises:
        ConfigError: an unknown name, one that moves pixels (the warp does that, masks included), or an unknown
            or impossible option.
    """

    def __init__(self, specs: list[dict[str, Any]]):
        self.chain = None
        if not specs:
            return
        import albumentations

        base = albumentations.ImageOnlyTransform
        known = {
            name: kind
            for name, kind in vars(albumentations).items()
            if inspect.isclass(kind) and issubclass(kind, base) and kind is not base
        }
        steps = []
        for number, spec in enumerate(specs):
            options = dict(spec)
            name = options.pop("name", None)
            where = f"augment.pixel[{number}]"
            if name not in known:
                raise ConfigError(
                    f"{where}.name={name}: no pixel transform of albumentations{nearest(str(name), known)}"
                )
            allowed = inspect.signature(known[name].__init__).parameters
            for option in options:
                if option not in allowed:
                    raise ConfigError(
                        f"{where}.{option}: no option of {name}{nearest(option, set(allowed) - {'self'})}"
                    )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    values = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
                    steps.append(known[name](**values))
                except (ValueError, TypeError) as error:
                    raise ConfigError(f"{where} ({name}): {' '.join(str(error).split())}") from None
        self.chain = albumentations.Compose(steps)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8[S, S] to uint8[S, S]; the draws come from ``rng`` alone."""
        if self.chain is None:
            return image
        self.chain.set_random_seed(int(rng.integers(2**31)))
        return np.ascontiguousarray(self.chain(image=image[:, :, None])["image"][:, :, 0])
