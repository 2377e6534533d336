"""Published rows that no integer confusion matrix gives, and those that one does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.errors import DataError
from phalanx.scoring.confusion import BinaryCounts
from phalanx.scoring.possible import FIGURES, possible_row

TUMOURS, HEALTHY = 1509, 600
PUBLISHED = {  # recall, specificity and F1 of tumour against healthy
    "ResNet18": (0.9944, 0.9615, 0.9914),
    "DenseNet121": (0.9913, 0.9494, 0.9880),
    "EfficientNet": (0.9944, 0.9615, 0.9914),
    "ViT": (0.9732, 0.9717, 0.9923),
    "EfficientNet unaugmented": (0.9987, 0.9971, 0.9977),
}


def test_the_vit_row_is_impossible_whatever_the_sizes():
    recall, specificity, f1 = PUBLISHED["ViT"]
    for sizes in ((), (TUMOURS, HEALTHY), (10, 10)):
        found = possible_row({"recall": recall, "specificity": specificity, "f1": f1}, *sizes)
        assert not found.possible
        assert found.reason == "f1 0.9923 exceeds 2R/(1+R) = 0.9864 for recall 0.9732"
    assert all(possible_row({"recall": r, "f1": f}).possible for n, (r, _, f) in PUBLISHED.items() if n != "ViT")


@pytest.mark.parametrize("name", PUBLISHED)
def test_no_published_rows_specificity_and_f1_fit_together(name):
    recall, specificity, f1 = PUBLISHED[name]
    assert not possible_row({"specificity": specificity, "f1": f1}, TUMOURS, HEALTHY).possible
    whole = possible_row({"recall": recall, "specificity": specificity, "f1": f1}, TUMOURS, HEALTHY)
    assert not whole.possible
    assert whole.matrix is None
    assert whole.reason


def test_the_reason_names_the_smallest_contradiction():
    assert possible_row({"specificity": 0.9615}, 1509, 600).reason == (
        "specificity 0.9615 cannot be with 1509 positives and 600 negatives"  # 577 and 576 of 600 are .9617 and .96
    )
    found = possible_row({"specificity": 0.9717, "recall": 0.9987, "f1": 0.9923}, TUMOURS, HEALTHY)
    assert "recall 0.9987 and" in found.reason or "specificity 0.9717 and" in found.reason
    assert "do not fit together" in found.reason


@given(
    st.integers(1, 300), st.integers(1, 300), st.floats(0, 1), st.floats(0, 1),
    st.sets(st.sampled_from(FIGURES), min_size=1), st.integers(2, 5),
)  # fmt: skip
def test_figures_of_a_matrix_are_always_possible(positives, negatives, hit, spared, names, decimals):
    tp, tn = round(hit * positives), round(spared * negatives)
    counts = BinaryCounts(*map(np.array, (tp, negatives - tn, positives - tp, tn)))
    row = {name: round(float(getattr(counts, name)), decimals) for name in names}
    row = {name: value for name, value in row.items() if not np.isnan(value)}
    if not row:
        return
    found = possible_row(row, positives, negatives, decimals)
    assert found.possible
    again = {name: float(getattr(found.matrix, name)) for name in row}
    assert all(abs(again[name] - value) <= 0.5 * 10**-decimals + 1e-9 for name, value in row.items())


def by_trying_all(row, positives, negatives, half):
    for tp in range(positives + 1):
        for tn in range(negatives + 1):
            fn, fp = positives - tp, negatives - tn
            known = {
                "accuracy": (tp + tn) / (positives + negatives),
                "recall": tp / positives,
                "specificity": tn / negatives,
                "precision": tp / (tp + fp) if tp + fp else None,
                "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None,
            }
            if all(known[name] is not None and abs(known[name] - value) <= half for name, value in row.items()):
                return True
    return False


def test_what_is_possible_is_what_trying_all_matrices_finds():
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(200):
        positives, negatives = rng.integers(1, 13, 2).tolist()
        names = rng.choice(FIGURES, rng.integers(1, 4), replace=False).tolist()
        row = {name: round(float(rng.random()), 1) for name in names}
        wanted = by_trying_all(row, positives, negatives, 0.05 + 1e-9)
        assert possible_row(row, positives, negatives, 1).possible is wanted
        outcomes.add(wanted)
    assert outcomes == {True, False}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"auc": 0.9}, "auc: is not a figure"),
        ({"recall": 99.4}, "divide percentages by 100"),
        ({"f1": float("nan")}, "is not a fraction"),
        ({}, "no figure"),
    ],
)
def test_other_figures_are_refused(row, message):
    with pytest.raises(DataError, match=message):
        possible_row(row, 10, 10)


def test_sizes_with_too_many_matrices_are_refused_not_tried():
    with pytest.raises(DataError, match="give recall"):
        possible_row({"f1": 0.5}, 10**5, 10**5)
    assert possible_row({"recall": 0.5, "f1": 0.5}, 10**5, 10**5).possible
