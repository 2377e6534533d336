"""Tables of many classes, folded to those that matter most on a terminal."""

import numpy as np


def lowest(values: np.ndarray, most: int | None, file: str) -> tuple[list[int], list[str]]:
    """Which classes a table shows, and a line about the others, if there are any.

    Args:
        values: float[C], by which the lowest are shown; NaN comes last.
        most: shown at most, the lowest first; None: all, in their order.
        file: that has the others.

    >>> lowest(np.array([0.5, 0.25, np.nan, 0.75]), 2, "oof_score.json")
    ([1, 0], ['the worst 2 of 4 classes; oof_score.json has all'])
    >>> lowest(np.array([0.5, 0.25]), 2, "oof_score.json")
    ([0, 1], [])
    """
    count = len(values)
    if most is None or count <= most:
        return list(range(count)), []
    chosen = np.argsort(values, kind="stable")[:most].tolist()
    return chosen, [f"the worst {most} of {count} classes; {file} has all"]
