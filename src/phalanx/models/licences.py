"""Where pretrained weights come from, and the licence that the library that offers them records."""

from pathlib import Path
from typing import Any, NamedTuple

from ..config import Model
from .libraries import without_wandb

UNKNOWN = "not recorded"


class Weights(NamedTuple):
    """What a network began with: name, source and licence as text."""

    name: str
    source: str
    licence: str


def weights_of(model: Model) -> Weights:
    """The weights that a recipe begins with. Neither fetches anything nor loads a network."""
    if model.init_from:
        return Weights(model.init_from, "another run", "that of the run it began with; see its own report")
    if model.weights == "none":
        return Weights("none", "trained from scratch", "none")
    if Path(model.weights).is_file() or "/" in model.weights:
        return Weights(Path(model.weights).name, "a local file", UNKNOWN)
    with without_wandb():
        import segmentation_models_pytorch as smp
        import timm
    known: dict[str, Any] = smp.encoders.encoders
    if model.encoder in known:
        settings = known[model.encoder]["pretrained_settings"].get(model.weights) or {}
        return Weights(model.weights, str(settings.get("repo_id") or settings.get("url") or UNKNOWN), UNKNOWN)
    config = timm.get_pretrained_cfg(model.encoder.removeprefix("tu-"), allow_unregistered=True)
    if config is None:
        return Weights(model.weights, UNKNOWN, UNKNOWN)
    return Weights(model.weights, str(config.hf_hub_id or config.url or UNKNOWN), str(config.license or UNKNOWN))
