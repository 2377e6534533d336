"""Several classifiers of the same images in one table, ranked by accuracy and by AUC, with ties within noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .classify import ClassifyScore
from .classify_compare import Rank, rank_classes
from .classify_report import number, text
from .resampling import over

RANKED_BY = ("accuracy", "macro_auc")
DISEASE = ("disease_recall", "disease_specificity", "disease_f1")
MACRO = ("macro_recall", "macro_specificity", "macro_f1")
MIN_MODELS = 2


@dataclass(frozen=True)
class RankTable:
    """Classifiers and their places. Made by :func:`rank_table`.

    Attributes:
        names: short ones, of each score.
        rankings: the best first, by metric of ``RANKED_BY``.
    """

    scores: tuple[ClassifyScore, ...]
    names: tuple[str, ...]
    rankings: dict[str, list[Rank]]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Columns of the table but for the AUC of single classes. Disease against healthy needs ``healthy``."""
        return (*RANKED_BY, *(DISEASE if self.scores[0].healthy is not None else ()), *MACRO)

    def answer(self) -> str:
        """Whether the winner by accuracy is the winner by AUC, from the numbers."""
        best, top = (self.rankings[metric] for metric in RANKED_BY)
        winner, other = self._name(best[0]), self._name(top[0])
        first = f"{winner} is first by accuracy ({text(best[0].value)}{_tied(self, best)})"
        second = f"by macro AUC ({text(top[0].value)}{_tied(self, top)})"
        if winner == other:
            return f"The accuracy winner is the AUC winner: {first} and {second}."
        place = next(rank for rank in top if self._name(rank) == winner)
        noise = ", within noise of the first" if place.tied else ""
        return (
            f"The accuracy winner is not the AUC winner: {first}, {other} {second}; by AUC {winner} has "
            f"{text(place.value)}{noise}."
        )

    def _name(self, rank: Rank) -> str:
        return self.names[[score.name for score in self.scores].index(rank.name)]

    def to_text(self) -> str:
        """The table, both rankings side by side, and the answer."""
        classes = self.scores[0].classes
        heads = ["model", *(f"AUC {name}" for name in classes), *(name.replace("_", " ") for name in self.metrics)]
        rows = [
            [name, *(text(v) for v in score.per_class("auc")), *(text(score.value(m)) for m in self.metrics)]
            for name, score in zip(self.names, self.scores, strict=True)
        ]
        # figures down, models across: the names of figures are longer than numbers
        cells = [list(column) for column in zip(heads, *rows, strict=True)]
        order = [0, *range(len(classes) + 1, len(cells)), *range(1, len(classes) + 1)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(rows) + 1)]
        lines = ["  ".join(f"{cell:<{w}}" for cell, w in zip(cells[i], widths, strict=True)).rstrip() for i in order]
        score = self.scores[0]
        lines += [
            f"{int(score.labelled.sum())} images; 'disease' is any class but {score.healthy}, of the same integer "
            "confusion matrix; 'macro' the mean over classes, each against the rest"
            if score.healthy is not None
            else f"{int(score.labelled.sum())} images; 'macro' is the mean over classes, each against the rest",
            "",
            f"{'place':<6} {'by accuracy':<{widths[0] + 24}} by macro AUC",
        ]
        sides = [[self._place(rank) for rank in self.rankings[metric]] for metric in RANKED_BY]
        for place, (one, other) in enumerate(zip(*sides, strict=True), 1):
            lines.append(f"{place:<6} {one:<{widths[0] + 24}} {other}".rstrip())
        lines.append(f"'=': within noise of the first (paired bootstrap {over(score.grouped)})")
        return "\n".join([*lines, "", self.answer()])

    def _place(self, rank: Rank) -> str:
        first = any(rank is ranking[0] for ranking in self.rankings.values())
        return f"{self._name(rank)} {text(rank.value)}{' =' if rank.tied and not first else ''}"

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return {
            "images": int(self.scores[0].labelled.sum()),
            "patients": len(set(self.scores[0].patients)) if self.scores[0].grouped else None,
            "healthy": self.scores[0].healthy,
            "models": {
                name: {
                    **{metric: number(score.value(metric)) for metric in self.metrics},
                    "auc": dict(zip(score.classes, map(number, score.per_class("auc")), strict=True)),
                    "confusion": score.confusion.tolist() if score.head == "softmax" else None,
                }
                for name, score in zip(self.names, self.scores, strict=True)
            },
            "rankings": {
                metric: [{"name": self._name(r), "value": number(r.value), "tied": r.tied} for r in ranking]
                for metric, ranking in self.rankings.items()
            },
            "answer": self.answer(),
        }


def _tied(table: RankTable, ranking: Sequence[Rank]) -> str:
    tied = [table._name(rank) for rank in ranking[1:] if rank.tied]
    return f", within noise of it {', '.join(tied)}" if tied else ""


def rank_table(scores: Sequence[ClassifyScore], names: Sequence[str]) -> RankTable:
    """Ranks classifiers of the same images and labels.

    Args:
        names: distinct ones, to print.

    Raises:
        DataError: they are of other images, classes, labels or patients.
    """
    return RankTable(tuple(scores), tuple(names), {metric: rank_classes(scores, metric) for metric in RANKED_BY})
