"""MarkerLoss: an extra loss that ties a classifier to the region of the image that was measured.

The report that names a MarkerLoss publishes no definition of it. These are two readings of ours. One asks the features
to show where the region is, the other penalises evidence outside it. Regions are those of data/regions.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..masks.planes_torch import unpack

MIN_TOTAL = 1e-6  # of a map: below it nothing is activated


def region_maps(planes: Tensor, count: int, side: int) -> tuple[Tensor, Tensor]:
    """Regions on the grid of a feature map, by box average: float32[B, R, n, n], and bool[B], which images have them.

    Args:
        planes: uint8[B, P, S, S], a bit per region and one more of images that have a file.
        count: R.
        side: n.
    """
    bits = unpack(planes, slice(0, count + 1))
    known = bits[:, count].flatten(1).any(dim=1)
    return F.adaptive_avg_pool2d(bits[:, :count].float(), (side, side)), known


def heatmap_loss(logits: Tensor, regions: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy float32[B] of a predicted heat map against the regions, the mean over cells and regions.

    An image without a file of regions has 0.

    Args:
        logits: float[B, R, n, n], of the auxiliary 1 x 1 convolution.
        regions: float[B, R, n, n], 0 to 1: the part of each cell that the region covers.
        known: bool[B], images with a file.
    """
    cells = F.binary_cross_entropy_with_logits(logits.float(), regions, reduction="none")
    return torch.where(known, cells.mean(dim=(1, 2, 3)), 0.0)


def outside_loss(maps: Tensor, weights: Tensor, labels: Tensor, regions: Tensor, known: Tensor) -> Tensor:
    """The part float32[B] of the class activation maps that lies outside the region, 0 to 1.

    The map of a class is the positive part of the features weighted by its row of the linear head (Zhou et al., 2016,
    "Learning deep features for discriminative localization"). The mean is over the classes that an image has and
    whose region is not empty. An image without such a class has 0.

    Args:
        maps: float[B, K, n, n], the features before pooling.
        weights: float[C, K], of the head.
        labels: float[B, C]; NaN is missing.
        regions: float[B, 1 or C, n, n], 0 to 1.
        known: bool[B], images with a file of regions.
    """
    heat = torch.einsum("ck,bkhw->bchw", weights.float(), maps.float()).relu()
    outside = (heat * (1 - regions)).sum(dim=(2, 3)) / heat.sum(dim=(2, 3)).clamp(min=MIN_TOTAL)
    counted = (labels == 1) & (regions.sum(dim=(2, 3)) > 0) & known[:, None]
    return torch.where(counted, outside, 0.0).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
