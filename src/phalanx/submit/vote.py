"""Hard voting by sweeping the runs' ends: exact, and no pixel is ever painted.

A pixel's votes change only where some member's run starts or ends, so sorting those places and adding up +1
and -1 along them gives every pixel's count.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ..errors import DataError
from .stack import Stack, from_line, pitch_of
from .table import Submission, check_alike, known_sizes


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
    # One integer an edge: position, then member, then whether the run starts; sorted as one array.
    low_bits = (2 * len(members) - 1).bit_length()
    edges = np.concatenate(
        [(runs << low_bits) + [2 * member + 1, 2 * member] for member, runs in enumerate(members)]
    ).reshape(-1)
    edges.sort()
    change = np.stack([-votes, votes], axis=1).reshape(-1)  # indexed by 2 * member + starts
    count = np.cumsum(change[edges & ((1 << low_bits) - 1)])
    position = edges >> low_bits
    last = np.append(position[1:] != position[:-1], True)[: len(position)]  # all edges of a place count at once
    position, reached = position[last], count[last] >= quorum
    turns = np.diff(reached, prepend=False)
    return position[turns].reshape(-1, 2)


def vote_stacks(members: Sequence[Stack], quorum: int, weights: Sequence[int] | None = None) -> Stack:
    """``vote`` for every class of one image at once."""
    pitch = pitch_of(members)
    line = vote([member.laid(pitch) for member in members], quorum, weights)
    return from_line(line, pitch, members[0].classes)


def hard_vote(
    members: Sequence[Submission], quorum: int | None = None, weights: Sequence[int] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Votes over submissions, an image at a time.

    Yields (image, one RLE per class) as ``table.write`` takes them: images sorted, classes as in the first.

    By default a pixel needs strictly more than half of the votes, so with an even number of votes a tie is
    background. A quorum of half the votes makes a tie foreground.

    Raises:
        DataError: at once, if members differ in images, classes or known sizes or the quorum cannot work;
            while iterating, if a row is wrong, with its file, line, image and class.
    """
    check_alike(members)
    total = sum(weights) if weights is not None else len(members)
    needed = total // 2 + 1 if quorum is None else quorum
    _checked_votes(len(members), needed, weights)
    sizes = known_sizes(members)
    classes = members[0].classes
    ordered = [member.reorder(classes) for member in members]

    def images() -> Iterator[tuple[str, list[str]]]:
        for image in ordered[0].images:
            stacks = [member.stack(image, sizes.get(image)) for member in ordered]
            yield image, vote_stacks(stacks, needed, weights).texts()

    return images()


def _checked_votes(members: int, quorum: int, weights: Sequence[int] | None) -> np.ndarray:
    """int64[members]: votes of each member."""
    if not members:
        raise DataError("a vote needs at least one member")
    if weights is None:
        weights = [1] * members
    if len(weights) != members:
        raise DataError(f"{len(weights)} weights for {members} members; give one each")
    if any(isinstance(weight, bool) or weight != int(weight) or weight < 1 for weight in weights):
        raise DataError(f"weights {list(weights)}: whole numbers of at least 1 only; scale fractions up")
    total = int(sum(weights))
    if quorum != int(quorum) or not 1 <= quorum <= total:
        raise DataError(f"quorum {quorum}: must be a whole number from 1 to {total}, the sum of all votes")
    return np.array(weights, np.int64)
