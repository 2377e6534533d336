"""What the losses of a whole batch need besides the maps: options as tensors, and terms from sums over pixels.

Let z be the logit, its sign flipped if the truth is 1, and q = sigmoid(z) the probability of the wrong label
(:mod:`.pixel_region`). All terms and the gradient follow from sums over the pixels of each image and class. Their order
is :meth:`Plan.rows`. Dice and Tversky are one family, with W = alpha FP + beta FN:

    index = W / (TP + W + SMOOTH / 2),  FN = sum of q if the truth is 1,  FP = sum of q elsewhere,  TP = truth - FN

Dice has alpha = beta = 1/2. With D the denominator, the derivatives are alpha (1 - index) / D by FP and
(beta + (1 - beta) index) / D by FN. Another loss of this family is one line in ``_family``.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from .pixel_region import PIXELWISE, REGION, SMOOTH, PerClass, TermOptions

LEAST_INDEX = 1e-12  # below it a power of the index is constant, so that its derivative stays finite
TINY = 1e-300  # float64: lost beside any count, and makes 0 / 0 the 1 that an empty mask scores


class Region(NamedTuple):
    """The K region terms of a plan, all float64.

    Attributes:
        alpha: [K, 1, C].
        excess: beta - alpha, [K, 1, C].
        constant, slope: of the loss's derivatives by FP and FN, (constant + slope x index) / D, [2, K, 1, C].
        powers: exponents 1 / gamma, [K, 1, 1]; None if all are 1.
    """

    alpha: Tensor
    excess: Tensor
    constant: Tensor
    slope: Tensor
    powers: Tensor | None


class Plan(NamedTuple):
    """Terms of a loss stage, as the passes over all pixels of a batch need them.

    Attributes:
        pixelwise: names of the terms that are means over pixels.
        region_names: names of the terms that are functions of TP, FP and FN.
        pixels: of a map.
        gamma: focal exponent.
        smoothed: whether labels are smoothed, so that BCE has a part that is linear in z.
        weighted_bce, weighted_focal: whether the weights ``pixel`` of a term are not all 1.
        pixel: six tensors float[C, 1, 1]: weights where the truth is 0, and 1, of log(1 + exp(z)) and of -z in BCE, and
            of focal.
        pixel_rates: the same in the gradient of the loss.
        region: None without such terms.
        weights: float64[T + 1, 1, C]: of the terms in the loss, and 0 for the hard Dice.
        more: float64[B C] for each further term: its factors in the loss.
        planes, bit: of each class: its plane int64[C] and bit uint8[C, 1, 1].
        table: float[12, C]: ``pixel`` and ``pixel_rates`` together, for a kernel.
        family: float64[K, 3, C]: alpha, beta and exponent of the region terms, for a kernel.
        one: float[]: 1 in the accumulation type.
        tiny: float64[]: TINY.
    """

    pixelwise: tuple[str, ...]
    region_names: tuple[str, ...]
    pixels: int
    gamma: float
    smoothed: bool
    weighted_bce: bool
    weighted_focal: bool
    pixel: tuple[Tensor, ...]
    pixel_rates: tuple[Tensor, ...]
    region: Region | None
    weights: Tensor
    more: tuple[Tensor, ...]
    planes: Tensor
    bit: Tensor
    table: Tensor
    family: Tensor
    one: Tensor
    tiny: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        """Of all terms, in the order of their values."""
        return *self.pixelwise, *self.region_names

    @property
    def rows(self) -> tuple[str, ...]:
        """Sums over the pixels of an image and class, in their order.

        ``guess``: pixels with a positive logit; ``both``: those of them whose truth is 1; ``q_true``: q where it is.
        """
        return "truth", "guess", "both", *(("q", "q_true") if self.region else ()), *self.pixelwise

    @property
    def sizes(self) -> list[int]:
        """Lengths of the parts of the rows: each one alone, but the pixelwise terms together."""
        single = len(self.rows) - len(self.pixelwise)
        return [1] * single + ([len(self.pixelwise)] if self.pixelwise else [])


def make_plan(
    weights: dict[str, float],
    options: TermOptions,
    more: tuple[float, ...],
    class_weights: tuple[float, ...],
    batch: int,
    pixels: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Plan:
    """The plan of some terms, made once per device and shape. Later calls copy nothing to the device.

    Args:
        weights: by term: bce, focal, dice, tversky.
        more: weights of further terms.
        class_weights: one per class, with mean 1.
        batch: number of images.
        pixels: of a map.
        dtype: of sums within a row and of the gradient before it is rounded.
    """
    fixed = options._replace(
        pos_weight=_fixed(options.pos_weight),
        tversky_alpha=_fixed(options.tversky_alpha),
        tversky_beta=_fixed(options.tversky_beta),
    )
    return _make(tuple(weights.items()), fixed, more, class_weights, batch, pixels, device, dtype)


def _fixed(value: PerClass) -> PerClass:
    """The same as a key of a cache."""
    return value if isinstance(value, float | int) else tuple(value)


@cache  # what a recorded step reads must not be freed
def _make(
    items: tuple[tuple[str, float], ...],
    options: TermOptions,
    more: tuple[float, ...],
    class_weights: tuple[float, ...],
    batch: int,
    pixels: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Plan:
    weights, classes = dict(items), len(class_weights)
    share = torch.tensor(class_weights, dtype=torch.float64) / (batch * classes)

    def by_class(value: PerClass) -> Tensor:
        return torch.as_tensor(value, dtype=torch.float64).expand(classes)

    pixelwise, region = (tuple(name for name in kind if name in weights) for kind in (PIXELWISE, REGION))
    half, pos = options.smoothing / 2, by_class(options.pos_weight)
    alpha = 0.5 if options.focal_alpha is None else options.focal_alpha
    scale = 2.0 if options.focal_alpha is None else 1.0  # without alpha both sides weigh 1
    pixel = torch.stack([1 - half + pos * half, pos * (1 - half) + half, pos * half, by_class(half),
        by_class(scale * (1 - alpha)), by_class(scale * alpha)])  # fmt: skip
    rates = torch.tensor([weights.get(name, 0.0) / pixels for name in ("bce", "bce", "focal")], dtype=torch.float64)
    factors = torch.tensor([*(weights[name] for name in (*pixelwise, *region)), 0.0], dtype=torch.float64)
    factors = (factors[:, None] * share)[:, None]
    index = torch.arange(classes)

    def moved(value: Tensor, kind: torch.dtype = torch.float64) -> Tensor:
        return value.to(device, kind)

    table = moved(torch.cat([pixel, pixel * rates.repeat_interleave(2)[:, None] * share]), dtype)
    columns = table[:, :, None, None].unbind()
    made, triples = None, torch.zeros(0, 3, classes, dtype=torch.float64)
    if region:
        family = [_family(options)[name] for name in region]
        a, b = (torch.stack([by_class(member[side]) for member in family])[:, None] for side in (0, 1))
        powers = torch.tensor([member[2] for member in family], dtype=torch.float64)[:, None, None]
        triples = torch.cat([a, b, powers.expand_as(a)], 1)
        made = Region(
            moved(a),
            moved(b - a),
            moved(torch.stack([a, b]) * factors[len(pixelwise) : -1]),
            moved(torch.stack([-a, 1 - b]) * factors[len(pixelwise) : -1]),
            moved(powers) if bool((powers != 1).any()) else None,
        )
    return Plan(
        pixelwise,
        region,
        pixels,
        options.focal_gamma,
        half > 0 and "bce" in weights,
        bool((pos != 1).any()),
        options.focal_alpha is not None,
        columns[:6],
        columns[6:],
        made,
        moved(factors),
        tuple(moved(share.repeat(batch) * weight) for weight in more),
        moved(index // 8, torch.int64),
        moved(1 << index % 8, torch.uint8)[:, None, None],
        table,
        moved(triples),
        torch.ones((), device=device, dtype=dtype),
        torch.full((), TINY, device=device, dtype=torch.float64),
    )


def _family(options: TermOptions) -> dict[str, tuple[PerClass, PerClass, float]]:
    """alpha, beta and exponent of every term that is a function of TP, FP and FN."""
    return {
        "dice": (0.5, 0.5, 1.0),
        "tversky": (options.tversky_alpha, options.tversky_beta, 1 / options.tversky_gamma),
    }


def truth_of(planes: Tensor, plan: Plan) -> Tensor:
    """Bit-planes uint8[B, P, H, W] to the truth bool[B, C, H, W]."""
    return planes.index_select(1, plan.planes).bitwise_and_(plan.bit).ne(0)


class Finished(NamedTuple):
    """A loss from its sums.

    Attributes:
        loss: weighted mean over images and classes, float[]; None without terms.
        truth: pixels of the truth, float64[1, B, C].
        values: each term of ``Plan.names``, unweighted, and the hard Dice, float[T + 1, B, C].
        rates: derivatives of the loss by FP and FN, float[2, B, C, 1, 1]; None without region terms.
    """

    loss: Tensor | None
    truth: Tensor
    values: Tensor
    rates: Tensor | None


def finish(sums: Tensor, plan: Plan) -> Finished:
    """Loss, terms and derivatives from sums float64[S, B, C], in a few small operations."""
    dtype, region = plan.one.dtype, plan.region
    truth, guess, both, *more = sums.split_with_sizes(plan.sizes)  # [1, B, C] each, and the pixelwise terms together
    dice = torch.add(plan.tiny, both, alpha=2).div_(torch.add(guess, truth).add_(TINY))
    values, rates = [], None
    if plan.pixelwise:
        values.append(more[-1] / plan.pixels)
    if region is not None:
        q, fn = more[:2]
        wrong = torch.addcmul(region.alpha * q, region.excess, fn)  # alpha FP + beta FN, with FP = q - FN
        total = (truth - fn).add(wrong).add_(SMOOTH / 2)
        index = wrong / total
        slopes = torch.addcmul(region.constant, region.slope, index).div_(total)
        if region.powers is not None:
            above, base = index >= LEAST_INDEX, index.clamp(min=LEAST_INDEX)
            index = base**region.powers
            slopes.mul_(index / base * region.powers * above)
        values.append(index)
        rates = slopes.sum(1, dtype=dtype).view(2, *dice.shape[1:], 1, 1)
    if not values:
        return Finished(None, truth, dice.to(dtype), None)
    found = torch.cat([*values, dice])
    return Finished((found * plan.weights).sum(dtype=dtype), truth, found.to(dtype), rates)
