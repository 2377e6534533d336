"""The loss of a segmentation recipe: of sigmoids or of a softmax."""

from ..config import SegmentConfig
from .paths import Path
from .softmax import SoftmaxLoss
from .stages import StagedLoss


def segmentation_loss(config: SegmentConfig, path: Path | None = None) -> StagedLoss:
    """The loss that a recipe's head needs.

    Args:
        path: how that of sigmoids is computed; None: as the logits' device needs.

    Raises:
        ConfigError: a stage has a term that this head does not have.
    """
    if config.model.head == "softmax":
        return SoftmaxLoss(config.loss, config.data.classes)
    return StagedLoss(config.loss, config.data.classes, path)
