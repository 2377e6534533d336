"""The boundary loss of a whole batch and all classes at once, with distances computed on their device.

The squared distance to the nearest pixel of a set is min over x' of (x - x')^2 + g(x')^2, with g the distance within a
column (Felzenszwalb and Huttenlocher, 2012). The best x' never decreases as x increases. So the minima of every other x
lie between those of its neighbours, and all rows are solved together in as many rounds as a row has halvings.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..masks.planes_torch import unpack
from .boundary import stride
from .fused_autograd import accumulation_dtype

INDEX_BITS = 9  # of a column
FAR = 1 << 20  # squared distance to nothing; more than any other in 512 columns and rows


class BatchedBoundary:
    """The boundary loss as a :class:`.batch_loss.MapTerm`: mean of sigmoid times signed distance."""

    def forward(
        self, logits: Tensor, source: Tensor, truth: Tensor, factors: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As :meth:`.batch_loss.MapTerm.forward`; only the distances on their coarse grid are saved."""
        dtype, pixels = accumulation_dtype(logits), logits.shape[-2] * logits.shape[-1]
        y = source if source.dtype == torch.bool else unpack(source, slice(0, logits.shape[1]))
        coarse = signed_distances_of(y)
        products = torch.sigmoid(logits.to(dtype)).mul_(_enlarged(coarse.to(dtype), logits))
        parts = products.sum(3).sum(2, dtype=torch.float64).div_(pixels)
        scale = (factors / pixels).to(dtype).view(*logits.shape[:2], 1, 1)
        return parts.view(-1), (logits, coarse, scale)

    def backward(self, gradient: Tensor, saved: tuple[Tensor, ...], upstream: Tensor) -> None:
        """As :meth:`.batch_loss.MapTerm.backward`."""
        logits, coarse, scale = saved
        s = torch.sigmoid(logits.to(scale.dtype))
        products = s * _enlarged(coarse.to(scale.dtype), logits)
        # ds/dx = s (1 - s)
        gradient.add_(products.addcmul_(products, s, value=-1).mul_(scale * upstream))


def _enlarged(coarse: Tensor, logits: Tensor) -> Tensor:
    """Distances on the grid of the logits."""
    height, width = logits.shape[-2:]
    step = stride(height, width)
    if step == 1:
        return coarse
    return F.interpolate(coarse, scale_factor=step, mode="bilinear")[..., :height, :width]


def signed_distances_of(truth: Tensor) -> Tensor:
    """Distance float32[B, C, h, w] to each mask's outline, negative inside, as a fraction of the long side.

    Zero for a mask that is absent or full. As :func:`.boundary.signed_distances`, but Euclidean: that one's chamfer
    distances are within 2% of these.

    Args:
        truth: bool[B, C, H, W].
    """
    height, width = truth.shape[-2:]
    step = stride(height, width)
    inside = sampled(truth, step)
    outward, inward = nearest_squared(torch.stack([inside, ~inside])).sqrt_().unbind()
    # the outline runs between pixels: half a pixel from the nearest one on the other side
    distance = torch.where(inside, 0.5 - inward, outward - 0.5)
    mixed = inside.any(-1).any(-1) & ~inside.all(-1).all(-1)
    return torch.where(mixed[..., None, None], distance, 0.0) * (step / max(height, width))


def sampled(truth: Tensor, step: int) -> Tensor:
    """Masks bool[B, C, H, W] at the middle of blocks of ``step`` pixels.

    A mask that no sample hits is represented by the blocks that contain any of it.
    """
    if step == 1:
        return truth
    height, width = truth.shape[-2:]
    rows, columns = (
        (torch.arange(0, side, step, device=truth.device) + step // 2).clamp_(max=side - 1) for side in (height, width)
    )
    middle = truth.index_select(2, rows).index_select(3, columns)
    padded = F.pad(truth, (0, -width % step, 0, -height % step))
    blocks = padded.unflatten(3, (-1, step)).any(4).unflatten(2, (-1, step)).any(3)
    return torch.where(middle.any(-1).any(-1)[..., None, None], middle, blocks)


def nearest_squared(sites: Tensor) -> Tensor:
    """Squared distance float32[..., h, w] of every pixel to the nearest site of its mask bool[..., h, w].

    At least FAR where there is no site.
    """
    shape, height, width = sites.shape, *sites.shape[-2:]
    sites = sites.reshape(-1, height, width)
    row = torch.arange(height, device=sites.device, dtype=torch.int32)[:, None]
    never = torch.full((), -2 * height, device=sites.device, dtype=torch.int32)
    above = torch.where(sites, row, never).cummax(1).values
    below = torch.where(sites, -row, never).flip(1).cummax(1).values.flip(1)
    column = torch.minimum(row - above, -below - row)
    squared = torch.where(column < height, column * column, FAR)
    return _row_minima(squared.view(-1, width)).view(shape)


def _row_minima(values: Tensor) -> Tensor:
    """min over x' of (x - x')^2 + values[x'] for every x: int32[R, w] to float32[R, w], with at most 512 columns."""
    width = values.shape[1]
    index = torch.arange(width, device=values.device, dtype=torch.int32)

    def keys(x: Tensor | int, at: Tensor, value: Tensor) -> Tensor:
        """The sum above x', so that the least key is the least sum, and of equal ones the least x'."""
        return ((x - at) ** 2 + value).bitwise_left_shift_(INDEX_BITS).bitwise_or_(at)

    gap = 1 << (width - 1).bit_length()
    best = keys(0, index, values).amin(1, keepdim=True)
    while gap > 1:  # best[k] is that of x = k gap; now follow those of x = k gap + gap / 2
        known, half = best.shape[1], gap // 2
        count = len(range(half, width, gap))
        at = best.bitwise_and((1 << INDEX_BITS) - 1)
        after = torch.searchsorted(at, index.expand_as(values).contiguous(), right=True)  # k + 1 of each x'
        least = best.new_full((len(best), known + 1), torch.iinfo(torch.int32).max)
        least.scatter_reduce_(1, after, keys(after.int() * gap - half, index, values), "amin")
        between = least[:, 1 : count + 1]
        last = at[:, 1 : count + 1]  # the neighbour's, which two ranges share
        x = torch.arange(half, width, gap, device=values.device, dtype=torch.int32)[: last.shape[1]]
        shared = between[:, : last.shape[1]]
        shared.copy_(torch.minimum(shared, keys(x, last, values.gather(1, last.long()))))
        joined = best.new_empty(len(best), known + count)
        joined[:, ::2], joined[:, 1::2] = best, between
        best, gap = joined, half
    return best.bitwise_right_shift(INDEX_BITS).float()
