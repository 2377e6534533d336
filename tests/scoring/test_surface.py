"""Surface scores against all distances between all surface pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.masks import rle
from phalanx.masks.stack import Stack
from phalanx.scoring.surface import surface_scores


def slow_surface(mask):
    """Pixels int64[N, 2] with one of four neighbours outside the mask."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere(mask & ~inner)


def slow_scores(a, b, tolerance):
    if not a.any() or not b.any():
        return [float(not a.any() and not b.any()), np.nan]
    one, other = slow_surface(a), slow_surface(b)
    gaps = np.sqrt(((one[:, None] - other[None]) ** 2).sum(-1))
    to_other, to_one = gaps.min(1), gaps.min(0)
    near = (to_other <= tolerance).sum() + (to_one <= tolerance).sum()
    return [near / (len(one) + len(other)), max(np.percentile(to_other, 95), np.percentile(to_one, 95))]


def stack(masks):
    return Stack.parse([rle.encode(mask) for mask in masks])


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 1.5, 3]))
def test_scores_equal_those_of_all_pairs(seed, tolerance):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 25, 2).tolist())
    a, b = rng.random((2, 3, *size)) < rng.choice([0, 0.3, 0.7, 0.95], (2, 3, 1, 1))
    found = surface_scores(stack(a), stack(b), size, tolerance)
    np.testing.assert_allclose(found, [slow_scores(x, y, tolerance) for x, y in zip(a, b, strict=True)])


def test_a_square_moved_by_three_pixels():
    a, b = np.zeros((2, 1, 40, 50), bool)
    a[0, 10:20, 10:20] = b[0, 10:20, 13:23] = True
    near, far = surface_scores(stack(a), stack(b), (40, 50), 3)[0]
    assert (near, far) == (1, 3)
    assert surface_scores(stack(a), stack(b), (40, 50), 2)[0, 0] == pytest.approx(slow_scores(a[0], b[0], 2)[0])
    assert surface_scores(stack(a), stack(b), (40, 50), 0)[0, 0] < 0.5
