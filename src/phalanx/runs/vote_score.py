"""What a vote is worth out of fold: its members' out-of-fold predictions, voted by the same rule. In its sidecar."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..runtime.files import write_text
from ..runtime.metric import Metric
from ..runtime.reading import as_mapping, as_name, as_real, as_whole
from ..runtime.sidecar import read_sidecar, sidecar_path

KEY = "out_of_fold"  # of the sidecar's vote


class VoteScore(NamedTuple):
    """The metric of a vote over images that no network that voted on them was trained with.

    Attributes:
        task, data: of the members, whose data set has this name.
        interval: 95%, over draws of patients; None of fewer than two.
        cross_fitted: what was tuned (weights, thresholds, cleaning) was fitted without the image's fold.
    """

    metric: Metric
    value: float
    interval: tuple[float, float] | None
    images: int
    patients: int
    task: str
    data: str
    cross_fitted: bool = False

    @property
    def text(self) -> str:
        """For the terminal."""
        span = f" (95% interval {' to '.join(map(self.metric.text, self.interval))})" if self.interval else ""
        tuned = ", tuned without the fold that is scored" if self.cross_fitted else ""
        return (
            f"{self.metric.name} {self.metric.text(self.value)}{span} over {self.images} images of {self.patients} "
            f"patients{tuned}"
        )

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return self._asdict() | {"metric": self.metric.to_json()}

    @classmethod
    def from_json(cls, values: Any) -> "VoteScore":
        """The score of :meth:`to_json`.

        Raises:
            ValueError: the values are not those of a score.
        """
        if as_mapping(values, KEY).keys() != set(cls._fields):
            raise ValueError(f"has an out-of-fold score without the fields {', '.join(cls._fields)}")
        span = values["interval"]
        if span is not None and (not isinstance(span, list) or len(span) != 2):
            raise ValueError("has an out-of-fold score whose interval is not two numbers")
        if not isinstance(values["cross_fitted"], bool):
            raise ValueError("has an out-of-fold score that does not say whether it is cross-fitted")
        return cls(
            Metric.from_json(values["metric"]), as_real(values["value"]),
            None if span is None else (as_real(span[0]), as_real(span[1])),
            as_whole(values["images"], 1), as_whole(values["patients"], 1), as_name(values["task"]),
            str(values["data"]), values["cross_fitted"],
        )  # fmt: skip


def store(csv: Path, score: VoteScore) -> None:
    """Writes a score into the sidecar of a vote.

    Raises:
        DataError: the CSV is not a vote of ours.
    """
    sidecar, _ = read_sidecar(csv)
    if sidecar is None or sidecar.vote is None:
        raise DataError(f"{csv}: has no sidecar of a vote, to which its out-of-fold score would be added")
    write_text(sidecar_path(csv), replace(sidecar, vote={**sidecar.vote, KEY: score.to_json()}).text())


def stored(vote: Any, path: Path) -> VoteScore | None:
    """The score in a sidecar's vote; None if it has none.

    Raises:
        DataError: it is damaged.
    """
    if not vote or vote.get(KEY) is None:
        return None
    try:
        return VoteScore.from_json(vote[KEY])
    except ValueError as error:
        raise DataError(f"{sidecar_path(path)}: {error}; vote again") from None
