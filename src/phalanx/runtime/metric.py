"""The number by which a task ranks its weights."""

from typing import Any, NamedTuple


class Metric(NamedTuple):
    """Name and direction of a metric, and the decimals it is printed with."""

    name: str
    higher_is_better: bool = True
    decimals: int = 4

    def better(self, value: float, than: float | None, margin: float = 0.0) -> bool:
        """Whether a value improves on another by more than a margin; anything improves on None.

        >>> Metric("loss", higher_is_better=False).better(0.2, than=0.3)
        True
        """
        return than is None or self.sign * value > self.sign * than + margin

    @property
    def sign(self) -> int:
        """1, or -1 if lower is better."""
        return 1 if self.higher_is_better else -1

    @property
    def title(self) -> str:
        """Its name as a sentence has it.

        >>> Metric("mean_auc").title
        'Mean auc'
        """
        return self.name.replace("_", " ").capitalize()

    def text(self, value: float | None) -> str:
        """A value as it is printed; '-' for None."""
        return "-" if value is None else f"{value:.{self.decimals}f}"

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return self._asdict()

    @classmethod
    def from_json(cls, values: Any) -> "Metric":
        """The metric of :meth:`to_json`.

        Raises:
            TypeError: the values are not those of a metric.
        """
        if not isinstance(values, dict):
            raise TypeError("the metric is not a mapping")
        metric = cls(**values)
        kinds = (str, bool, int)
        if not all(isinstance(value, kind) for value, kind in zip(metric, kinds, strict=True)):
            raise TypeError("the metric's fields are not a name, a direction and a number of decimals")
        return metric
