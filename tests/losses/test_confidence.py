"""Which images the confidence filter lets count."""

import numpy as np
import pytest
import torch

from phalanx.config.classify_loss import ClassifyLoss
from phalanx.errors import ConfigError
from phalanx.losses.class_weights import Counts
from phalanx.losses.classification import ClassificationLoss

NAN = float("nan")
COUNTS = Counts(np.array([2, 2, 2]), np.array([4, 4, 4]))


def loss(name, head, least):
    return ClassificationLoss(ClassifyLoss(name=name, min_confidence=least), head, ["a", "b", "c"], COUNTS)


def test_of_a_softmax_the_largest_probability_counts_right_or_wrong():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.9, 0.05, 0.05]])
    labels = torch.tensor([[0.0, 0, 1], [0, 1, 0], [1, 0, 0], [1, NAN, 0]])
    found = loss("ce", "softmax", 0.6).confident(p.log(), labels)
    assert found.tolist() == [True, True, False, False]  # the last has a missing label, so it does not count anyway


def test_of_sigmoids_the_least_decided_labelled_class_counts():
    p = torch.tensor([[0.9, 0.1, 0.75], [0.9, 0.6, 0.1], [0.9, 0.5, 0.1], [0.9, 0.9, 0.9]])
    labels = torch.tensor([[1.0, 0, 1], [1, 1, 0], [1, NAN, 0], [NAN, NAN, NAN]])
    assert loss("bce", "sigmoid", 0.7).confident(p.logit(), labels).tolist() == [True, False, True, False]


def test_what_is_not_finite_is_not_hidden():
    logits = torch.tensor([[NAN, 0, 0]])
    assert loss("ce", "softmax", 0.6).confident(logits, torch.eye(1, 3)).all()
    assert loss("bce", "sigmoid", 0.6).confident(logits, torch.eye(1, 3)).all()


def test_it_has_no_gradient_of_its_own():
    logits = torch.randn(4, 3, requires_grad=True)
    assert not loss("ce", "softmax", 0.6).confident(logits, torch.eye(4, 3)).requires_grad


@pytest.mark.parametrize(("head", "name", "least"), [("softmax", "ce", 1 / 3), ("sigmoid", "bce", 0.5)])
def test_a_threshold_that_drops_nothing_is_refused(head, name, least):
    with pytest.raises(ConfigError, match=r"no prediction is below .* give more, or null"):
        loss(name, head, least)
    loss(name, head, least + 0.01)
