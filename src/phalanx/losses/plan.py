"""What the losses of a whole batch need besides the maps: options as tensors, and terms from sums over pixels.

Let z be the logit, its sign flipped if the truth is 1, and q = sigmoid(z) the probability of the wrong label
(:mod:`.pixel_region`). All terms and the gradient follow from sums over the pixels of each image and class. Dice,
Tversky and the hard Dice are one family, with W = alpha FP + beta FN:

    index = W / (TP + W + SMOOTH / 2),  FN = sum of q if the truth is 1,  FP = sum of q elsewhere,  TP = truth - FN

Dice has alpha = beta = 1/2. With D the denominator, the derivatives are alpha (1 - index) / D by FP and
(beta + (1 - beta) index) / D by FN. Another loss of this family is one line in ``_family``. The hard Dice is
N / (E / 2 + N) with N pixels that are right and 1, and E pixels that are wrong. So it is computed with the others, as
the last of them, and so are a few numbers per class: a GPU takes as long to launch an operation on them as on maps.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from .pixel_region import DEFAULTS, PIXELWISE, REGION, SMOOTH, PerClass, TermOptions
from .point_rows import PointOptions, Points, rows_of_points

LEAST_INDEX = 1e-12  # below it a power of the index is constant, so that its derivative stays finite
TINY = 1e-300  # float64: lost beside any count, and makes 0 / 0 the 1 that an empty mask scores


class Region(NamedTuple):
    """The K region terms of a plan and the hard Dice, whose derivatives are 0; all float64.

    Attributes:
        constant, slope: of the loss's derivatives by FP and FN, (constant + slope x index) / D, [2, K + 1, 1, C, G, 1].
        pixelwise: what BCE adds to them, in the first term.
        powers: exponents 1 / gamma, [K + 1, 1, 1, 1, 1]; None if all are 1.
    """

    constant: Tensor
    slope: Tensor
    pixelwise: Tensor
    powers: Tensor | None


class Plan(NamedTuple):
    """Terms of a loss stage, as the passes over all pixels of a batch need them. G is 1, or 2 with points: the map's
    terms, and those of points.

    Attributes:
        pixelwise: names of the terms that are means over pixels.
        region_names: names of the terms that are functions of TP, FP and FN.
        gamma: focal exponent.
        smoothed: whether labels are smoothed, so that BCE has a part that is linear in z.
        weighted_bce, weighted_focal: whether the weights ``pixel`` of a term are not all 1.
        pixel: six tensors float[C, 1 or H, 1]: weights where the truth is 0, and 1, of log(1 + exp(z)) and of -z in
            BCE, and of focal.
        pixel_rates: the same in the gradient of the loss.
        region: None without such terms.
        uneven: whether alpha and beta differ in any of them.
        scale, least: :func:`.finish.finish` multiplies its sums by these and then adds those, float64[S, 1, C or 1,
            G, 1].
        weights: float64[T, 1, C, G, 1], in the loss: of ``names``, 0 for the hard Dice, and of further terms.
        more: float[B C] for each further term: its factors in the loss.
        points: None without.
        planes, bit: of each class: its plane int64[C] and bit uint8[C, 1, 1].
        table: float[12, C]: ``pixel`` and ``pixel_rates`` together, for a kernel.
        family: float64[K, 3, C]: alpha, beta and exponent of the region terms, for a kernel.
        one: float[]: 1 in the accumulation type.
    """

    pixelwise: tuple[str, ...]
    region_names: tuple[str, ...]
    gamma: float
    smoothed: bool
    weighted_bce: bool
    weighted_focal: bool
    pixel: tuple[Tensor, ...]
    pixel_rates: tuple[Tensor, ...]
    region: Region | None
    uneven: bool
    scale: Tensor
    least: Tensor
    weights: Tensor
    more: tuple[Tensor, ...]
    points: Points | None
    planes: Tensor
    bit: Tensor
    table: Tensor
    family: Tensor
    one: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        """Of all terms, in the order of their values."""
        return *self.pixelwise, *self.region_names

    @property
    def sizes(self) -> list[int]:
        """How many sums of each kind :func:`.finish.finish` takes: those of the pixelwise terms; for each region term
        and the hard Dice the D - W and the W of its index, and if ``uneven`` its FN; the truth if further terms need
        it."""
        members = len(self.region_names) + 1
        return [len(self.pixelwise), *[members] * (3 if self.uneven else 2), bool(self.more)]


def make_plan(
    weights: dict[str, float],
    options: TermOptions,
    more: tuple[float, ...],
    class_weights: tuple[float, ...],
    batch: int,
    pixels: int,
    device: torch.device,
    dtype: torch.dtype,
    points: PointOptions | None = None,
) -> Plan:
    """The plan of some terms, made once per device and shape. Later calls copy nothing to the device.

    Args:
        weights: by term: bce, focal, dice, tversky.
        more: weights of further terms.
        class_weights: one per class, with mean 1.
        batch: number of images.
        pixels: of a map.
        dtype: of sums within a row and of the gradient before it is rounded.
        points: BCE and Dice at points, whose logits follow those of the map as further rows.
    """
    fixed = options._replace(
        pos_weight=_fixed(options.pos_weight),
        tversky_alpha=_fixed(options.tversky_alpha),
        tversky_beta=_fixed(options.tversky_beta),
    )
    return _make(tuple(weights.items()), fixed, more, class_weights, batch, pixels, device, dtype, points)


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
    points: PointOptions | None,
) -> Plan:
    weights, classes = dict(items), len(class_weights)
    share = torch.tensor(class_weights, dtype=torch.float64) / (batch * classes)
    pixelwise, region = (tuple(name for name in kind if name in weights) for kind in (PIXELWISE, REGION))

    def moved(value: Tensor, kind: torch.dtype = torch.float64) -> Tensor:
        return value.to(device, kind)

    alpha, beta, powers = _members(options, region, classes)
    pixel = _pixel_weights(options, classes)
    made = [_part(pixel, alpha, beta, weights, (*pixelwise, *region), share, pixels, further=more)]
    rows = None
    if points is not None:
        own = {"bce": points.weight * (1 - points.dice_weight), "dice": points.weight * points.dice_weight}
        plain = _pixel_weights(DEFAULTS, classes)
        made.append(_part(plain, alpha, beta, own, (*pixelwise, *region), share, points.number, further=()))
        rows = rows_of_points(points, batch, classes, device)
    joined = _Part(*(torch.stack(column, -1) for column in zip(*made, strict=True)))
    pixel, rates = joined.pixel, joined.rates
    if rows is not None:
        pixel, rates = (part.repeat_interleave(torch.tensor(rows.rows), -1) for part in (pixel, rates))
    raised = torch.cat([powers, torch.ones(1, dtype=torch.float64)])[:, None, None, None, None]
    constant, slope, added = (
        moved(part)[:, :, None, ..., None] for part in (joined.constant, joined.slope, joined.added)
    )
    index = torch.arange(classes)
    return Plan(
        pixelwise,
        region,
        options.focal_gamma,
        options.smoothing > 0 and "bce" in weights,
        bool((pixel[:2] != 1).any()),
        options.focal_alpha is not None,
        tuple(moved(part, dtype)[..., None] for part in pixel),
        tuple(moved(part, dtype)[..., None] for part in rates),
        Region(constant, slope, added, moved(raised) if bool((powers != 1).any()) else None) if region else None,
        bool((alpha != beta).any()),
        moved(joined.scale)[:, None, ..., None],
        moved(joined.least)[:, None, None, :, None],
        moved(joined.factors)[:, None, ..., None],
        tuple(moved(share.repeat(batch) * weight, dtype) for weight in more),
        rows,
        moved(index // 8, torch.int64),
        moved(1 << index % 8, torch.uint8)[:, None, None],
        moved(torch.cat([made[0].pixel, made[0].rates]), dtype),
        moved(torch.stack([alpha, beta, powers[:, None].expand_as(alpha)], 1)),
        torch.ones((), device=device, dtype=dtype),
    )


class _Part(NamedTuple):
    """What a plan has for the map and for points, all float64 on the host: [..., C], but for ``least`` [S]."""

    pixel: Tensor
    rates: Tensor
    constant: Tensor
    slope: Tensor
    added: Tensor
    scale: Tensor
    least: Tensor
    factors: Tensor


def _part(
    pixel: Tensor,
    alpha: Tensor,
    beta: Tensor,
    weights: dict[str, float],
    names: tuple[str, ...],
    share: Tensor,
    pixels: int,
    *,
    further: tuple[float, ...],
) -> _Part:
    members, classes = alpha.shape
    factors = torch.tensor([*(weights.get(name, 0.0) for name in names), 0.0, *further], dtype=torch.float64)
    own = factors[len(names) - members : len(names), None] * share
    none = torch.zeros(2, 1, classes, dtype=torch.float64)  # the hard Dice
    rates = torch.tensor([weights.get(name, 0.0) / pixels for name in ("bce", "bce", "focal")], dtype=torch.float64)
    rates = pixel * rates.repeat_interleave(2)[:, None] * share
    added = torch.zeros(2, members + 1, classes, dtype=torch.float64)
    added[:, 0] = rates[:2]
    constant, slope = (torch.cat([torch.stack(pair) * own, none], 1) for pair in ((alpha, beta), (-alpha, 1 - beta)))
    scale, least = _sums(alpha, beta, len(names) - members, pixels, truth=bool(further))
    return _Part(pixel, rates, constant, slope, added, scale, least, factors[:, None] * share)


def _pixel_weights(options: TermOptions, classes: int) -> Tensor:
    """``Plan.pixel`` as float64[6, C]."""
    half, pos = options.smoothing / 2, _by_class(options.pos_weight, classes)
    alpha = 0.5 if options.focal_alpha is None else options.focal_alpha
    scale = 2.0 if options.focal_alpha is None else 1.0  # without alpha both sides weigh 1
    return torch.stack([1 - half + pos * half, pos * (1 - half) + half, pos * half, _by_class(half, classes),
        _by_class(scale * (1 - alpha), classes), _by_class(scale * alpha, classes)])  # fmt: skip


def _by_class(value: PerClass, classes: int) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64).expand(classes)


def _members(options: TermOptions, names: tuple[str, ...], classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of region terms: alpha and beta float64[K, C], and exponents float64[K]."""
    found = [_family(options)[name] for name in names]
    sides = torch.zeros(2, len(names), classes, dtype=torch.float64)
    for k, member in enumerate(found):
        sides[0, k], sides[1, k] = (_by_class(side, classes) for side in member[:2])
    return sides[0], sides[1], torch.tensor([member[2] for member in found], dtype=torch.float64)


def _sums(alpha: Tensor, beta: Tensor, pixelwise: int, pixels: int, *, truth: bool) -> tuple[Tensor, Tensor]:
    """What :func:`.finish.finish` multiplies its sums by, float64[S, C], and adds to them, float64[S]."""
    members, classes = alpha.shape
    one = torch.ones(1, classes, dtype=torch.float64)
    scales = [one.expand(pixelwise, -1) / pixels, one.expand(members, -1), one / 2, alpha, one]
    least = [0.0] * pixelwise + [SMOOTH / 2] * members + [0.0] * (1 + members) + [TINY]
    if bool((alpha != beta).any()):
        scales += [beta - alpha, 0 * one]
        least += [0.0] * (members + 1)
    if truth:
        scales.append(one)
        least.append(0.0)
    return torch.cat(scales), torch.tensor(least, dtype=torch.float64)


def _family(options: TermOptions) -> dict[str, tuple[PerClass, PerClass, float]]:
    """alpha, beta and exponent of every term that is a function of TP, FP and FN."""
    return {
        "dice": (0.5, 0.5, 1.0),
        "tversky": (options.tversky_alpha, options.tversky_beta, 1 / options.tversky_gamma),
    }


def truth_of(planes: Tensor, plan: Plan) -> Tensor:
    """Bit-planes uint8[B, P, H, W] to the truth bool[B, C, H, W]."""
    return planes.index_select(1, plan.planes).bitwise_and_(plan.bit).ne(0)
