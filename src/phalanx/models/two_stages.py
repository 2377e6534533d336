"""The heads of Faster and Mask R-CNN: torchvision's, with losses per image, class weights and focal cross-entropy.

Training and evaluation keep the same number of proposals, and no method looks at ``training``: so the loss of images
that are not trained on is the loss that training has.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference, project_masks_on_boxes
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers
from torchvision.ops import MultiScaleRoIAlign

from .anchors import Anchors

SMOOTH = 1 / 9  # where the loss of boxes turns from square to linear (Ren et al., 2015)
BOX_CELLS, MASK_CELLS = 7, 14  # of a region's features


class Detections(NamedTuple):
    """Boxes float32[N, 4] in pixels of the input, scores float32[N], labels int64[N] from 0, sorted by score; and masks
    float32[N, M, M] within the boxes, or None."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None


class Sizes(NamedTuple):
    """What ``model`` says about the heads; see `config.detect.DetectModel`."""

    width: int
    hidden: int
    mask_layers: int
    candidates: int
    proposals: int
    anchor_samples: int
    samples: int
    positives: float


class ProposalNetwork(RegionProposalNetwork):
    """Proposals of boxes, and the loss of each image."""

    def __init__(self, anchors: Anchors, sizes: Sizes):
        head = RPNHead(sizes.width, anchors.num_anchors_per_location()[0])
        kept = {"training": sizes.candidates, "testing": sizes.candidates}
        after = {"training": sizes.proposals, "testing": sizes.proposals}
        super().__init__(anchors, head, 0.7, 0.3, sizes.anchor_samples, 0.5, kept, after, nms_thresh=0.7)

    def propose(
        self, frames: ImageList, maps: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]] | None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals float32[N, 4] of each image and, of targets, the terms float32[B] of the loss."""
        objectness, deltas = ([one.float() for one in found] for found in self.head(list(maps)))
        anchors = self.anchor_generator(frames, list(maps))
        per_level = [one[0].numel() for one in objectness]
        scores, deltas = concat_box_prediction_layers(objectness, deltas)
        count, total = len(anchors), anchors[0].shape[0]
        boxes = self.box_coder.decode(deltas.detach(), anchors).view(count, -1, 4)
        found, _ = self.filter_proposals(boxes, scores, frames.image_sizes, per_level)
        if targets is None:
            return found, {}
        labels, matched = self.assign_targets_to_anchors(anchors, list(targets))
        wanted = self.box_coder.encode(matched, anchors)
        parts = [
            self.compute_loss(scores[k * total :][:total], deltas[k * total :][:total], [labels[k]], [wanted[k]])
            for k in range(count)
        ]
        return found, {
            "objectness": torch.stack([one for one, _ in parts]),
            "proposal": torch.stack([b for _, b in parts]),
        }


class BoxHeads(RoIHeads):
    """Class and box of proposals, and with masks those of the objects.

    Args:
        names: of the maps.
        masks: whether there is a mask head.
        weights: float[C + 1] of the classes in the cross-entropy, background first; None: 1.
        focal: exponent of focal cross-entropy (Lin et al., 2017); None: plain.
    """

    def __init__(
        self, names: Sequence[str], sizes: Sizes, *, classes: int, masks: bool, weights: Tensor | None,
        focal: float | None, score: float, nms_iou: float, most: int,
    ):  # fmt: skip
        pool = MultiScaleRoIAlign(list(names), BOX_CELLS, 2)
        head = TwoMLPHead(sizes.width * BOX_CELLS**2, sizes.hidden)
        parts: dict[str, Any] = {}
        if masks:
            parts = {
                "mask_roi_pool": MultiScaleRoIAlign(list(names), MASK_CELLS, 2),
                "mask_head": MaskRCNNHeads(sizes.width, [sizes.width] * sizes.mask_layers, 1),
                "mask_predictor": MaskRCNNPredictor(sizes.width, sizes.width, classes + 1),
            }
        super().__init__(
            pool, head, FastRCNNPredictor(sizes.hidden, classes + 1), 0.5, 0.5, sizes.samples, sizes.positives, None,
            score, nms_iou, most, **parts,
        )  # fmt: skip
        self.focal = focal
        self.class_weights: Tensor
        self.register_buffer(
            "class_weights", torch.ones(classes + 1) if weights is None else weights.float(), persistent=False
        )

    def losses(
        self,
        frames: ImageList,
        maps: Mapping[str, Tensor],
        proposals: list[Tensor],
        targets: Sequence[Mapping[str, Tensor]],
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Terms float32[B] of the loss, and how many of an image's object samples have the right class, float32[B]; 1
        if it has none."""
        proposals, matched, labels, wanted = self.select_training_samples(list(proposals), list(targets))
        logits, deltas = self._classified(frames, maps, proposals)
        counts = [len(one) for one in labels]
        flat, to = torch.cat(labels), torch.cat(list(wanted))
        entropy = self.cross_entropy(logits, flat)
        chosen = deltas.view(len(flat), -1, 4)[torch.arange(len(flat), device=flat.device), flat]
        apart = F.smooth_l1_loss(chosen, to, beta=SMOOTH, reduction="none").sum(1)
        apart = torch.where(flat > 0, apart, 0.0)
        right = (logits.detach().argmax(1) == flat).float()
        terms = {
            "label": torch.stack([one.sum() / max(1, len(one)) for one in entropy.split(counts)]),
            "box": torch.stack([one.sum() / max(1, len(one)) for one in apart.split(counts)]),
        }
        hits = torch.stack(
            [mean_or(one[label > 0], 1.0) for one, label in zip(right.split(counts), labels, strict=True)]
        )
        if self.has_mask():
            terms["mask"] = self._mask_loss(frames, maps, proposals, matched, labels, targets)
        return terms, hits

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Float32[N] of logits [N, C + 1], with weights and the focal factor."""
        entropy = F.cross_entropy(logits, labels, reduction="none")
        if self.focal:
            entropy = (1 - torch.exp(-entropy)) ** self.focal * entropy
        return self.class_weights[labels] * entropy

    def detect(self, frames: ImageList, maps: Mapping[str, Tensor], proposals: list[Tensor]) -> list[Detections]:
        """The boxes of each image after suppression."""
        logits, deltas = self._classified(frames, maps, proposals)
        boxes, scores, labels = self.postprocess_detections(logits, deltas, proposals, frames.image_sizes)
        masks: Sequence[Any] = [None] * len(boxes)
        if self.has_mask():
            found = self._masks(frames, maps, boxes)
            masks = (
                [one[:, 0] for one in maskrcnn_inference(found, labels)]
                if len(found)
                else [found.new_zeros((0, 2 * MASK_CELLS, 2 * MASK_CELLS)) for _ in boxes]
            )
        return [
            Detections(box, score, label - 1, mask)
            for box, score, label, mask in zip(boxes, scores, labels, masks, strict=True)
        ]

    def _classified(
        self, frames: ImageList, maps: Mapping[str, Tensor], proposals: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        features = self.box_head(self.box_roi_pool(maps, proposals, frames.image_sizes))
        logits, deltas = self.box_predictor(features)
        return logits.float(), deltas.float()

    def _masks(self, frames: ImageList, maps: Mapping[str, Tensor], boxes: list[Tensor]) -> Tensor:
        features = self.mask_roi_pool(maps, boxes, frames.image_sizes)
        return self.mask_predictor(self.mask_head(features)).float()

    def _mask_loss(
        self, frames: ImageList, maps: Mapping[str, Tensor], proposals: list[Tensor], matched: list[Tensor],
        labels: list[Tensor], targets: Sequence[Mapping[str, Tensor]],
    ) -> Tensor:  # fmt: skip
        """Float32[B]: binary cross-entropy of the mask of the right class, 0 of an image without samples of objects."""
        there = [label > 0 for label in labels]
        boxes = [box[found] for box, found in zip(proposals, there, strict=True)]
        logits = self._masks(frames, maps, boxes)
        side, parts = logits.shape[-1], []
        for logit, box, label, index, found, target in zip(
            logits.split([len(one) for one in boxes]), boxes, labels, matched, there, targets, strict=True
        ):
            if not len(box):
                parts.append(logits.sum() * 0.0)
                continue
            wanted = project_masks_on_boxes(target["masks"], box, index[found], side)
            chosen = logit[torch.arange(len(box), device=box.device), label[found]]
            parts.append(F.binary_cross_entropy_with_logits(chosen, wanted))
        return torch.stack(parts)


def mean_or(values: Tensor, otherwise: float) -> Tensor:
    """The mean of values; of none, a constant."""
    return values.mean() if len(values) else values.new_tensor(otherwise)
