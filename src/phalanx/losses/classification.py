"""The losses of classification: one value per image from its logits and labels, missing labels left out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.classify_loss import ClassifyLoss, Head, check_loss
from .class_weights import Counts, Weights, class_weights, log_priors, margins


class LossValues(NamedTuple):
    """A loss of a batch.

    Attributes:
        total: float[], the mean of ``per_image`` over all images.
        per_image: float[B]: mean over the image's labelled classes; 0 if it has no label.
        terms: the loss by its name, and ``nll``, the plain cross-entropy, which is comparable between losses; float[B]
            each, detached.
    """

    total: Tensor
    per_image: Tensor
    terms: dict[str, Tensor]


class _Numbers(NamedTuple):
    """What a loss needs on a device, float[C] each."""

    positive: Tensor
    negative: Tensor
    later_positive: Tensor  # from LDAM's deferred epoch on
    shift: Tensor  # LDAM's margins, or the adjustment of the logits


class ClassificationLoss:
    """Loss of logits against labels that may be soft (mixup) or missing (NaN).

    It computes in float32, or float64 for such logits, and never waits for a GPU.

    Args:
        config: which loss.
        head: ``softmax``: one class per image. An image with a missing label is left out, since the rest is unknown.
            ``sigmoid``: each class by itself. Only the missing labels are left out.
        classes: names, in the order of the logits.
        counts: labels of the training fold only, each image once.
        weighed: what the class weights are computed from, if not those: the same with images as often as an epoch shows
            them.

    Raises:
        ConfigError: the loss does not fit the head or the classes, or needs images of a class that has none.
    """

    def __init__(
        self,
        config: ClassifyLoss,
        head: Head,
        classes: Sequence[str],
        counts: Counts,
        weighed: Counts | None = None,
    ):
        check_loss(config, head, classes)
        self.config, self.head, self.classes = config, head, tuple(classes)
        self.weights = class_weights(config.class_weights, head, classes, weighed or counts, config.beta)
        self.later = self.weights
        self._shift = np.zeros(len(classes))
        if config.ldam is not None:
            self._shift = margins(counts.positives, config.ldam.max_margin, classes)
            if config.ldam.drw_epoch is not None:
                self.later = class_weights("effective_number", head, classes, counts, config.beta)
        elif config.logit_adjusted is not None:
            self._shift = config.logit_adjusted.tau * log_priors(counts.positives, classes)
        self._cache: dict[tuple[torch.device, torch.dtype], _Numbers] = {}

    def weights_at(self, epoch: int) -> Weights:
        """The weights of classes in an epoch, counted from 0."""
        ldam = self.config.ldam
        deferred = ldam is not None and ldam.drw_epoch is not None and epoch >= ldam.drw_epoch
        return self.later if deferred else self.weights

    def __call__(self, logits: Tensor, labels: Tensor, epoch: int) -> LossValues:
        """The loss of a batch.

        Args:
            logits: float[B, C] of any float type.
            labels: float[B, C] from 0 to 1; NaN is missing.
            epoch: from 0.
        """
        z = logits.to(torch.promote_types(logits.dtype, torch.float32))
        missing = labels.isnan()
        y = torch.where(missing, 0.0, labels).to(z.dtype)
        numbers = self._numbers(z)
        weights = self.weights_at(epoch)
        positive = numbers.positive if weights is self.weights else numbers.later_positive
        if self.head == "softmax":
            known = ~missing.any(dim=1)
            per_image = torch.where(known, self._softmax(z, y, positive, numbers.shift), 0.0)
            with torch.no_grad():
                plain = torch.where(known, -(y * F.log_softmax(z, dim=1)).sum(dim=1), 0.0)
        else:
            cells = self._sigmoid(z, y, positive, numbers.negative)
            per_image = _masked_mean(cells, missing)
            with torch.no_grad():
                plain = _masked_mean(-(y * F.logsigmoid(z) + (1 - y) * F.logsigmoid(-z)), missing)
        return LossValues(per_image.mean(), per_image, {self.config.name: per_image.detach(), "nll": plain})

    @torch.no_grad()
    def confident(self, logits: Tensor, labels: Tensor) -> Tensor:
        """bool[B]: labelled images whose prediction reaches ``config.min_confidence``, whether it is right or not.

        With a softmax the confidence is the largest probability. With sigmoids it is the least of max(p, 1 - p) over
        the image's labelled classes, since an image is decided only if each of its classes is.

        Args:
            logits, labels: as for the loss.
        """
        assert self.config.min_confidence is not None  # else nothing asks
        z, missing = logits.to(torch.promote_types(logits.dtype, torch.float32)), labels.isnan()
        if self.head == "softmax":
            sure, known = F.softmax(z, dim=1).amax(dim=1), ~missing.any(dim=1)
        else:
            sure, known = torch.where(missing, 1.0, torch.sigmoid(z.abs())).amin(dim=1), ~missing.all(dim=1)
        # what is not finite counts, so that the step is found out
        return known & ~(sure < self.config.min_confidence)

    def _softmax(self, z: Tensor, y: Tensor, weight: Tensor, shift: Tensor) -> Tensor:
        """Float[B] of images that have a label."""
        config = self.config
        smooth = y * (1 - config.smoothing) + config.smoothing / len(self.classes)
        if config.ldam is not None:  # the margin is that of the label, before smoothing
            z = config.ldam.scale * (z - shift * y)
        elif config.logit_adjusted is not None:
            z = z + shift
        log_p = F.log_softmax(z, dim=1)
        if config.focal is not None:
            # -expm1: 1 - p without cancellation
            log_p = log_p * (-torch.expm1(log_p)).clamp(min=0) ** config.focal.gamma
        return -(weight * smooth * log_p).sum(dim=1)

    def _sigmoid(self, z: Tensor, y: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Float[B, C] of all cells, those of missing labels among them."""
        config = self.config
        y = y * (1 - config.smoothing) + config.smoothing / 2
        log_p, log_not = F.logsigmoid(z), F.logsigmoid(-z)
        if config.focal is not None:
            alpha, gamma = config.focal.alpha, config.focal.gamma
            balance = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
            log_p, log_not = (  # powers as exponentials of logarithms: no infinite gradient at 0
                balance[0] * (gamma * log_not).exp() * log_p,
                balance[1] * (gamma * log_p).exp() * log_not,
            )
        elif config.asl is not None:
            log_p, log_not = self._asymmetric(z, log_p, log_not)
        return -(positive * y * log_p + negative * (1 - y) * log_not)

    def _asymmetric(self, z: Tensor, log_p: Tensor, log_not: Tensor) -> tuple[Tensor, Tensor]:
        """The two sides of the asymmetric loss (Ridnik et al., 2021, "Asymmetric loss for multi-label
        classification", equations 4 to 7)."""
        options = self.config.asl
        assert options is not None
        one = (options.gamma_pos * log_not).exp() * log_p
        if options.margin == 0:
            return one, (options.gamma_neg * log_p).exp() * log_not
        shifted = (torch.sigmoid(z) - options.margin).clamp(min=0)
        rest = (torch.sigmoid(-z) + options.margin).clamp(max=1)  # 1 - shifted, without cancellation
        return one, shifted**options.gamma_neg * rest.log()

    def _numbers(self, z: Tensor) -> _Numbers:
        """The constants in the logits' type and place, copied there once."""
        key = (z.device, z.dtype)
        if key not in self._cache:
            rows = [self.weights.positive, self.weights.negative, self.later.positive, self._shift]
            self._cache[key] = _Numbers(*(torch.tensor(row, dtype=z.dtype, device=z.device) for row in rows))
        return self._cache[key]


def _masked_mean(cells: Tensor, missing: Tensor) -> Tensor:
    """Mean float[B] over the cells [B, C] of an image that are not missing; 0 if all are."""
    known = (~missing).sum(dim=1)
    return torch.where(missing, 0.0, cells).sum(dim=1) / known.clamp(min=1)
