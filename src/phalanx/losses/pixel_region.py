"""BCE, focal, Dice and Tversky in one pass, reduced per image and class, with a hand-written backward.

Let z be the logit, its sign flipped if the truth is 1. Then q = sigmoid(z) is the probability of the wrong label, and
log(1 + exp(z)) the cross-entropy. Dice and Tversky are functions of three sums: FN is the sum of q if the truth is 1,
FP the sum of q elsewhere, TP = truth - FN. So a first pass over the pixels computes all values and the gradient of the
pixelwise terms. A second pass adds q (1 - q) times two numbers per class, the gradient of the region terms. Both
passes go by tiles that fit a CPU's cache. A GPU computes the same for a whole batch (:mod:`.batch_loss`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..masks.dice_torch import dice_from_counts
from ..masks.planes_torch import bits, chunks
from .fused_autograd import accumulation_dtype, fused_loss

SMOOTH = 1.0  # pixels added to numerator and denominator of soft Dice, which an absent class needs
TILE = {"cpu": 8192, "cuda": 1 << 20}  # pixels of eight classes at a time: temporaries of about 2 MB, and of 200 MB
PerClass = float | Sequence[float]


class TermOptions(NamedTuple):
    """Parameters of the terms. Those of type ``PerClass`` are one number, or one per class.

    Attributes:
        smoothing: labels 0 and 1 become half of it and 1 minus half of it (Szegedy et al., 2016), in BCE.
        pos_weight: weight of foreground pixels in BCE.
        focal_gamma: exponent of the focal loss (Lin et al., 2017).
        focal_alpha: its weight of foreground pixels; background pixels weigh 1 - alpha. None: all weigh 1.
        tversky_alpha: weight of false positives (Salehi et al., 2017).
        tversky_beta: weight of false negatives.
        tversky_gamma: of the focal Tversky loss, (1 - index)^(1 / gamma) (Abraham and Khan, 2019).
    """

    smoothing: float = 0.0
    pos_weight: PerClass = 1.0
    focal_gamma: float = 2.0
    focal_alpha: float | None = None
    tversky_alpha: PerClass = 0.3
    tversky_beta: PerClass = 0.7
    tversky_gamma: float = 1.0


DEFAULTS = TermOptions()


class PixelRegionLoss(NamedTuple):
    """Result of :func:`pixel_region_loss`; all but the loss are detached.

    Attributes:
        loss: weighted mean over images and classes, float[].
        terms: each term, unweighted, float32[B, C].
        dice_hard: Dice float32[B, C] of ``logits > 0``, 1 if truth and prediction are both empty.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    dice_hard: Tensor


PIXELWISE, REGION = ("bce", "focal"), ("dice", "tversky")


def pixel_region_loss(
    logits: Tensor,
    planes: Tensor,
    weights: dict[str, float],
    options: TermOptions = DEFAULTS,
    class_weights: Tensor | None = None,
) -> PixelRegionLoss:
    """Weighted sum of BCE, focal (Lin et al., 2017), soft Dice (Milletari et al., 2016) and Tversky losses.

    Args:
        logits: float[B, C, H, W].
        planes: bit-planes uint8[B, P, H, W] of the ground truth.
        weights: by term: bce, focal, dice, tversky. Terms that are not listed are not computed.
        class_weights: float[C] with mean 1; None: all are 1.
    """
    loss, dice_hard, *parts = fused_loss(
        logits, lambda x, g: add_pixel_region(x, planes, weights, options, class_weights, g)
    )
    return PixelRegionLoss(loss, dict(zip(weights, parts, strict=True)), dice_hard)


def add_pixel_region(
    logits: Tensor,
    planes: Tensor,
    weights: dict[str, float],
    options: TermOptions,
    class_weights: Tensor | None,
    gradient: Tensor | None,
) -> tuple[Tensor, ...]:
    """Loss, hard Dice, terms in the order of ``weights``; adds to ``gradient`` as a :data:`LossFunction` does."""
    batch, classes, height, width = logits.shape
    pixels, dtype, device = height * width, accumulation_dtype(logits), logits.device
    dice_hard = torch.empty(batch, classes, dtype=dtype, device=device)
    terms = {name: torch.empty_like(dice_hard) for name in weights}
    region = [name for name in REGION if name in weights]
    class_weights = torch.ones(classes, device=device) if class_weights is None else class_weights.to(device)
    for part in chunks(classes):
        scale = class_weights[part].to(dtype)[:, None] / (batch * classes)
        columns = _ClassColumns(options, part, classes, dtype, device)
        positions = torch.arange(part.stop - part.start, dtype=torch.uint8, device=device)[:, None]
        for b in range(batch):
            x = logits[b, part].reshape(-1, pixels)
            plane = planes[b, part.start // 8].reshape(1, pixels)
            grad = gradient[b, part].view(-1, pixels) if gradient is not None else None
            sums = _pixel_pass(x, plane, positions, weights, columns, grad, scale / pixels)
            dice_hard[b, part] = dice_from_counts(sums["guess_true"], sums["guess"] + sums["truth"]).to(dtype)
            for name in PIXELWISE:
                if name in weights:
                    terms[name][b, part] = (sums[name] / pixels).to(dtype)
            if region:
                values, d_fp, d_fn = _region_terms(sums, weights, columns)
                for name in region:
                    terms[name][b, part] = values[name].to(dtype)
                if grad is not None:
                    on_fp, on_fn = (d[:, None].to(dtype) * scale for d in (d_fp, d_fn))
                    _region_pass(x, plane, positions, grad, on_fp, on_fn)
    total = sum((weight * terms[name] for name, weight in weights.items()), torch.zeros_like(dice_hard))
    return (total * class_weights.to(dtype)).mean(), dice_hard, *terms.values()


class _ClassColumns:
    """The options of some classes as columns [n, 1]; None for those that change nothing."""

    def __init__(self, options: TermOptions, part: slice, classes: int, dtype: torch.dtype, device: torch.device):
        def column(value: PerClass) -> Tensor:
            return torch.as_tensor(value, dtype=dtype).expand(classes)[part, None].to(device)

        half, pos_weight = options.smoothing / 2, column(options.pos_weight)
        # With pos_weight w and labels y +- half, BCE is, for truth 1: (w (1 - half) + half) log(1 + exp(z)) - half z;
        # for truth 0: (1 - half + w half) log(1 + exp(z)) - w half z. Pairs are (truth 0, truth 1).
        self.bce, self.linear = None, None
        if bool((torch.as_tensor(options.pos_weight) != 1).any()):  # on the CPU, without waiting for a GPU
            self.bce = (1 - half + pos_weight * half, pos_weight * (1 - half) + half)
        if half:
            self.linear = (pos_weight * half, torch.full_like(pos_weight, half))
        self.focal_gamma, self.focal = options.focal_gamma, None
        if options.focal_alpha is not None:
            self.focal = (column(1 - options.focal_alpha), column(options.focal_alpha))
        self.alpha, self.beta = column(options.tversky_alpha)[:, 0], column(options.tversky_beta)[:, 0]
        self.tversky_gamma = options.tversky_gamma


def _select(pair: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
    """One of two columns [n, 1] per pixel, selected by the truth y [n, N] in 0, 1."""
    return torch.addcmul(pair[0], pair[1] - pair[0], y)


def _weighted(values: Tensor, pair: tuple[Tensor, Tensor] | None, y: Tensor) -> Tensor:
    return values if pair is None else values * _select(pair, y)


def _tiles(pixels: int, device: torch.device) -> list[slice]:
    step = TILE.get(device.type, TILE["cuda"])
    return [slice(start, start + step) for start in range(0, pixels, step)]


def _pixel_pass(
    logits: Tensor,
    plane: Tensor,
    positions: Tensor,
    weights: dict[str, float],
    columns: _ClassColumns,
    grad: Tensor | None,
    scale: Tensor,
) -> dict[str, Tensor]:
    """Sums float64[n] over the pixels of n classes; adds the gradient of the pixelwise terms to ``grad``.

    Keys: ``q`` and ``q_true``, the wrong probability everywhere and where the truth is 1; ``guess`` and
    ``guess_true``, pixels with a positive logit; ``truth``; and each pixelwise term.
    """
    dtype = scale.dtype
    sums: dict[str, Tensor] = {}

    def add(name: str, values: Tensor) -> None:
        # float32 within a tile, float64 across tiles
        total = values.sum(1).double()
        sums[name] = sums[name].add_(total) if name in sums else total

    pixelwise = [name for name in PIXELWISE if name in weights]
    for tile in _tiles(logits.shape[1], logits.device):
        x = logits[:, tile].to(dtype)
        y = bits(plane[:, tile], positions).to(dtype)
        add("truth", y)
        guess = torch.gt(x, 0, out=torch.empty_like(x))  # floats are faster than bool, and exact
        add("guess", guess)
        add("guess_true", guess.mul_(y))
        if not weights:
            continue
        sign = torch.rsub(y, 1, alpha=2)
        z = x * sign
        q = torch.sigmoid(z)
        add("q", q)
        add("q_true", torch.mul(q, y, out=guess))
        if not pixelwise:
            continue
        cross = torch.abs(z, out=guess).neg_().exp_().log1p_().add_(z.clamp(min=0))  # log(1 + exp(z)), never inf
        pixel_grads = []  # with respect to z
        if "bce" in weights:
            add("bce", _weighted(cross, columns.bce, y))
            pixel_grads.append(_weighted(q, columns.bce, y) * weights["bce"])
            if columns.linear is not None:
                linear = _select(columns.linear, y)
                sums["bce"] -= (z * linear).sum(1).double()
                pixel_grads[0].sub_(linear, alpha=weights["bce"])
        if "focal" in weights:
            gamma = columns.focal_gamma
            power = q * q if gamma == 2 else q**gamma
            focal = cross.mul_(power)
            add("focal", _weighted(focal, columns.focal, y))
            # d (q^g c)/dz = q^g (g (1 - q) c + q), with dc/dz = q and dq/dz = q (1 - q)
            power.mul_(q).add_(focal.addcmul_(focal, q, value=-1), alpha=gamma)
            pixel_grads.append(_weighted(power, columns.focal, y).mul_(weights["focal"]))
        if grad is not None:
            grad[:, tile].addcmul_(sum(pixel_grads[1:], pixel_grads[0]), sign.mul_(scale))
    return sums


def _region_terms(
    sums: dict[str, Tensor], weights: dict[str, float], columns: _ClassColumns
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Dice and Tversky float64[n] from the sums, and the derivatives of their weighted sum by FP and by FN."""
    with torch.enable_grad():
        fp = (sums["q"] - sums["q_true"]).clamp(min=0).requires_grad_()
        fn = sums["q_true"].clone().requires_grad_()
        tp = sums["truth"] - fn
        values: dict[str, Tensor] = {}
        if "dice" in weights:  # 1 - (2 TP + 1) / (2 TP + FP + FN + 1)
            values["dice"] = (fp + fn) / (2 * tp + fp + fn + SMOOTH)
        if "tversky" in weights:  # equals Dice for alpha = beta = 1/2
            wrong = columns.alpha * fp + columns.beta * fn
            index = wrong / (tp + wrong + SMOOTH / 2)
            gamma = columns.tversky_gamma
            values["tversky"] = index if gamma == 1 else index.clamp(min=1e-12) ** (1 / gamma)
        total = torch.stack([weights[name] * value.sum() for name, value in values.items()]).sum()
        d_fp, d_fn = torch.autograd.grad(total, (fp, fn))
    return {name: value.detach() for name, value in values.items()}, d_fp, d_fn


def _region_pass(logits: Tensor, plane: Tensor, positions: Tensor, grad: Tensor, on_fp: Tensor, on_fn: Tensor) -> None:
    """Adds the gradient of the region terms: s (1 - s) times ``on_fp`` if the truth is 0, else times -``on_fn``."""
    difference = -(on_fp + on_fn)
    for tile in _tiles(logits.shape[1], logits.device):
        s = torch.sigmoid(logits[:, tile].to(on_fp.dtype))
        y = bits(plane[:, tile], positions).to(s.dtype)
        grad[:, tile].addcmul_(torch.addcmul(s, s, s, value=-1), torch.addcmul(on_fp, difference, y))
