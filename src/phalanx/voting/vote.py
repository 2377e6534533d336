"""Hard voting by sweeping the runs' ends: exact, and no pixel is ever painted.

A pixel's votes change only where some member's run starts or ends, so sorting those places and adding up +1
and -1 along them gives every pixel's count.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..masks.stack import Stack, class_offset, unflatten
from ..runtime.sidecar import Size
from ..submission.matching import check_matching, known_sizes
from ..submission.table import Submission

MAX_MEMBERS = 62  # members of one vote: a bit each, and one for the sign
MAX_VOTES = 10**9  # of all members together: far below the overflow of 64 bits


class Coverage(NamedTuple):
    """Who covers what along a line of pixels."""

    positions: np.ndarray  # int64[K]: where the set of members changes, ascending
    members: np.ndarray  # int64[K]: bit m is set where member m covers the pixels up to the next position


def coverage(members: Sequence[np.ndarray]) -> Coverage:
    """The members that cover each stretch of pixels, from runs int64[N, 2] of one mask each."""
    # One integer per edge: position, then member, then whether the run starts; sorted as one array.
    low_bits = (2 * len(members) - 1).bit_length()
    edges = np.concatenate(
        [(runs << low_bits) + [2 * member + 1, 2 * member] for member, runs in enumerate(members)]
    ).reshape(-1)
    edges.sort()
    bits = np.int64(1) << np.arange(len(members))
    change = np.stack([-bits, bits], axis=1).reshape(-1)  # indexed by 2 * member + starts
    covered = np.cumsum(change[edges & ((1 << low_bits) - 1)])
    position = edges >> low_bits
    last = np.append(position[1:] != position[:-1], True)[: len(position)]  # all edges of a place count at once
    return Coverage(position[last], covered[last])


def vote(members: Sequence[np.ndarray], quorum: int, weights: Sequence[int] | None = None) -> np.ndarray:
    """Runs int64[N, 2] of the pixels whose votes reach ``quorum``; touching runs are joined.

    Args:
        members: runs int64[N, 2] of one mask each.
        quorum: votes a pixel needs, from 1 (union) to all (intersection).
        weights: votes of each member, whole numbers from 1 so that sums are exact; one each by default.

    Raises:
        DataError: a quorum or weights that cannot work.

    >>> vote([np.array([[0, 4]]), np.array([[2, 6]])], quorum=1).tolist()
    [[0, 6]]
    >>> vote([np.array([[0, 4]]), np.array([[2, 6]])], quorum=2).tolist()
    [[2, 4]]
    """
    votes = _checked_votes(len(members), quorum, weights)
    found = coverage(members)
    turns = np.diff(_count(found.members, votes) >= quorum, prepend=False)
    return found.positions[turns].reshape(-1, 2)


def _count(covered: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """int64[K]: the votes of the members whose bits are set, looked up for twelve members at a time."""
    count = np.zeros(len(covered), np.int64)
    for first in range(0, len(votes), 12):
        part = votes[first : first + 12]
        sums = (np.arange(1 << len(part))[:, None] >> np.arange(len(part)) & 1) @ part
        count += sums[covered >> first & (len(sums) - 1)]
    return count


def vote_stacks(members: Sequence[Stack], quorum: int, weights: Sequence[int] | None = None) -> Stack:
    """``vote`` for every class of one image at once."""
    offset = class_offset(members)
    line = vote([member.flatten(offset) for member in members], quorum, weights)
    return unflatten(line, offset, members[0].classes)


def hard_vote(
    members: Sequence[Submission],
    quorum: int | None = None,
    weights: Sequence[int] | None = None,
    observe: Callable[[str, Size | None, Sequence[Stack]], object] | None = None,
) -> Iterator[tuple[str, list[str]]]:
    """Votes over submissions, one image at a time.

    Yields (image, one RLE per class) as ``table.write`` takes them: images sorted, classes as in the first.

    By default a pixel needs strictly more than half of the votes, so with an even number of votes a tie is
    background. A quorum of half the votes makes a tie foreground.

    Args:
        observe: receives each image with its size, if known, and every member's masks.

    Raises:
        DataError: at once, if members differ in images, classes or known sizes or the quorum cannot work;
            while iterating, if a row is wrong, with its file, line, image and class.
    """
    check_matching(members)
    total = sum(weights) if weights is not None else len(members)
    needed = total // 2 + 1 if quorum is None else quorum
    _checked_votes(len(members), needed, weights)
    sizes = known_sizes(members)
    classes = members[0].classes
    ordered = [member.reorder(classes) for member in members]

    def images() -> Iterator[tuple[str, list[str]]]:
        for image in ordered[0].images:
            size = sizes.get(image)
            stacks = [member.stack(image, size) for member in ordered]
            if observe is not None:
                observe(image, size, stacks)
            yield image, vote_stacks(stacks, needed, weights).texts()

    return images()


def _checked_votes(members: int, quorum: int, weights: Sequence[int] | None) -> np.ndarray:
    """int64[members]: votes of each member."""
    if not members:
        raise DataError("a vote needs at least one member")
    if members > MAX_MEMBERS:
        raise DataError(f"{members} members: at most {MAX_MEMBERS} can vote together; vote groups of them first")
    if weights is None:
        weights = [1] * members
    if len(weights) != members:
        raise DataError(f"{len(weights)} weights for {members} members; give one each")
    if any(isinstance(weight, bool) or weight % 1 != 0 or weight < 1 for weight in weights):  # NaN % 1 is not 0
        raise DataError(f"weights {list(weights)}: whole numbers of at least 1 only; scale fractions up")
    total = int(sum(weights))
    if total > MAX_VOTES:
        raise DataError(f"weights {list(weights)}: {total} votes in all, {MAX_VOTES} at most; scale them down")
    if quorum % 1 != 0 or not 1 <= quorum <= total:
        raise DataError(f"quorum {quorum}: must be a whole number from 1 to {total}, the sum of all votes")
    return np.array(weights, np.int64)
