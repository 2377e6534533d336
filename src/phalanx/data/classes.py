"""The order of classes after a mirror."""

from collections.abc import Sequence


def mirrored(classes: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The class order after a mirror.

    >>> mirrored(4, [(0, 2)])
    [2, 1, 0, 3]
    """
    order = list(range(classes))
    for a, b in pairs:
        order[a], order[b] = b, a
    return order
