"""Votes on runs against votes on pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from phalanx.errors import DataError
from phalanx.masks import rle
from phalanx.masks.stack import Stack, dice_per_class
from phalanx.submission.table import Submission, write
from phalanx.voting.vote import MAX_MEMBERS, coverage, hard_vote, vote, vote_stacks

stacks = hnp.array_shapes(min_dims=3, max_dims=3, max_side=12).flatmap(lambda shape: hnp.arrays(bool, shape))
members_of = st.tuples(*[st.integers(1, n) for n in (6, 5, 12, 12)]).flatmap(lambda s: hnp.arrays(bool, s))


def runs(mask):
    return rle.parse(rle.encode(mask))


@given(stacks, st.integers(1, 12))
def test_vote_equals_dense_vote(stack, quorum):
    quorum = min(quorum, len(stack))
    voted = vote([runs(mask) for mask in stack], quorum)
    assert rle.format_runs(voted) == rle.encode(stack.sum(0) >= quorum)


@given(stacks, st.data())
def test_weighted_vote_equals_dense_weighted_vote(stack, data):
    weights = data.draw(st.lists(st.integers(1, 9), min_size=len(stack), max_size=len(stack)))
    quorum = data.draw(st.integers(1, sum(weights)))
    voted = vote([runs(mask) for mask in stack], quorum, weights)
    assert rle.format_runs(voted) == rle.encode(np.tensordot(weights, stack, 1) >= quorum)


@given(st.tuples(st.integers(13, 40), st.integers(1, 3), st.integers(1, 9)).flatmap(lambda s: hnp.arrays(bool, s)))
def test_many_members_vote_and_are_told_apart(stack):
    """More than one lookup holds."""
    found = coverage([runs(mask) for mask in stack])
    ends = np.append(found.positions, stack[0].size)[1:]
    painted = np.zeros(stack[0].size, np.int64)
    for start, end, members in zip(found.positions, ends, found.members, strict=True):
        painted[start:end] = members
    np.testing.assert_array_equal(painted >> np.arange(len(stack))[:, None] & 1, stack.reshape(len(stack), -1))
    quorum = len(stack) // 2
    assert rle.format_runs(vote([runs(mask) for mask in stack], quorum)) == rle.encode(stack.sum(0) >= quorum)


def test_touching_runs_are_joined():
    assert vote([np.array([[0, 5], [5, 7]])], 1).tolist() == [[0, 7]]
    assert vote([np.array([[0, 5]]), np.array([[5, 7]])], 1).tolist() == [[0, 7]]


@given(members_of, st.data())
def test_all_classes_at_once_equal_each_class(members, data):
    """members: bool[M, C, H, W]"""
    quorum = data.draw(st.integers(1, len(members)))
    voted = vote_stacks([Stack.parse([rle.encode(m) for m in member]) for member in members], quorum)
    assert voted.texts() == [rle.encode(m) for m in members.sum(0) >= quorum]


@given(members_of)
def test_dice_per_class_equals_dice_of_each(members):
    a, b = members[0], members[-1]
    found = dice_per_class(*[Stack.parse([rle.encode(m) for m in member]) for member in (a, b)])
    assert found.tolist() == [rle.dice(runs(x), runs(y)) for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize(
    ("quorum", "weights", "message"),
    [
        (0, None, "quorum 0"),
        (3, None, "from 1 to 2"),
        (1.5, None, "whole number"),
        (1, [1], "1 weights for 2"),
        (1, [1, 0], "at least 1"),
        (1, [0.5, 0.5], "whole numbers"),
        (1, [float("nan"), 1], "whole numbers"),
        (1, [float("inf"), 1], "whole numbers"),
        (1, [2**62, 2**62], "votes in all"),
        (float("nan"), None, "whole number"),
    ],
)
def test_impossible_votes_are_refused(quorum, weights, message):
    with pytest.raises(DataError, match=message):
        vote([np.array([[0, 1]])] * 2, quorum, weights)
    member = Submission.of({"a": ["1 1"]}, ["bone"])
    with pytest.raises(DataError, match=message):
        hard_vote([member, member], quorum, weights)


def test_a_vote_of_nobody_is_refused():
    with pytest.raises(DataError, match="at least one member"):
        vote([], 1)
    with pytest.raises(DataError, match="at least one member"):
        hard_vote([])
    with pytest.raises(DataError, match=f"{MAX_MEMBERS + 1} members: at most {MAX_MEMBERS} can"):
        hard_vote([member("a", {"i": "1 1"})] * (MAX_MEMBERS + 1))


def member(name, texts, sizes=None, classes=("bone",)):
    return Submission.of({image: [text] * len(classes) for image, text in texts.items()}, classes, sizes, name)


def test_majority_is_strictly_more_than_half_and_a_tie_is_background():
    texts = ["1 4", "3 4", "5 4", "1 8"]
    four = [member(text, {"a": text}) for text in texts]
    assert list(hard_vote(four)) == [("a", ["3 4"])]  # votes 2 2 3 3 3 3 2 2
    assert list(hard_vote(four, quorum=2)) == [("a", ["1 8"])]
    assert list(hard_vote(four[:3])) == [("a", ["3 4"])]  # votes 1 1 2 2 2 2 1 1
    assert list(hard_vote(four[:2], weights=[3, 1])) == [("a", ["1 4"])]
    assert list(hard_vote(four[:2], weights=[1, 1])) == [("a", ["3 2"])]


def test_class_order_is_free_and_the_first_members_wins():
    a = Submission.of({"i": ["1 1", "5 1"]}, ["x", "y"], name="a")
    b = Submission.of({"i": ["5 1", "1 1"]}, ["y", "x"], name="b")
    assert list(hard_vote([a, b])) == [("i", ["1 1", "5 1"])]


def test_members_that_differ_are_refused_naming_both():
    good = member("a.csv", {"i": "1 1", "j": "1 1"}, {"i": (2, 3)})
    with pytest.raises(DataError, match=r"a\.csv and b\.csv .*images: 1 only in the first \('j'\) and 2 only in the "):
        hard_vote([good, member("b.csv", {"i": "1 1", "k": "1 1", "l": "1 1"})])
    with pytest.raises(DataError, match=r"c\.csv .*classes: 1 only in the second \('ring'\)"):
        hard_vote([good, member("c.csv", {"i": "1 1", "j": "1 1"}, classes=("bone", "ring"))])
    with pytest.raises(DataError, match=r"sizes of 1 images, such as 'i': 2x3 in the first, 3x2 in the second"):
        hard_vote([good, good, member("d.csv", {"i": "1 1", "j": "1 1"}, {"i": (3, 2)})])


def test_a_size_that_one_member_knows_is_held_against_all():
    knows, other = member("a", {"i": "1 1"}, {"i": (2, 3)}), member("b", {"i": "7 1"})
    with pytest.raises(DataError, match=r"b \(image 'i', class 'bone'\): run 1 '7 1' ends outside the image"):
        list(hard_vote([knows, other]))


@given(members_of)
def test_files_vote_as_pixels_do(tmp_path_factory, members):
    """Through CSVs: written, read, voted, written, decoded; members: bool[M, C, H, W]."""
    folder = tmp_path_factory.mktemp("vote")
    shape = members.shape[2:]
    classes = [f"bone {c}" for c in range(members.shape[1])]
    read = []
    for i, masks in enumerate(members):
        rows = [(name, [rle.encode(m) for m in flipped]) for name, flipped in (("a", masks), ("b", masks[:, ::-1]))]
        write(folder / f"{i}.csv", rows, classes, {"a": shape, "b": shape})
        read.append(Submission.read(folder / f"{i}.csv"))
    write(folder / "out.csv", hard_vote(read), classes, {"a": shape, "b": shape})
    voted = Submission.read(folder / "out.csv")
    truth = members.sum(0) * 2 > len(members)
    for image, dense in (("a", truth), ("b", truth[:, ::-1])):
        assert voted.rles(image) == [rle.encode(m) for m in dense]
