"""How a hand-written gradient behaves in the graph: scaling, a second backward, half precision, autocast."""

import numpy as np
import pytest
import torch

from phalanx.config import Loss, validate_as
from phalanx.losses.stages import StagedLoss

ALL = dict.fromkeys(("bce", "dice", "focal", "tversky", "boundary", "lovasz"), 0.5)
CLASSES = [f"c{i}" for i in range(11)]


def case(dtype=torch.float32, side=24):
    rng = np.random.default_rng(0)
    planes = torch.from_numpy(rng.integers(0, 256, (2, 2, side, side), dtype=np.uint8))
    planes[1, 0] = 0
    return torch.from_numpy(rng.normal(0, 2, (2, 11, side, side))).to(dtype).requires_grad_(), planes


def staged(weights=ALL, **more):
    return StagedLoss(validate_as(Loss, {"stages": [{"weights": weights}], **more}), CLASSES)


def test_the_gradient_is_scaled_by_the_upstream_gradient():
    """As by the loss scaler's 65536, and by a second backward of a retained graph."""
    logits, planes = case()
    loss = staged()(0, logits, None, planes).total
    (once,) = torch.autograd.grad(loss, logits, retain_graph=True)
    once = once.clone()
    (scaled,) = torch.autograd.grad(65536 * loss, logits, retain_graph=True)
    torch.testing.assert_close(scaled, 65536 * once)
    loss.backward(retain_graph=True)
    loss.backward()
    torch.testing.assert_close(logits.grad, 2 * once)


def test_all_terms_in_one_buffer_give_the_sum_of_the_single_gradients():
    logits, planes = case(torch.float64)
    (together,) = torch.autograd.grad(staged()(0, logits, None, planes).total, logits)
    total = torch.zeros_like(logits)
    for name, weight in ALL.items():
        total += torch.autograd.grad(staged({name: weight})(0, logits, None, planes).total, logits)[0]
    torch.testing.assert_close(together, total, rtol=1e-12, atol=1e-18)


def test_micro_batches_of_all_terms_give_the_gradient_of_the_batch():
    """Weighted as by the engine, by their fraction of the step's images."""
    logits, planes = case(torch.float64)
    loss = staged(class_weights={"c3": 2.0})
    (whole,) = torch.autograd.grad(loss(0, logits, None, planes).total, logits)
    for one in range(2):
        (loss(0, logits[one : one + 1], None, planes[one : one + 1]).total / 2).backward()
    torch.testing.assert_close(logits.grad, whole, rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_keep_a_float32_loss_and_gradient_under_the_scaler(dtype):
    """A gradient of 1 / pixels underflows in half precision; its product with the scale does not."""
    logits, planes = case(dtype, side=512)
    single = logits.detach().float().requires_grad_()
    loss = staged()(0, logits, None, planes).total
    expected = staged()(0, single, None, planes).total
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(65536 * loss, logits)
    (single_gradient,) = torch.autograd.grad(65536 * expected, single)
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient, single_gradient.to(dtype))
    assert float((gradient == 0).float().mean()) < 0.01


def test_autocast_is_off_inside_the_loss():
    logits, planes = case()
    plain = staged()(0, logits, None, planes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = staged()(0, logits, None, planes)
    assert torch.equal(cast.total, plain.total)
    assert all(torch.equal(cast.terms[name], plain.terms[name]) for name in plain.terms)


def test_without_gradient_the_value_is_the_same():
    logits, planes = case()
    with torch.no_grad():
        result = staged()(0, logits, None, planes)
    assert not result.total.requires_grad
    torch.testing.assert_close(result.total, staged()(0, logits, None, planes).total.detach())


def test_a_class_with_weight_2_counts_twice_in_the_mean():
    logits, planes = case(torch.float64)
    class_weights = torch.ones(11, dtype=torch.float64)
    class_weights[3] = 2
    for name in ALL:
        terms = staged({name: 1.0})(0, logits, None, planes).terms[name]
        found = staged({name: 1.0}, class_weights={"c3": 2.0})(0, logits, None, planes)
        torch.testing.assert_close(found.total.detach(), (terms * class_weights).sum() / (2 * class_weights.sum()))
        torch.testing.assert_close(found.terms[name], terms)  # reports stay unweighted
        corner = logits.detach()[:, :, :3, :3].contiguous().requires_grad_()
        gradients = [
            torch.autograd.grad(
                staged({name: 1.0}, class_weights=w)(0, corner, None, planes[:, :, :3, :3]).total, corner
            )
            for w in ({}, {"c3": 2.0})
        ]
        plain, weighted = (found[0] for found in gradients)
        torch.testing.assert_close(weighted, plain * (class_weights / class_weights.mean())[:, None, None])


@pytest.mark.parametrize("name", ALL)
def test_a_nan_logit_makes_its_term_nan(name):
    logits, planes = case()
    with torch.no_grad():
        logits[1, 4, 2, 3] = float("nan")
    result = staged({name: 1.0})(0, logits, None, planes)
    assert torch.isnan(result.total)
    assert torch.isnan(result.terms[name]).nonzero().tolist() == [[1, 4]]


def test_a_second_derivative_is_refused():
    logits, planes = case()
    (gradient,) = torch.autograd.grad(staged()(0, logits, None, planes).total ** 2, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
