"""Misaligned tables of probabilities are named, and honest ones, weak and strong, are not."""

import json

import numpy as np
import pytest

from phalanx.errors import DataError
from phalanx.submission.probabilities import Probabilities
from phalanx.voting.probability_faults import correlations, independent_classes, ranks
from phalanx.voting.probability_guard import ProbabilityAgreement, measure_probability_agreement

COUNT = 300
NAMES = sorted(f"i{k}" for k in range(COUNT))


def members(skills, head="softmax", classes=4, count=COUNT, seed=0, shared=0.8, twins=False):
    """Networks of one task: what they know, what misleads them all, and errors of their own; each as bold as it is."""
    rng = np.random.default_rng(seed)
    if head == "softmax":
        signal = 4 * np.eye(classes)[rng.integers(0, classes, count)]
    else:
        signal = 3.0 * (rng.normal(size=(count, 1)) + rng.normal(size=(count, classes)) > 0.5)
    common = rng.normal(size=(count, classes))
    if twins:  # nearly equal images, as two slices are
        signal[1 : count // 4 : 2], common[1 : count // 4 : 2] = (
            signal[: count // 4 - 1 : 2],
            common[: count // 4 - 1 : 2],
        )
    found = []
    for skill in skills:
        z = skill * signal + shared * common + np.sqrt(1 - shared**2) * rng.normal(size=common.shape)
        z *= rng.uniform(0.7, 3)
        e = np.exp(z - z.max(axis=1, keepdims=True))
        found.append(e / e.sum(axis=1, keepdims=True) if head == "softmax" else 1 / (1 + np.exp(1 - z)))
    return np.stack(found)


def judge(values, names=None):
    images = names or sorted(f"i{k}" for k in range(values.shape[1]))
    return ProbabilityAgreement(
        [f"m{m}" for m in range(len(values))], images, [f"c{c}" for c in range(values.shape[2])], values
    )


KINDS = [("softmax", 4), ("softmax", 2), ("sigmoid", 5), ("sigmoid", 32), ("sigmoid", 1)]


@pytest.mark.parametrize(("head", "classes"), KINDS)
def test_honest_members_are_not_refused(head, classes):
    for count in (5, 12, 60, COUNT):
        for skills in ((1, 1), (1, 0.5, 0.2), (0.3, 0.3, 0.3), (1.5, 1, 1, 1, 1)):
            for shared in (0.2, 0.95):
                values = members(skills, head, classes, count, shared=shared, twins=shared > 0.5)
                assert judge(values).misaligned == [], (count, skills, shared)


def roll_classes(one):
    return np.roll(one, 1, axis=1)


def swap_classes(one):
    return one[:, [1, 0, *range(2, one.shape[1])]]


def natural_order(one):
    return one[[NAMES.index(f"i{k}") for k in range(COUNT)]]


def rotate_part(one):
    return np.concatenate([one[:100], np.roll(one[100:130], 1, axis=0), one[130:]])


FAULTS = {
    "classes are swapped: c0 of m2 is c1 of": swap_classes,
    "classes are swapped: ": roll_classes,
    "m2 has its rows shifted by 1 rows against": lambda one: np.roll(one, 1, axis=0),
    "m2 has its rows shifted by 40 rows against": lambda one: np.roll(one, -40, axis=0),
    "m2 has its rows in reverse order against": lambda one: one[::-1],
    "m2 has its rows in the order of their": natural_order,
    "m2 has the rows of": rotate_part,
}


@pytest.mark.parametrize(("head", "classes"), [("softmax", 4), ("sigmoid", 5), ("sigmoid", 32)])
@pytest.mark.parametrize("text", FAULTS)
def test_a_planted_fault_is_found_and_its_member_named(text, head, classes):
    for seed, skills in enumerate(((1, 1, 1), (1, 0.6, 0.8), (1.5, 1, 0.7))):
        values = members(skills, head, classes, seed=seed)
        values[2] = FAULTS[text](values[2])
        (found,) = judge(values).misaligned
        assert found.startswith(f"m2 is misaligned: {text}")
        pair = judge(values[1:]).misaligned
        assert len(pair) == 1
        assert pair[0].startswith("m0 or m1 is misaligned: ")  # of two, nobody knows which


def test_parts_name_their_images():
    values = members((1, 1, 1), shared=0.95)
    values[2] = rotate_part(values[2])
    (found,) = judge(values).misaligned
    assert "images, i" in found
    assert "shifted by 1 against m0" in found


def test_shuffled_rows_fit_nobody():
    values = members((1, 1, 1), shared=0.95)
    values[1] = values[1][np.random.default_rng(0).permutation(COUNT)]
    (found,) = judge(values).misaligned
    assert found.startswith("m1 is misaligned: it fits the others no better than with shuffled rows")


def test_single_images_under_each_others_names_are_found_where_rows_are_distinct():
    values = members((1, 1, 1), "sigmoid", 32, shared=0.97)
    for a, b in ((3, 150), (20, 80), (90, 200)):
        values[0][[a, b]] = values[0][[b, a]]
    found = judge(values)
    (text,) = found.misaligned
    assert text.startswith("m0 is misaligned: m0 has the rows of 6 images under each other's names: ")
    one = members((1, 1, 1), "sigmoid", 32, shared=0.97)
    one[0][[3, 150]] = one[0][[150, 3]]
    found = judge(one)
    assert found.misaligned == []
    assert any(f"{NAMES[3]}, {NAMES[150]}" in note for note in found.notes)


def test_two_misaligned_members_are_both_named():
    values = members((1, 1, 1, 1, 1))
    values[1], values[4] = swap_classes(values[1]), np.roll(values[4], 7, axis=0)
    found = judge(values).misaligned
    assert sorted(text[:17] for text in found) == ["m1 is misaligned:", "m4 is misaligned:"]


def test_too_few_images_say_nothing():
    values = members((2, 2, 2), count=7)
    values[2] = swap_classes(values[2])
    assert judge(values).misaligned == []


def test_ranks_and_correlations_are_spearmans():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    one, other = rng.random((50, 3)).round(1), rng.random((50, 3)).round(1)
    wanted = spearmanr(one, other).statistic[:3, 3:]
    np.testing.assert_allclose(correlations(ranks(one), ranks(other)), wanted, atol=1e-12)
    other[:, 1] = 0.5
    assert np.isnan(correlations(ranks(one), ranks(other))[:, 1]).all()
    assert (ranks(one).min(), ranks(one).max()) >= (-1, 0.5)


def test_independent_classes_are_counted():
    rng = np.random.default_rng(0)
    free = rng.normal(size=(2000, 4))
    assert independent_classes(free) == pytest.approx(4, abs=0.1)
    assert independent_classes(np.repeat(free[:, :1], 4, axis=1)) == pytest.approx(1)
    assert independent_classes(np.column_stack([free[:, 0], -free[:, 0]])) == pytest.approx(1)  # a softmax of two
    assert independent_classes(np.ones((10, 2))) == 0


def test_a_constant_class_or_member_does_no_harm():
    values = members((1, 1, 1))
    values[1, :, 2] = 0.25
    values[2] = 0.25
    found = judge(values)
    assert (found.misaligned, found.notes) == ([], ["m2 has the same probabilities for all images"])
    assert np.isnan(found.correlation[0, 1, 2])
    assert found.mean[0, 2] == 0
    assert "     -" in found.to_text()
    assert json.dumps(found.to_json(), allow_nan=False)


def test_the_table_and_the_record():
    values = members((1, 1, 1, 1, 1))
    values[3] = values[0]
    few, many = judge(values[:3]), judge(values)
    assert few.identical() == []
    assert many.identical() == [("m0", "m3")]
    lines = few.to_text().splitlines()
    assert lines[0] == f"agreement (rank correlation) over {COUNT} images"
    assert lines[4].split() == ["class", "1-2", "1-3", "2-3"]
    assert lines[5].split()[1] == f"{few.correlation[0, 1, 0]:.4f}"
    assert lines[-1].split() == ["mean", *(f"{few.mean[pair]:.4f}" for pair in ((0, 1), (0, 2), (1, 2)))]
    assert many.to_text().splitlines()[6].split()[1:] == [f"{m}-rest" for m in range(1, 6)]
    found = json.loads(json.dumps(few.to_json(), allow_nan=False))
    assert [pair["members"] for pair in found["pairs"]] == [[1, 2], [1, 3], [2, 3]]
    assert found["pairs"][0]["classes"] == [round(v, 4) for v in few.correlation[0, 1].tolist()]
    assert found["misaligned"] == []


def test_tables_are_aligned_by_name_before_they_are_compared():
    values = members((1, 1), seed=3)
    classes = ("a", "b", "c", "d")
    one = Probabilities("one", tuple(NAMES), classes, values[0])
    other = Probabilities("other", tuple(NAMES), classes, values[1]).reorder(("d", "b", "a", "c"))
    found = measure_probability_agreement([one, other])
    assert found.misaligned == []
    np.testing.assert_allclose(found.correlation, judge(values).correlation)
    with pytest.raises(DataError, match="one and other differ in images"):
        measure_probability_agreement([one, other.only(NAMES[1:])])
