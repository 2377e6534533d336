"""Dice from counts of pixels, computed on the host here alone."""

import numpy as np


def dice_from_counts(shared: np.ndarray, total: np.ndarray, empty: float = 1.0) -> np.ndarray:
    """Dice float64[...] of masks that share ``shared`` pixels and have ``total`` pixels together, each counted apart.

    2 |A and B| / (|A| + |B|) (Dice, 1945).

    Args:
        shared: |A and B|, of any shape.
        total: |A| + |B|, of the same shape.
        empty: the value if both masks are empty.
    """
    return np.divide(2 * shared, total, out=np.full(np.shape(total), empty), where=np.asarray(total) > 0)
