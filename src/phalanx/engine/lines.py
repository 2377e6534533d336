"""The lines that a training prints: one per epoch, and the worst classes of a validation."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..runtime.metric import Metric
from ..runtime.progress import clock
from .task import COUNTED, SHOWN_CLASSES


class EpochLine(NamedTuple):
    """What an epoch found.

    Attributes:
        number: from 1.
        loss: mean over the epoch's images, and ``terms`` that of each term by its name in the log.
        trained_by: name and value of the metric of training steps.
        held_out: the validated metric, if it was measured, and ``more`` what else is printed of it.
        best: whether it is the best so far.
    """

    number: int
    epochs: int
    loss: float
    terms: Mapping[str, float]
    trained_by: tuple[str, float]
    held_out: float | None
    best: bool
    lr: float
    seconds: float
    more: Sequence[tuple[str, float]] = ()

    def to_text(self, metric: Metric) -> str:
        """One line.

        >>> line = EpochLine(2, 9, 0.25, {"loss/a": 0.2, "loss/b": 0.3}, ("accuracy", 0.9), 0.875, True, 1e-4, 75.0)
        >>> line.to_text(Metric("accuracy", decimals=3))
        'epoch 2/9: loss 0.2500 (a 0.2000, b 0.3000), accuracy 0.900, held-out accuracy 0.875 (best), lr 1.0e-04, 1:15'
        """
        terms = ", ".join(
            f"{name.removeprefix('loss/')} {value:.4f}" for name, value in self.terms.items() if name != COUNTED
        )
        name, value = self.trained_by
        parts = [f"loss {self.loss:.4f}{f' ({terms})' if terms else ''}", f"{name} {value:.{metric.decimals}f}"]
        if self.held_out is not None:
            parts.append(f"held-out {metric.name} {metric.text(self.held_out)}{' (best)' if self.best else ''}")
            parts += [f"held-out {text} {value:.4f}" for text, value in self.more]
        return f"epoch {self.number}/{self.epochs}: {', '.join([*parts, f'lr {self.lr:.1e}', clock(self.seconds)])}"


def by_class(measured: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The figures of classes among what a task measured: value by class, of each figure.

    >>> by_class({"loss": 1.0, "auc/class/a": 0.5, "auc/class/b/c": 0.25})
    {'auc': {'a': 0.5, 'b/c': 0.25}}
    """
    found: dict[str, dict[str, float]] = {}
    for key, value in measured.items():
        figure, kind, name = [*key.split("/", 2), "", ""][:3]
        if kind == "class":
            found.setdefault(figure, {})[name] = value
    return found


def worst_text(measured: Mapping[str, float]) -> str:
    """The classes with the lowest values of the first figure that classes have; empty for a single class.

    >>> worst_text({"auc/class/a": 0.5, "auc/class/b": 0.25})
    '  auc, by class: b 0.2500, a 0.5000'
    """
    for figure, values in by_class(measured).items():
        if len(values) > 1:
            shown = sorted(values.items(), key=lambda pair: pair[1])[:SHOWN_CLASSES]
            what = f"worst of {len(values)} classes (all: curves.csv)" if len(values) > SHOWN_CLASSES else "by class"
            return f"  {figure}, {what}: {', '.join(f'{name} {value:.4f}' for name, value in shown)}"
    return ""
