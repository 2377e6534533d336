"""The network of a detection: an encoder of timm, a feature pyramid, and the heads of torchvision."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork

from ..config import DetectConfig
from ..config.detect import TWO_STAGES
from ..errors import ConfigError
from .activation_checkpointing import checkpoint_blocks
from .anchors import Anchors, fit_anchors
from .build import described, load_encoder, no_drop_path, normalise
from .classifier import check_timm_weights, timm_encoder
from .drop_path import set_drop_path
from .norms import replace_norms
from .one_stage import OneStage
from .segmenter import dry_run
from .two_stages import BoxHeads, Detections, ProposalNetwork, Sizes


class Detector(nn.Module):
    """Images to boxes.

    Images come as the data pipeline resized them, and are normalised here as everywhere: none of torchvision's
    transforms is applied.

    Args:
        encoder: images float[B, 1, S, S] to a list of feature maps.
        chosen: places of those that the pyramid is made of.
        pyramid: maps by name to maps of equal width.
        dense: the head of a detector of one stage; None: ``proposals`` and ``heads`` are its two stages.
    """

    def __init__(
        self, encoder: nn.Module, chosen: Sequence[int], pyramid: nn.Module, *, dense: OneStage | None = None,
        proposals: ProposalNetwork | None = None, heads: BoxHeads | None = None,
    ):  # fmt: skip
        super().__init__()
        self.encoder, self.chosen, self.pyramid = encoder, list(chosen), pyramid
        self.dense, self.proposals, self.heads = dense, proposals, heads

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Encoder, pyramid and heads by name."""
        found: dict[str, nn.Module] = {"encoder": self.encoder, "pyramid": self.pyramid}
        if self.dense is not None:
            return found | {"dense head": self.dense.inner.head}
        assert self.proposals is not None
        assert self.heads is not None
        heads: Any = self.heads
        found |= {"proposals": self.proposals.head, "box head": nn.Sequential(heads.box_head, heads.box_predictor)}
        return found | ({"mask head": nn.Sequential(heads.mask_head, heads.mask_predictor)} if heads.has_mask() else {})

    def maps(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """The pyramid of images uint8[B, 1, S, S], the finest map first."""
        found = self.encoder(normalise(images, next(self.encoder.parameters()).dtype))
        return self.pyramid(OrderedDict((f"p{k}", found[i]) for k, i in enumerate(self.chosen)))

    def forward(self, images: Tensor, targets: Sequence[Any] | None = None) -> Any:
        """Of targets, as :meth:`losses`; else as :meth:`predict`."""
        return self.predict(images) if targets is None else self.losses(images, targets)

    def losses(
        self, images: Tensor, targets: Sequence[Any], maps: "OrderedDict[str, Tensor] | None" = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Terms float32[B] of the loss by name, and the fraction float32[B] of samples of objects with the right class.

        It does not depend on ``training``, but for norms and dropout.

        Args:
            targets: `data.box_set.Target` of each image.
            maps: the pyramid of the images, if it has been computed.
        """
        maps, frames = self.maps(images) if maps is None else maps, frames_of(images)
        shift = int(self.dense is None)  # two stages have a class 0 of their own: background
        wanted = [{"boxes": one.boxes, "labels": one.labels + shift, "masks": one.masks} for one in targets]
        if self.dense is not None:
            return self.dense.losses(frames, [*maps.values()], wanted)
        assert self.proposals is not None
        assert self.heads is not None
        proposals, terms = self.proposals.propose(frames, [*maps.values()], wanted)
        rest, hits = self.heads.losses(frames, maps, proposals, wanted)
        return {**terms, **rest}, hits

    def predict(self, images: Tensor, maps: "OrderedDict[str, Tensor] | None" = None) -> list[Detections]:
        """The boxes of each image uint8[B, 1, S, S]; Args as :meth:`losses`."""
        maps, frames = self.maps(images) if maps is None else maps, frames_of(images)
        if self.dense is not None:
            return self.dense.detect(frames, [*maps.values()])
        assert self.proposals is not None
        assert self.heads is not None
        proposals, _ = self.proposals.propose(frames, [*maps.values()], None)
        return self.heads.detect(frames, maps, proposals)


def frames_of(images: Tensor) -> ImageList:
    """Images as torchvision's heads take them: all of one size."""
    return ImageList(images, [(images.shape[-2], images.shape[-1])] * len(images))


def build_detector(
    config: DetectConfig, *, shapes: Any = None, weights: Tensor | None = None, pretrained: bool = True
) -> Detector:
    """The detector of a configuration, on the CPU.

    Args:
        shapes: widths and heights float[L, A, 2] of the anchors, in pixels of the input; None: such as only loading
            weights replaces.
        weights: of the box head's classes, see :class:`BoxHeads`.
        pretrained: false ignores ``model.weights``, if a checkpoint is loaded later.

    Raises:
        ConfigError: an unknown encoder, one without maps of the levels' strides, a size that does not work, weights
            that cannot be loaded.
    """
    model, size = config.model, config.data.size
    from_file = pretrained and Path(model.weights).is_file()
    if pretrained:
        check_timm_weights(model)
    fetched = pretrained and not from_file and model.weights != "none"
    encoder: Any = timm_encoder(model, size=size, channels=1, fetched=fetched, features_only=True)
    if from_file:
        load_encoder(encoder, Path(model.weights))
    chosen, channels = _levels(encoder, config)
    names = [f"p{k}" for k in range(len(chosen))]
    pyramid = FeaturePyramidNetwork(channels, model.width, norm_layer=nn.BatchNorm2d)
    if shapes is None:
        shapes = anchor_shapes(config, [[1.0, 1.0]])
    anchors = Anchors(shapes)
    common: dict[str, Any] = {
        "classes": len(config.data.classes), "score": config.predict.score, "nms_iou": config.predict.nms_iou,
        "most": config.predict.most,
    }  # fmt: skip
    if model.architecture in TWO_STAGES:
        sizes = Sizes(**{name: getattr(model, name) for name in Sizes._fields})
        heads = BoxHeads(
            names, sizes, masks=model.architecture == "mask_rcnn", weights=weights, focal=config.loss.focal, **common
        )
        network = Detector(encoder, chosen, pyramid, proposals=ProposalNetwork(anchors, sizes), heads=heads)
    else:
        dense = OneStage(model.architecture, anchors, width=model.width, candidates=model.candidates, **common)
        network = Detector(encoder, chosen, pyramid, dense=dense)
    replace_norms(network, model.norm)
    if model.drop_path is not None and not set_drop_path(encoder, model.drop_path, size):
        raise no_drop_path(model)
    if model.activation_checkpointing:
        checkpoint_blocks(network)
    if model.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return network.train()


def _levels(encoder: Any, config: DetectConfig) -> tuple[list[int], list[int]]:
    """Places and channels of the encoder's maps of the wanted strides. Raises ConfigError if it has none."""
    model, size = config.model, config.data.size
    try:
        maps = dry_run(encoder, torch.zeros(1, 1, size, size))
    except Exception as error:  # third-party code raises errors of any type
        raise ConfigError(
            f"model.encoder={model.encoder}: does not run at data.size={size} ({described(error)})"
        ) from None
    strides = [size // one.shape[-1] for one in maps]
    lacking = [stride for stride in model.levels if stride not in strides]
    if lacking:
        raise ConfigError(
            f"model.levels: {model.encoder} has no map of stride {lacking[0]}; it has {', '.join(map(str, strides))}"
        )
    chosen = [len(strides) - 1 - strides[::-1].index(stride) for stride in model.levels]  # of several, the deepest
    return chosen, [maps[i].shape[1] for i in chosen]


def anchor_shapes(config: DetectConfig, sides: Any) -> np.ndarray:
    """Widths and heights float64[L, A, 2] of a recipe's anchors.

    Args:
        sides: float[N, 2] of the boxes of the training fold, in pixels of the input.
    """
    model = config.model
    if model.architecture == "fcos":  # whose anchors stand for places
        return np.array(model.levels, float)[:, None, None].repeat(2, axis=2)
    count = len(model.levels) * model.anchors_per_level
    if model.anchors == "fitted":
        found = fit_anchors(np.asarray(sides, float), count)
    else:
        found = np.array(sorted(model.anchors, key=lambda side: side[0] * side[1]), float)
    return found.reshape(len(model.levels), model.anchors_per_level, 2)
