"""RetinaNet and FCOS: torchvision's, with losses per image. Their own classification loss is focal."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead

from .anchors import Anchors
from .two_stages import Detections, mean_or

TERMS = {"classification": "label", "bbox_regression": "box", "bbox_ctrness": "centerness"}


class _Noting:
    """A head that notes the object with which each anchor of the last image was matched, or a negative number."""

    matched: Tensor

    def compute_loss(self, targets: Any, head_outputs: Any, anchors: Any, matched_idxs: list[Tensor]) -> Any:
        self.matched = matched_idxs[0]
        return super().compute_loss(targets, head_outputs, anchors, matched_idxs)  # type: ignore[misc]


class _RetinaHead(_Noting, RetinaNetHead):
    pass


class _FcosHead(_Noting, FCOSHead):
    pass


class OneStage(nn.Module):
    """The head of a detector without proposals.

    Args:
        kind: retinanet or fcos.
        anchors: one square of a stride's side per place for fcos.
    """

    def __init__(
        self, kind: str, anchors: Anchors, *, width: int, classes: int, score: float, nms_iou: float, most: int,
        candidates: int,
    ):  # fmt: skip
        super().__init__()
        maps = nn.Identity()  # the pyramid is computed outside
        maps.out_channels = width  # type: ignore[assignment]
        common: dict[str, Any] = {
            "num_classes": classes, "anchor_generator": anchors, "score_thresh": score, "nms_thresh": nms_iou,
            "detections_per_img": most, "topk_candidates": candidates,
        }  # fmt: skip
        self.inner: Any
        if kind == "fcos":
            self.inner = FCOS(maps, head=_FcosHead(width, 1, classes), **common)
        else:
            many = anchors.num_anchors_per_location()[0]
            self.inner = RetinaNet(maps, head=_RetinaHead(width, many, classes, nn.BatchNorm2d), **common)
        self.kind = kind

    def losses(
        self, frames: ImageList, maps: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Terms float32[B] of the loss, and how many places of an image's objects have the right class, float32[B]; 1
        if it has none."""
        outputs, anchors, per_level = self._outputs(frames, maps)
        more = [per_level] if self.kind == "fcos" else []
        terms: dict[str, list[Tensor]] = {}
        hits = []
        for k, target in enumerate(targets):
            part = {name: value[k : k + 1] for name, value in outputs.items()}
            found = self.inner.compute_loss([target], part, [anchors[k]], *more)
            for name, value in found.items():
                terms.setdefault(TERMS[name], []).append(value)
            matched = self.inner.head.matched
            there = matched >= 0
            right = part["cls_logits"][0][there].argmax(1) == target["labels"][matched[there]]
            hits.append(mean_or(right.float(), 1.0))
        return {name: torch.stack(values) for name, values in terms.items()}, torch.stack(hits)

    def detect(self, frames: ImageList, maps: Sequence[Tensor]) -> list[Detections]:
        """The boxes of each image after suppression."""
        outputs, anchors, per_level = self._outputs(frames, maps)
        split = {name: list(value.split(per_level, dim=1)) for name, value in outputs.items()}
        apart = [list(one.split(per_level)) for one in anchors]
        found = self.inner.postprocess_detections(split, apart, frames.image_sizes)
        return [Detections(one["boxes"], one["scores"], one["labels"]) for one in found]

    def _outputs(self, frames: ImageList, maps: Sequence[Tensor]) -> tuple[dict[str, Tensor], list[Tensor], list[int]]:
        outputs = {name: value.float() for name, value in self.inner.head(list(maps)).items()}
        anchors = self.inner.anchor_generator(frames, list(maps))
        many = self.inner.anchor_generator.num_anchors_per_location()[0]
        return outputs, anchors, [one.shape[-2] * one.shape[-1] * many for one in maps]
