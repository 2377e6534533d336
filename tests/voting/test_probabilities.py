"""Votes over probabilities by hand: means, majorities, ties, and members that do not fit."""

import numpy as np
import pytest

from phalanx.errors import DataError
from phalanx.submission.probabilities import Probabilities
from phalanx.voting.probabilities import Ballot

CLASSES = ("a", "b", "c")


def member(values, name="m", classes=CLASSES, head="sigmoid", **other):
    values = np.array(values, float)
    images = tuple(f"i{n}" for n in range(len(values)))
    return Probabilities(name, images, tuple(classes[: values.shape[1]]), values, head, **other)


def test_the_mean_is_weighted_and_columns_find_their_class():
    one = member([[0.2, 0.4], [1, 0]])
    other = Probabilities("n", ("i0", "i1"), ("b", "a"), np.array([[0.8, 0.6], [0.0, 0.0]]), "sigmoid")
    np.testing.assert_allclose(Ballot([one, other]).mean(), [[0.4, 0.6], [0.5, 0]])
    np.testing.assert_allclose(Ballot([one, other], [3, 1]).mean(), [[0.3, 0.5], [0.75, 0]])
    np.testing.assert_allclose(Ballot([one, other], [0.3, 0.1]).mean(), Ballot([one, other], [3, 1]).mean())
    same = Ballot([member([[1 / 3, 1, 0]])] * 7).mean()
    assert same.max() <= 1
    np.testing.assert_allclose(same, [[1 / 3, 1, 0]])


def test_a_softmax_stays_one():
    rng = np.random.default_rng(0)
    members = [member(rng.dirichlet(np.ones(3), 20), head="softmax") for _ in range(5)]
    np.testing.assert_allclose(Ballot(members, [1, 2, 3, 4, 0.5]).mean().sum(axis=1), 1)


def test_sigmoids_need_more_than_half_of_the_votes_and_a_tie_goes_by_the_mean():
    members = [member([[0.9, 0.9, 0.6]]), member([[0.6, 0.2, 0.3]]), member([[0.1, 0.1, 0.2]])]
    np.testing.assert_array_equal(Ballot(members).hard(), [[1, 0, 0]])
    np.testing.assert_allclose(Ballot(members).votes(), [[2 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_array_equal(Ballot(members[:2]).hard(), [[1, 1, 0]])  # means .55 and .45 of the two ties
    np.testing.assert_array_equal(Ballot(members, [1, 1, 2]).hard(), [[0, 0, 0]])  # 2 of 4; the mean is .425
    limits = np.array([0.95, 0.15, 0.25])
    np.testing.assert_array_equal(Ballot(members).hard(limits), [[0, 1, 1]])
    np.testing.assert_array_equal(Ballot([member([[0.5, 0.4999, 0]])]).hard(), [[1, 0, 0]])


def test_ties_of_fractional_weights_are_ties():
    """.1 + .2 is not .3 in binary."""
    members = [member([[0.9]]), member([[0.9]]), member([[0.0]])]
    assert Ballot(members, [0.1, 0.2, 0.3]).votes()[0, 0] == pytest.approx(0.5)
    assert Ballot(members, [0.1, 0.2, 0.3]).hard()[0, 0] == 0  # the mean is .45
    assert Ballot([*members[:2], member([[0.3]])], [0.1, 0.2, 0.3]).hard()[0, 0] == 1  # .6


def test_a_softmax_votes_for_one_class_and_a_tie_goes_by_the_mean():
    def vote(*rows, weights=None):
        return Ballot([member([row], head="softmax") for row in rows], weights).hard()[0].tolist()

    assert vote([0.6, 0.4, 0], [0.6, 0.4, 0], [0, 1, 0]) == [1, 0, 0]  # though the mean of b is larger
    assert vote([0.6, 0.4, 0], [0, 1, 0]) == [0, 1, 0]
    assert vote([0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.0, 0.3, 0.7]) == [0, 0, 1]
    assert vote([0.4, 0.4, 0.2]) == [1, 0, 0]  # of equals the first
    assert vote([0.6, 0.4, 0], [0, 1, 0], weights=[2, 1]) == [1, 0, 0]
    rng = np.random.default_rng(1)
    hard = Ballot([member(rng.dirichlet(np.ones(3), 50), head="softmax") for _ in range(4)]).hard()
    np.testing.assert_array_equal(hard.sum(axis=1), 1)


def test_sizes_are_those_any_member_knows_and_may_not_differ():
    one, other = member([[0.1]], sizes={"i0": (4, 5)}), member([[0.2]], "n", sizes={"i0": (5, 4)})
    assert Ballot([one, member([[0.3]])]).sizes == {"i0": (4, 5)}
    with pytest.raises(DataError, match="m and n differ in sizes of 1 images, such as 'i0': 4x5 in the first, 5x4"):
        Ballot([one, other])


@pytest.mark.parametrize(
    ("members", "options", "message"),
    [
        ([], {}, "at least one member"),
        ([member([[0.1]]), member([[0.1], [0.2]], "n")], {}, "m and n differ in images: 1 only in the second"),
        ([member([[0.1]]), member([[0.1]], "n", classes="b")], {}, "m and n differ in classes"),
        ([member([[0.1]]), member([[0.1]], "n", head="softmax")], {}, "differ in head: sigmoid and softmax"),
        ([member([[0.1]])], {"weights": [1, 2]}, "1 members need one finite number above 0 each"),
        ([member([[0.1]])], {"weights": [0]}, "above 0"),
        ([member([[0.1]])], {"weights": [float("nan")]}, "finite"),
    ],
)
def test_members_and_weights_that_do_not_fit_are_refused(members, options, message):
    with pytest.raises(DataError, match=message):
        Ballot(members, **options)


@pytest.mark.parametrize(
    ("head", "limits", "message"),
    [
        (None, None, "needs to know the head"),
        ("softmax", [0.5], "thresholds are for head=sigmoid"),
        ("sigmoid", [0.5, 0.5], "2 thresholds for 1 classes"),
    ],
)
def test_hard_votes_need_a_head_and_fitting_thresholds(head, limits, message):
    ballot = Ballot([member([[1.0]], head=head)])
    with pytest.raises(DataError, match=message):
        ballot.hard(None if limits is None else np.array(limits))
    assert Ballot([member([[1.0]], head=None)]).mean()[0, 0] == 1
