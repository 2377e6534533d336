"""The layers of a detector for estimates of its cost, with fixed numbers of samples where a real step depends on data.

Which proposals there are, and which object each anchor is matched with, depends on values, which a simulation does not
have. So the layers run with as many samples as an image may have, and what matching takes is added.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from ..config import DetectConfig
from ..config.detect import TWO_STAGES
from ..data.box_set import Target
from ..models.detector import Detector
from ..models.two_stages import BOX_CELLS, MASK_CELLS

OBJECTS = 16  # of an image: how many there are changes little
MATCHING = 3  # tensors of objects x anchors that matching has at once: two of IoU, and one of comparisons


def dense_parts(network: Detector) -> dict[str, nn.Module]:
    """Encoder, pyramid and heads of a detector, by name."""
    return network.parts


def run_dense(network: Detector, modules: dict[str, nn.Module], images: Tensor, boxes: int, masks: int) -> list[Tensor]:
    """All outputs of the layers for images uint8[B, 1, S, S].

    Args:
        modules: of :func:`dense_parts`.
        boxes: regions of the box head, of all images together.
        masks: regions of the mask head.
    """
    maps = network.maps(images)
    outputs = _tensors(modules[("dense head" if "dense head" in modules else "proposals")](list(maps.values())))
    for name, regions, cells in (("box head", boxes, BOX_CELLS), ("mask head", masks, MASK_CELLS)):
        if name in modules and regions:
            outputs += _tensors(modules[name](_pooled([*maps.values()], regions, cells)))
    return outputs


def _pooled(maps: Sequence[Tensor], regions: int, cells: int) -> Tensor:
    """Features float32[regions, width, cells, cells] with gradients into every map, as RoIAlign has them."""
    whole = torch.stack([one.float().mean(dim=(0, 2, 3)) for one in maps]).sum(0)  # RoIAlign computes in 32 bits
    return whole[None, :, None, None].expand(regions, -1, cells, cells).contiguous()


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [one for part in (value.values() if isinstance(value, dict) else value) for one in _tensors(part)]


def counts_predicted(network: Detector) -> tuple[int, int]:
    """Regions of the box head and of the mask head for the prediction of one image, at most."""
    if network.proposals is None or network.heads is None:
        return 0, 0
    many, most = network.proposals.post_nms_top_n(), int(network.heads.detections_per_img)
    return many, most if network.heads.has_mask() else 0


def counts_trained(config: DetectConfig, batch: int) -> tuple[int, int]:
    """Regions of the box head and of the mask head in a training step, at most."""
    model = config.model
    if model.architecture not in TWO_STAGES:
        return 0, 0
    objects = int(model.samples * model.positives)
    return batch * model.samples, batch * objects if model.architecture == "mask_rcnn" else 0


def matching_bytes(config: DetectConfig, size: int, batch: int) -> int:
    """Bytes that anchors, their boxes and matches take besides the layers."""
    model = config.model
    many = 1 if model.architecture == "fcos" else model.anchors_per_level
    anchors = sum((size // stride) ** 2 for stride in model.levels) * many
    of_each = 4 * 4 + 4 * 4 + 4 * 4 + 4 + 8  # an anchor, its decoded box, the box it learns, its label and match
    masks = batch * OBJECTS * size * size if model.architecture == "mask_rcnn" else 0
    return anchors * (batch * of_each + 4 * OBJECTS * MATCHING) + masks


def example_targets(config: DetectConfig, size: int, batch: int) -> list[Target]:
    """Objects of each image for a measured step: as many boxes as :data:`OBJECTS`, on a grid, and their masks."""
    side, gap = size / 8, size / 4
    corners = torch.tensor([[x * gap, y * gap] for y, x in product(range(4), range(4))][:OBJECTS]) + side / 4
    boxes = torch.cat([corners, corners + side], dim=1)
    masks = torch.zeros((0, 0, 0), dtype=torch.uint8)
    if config.model.architecture == "mask_rcnn":
        masks = torch.zeros((len(boxes), size, size), dtype=torch.uint8)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = 1
    labels = torch.arange(len(boxes)) % len(config.data.classes)
    return [Target(boxes, labels, masks)] * batch
