"""How far each pair of members agrees, as JSON and as a table; what is measured, the kind of members says."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

WIDE = 4  # members up to which a table has a column per pair


def pairs_json(name: str, mean: np.ndarray, by_class: np.ndarray) -> list[dict[str, Any]]:
    """Pairs of members by number, from 1.

    Args:
        name: of the figure.
        mean: float64[M, M].
        by_class: float64[M, M, C]; NaN where it is not defined.
    """
    return [
        {
            "members": [a + 1, b + 1],
            name: round(float(mean[a, b]), 4),
            "classes": [None if np.isnan(v) else round(v, 4) for v in by_class[a, b].tolist()],
        }
        for a, b in combinations(range(len(mean)), 2)
    ]


def pairs_table(
    title: str, names: Sequence[str], classes: Sequence[str], mean: np.ndarray, by_class: np.ndarray, *, last: str
) -> str:
    """A row per class and a column per pair; of more than four members, one per member with all the others.

    Args:
        mean, by_class: as for :func:`pairs_json`.
        last: what the row of ``mean`` is called.
    """
    count = len(names)
    if count <= WIDE:
        columns = [(f"{a + 1}-{b + 1}", (a, [b])) for a, b in combinations(range(count), 2)]
    else:
        columns = [(f"{a + 1}-rest", (a, [b for b in range(count) if b != a])) for a in range(count)]
    width = max(map(len, ("class", *classes)))
    lines = [title, *(f"  {number}  {name}" for number, name in enumerate(names, 1))]
    lines.append("  ".join([f"{'class':<{width}}", *(f"{head:>6}" for head, _ in columns)]))
    for c, label in enumerate(classes):
        cells = []
        for _, (a, others) in columns:
            known = [v for v in by_class[a, others, c].tolist() if not np.isnan(v)]
            cells.append(f"{sum(known) / len(known):>6.4f}" if known else f"{'-':>6}")
        lines.append("  ".join([f"{label:<{width}}", *cells]))
    means = [f"{float(mean[a, others].mean()):>6.4f}" for _, (a, others) in columns]
    return "\n".join([*lines, "  ".join([f"{last:<{width}}", *means])])
