"""Where pretrained weights come from, and their licence: as timm records it; of smp's that of their repository."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..config import Model
from .libraries import without_wandb

UNKNOWN = "not recorded"
NON_COMMERCIAL = re.compile(r"(?<![a-z])nc(?![a-z])|non-?commercial", re.IGNORECASE)
# smp names no licences. By name of the weights, whatever the encoder: those that Facebook AI trained on its own images
OF_WEIGHTS = {"ssl": "cc-by-nc-4.0", "swsl": "cc-by-nc-4.0", "instagram": "cc-by-nc-4.0"}
# By the beginning of the encoder's name: the licence of the repository that published the weights. As timm has them of
# the same files, torchvision's densenet apart. What is not here (SENet, Xception) has no repository with a clear one
OF_ENCODERS = {
    "resnet": "bsd-3-clause",  # torchvision
    "resnext": "bsd-3-clause",
    "vgg": "bsd-3-clause",
    "densenet": "bsd-3-clause",
    "mobilenet_v2": "bsd-3-clause",
    "efficientnet-": "apache-2.0",  # TensorFlow's EfficientNet
    "timm-efficientnet": "apache-2.0",
    "timm-tf_efficientnet_lite": "apache-2.0",
    "timm-sk": "apache-2.0",  # timm
    "inception": "apache-2.0",  # TensorFlow's slim
    "dpn": "apache-2.0",  # MXNet's DPNs
    "mobileone": "mobileone-license (Apple)",
    "mit_": "NVIDIA Source Code License for SegFormer (non-commercial)",
}


class Weights(NamedTuple):
    """What a network began with: name, source and licence as text."""

    name: str
    source: str
    licence: str

    @property
    def is_non_commercial(self) -> bool:
        """Whether the licence forbids commercial use, by its name.

        >>> [Weights("w", "", text).is_non_commercial for text in ("cc-by-nc-4.0", "CC BY NC-SA", "ncsa", "mit")]
        [True, True, False, False]
        """
        return NON_COMMERCIAL.search(self.licence) is not None

    @property
    def is_unknown(self) -> bool:
        """Whether there are pretrained weights and their licence is not known."""
        return self.licence == UNKNOWN

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Weights":
        """The weights that a run records, as :meth:`_asdict`.

        Raises:
            ValueError: values of another form.
        """
        if values.keys() != set(cls._fields) or not all(isinstance(value, str) for value in values.values()):
            raise ValueError(f"pretrained: does not have the texts {', '.join(cls._fields)}")
        return cls(**values)


def weights_of(model: Model) -> Weights:
    """The weights that a recipe begins with. Neither fetches anything nor loads a network."""
    if model.init_from:
        return Weights(model.init_from, "another run", UNKNOWN)
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
        source = str(settings.get("repo_id") or settings.get("url") or UNKNOWN)
        return Weights(model.weights, source, _of_smp(model.encoder, model.weights))
    config = timm.get_pretrained_cfg(model.encoder.removeprefix("tu-"), allow_unregistered=True)
    if config is None:
        return Weights(model.weights, UNKNOWN, UNKNOWN)
    return Weights(model.weights, str(config.hf_hub_id or config.url or UNKNOWN), str(config.license or UNKNOWN))


def _of_smp(encoder: str, weights: str) -> str:
    """The licence of weights that smp offers."""
    found = (licence for start, licence in OF_ENCODERS.items() if encoder.startswith(start))
    return OF_WEIGHTS.get(weights) or next(found, UNKNOWN)
