"""The hand-written passes against plain PyTorch in float64: value, gradient, and any split into micro-batches."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.losses import pixel_region
from phalanx.losses.pixel_region import DEFAULTS, TermOptions, pixel_region_loss
from phalanx.masks import rle
from phalanx.masks.planes import pack

ALL = {"bce": 0.3, "focal": 0.3, "dice": 0.4, "tversky": 0.2}
SUBSETS = [{name: ALL[name] for name in names} for k in range(1, 5) for names in itertools.combinations(ALL, k)]


def case(batch=2, classes=11, height=7, width=9, seed=0, dtype=torch.float64, spread=3.0):
    """Logits, planes and dense ground truth; foreground fractions from 0 to 1 by class."""
    rng = np.random.default_rng(seed)
    share = np.linspace(0, 1, classes)[None, :, None, None]
    truth = rng.random((batch, classes, height, width)) < share
    planes = torch.from_numpy(np.stack([pack(stack).transpose(2, 0, 1) for stack in truth]))
    logits = torch.from_numpy(rng.normal(0, spread, truth.shape)).to(dtype)
    return logits.requires_grad_(), planes, torch.from_numpy(truth)


def varied(classes, seed=3):
    """Options with a different number everywhere."""
    rng = np.random.default_rng(seed)
    pos, alpha, beta = (rng.uniform(0.2, 3, classes).tolist() for _ in range(3))
    focal = {"focal_gamma": 1.5, "focal_alpha": 0.3}
    tversky = {"tversky_alpha": alpha, "tversky_beta": beta, "tversky_gamma": 4 / 3}
    return TermOptions(smoothing=0.1, pos_weight=pos, **focal, **tversky)


def column(value, like):
    return torch.as_tensor(value, dtype=like.dtype).expand(like.shape[1])[:, None, None]


def slow(logits, truth, weights, options=DEFAULTS, factors=None):
    """By the definitions, in the logits' type: weighted mean and each term [B, C]."""
    y = truth.to(logits.dtype)
    log_p, log_not = F.logsigmoid(logits), F.logsigmoid(-logits)
    p = torch.sigmoid(logits)
    soft = y * (1 - options.smoothing) + options.smoothing / 2
    pt, log_pt = torch.where(truth, p, 1 - p), torch.where(truth, log_p, log_not)
    pt_not = torch.where(truth, torch.sigmoid(-logits), p)  # 1 - pt without cancellation
    balance = 1.0 if options.focal_alpha is None else y * options.focal_alpha + (1 - y) * (1 - options.focal_alpha)
    tp, fp, fn = (p * y).sum((2, 3)), (p * (1 - y)).sum((2, 3)), (torch.sigmoid(-logits) * y).sum((2, 3))
    a, b = column(options.tversky_alpha, logits)[:, 0, 0], column(options.tversky_beta, logits)[:, 0, 0]
    index = (tp + 0.5) / (tp + a * fp + b * fn + 0.5)
    terms = {
        "bce": -(column(options.pos_weight, logits) * soft * log_p + (1 - soft) * log_not).mean((2, 3)),
        "focal": -(balance * pt_not**options.focal_gamma * log_pt).mean((2, 3)),
        "dice": 1 - (2 * tp + 1) / (p.sum((2, 3)) + y.sum((2, 3)) + 1),
        "tversky": (1 - index) ** (1 / options.tversky_gamma),
    }
    assert torch.all(pt + pt_not > 0.999)
    total = sum(weight * terms[name] for name, weight in weights.items())
    return (total if factors is None else total * factors).mean(), {name: terms[name] for name in weights}


def compare(logits, planes, truth, weights, options=DEFAULTS, factors=None, rtol=1e-9):
    expected, terms = slow(logits, truth, weights, options, factors)
    (gradient,) = torch.autograd.grad(expected, logits)
    found = pixel_region_loss(logits, planes, weights, options, factors)
    (found_gradient,) = torch.autograd.grad(found.loss, logits)
    torch.testing.assert_close(found.loss, expected, rtol=rtol, atol=0)
    assert list(found.terms) == list(weights)
    for name in weights:
        torch.testing.assert_close(found.terms[name], terms[name].detach(), rtol=rtol, atol=1e-12)
        assert not found.terms[name].requires_grad
    torch.testing.assert_close(found_gradient, gradient, rtol=rtol, atol=1e-15)


@pytest.mark.parametrize("weights", SUBSETS, ids="-".join)
def test_any_subset_equals_the_definitions(weights):
    compare(*case(), weights)


@pytest.mark.parametrize("weights", SUBSETS, ids="-".join)
def test_options_that_differ_by_class_equal_the_definitions(weights):
    factors = torch.linspace(0.5, 1.5, 11, dtype=torch.float64)
    compare(*case(), weights, varied(11), factors)


@pytest.mark.parametrize(
    "options",
    [
        TermOptions(smoothing=0.2),
        TermOptions(pos_weight=3.0),
        TermOptions(focal_alpha=0.25),
        *[TermOptions(focal_gamma=gamma) for gamma in (0.0, 0.5, 1.0, 2.0, 5.0)],
        TermOptions(tversky_alpha=0.5, tversky_beta=0.5),
        TermOptions(tversky_gamma=3.0),
    ],
    ids=str,
)
def test_each_option_alone_equals_the_definitions(options):
    compare(*case(), ALL, options)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 19), st.integers(1, 12), st.integers(1, 12),
    st.integers(1, 40), st.sampled_from(SUBSETS), st.integers(0, 99),
)  # fmt: skip
def test_any_shape_class_count_and_tile_equals_the_definitions(batch, classes, height, width, tile, weights, seed):
    before = pixel_region.TILE["cpu"]
    pixel_region.TILE["cpu"] = tile
    try:
        compare(*case(batch, classes, height, width, seed), weights, varied(classes))
    finally:
        pixel_region.TILE["cpu"] = before


@pytest.mark.parametrize("options", [TermOptions(), varied(9)])
def test_gradcheck_by_finite_differences(options):
    logits, planes, _ = case(batch=1, classes=9, height=3, width=4)
    factors = torch.linspace(0.5, 1.5, 9, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: pixel_region_loss(x, planes, ALL, options, factors).loss, logits)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_gradcheck_on_empty_and_full_masks(share):
    planes = torch.full((1, 1, 3, 4), 255 if share else 0, dtype=torch.uint8)
    logits = torch.randn(1, 8, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pixel_region_loss(x, planes, ALL, varied(8)).loss, logits)


def test_tversky_with_equal_weights_is_dice_and_focal_with_gamma_0_is_bce():
    logits, planes, _ = case()
    found = pixel_region_loss(
        logits, planes, ALL, TermOptions(tversky_alpha=0.5, tversky_beta=0.5, focal_gamma=0.0)
    ).terms
    torch.testing.assert_close(found["tversky"], found["dice"])
    torch.testing.assert_close(found["focal"], found["bce"])


def test_bce_and_focal_match_pytorch_and_smp():
    """Conventions of pos_weight, label smoothing and focal alpha."""
    smp = pytest.importorskip("segmentation_models_pytorch").losses
    logits, planes, truth = case(batch=1)
    y, pos = truth.double(), torch.linspace(0.5, 2, 11, dtype=torch.float64)
    found = pixel_region_loss(logits, planes, {"bce": 1.0}, TermOptions(pos_weight=pos.tolist())).loss
    expected = F.binary_cross_entropy_with_logits(logits, y, pos_weight=pos[:, None, None])
    torch.testing.assert_close(found, expected)
    smooth = smp.SoftBCEWithLogitsLoss(smooth_factor=0.05)(logits, y)  # half of our smoothing
    torch.testing.assert_close(pixel_region_loss(logits, planes, {"bce": 1.0}, TermOptions(smoothing=0.1)).loss, smooth)
    focal = smp.FocalLoss("multilabel", alpha=0.25, gamma=2.0)(logits, y)
    torch.testing.assert_close(
        pixel_region_loss(logits, planes, {"focal": 1.0}, TermOptions(focal_alpha=0.25)).loss, focal
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_logits_give_finite_values_and_the_right_gradient(dtype):
    """exp overflows and 1 - p vanishes beyond 100: the reference is PyTorch's own stable form in float64."""
    logits, planes, truth = case(spread=120, dtype=dtype)
    double = logits.detach().double().requires_grad_()
    expected, _ = slow(double, truth, ALL, varied(11))
    expected.backward()
    found = pixel_region_loss(logits, planes, ALL, varied(11)).loss
    found.backward()
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    assert logits.grad.dtype == dtype
    rtol = 1e-4 if dtype == torch.float32 else 8e-3
    torch.testing.assert_close(logits.grad.double(), double.grad, rtol=rtol, atol=1e-9)


def test_float32_over_a_million_pixels_keeps_its_digits():
    rng = np.random.default_rng(0)
    planes = torch.from_numpy(rng.integers(0, 256, (1, 1, 1024, 1024), dtype=np.uint8))
    logits = torch.from_numpy(rng.normal(-2, 3, (1, 3, 1024, 1024)).astype(np.float32)).requires_grad_()
    truth = torch.stack([planes[:, 0] >> c & 1 for c in range(3)], 1).bool()
    double = logits.detach().double().requires_grad_()
    expected, terms = slow(double, truth, ALL)
    expected.backward()
    found = pixel_region_loss(logits, planes, ALL)
    found.loss.backward()
    torch.testing.assert_close(found.loss.double(), expected, rtol=3e-7, atol=0)
    for name in ALL:
        torch.testing.assert_close(found.terms[name].double(), terms[name].detach(), rtol=1e-6, atol=0)
    assert float((logits.grad - double.grad).norm() / double.grad.norm()) < 1e-6


@pytest.mark.parametrize("cut", [[1, 1, 1, 1, 1], [2, 3], [4, 1]])
def test_micro_batches_weighted_by_size_give_the_batch(cut):
    logits, planes, _ = case(batch=5)
    arguments = ALL, varied(11), torch.linspace(0.5, 1.5, 11)
    whole = pixel_region_loss(logits, planes, *arguments).loss
    (gradient,) = torch.autograd.grad(whole, logits)
    total = torch.zeros((), dtype=torch.float64)
    for x, p in zip(logits.split(cut), planes.split(cut), strict=True):
        part = pixel_region_loss(x, p, *arguments).loss * len(x) / 5
        part.backward()  # accumulated, as micro-batches do
        total += part.detach()
    torch.testing.assert_close(total, whole.detach(), rtol=1e-13, atol=0)
    torch.testing.assert_close(logits.grad, gradient, rtol=1e-12, atol=0)


def test_logits_need_not_be_contiguous():
    """Channels-last networks, and a view of a larger map."""
    logits, planes, truth = case()
    with torch.no_grad():
        expected = slow(logits, truth, ALL)[0]
        last = logits.detach().to(memory_format=torch.channels_last)
        wider = F.pad(logits, (1, 2, 3, 4))[:, :, 3:-4, 1:-2]
    for view in (last, wider):
        view.requires_grad_()
        assert not view.is_contiguous()
        loss = pixel_region_loss(view, planes, ALL).loss
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(
            torch.autograd.grad(loss, view)[0],
            torch.autograd.grad(pixel_region_loss(logits, planes, ALL).loss, logits)[0],
        )


def test_hard_dice_equals_the_dice_of_scoring():
    logits, planes, truth = case(seed=4)
    with torch.no_grad():
        logits[0, 0] = -1.0  # empty on an empty truth
        logits[1, 0, 0, 0] = 1.0  # false pixel on an empty truth
        logits[0, -1] = 1.0  # full on full
        logits[0, 5, 0] = 0.0  # on the threshold
    for weights in (ALL, {}):
        found = pixel_region_loss(logits, planes, weights).dice_hard
        for b in range(2):
            for c in range(11):
                runs = [rle.parse(rle.encode(m[b, c].numpy())) for m in (logits.detach() > 0, truth)]
                assert float(found[b, c]) == pytest.approx(rle.dice(*runs), abs=1e-12)


def test_without_gradient_values_are_the_same():
    logits, planes, truth = case()
    with torch.no_grad():
        found = pixel_region_loss(logits, planes, ALL)
    torch.testing.assert_close(found.loss, slow(logits.detach(), truth, ALL)[0])
    assert not found.loss.requires_grad
