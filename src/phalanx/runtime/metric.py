"""The number by which a task ranks its weights."""

from typing import Any, NamedTuple

from .reading import as_mapping, as_name, as_whole

MAX_DECIMALS = 17  # that a 64-bit number may need


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
            ValueError: the values are not those of a metric.
        """
        if as_mapping(values, "metric").keys() != set(cls._fields):
            raise ValueError("has a metric without its name, its direction or its number of decimals")
        if not isinstance(values["higher_is_better"], bool):
            raise ValueError("has a metric whose direction is not true or false")
        return cls(as_name(values["name"]), values["higher_is_better"], as_whole(values["decimals"], 0, MAX_DECIMALS))
