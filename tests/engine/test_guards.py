"""A loss or gradient that is not finite stops training and names what was seen last."""

import pytest
import torch

from phalanx.engine.guards import check_gradient, check_loss
from phalanx.errors import TrainingError


def test_loss_names_term_class_image_and_batch():
    terms = {"bce": torch.zeros(2, 3), "dice": torch.zeros(2, 3)}
    terms["dice"][1, 2] = float("nan")
    with pytest.raises(TrainingError) as caught:
        check_loss(torch.tensor(float("nan")), terms, ["a.png", "b.png"], ["Radius", "Ulna", "Lunate"], 17)
    text = str(caught.value)
    assert text.startswith("step 17: the loss term dice of class Lunate in b.png is not finite (batch: a.png, b.png)")
    assert "lower optim.lr" in text


def test_loss_not_finite_though_its_terms_are():
    with pytest.raises(TrainingError, match=r"though its terms are \(batch: a\.png\)"):
        check_loss(torch.tensor(float("inf")), {"bce": torch.ones(1, 1)}, ["a.png"], ["Radius"], 1)


def test_finite_ones_pass():
    check_loss(torch.tensor(1.0), {"bce": torch.full((1, 1), float("nan"))}, ["a"], ["Radius"], 1)
    check_gradient(torch.tensor(1e30), ["a"], 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_gradient_names_the_batch(bad):
    with pytest.raises(TrainingError, match=r"step 3: the gradient is not finite \(last batch: a\.png\)"):
        check_gradient(torch.tensor(bad), ["a.png"], 3)
