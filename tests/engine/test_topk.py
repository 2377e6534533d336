"""The best validated weights: which are kept, and their mean."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phalanx.engine import topk as top
from phalanx.errors import TrainingError
from phalanx.runtime.metric import Metric
from phalanx.scoring.score import DICE


def weights(number):
    torch.manual_seed(number)
    return {"a": torch.randn(3, 2), "half": torch.randn(4).bfloat16(), "count": torch.tensor(number)}


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(2, 4))
def test_the_best_are_kept_and_of_equals_the_earlier(tmp_path_factory, values, count):
    folder, found = tmp_path_factory.mktemp("run"), []
    for epoch, value in enumerate(values, 1):
        found = top.enter(folder, found, count, DICE, value / 6, epoch, {"a": torch.tensor([float(epoch)])})
        top.tidy(folder, found)
        expected = sorted([[v / 6, e] for e, v in enumerate(values[:epoch], 1)], key=lambda pair: (-pair[0], pair[1]))
        assert found == expected[:count]
        assert {p.name for p in (folder / "top").iterdir()} == {str(e) for _, e in found}
    expected = np.mean([epoch for _, epoch in found])
    assert top.mean(folder, found, {"a": torch.zeros(1)})["a"].item() == pytest.approx(expected)


def test_the_mean_keeps_kinds_and_the_counters_of_the_best(tmp_path):
    found = []
    for epoch, dice in ((1, 0.5), (2, 0.9), (3, 0.7)):
        found = top.enter(tmp_path, found, 3, DICE, dice, epoch, weights(epoch))
    mean = top.mean(tmp_path, found, weights(1))
    for key in ("a", "half"):
        by_hand = np.mean([weights(e)[key].double().numpy() for e in (1, 2, 3)], axis=0)
        np.testing.assert_allclose(mean[key].double().numpy(), by_hand, rtol=1e-2 if key == "half" else 1e-6)
        assert mean[key].dtype == weights(1)[key].dtype
    assert mean["count"] == 2
    top.tidy(tmp_path, [])
    assert not list((tmp_path / "top").iterdir())
    with pytest.raises(TrainingError, match=r"top/2: is missing"):
        top.mean(tmp_path, found, weights(1))


def test_what_an_undone_epoch_left_is_written_again(tmp_path):
    """A kill after the weights and before the state: the epoch is trained again, to the same weights."""
    for _ in range(2):
        found = top.enter(tmp_path, [[0.9, 2]], 2, DICE, 0.8, 4, weights(4))
    top.enter(tmp_path, [], 2, DICE, 0.9, 2, weights(2))
    top.tidy(tmp_path, found)
    assert sorted(p.name for p in (tmp_path / "top").iterdir()) == ["2", "4"]


def test_of_a_metric_that_falls_the_lowest_are_saved(tmp_path):
    losses, found = Metric("log_loss", higher_is_better=False), []
    for epoch, value in enumerate((0.5, 0.3, 0.4, 0.4, 0.6), 1):
        found = top.enter(tmp_path, found, 2, losses, value, epoch, weights(epoch))
    assert found == [[0.3, 2], [0.4, 3]]


@pytest.mark.parametrize(
    "like",
    [{"a": torch.zeros(3, 2)}, {**weights(1), "a": torch.zeros(2, 3)}, {**weights(1), "count": torch.tensor(1.0)}],
)
def test_weights_of_another_network_have_no_mean(tmp_path, like):
    found = top.enter(tmp_path, [], 2, DICE, 0.5, 1, weights(1))
    with pytest.raises(TrainingError, match=r"top/1: is of another model"):
        top.mean(tmp_path, found, like)
