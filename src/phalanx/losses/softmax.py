"""The loss of a softmax over background and classes that exclude each other, of which each pixel has one.

``ce`` and ``focal`` are means over an image's pixels. ``dice`` is the mean over the classes without background.
``lovasz`` is the mean over those that the image has, background among them, as in the paper.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.loss import BACKGROUND, Loss
from ..errors import ConfigError
from ..masks.dice_torch import dice_from_counts
from ..masks.planes_torch import label_map, pick_points
from .class_weights import Weights
from .fused_autograd import accumulation_dtype
from .pixel_region import SMOOTH
from .stages import SOFTMAX_TERMS, StagedLoss, StepLoss, refuse_terms

WEIGHTED = ("ce", "focal", "point")  # of which each pixel counts by the weight of its class
SMALLEST = 1e-12  # of 1 - p, so that its powers have a finite derivative


class SoftmaxLoss(StagedLoss):
    """Terms and their weights per loss stage, as :class:`StagedLoss`, of logits float[B, 1 + C, H, W].

    Args:
        classes: names without background, in the order of the logits.

    Raises:
        ConfigError: a stage has a term of sigmoids, or an option that no term of a softmax reads.
    """

    def __init__(self, config: Loss, classes: Sequence[str]):
        refuse_terms(config, SOFTMAX_TERMS, "softmax")
        if config.class_weights and not config.terms & set(WEIGHTED):
            raise ConfigError(
                f"loss.class_weights: weigh the pixels of {', '.join(WEIGHTED)}, and no loss stage has one of these"
            )
        focal, point = config.options.focal, config.options.point
        if focal is not None and focal.alpha is not None:
            raise ConfigError(
                "loss.options.focal.alpha: weighs foreground against background (model.head=sigmoid); use "
                "loss.class_weights"
            )
        self.stages, self.names = config.stages, (BACKGROUND, *classes)
        self.gamma = focal.gamma if focal else 0.0
        self.point_dice_weight = point.dice_weight if point else 0.0
        self.set_weights(None)

    def set_weights(self, weights: Weights | None) -> None:
        """Takes the weights of background and classes, by the pixels of the training fold; None: all are 1."""
        self._weights = [1.0] * len(self.names) if weights is None else weights.positive.tolist()
        self._cache: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def __call__(self, stage: int, logits: Tensor, points: tuple[Tensor, Tensor] | None, planes: Tensor) -> StepLoss:
        """The loss of loss stage number ``stage``.

        Args:
            logits: float[B, 1 + C, H, W], background first.
            points: coords[B, N, 2] and logits[B, 1 + C, N] of a point head; None without one.
            planes: bit-planes uint8[B, P, H, W] of the ground truth; of several classes of a pixel the last counts.
        """
        weights, truth = self.stages[stage].weights, label_map(planes)
        with torch.autocast(logits.device.type, enabled=False):
            log_p = F.log_softmax(logits.to(accumulation_dtype(logits)), dim=1).flatten(2)
            flat, by_class = truth.flatten(1), self._by_class(log_p)
            terms = {
                "ce": lambda: cross_entropy(log_p, flat, by_class),
                "focal": lambda: cross_entropy(log_p, flat, by_class, self.gamma),
                "dice": lambda: soft_dice(log_p.exp(), flat),
                "lovasz": lambda: lovasz_softmax(log_p.exp(), flat),
            }
            if points is not None:
                terms["point"] = partial(self._points, *points, planes)
            parts = {name: terms[name]() for name in weights if name in terms}
            total = sum((weights[name] * part.mean() for name, part in parts.items()), log_p.new_zeros(()))
        dice = exclusive_dice(logits.detach(), truth)
        return StepLoss(total, {name: part.detach() for name, part in parts.items()}, dice)

    def _points(self, coords: Tensor, logits: Tensor, planes: Tensor) -> Tensor:
        """The loss of a point head float[B, 1]: cross-entropy at the points, and soft Dice over them."""
        truth = label_map(pick_points(planes, coords))[:, 0]
        log_p = F.log_softmax(logits.to(accumulation_dtype(logits)), dim=1)
        parts = cross_entropy(log_p, truth, self._by_class(log_p))
        if not self.point_dice_weight:
            return parts
        dice = soft_dice(log_p.exp(), truth).mean(1, keepdim=True)
        return (1 - self.point_dice_weight) * parts + self.point_dice_weight * dice

    def _by_class(self, values: Tensor) -> Tensor:
        """Float[1 + C]: the weights in the type and place of ``values``, copied there once."""
        key = values.device, values.dtype
        if key not in self._cache:
            self._cache[key] = torch.tensor(self._weights, dtype=values.dtype, device=values.device)
        return self._cache[key]


def cross_entropy(log_p: Tensor, truth: Tensor, weights: Tensor, gamma: float = 0.0) -> Tensor:
    """Weighted cross-entropy of each image, float[B, 1]: the mean over its pixels of -w (1 - p)^gamma log p.

    With gamma > 0 it is the focal loss (Lin et al., 2017, "Focal loss for dense object detection", equation 4).

    Args:
        log_p: float[B, K, N], logarithms of the probabilities.
        truth: int64[B, N].
        weights: float[K] by class.
    """
    own = log_p.gather(1, truth[:, None])[:, 0]
    if gamma:
        own = own * (-torch.expm1(own)).clamp(min=SMALLEST) ** gamma
    return -(own * weights[truth]).mean(1, keepdim=True)


def soft_dice(p: Tensor, truth: Tensor) -> Tensor:
    """Soft Dice loss float[B, C] of the classes without background (Milletari et al., 2016), as :mod:`.pixel_region`.

    Args:
        p: float[B, 1 + C, N], probabilities.
        truth: int64[B, N].
    """
    parts = []
    for channel in range(1, p.shape[1]):
        there = (truth == channel).to(p.dtype)
        both, total = (p[:, channel] * there).sum(1), p[:, channel].sum(1) + there.sum(1)
        parts.append(1 - (2 * both + SMOOTH) / (total + SMOOTH))
    return torch.stack(parts, 1)


def lovasz_softmax(p: Tensor, truth: Tensor) -> Tensor:
    """Lovasz-softmax of each image float[B, 1], the mean over the classes that it has (Berman et al., 2018, "The
    Lovasz-Softmax loss", equations 8 to 13).

    Args:
        p: float[B, K, N], probabilities.
        truth: int64[B, N].
    """
    channels = torch.arange(p.shape[1], device=p.device)[:, None]
    there = truth[:, None] == channels
    errors = torch.where(there, 1 - p, p)
    order = errors.detach().argsort(dim=2, descending=True, stable=True)
    sorted_truth = there.gather(2, order)
    positives = there.sum(2, keepdim=True, dtype=torch.float64)
    own = sorted_truth.double()
    before = own.cumsum(2) - own
    # of an absent class, whose loss is left out, the counts would divide by 0
    union = positives.clamp(min=1) + torch.arange(p.shape[2], device=p.device) - before
    steps = torch.where(sorted_truth, 1 / union, (positives - before) / (union * (union + 1)))
    losses = (errors.gather(2, order).double() * steps).sum(2)
    present = positives[:, :, 0] > 0
    mean = torch.where(present, losses, 0.0).sum(1, keepdim=True) / present.sum(1, keepdim=True)
    return mean.to(p.dtype)


def exclusive_dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Dice float32[B, C] of the likeliest channel of each pixel, without background; 1 if both are empty.

    Args:
        logits: float[B, 1 + C, H, W].
        truth: int64[B, H, W].
    """
    guess, parts = logits.argmax(1), []
    for channel in range(1, logits.shape[1]):
        one, other = guess == channel, truth == channel
        parts.append(dice_from_counts((one & other).sum((1, 2)), one.sum((1, 2)) + other.sum((1, 2))))
    return torch.stack(parts, 1).float()
