"""BCE, focal, Dice and Tversky in one pass, reduced per image and class, with a hand-written backward.

With z the logit and its sign turned where the truth is 1, q = sigmoid(z) is how wrong a pixel is, and
log(1 + exp(z)) its cross-entropy. Dice and Tversky are functions of three sums: FN = sum of q where the truth is 1,
FP = sum of q elsewhere, TP = truth - FN. So a first walk over the pixels makes all values and the pixelwise gradients,
a second one adds q (1 - q) times two numbers a class. Both go by tiles that stay in a CPU's cache.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..masks.dice_torch import dice_from_counts
from ..masks.planes_torch import chunks
from .fused_autograd import explicit, wide

SMOOTH = 1.0  # pixels added above and below in soft Dice: an absent class costs what is predicted of it
TILE = {"cpu": 8192, "cuda": 1 << 20}  # pixels of eight classes at a time: about 2 MB of temporaries; 200 MB
PerClass = float | Sequence[float]


class Options(NamedTuple):
    """Shapes of the terms. Those ``PerClass`` are one number, or one for each class.

    ``smoothing``: labels 0 and 1 become half of it and 1 minus half of it (Szegedy et al., 2016), in BCE.
    ``pos_weight``: weight of true pixels in BCE. ``gamma``: exponent of focal; ``alpha``: weight of its true pixels, of
    the others 1 - alpha (Lin et al., 2017), or None. ``fp``, ``fn``: Tversky's alpha and beta (Salehi et al., 2017);
    ``root``: gamma of focal Tversky, (1 - index)^(1 / gamma) (Abraham and Khan, 2019).
    """

    smoothing: float = 0.0
    pos_weight: PerClass = 1.0
    gamma: float = 2.0
    alpha: float | None = None
    fp: PerClass = 0.3
    fn: PerClass = 0.7
    root: float = 1.0


DEFAULTS = Options()


class Area(NamedTuple):
    """``loss``: weighted mean over images and classes, float[]; ``terms``: each weighed term on its own, float32[B, C];
    ``dice_hard``: Dice float32[B, C] of ``logits > 0``, 1 where truth and prediction are both empty. All but the loss
    are detached."""

    loss: Tensor
    terms: dict[str, Tensor]
    dice_hard: Tensor


PIXELWISE, REGIONAL = ("bce", "focal"), ("dice", "tversky")


def area_loss(
    logits: Tensor,
    planes: Tensor,
    weights: dict[str, float],
    options: Options = DEFAULTS,
    factors: Tensor | None = None,
) -> Area:
    """Weighted sum of BCE, focal (Lin et al., 2017), soft Dice (Milletari et al., 2016) and Tversky losses.

    Args:
        logits: float[B, C, H, W].
        planes: bit-planes uint8[B, P, H, W] of the truth.
        weights: of bce, focal, dice, tversky; what is not there is not computed.
        factors: float[C] of the classes in the mean, their own mean 1.
    """
    loss, hard, *parts = explicit(logits, lambda x, g: add_area(x, planes, weights, options, factors, g))
    return Area(loss, dict(zip(weights, parts, strict=True)), hard)


def add_area(
    logits: Tensor,
    planes: Tensor,
    weights: dict[str, float],
    options: Options,
    factors: Tensor | None,
    gradient: Tensor | None,
) -> tuple[Tensor, ...]:
    """Loss, hard Dice and the terms in the order of ``weights``; adds to ``gradient`` as ``explicit`` wants it."""
    batch, classes, height, width = logits.shape
    pixels, dtype, device = height * width, wide(logits), logits.device
    hard = torch.empty(batch, classes, dtype=dtype, device=device)
    terms = {name: torch.empty_like(hard) for name in weights}
    factors = torch.ones(classes, device=device) if factors is None else factors.to(device)
    for part in chunks(classes):
        scale = factors[part].to(dtype)[:, None] / (batch * classes)
        shapes = _Shapes(options, part, classes, dtype, device)
        shifts = torch.arange(part.stop - part.start, dtype=torch.uint8, device=device)[:, None]
        for b in range(batch):
            x = logits[b, part].reshape(-1, pixels)
            plane = planes[b, part.start // 8].reshape(1, pixels)
            slope = gradient[b, part].view(-1, pixels) if gradient is not None else None
            sums = _first(x, plane, shifts, weights, shapes, slope, scale / pixels)
            either = sums["guess"] + sums["truth"]
            hard[b, part] = dice_from_counts(sums["guess_true"], either).to(dtype)
            for name in PIXELWISE:
                if name in weights:
                    terms[name][b, part] = (sums[name] / pixels).to(dtype)
            regional = [name for name in REGIONAL if name in weights]
            if regional:
                values, on_fp, on_fn = _regions(sums, weights, shapes)
                for name in regional:
                    terms[name][b, part] = values[name].to(dtype)
                if slope is not None:
                    _second(x, plane, shifts, slope, on_fp[:, None].to(dtype) * scale, on_fn[:, None].to(dtype) * scale)
    total = sum((weight * terms[name] for name, weight in weights.items()), torch.zeros_like(hard))
    return (total * factors.to(dtype)).mean(), hard, *terms.values()


class _Shapes:
    """The options of some classes as columns [n, 1], and None where they change nothing."""

    def __init__(self, options: Options, part: slice, classes: int, dtype: torch.dtype, device: torch.device):
        def column(value: PerClass) -> Tensor:
            return torch.as_tensor(value, dtype=dtype).expand(classes)[part, None].to(device)

        half, more = options.smoothing / 2, column(options.pos_weight)
        # pos_weight w, labels y' = y +- half, truth 1: (w (1 - half) + half) log(1 + exp(z)) - half z;
        # truth 0: (1 - half + w half) log(1 + exp(z)) - w half z
        self.bce, self.linear = None, None
        if bool((torch.as_tensor(options.pos_weight) != 1).any()):  # asked on the host: a GPU would have to answer
            self.bce = (1 - half + more * half, more * (1 - half) + half)
        if half:
            self.linear = (more * half, torch.full_like(more, half))
        self.gamma, self.focal = options.gamma, None
        if options.alpha is not None:
            self.focal = (column(1 - options.alpha), column(options.alpha))
        self.fp, self.fn, self.root = column(options.fp)[:, 0], column(options.fn)[:, 0], options.root


def _pick(pair: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
    """One of two columns [n, 1], chosen by the truth y [n, N] in 0, 1."""
    return torch.addcmul(pair[0], pair[1] - pair[0], y)


def _weigh(values: Tensor, pair: tuple[Tensor, Tensor] | None, y: Tensor) -> Tensor:
    return values if pair is None else values * _pick(pair, y)


def _tiles(pixels: int, device: torch.device) -> list[slice]:
    step = TILE.get(device.type, TILE["cuda"])
    return [slice(first, first + step) for first in range(0, pixels, step)]


def _first(
    logits: Tensor,
    plane: Tensor,
    shifts: Tensor,
    weights: dict[str, float],
    shapes: _Shapes,
    slope: Tensor | None,
    scale: Tensor,
) -> dict[str, Tensor]:
    """Sums float64[n] over the pixels of n classes; adds the gradient of the pixelwise terms to ``slope``.

    ``q``, ``q_true``: of the wrongness, everywhere and where the truth is 1; ``guess``, ``guess_true``: of pixels with
    a positive logit; ``truth``; and of each pixelwise term.
    """
    dtype = scale.dtype
    sums: dict[str, Tensor] = {}

    def count(name: str, values: Tensor) -> None:
        # float32 within a tile, float64 across
        found = values.sum(1).double()
        sums[name] = sums[name].add_(found) if name in sums else found

    pixelwise = [name for name in PIXELWISE if name in weights]
    for tile in _tiles(logits.shape[1], logits.device):
        x = logits[:, tile].to(dtype)
        y = ((plane[:, tile] >> shifts) & 1).to(dtype)
        count("truth", y)
        guess = torch.gt(x, 0, out=torch.empty_like(x))  # floats are quicker than bool, and exact
        count("guess", guess)
        count("guess_true", guess.mul_(y))
        if not weights:
            continue
        sign = torch.rsub(y, 1, alpha=2)
        z = x * sign
        q = torch.sigmoid(z)
        count("q", q)
        count("q_true", torch.mul(q, y, out=guess))
        if not pixelwise:
            continue
        cross = torch.abs(z, out=guess).neg_().exp_().log1p_().add_(z.clamp(min=0))  # log(1 + exp(z)), never inf
        rises = []
        if "bce" in weights:
            count("bce", _weigh(cross, shapes.bce, y))
            rises.append(_weigh(q, shapes.bce, y) * weights["bce"])
            if shapes.linear is not None:
                linear = _pick(shapes.linear, y)
                sums["bce"] -= (z * linear).sum(1).double()
                rises[0].sub_(linear, alpha=weights["bce"])
        if "focal" in weights:
            power = q * q if shapes.gamma == 2 else q**shapes.gamma
            focal = cross.mul_(power)
            count("focal", _weigh(focal, shapes.focal, y))
            # d (q^g c)/dz = q^g (g (1 - q) c + q), with dc/dz = q and dq/dz = q (1 - q)
            power.mul_(q).add_(focal.addcmul_(focal, q, value=-1), alpha=shapes.gamma)
            rises.append(_weigh(power, shapes.focal, y).mul_(weights["focal"]))
        if slope is not None:
            slope[:, tile].addcmul_(sum(rises[1:], rises[0]), sign.mul_(scale))
    return sums


def _regions(
    sums: dict[str, Tensor], weights: dict[str, float], shapes: _Shapes
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Dice and Tversky float64[n] from the sums, and how their weighted sum changes with FP and FN."""
    with torch.enable_grad():
        fp = (sums["q"] - sums["q_true"]).clamp(min=0).requires_grad_()
        fn = sums["q_true"].clone().requires_grad_()
        tp = sums["truth"] - fn
        values: dict[str, Tensor] = {}
        if "dice" in weights:  # 1 - (2 TP + 1) / (2 TP + FP + FN + 1)
            values["dice"] = (fp + fn) / (2 * tp + fp + fn + SMOOTH)
        if "tversky" in weights:  # the same with alpha = beta = 1/2
            wrong = shapes.fp * fp + shapes.fn * fn
            index = wrong / (tp + wrong + SMOOTH / 2)
            values["tversky"] = index if shapes.root == 1 else index.clamp(min=1e-12) ** (1 / shapes.root)
        total = torch.stack([weights[name] * value.sum() for name, value in values.items()]).sum()
        on_fp, on_fn = torch.autograd.grad(total, (fp, fn))
    return {name: value.detach() for name, value in values.items()}, on_fp, on_fn


def _second(logits: Tensor, plane: Tensor, shifts: Tensor, slope: Tensor, on_fp: Tensor, on_fn: Tensor) -> None:
    """Adds the gradient of the regional terms: s (1 - s) times on_fp where the truth is 0, else times -on_fn."""
    turn = -(on_fp + on_fn)
    for tile in _tiles(logits.shape[1], logits.device):
        s = torch.sigmoid(logits[:, tile].to(on_fp.dtype))
        y = ((plane[:, tile] >> shifts) & 1).to(s.dtype)
        rise = torch.addcmul(s, s, s, value=-1)
        slope[:, tile].addcmul_(rise, torch.addcmul(on_fp, turn, y))
