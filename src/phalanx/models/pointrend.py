"""PointRend for overlapping classes: a point head corrects the pixels whose class is uncertain.

Kirillov et al., "PointRend: Image Segmentation as Rendering", 2020. The paper's (and detectron2's) semantic
uncertainty is the margin between the best two classes, which has no meaning if classes may overlap. There it is
-|logit| of the least certain class of a pixel; the margin is for a softmax. All classes of an image share its points.
"""

from itertools import pairwise
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .segmenter import Coarse, Segmenter, upsample


class Points(NamedTuple):
    """``coords`` float[B, N, 2]: x, y in 0..1 of the image; ``logits`` float[B, C, N] predicted there."""

    coords: Tensor
    logits: Tensor


def sample_points(maps: Tensor, coords: Tensor) -> Tensor:
    """Bilinear values [B, C, N] of maps[B, C, H, W] at float32 coords[B, N, 2] in 0..1, in the maps' type.

    Coordinates stay in float32. In half precision 0..1 has 256 (bfloat16) or 2048 steps of several pixels each.
    """
    promoted = maps.to(torch.promote_types(maps.dtype, coords.dtype))
    return F.grid_sample(promoted, 2 * coords[:, :, None].to(promoted.dtype) - 1, align_corners=False)[..., 0].to(
        maps.dtype
    )


def uncertainty(logits: Tensor, softmax: bool = False) -> Tensor:
    """logits[B, C, ...] to [B, ...]: minus the smallest |logit| over the classes, or of a softmax minus the margin
    between the best two; largest where least certain."""
    if softmax:
        best, second = logits.topk(2, dim=1).values.unbind(1)
        return second - best
    return -logits.abs().amin(1)


def training_points(logits: Tensor, count: int, oversample: float, importance: float, softmax: bool = False) -> Tensor:
    """Point coordinates float[B, N, 2] for training: section 3.1 of the paper (N, k, beta).

    The beta N most uncertain of k N uniform candidates are taken; the other points are uniform.
    """
    candidates = torch.rand(len(logits), max(count, int(count * oversample)), 2, device=logits.device)
    uncertain = uncertainty(sample_points(logits, candidates), softmax)
    hard = uncertain.topk(int(count * importance), dim=1).indices
    picked = candidates.gather(1, hard[:, :, None].expand(-1, -1, 2))
    uniform = torch.rand(len(logits), count - hard.shape[1], 2, device=logits.device)
    return torch.cat([picked, uniform], 1)


def uncertain_pixels(logits: Tensor, count: int, softmax: bool = False) -> tuple[Tensor, Tensor]:
    """The ``count`` most uncertain pixels of logits[B, C, H, W]: flat indices [B, N] and their centres [B, N, 2]."""
    height, width = logits.shape[-2:]
    index = uncertainty(logits, softmax).flatten(1).topk(min(count, height * width), dim=1).indices
    x = (index % width + 0.5) / width
    y = (index // width + 0.5) / height
    return index, torch.stack([x, y], 2)


class PointHead(nn.Module):
    """The paper's small MLP over fine features and coarse logits, with the logits as an input of every layer.

    It is initialised to return the coarse logits, so that it learns their errors."""

    def __init__(self, *, fine: int, classes: int, hidden: int, layers: int):
        super().__init__()
        widths = [fine, *[hidden] * layers]
        convolutions = [nn.Conv1d(before + classes, after, 1) for before, after in pairwise(widths)]
        self.out = nn.Conv1d(hidden + classes, classes, 1)
        for layer in convolutions:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.constant_(cast(Tensor, layer.bias), 0.0)
        nn.init.normal_(self.out.weight, std=0.001)
        with torch.no_grad():
            self.out.weight[:, -classes:, 0] += torch.eye(classes)
        nn.init.constant_(cast(Tensor, self.out.bias), 0.0)
        self.layers = nn.ModuleList(convolutions)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """fine[B, K, N] and coarse logits[B, C, N] to logits[B, C, N]."""
        x = fine
        for layer in self.layers:
            x = F.relu(layer(torch.cat([x, coarse], 1)))
        return self.out(torch.cat([x, coarse], 1))


class PointRend(nn.Module):
    """Refines a segmenter's uncertain pixels.

    Args:
        size: side of the images, on which the channels are counted.
        softmax: whether classes exclude each other.
        detach: whether the points' loss ends at the head, so that the segmenter learns as it would without one.
    """

    def __init__(
        self,
        *,
        segmenter: Segmenter,
        size: int,
        points: int,
        oversample: float,
        importance: float,
        hidden: int,
        layers: int,
        subdivision_points: int,
        detach: bool,
        softmax: bool = False,
    ):
        super().__init__()
        self.segmenter = segmenter
        self.head = PointHead(
            fine=sum(segmenter.fine_channels(size)), classes=segmenter.classes, hidden=hidden, layers=layers
        )
        self.points, self.oversample, self.importance = points, oversample, importance
        self.subdivision_points, self.detach, self.softmax = subdivision_points, detach, softmax

    def forward(self, images: Tensor, attributes: Tensor | None = None) -> tuple[Coarse, Points | None]:
        """Coarse logits, and in training the predictions at sampled points."""
        coarse = self.segmenter(images, attributes)
        if not self.training:
            return coarse, None
        with torch.no_grad():
            coords = training_points(coarse.logits.float(), self.points, self.oversample, self.importance, self.softmax)
        seen = coarse
        if self.detach:
            seen = Coarse(coarse.logits.detach(), [part.detach() for part in coarse.fine])
        return coarse, Points(coords, self.at(seen, coords))

    def at(self, coarse: Coarse, coords: Tensor) -> Tensor:
        """Logits float[B, C, N] of the point head at coords[B, N, 2]."""
        fine = torch.cat([sample_points(part, coords) for part in coarse.fine], 1)
        return self.head(fine, sample_points(coarse.logits, coords))

    def refine(self, coarse: Coarse, size: tuple[int, int]) -> Tensor:
        """Logits[B, C, *size] by adaptive subdivision: section 3.1 of the paper, for inference.

        The logits are upsampled by 2 until they have the size. After each step the most uncertain pixels are
        predicted again, or all pixels if the budget allows.
        """
        logits = coarse.logits
        while tuple(logits.shape[-2:]) != size:
            doubled = (min(2 * logits.shape[-2], size[0]), min(2 * logits.shape[-1], size[1]))
            logits = upsample(logits, doubled)
            index, coords = uncertain_pixels(logits, self.subdivision_points, self.softmax)
            refined = self.at(coarse, coords).to(logits.dtype)
            flat = logits.flatten(2).scatter(2, index[:, None].expand(-1, logits.shape[1], -1), refined)
            logits = flat.view_as(logits)
        return logits
