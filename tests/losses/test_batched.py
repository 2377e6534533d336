"""The losses of a whole batch at once, run on CPU tensors: against the tiles, float64 definitions and a count of
operations that grows with neither images nor classes."""

import numpy as np
import pytest
import torch
from tests.operations import Operations

from phalanx.config import Loss, validate_as
from phalanx.losses import lovasz_batched, stages
from phalanx.losses.boundary import signed_distances
from phalanx.losses.boundary_batched import FAR, nearest_squared, signed_distances_of
from phalanx.losses.paths import path_of
from phalanx.losses.points import batched_point_loss
from phalanx.losses.stages import StagedLoss
from phalanx.masks.planes import pack
from phalanx.masks.planes_torch import downsample, unpack
from phalanx.runtime import kernels
from phalanx.runtime.capture import recording

MAP_TERMS = ("bce", "dice", "focal", "tversky", "lovasz")
OPTIONS = {
    "bce": {"smoothing": 0.1, "pos_weight": {"c0": 3.0}},
    "focal": {"gamma": 1.5, "alpha": 0.3},
    "tversky": {"alpha": {"c0": 0.6}, "beta": 1.2, "gamma": 4 / 3},
}


def case(batch=2, classes=11, height=7, width=9, seed=0, dtype=torch.float32, spread=2.0):
    """Logits and bit-planes: foreground fractions from 0 to 1 by class."""
    rng = np.random.default_rng(seed)
    truth = rng.random((batch, classes, height, width)) < np.linspace(0, 1, classes)[None, :, None, None]
    planes = torch.from_numpy(np.stack([pack(stack).transpose(2, 0, 1) for stack in truth]))
    return torch.from_numpy(rng.normal(0, spread, truth.shape)).to(dtype).requires_grad_(), planes.contiguous()


def staged(path, weights, classes=11, options=None, **more):
    used = {name: value for name, value in (options or {}).items() if name in weights}
    values = {"stages": [{"weights": weights}], "options": used, **more}
    return StagedLoss(validate_as(Loss, values), [f"c{i}" for i in range(classes)], path)


def both(logits, planes, weights, points=None, upstream=1.0, **more):
    """Result and gradient by tiles, and by whole maps twice: with and without a known number of active pixels."""
    found = []
    for path in ("tiles", "batched"):
        loss = staged(path, weights, logits.shape[1], **more)
        for _ in range(1 if path == "tiles" else 2):
            result = loss(0, logits, points, planes)
            (gradient,) = torch.autograd.grad(upstream * result.total, logits)
            found.append((result, gradient))
    return found


def compare(found, rtol=1e-6, gradient_rtol=1e-5):
    (expected, gradient), *others = found
    for result, own in others:
        torch.testing.assert_close(result.total, expected.total, rtol=rtol, atol=1e-7)
        assert set(result.terms) == set(expected.terms)
        for name, parts in expected.terms.items():
            torch.testing.assert_close(result.terms[name], parts, rtol=rtol, atol=rtol)
        torch.testing.assert_close(result.dice, expected.dice, rtol=1e-6, atol=1e-30)
        assert own.dtype == gradient.dtype
        torch.testing.assert_close(own, gradient, rtol=gradient_rtol, atol=gradient_rtol * float(gradient.abs().max()))


@pytest.mark.parametrize("classes", [1, 8, 29, 32, 70])
def test_all_terms_equal_the_tiles_for_any_number_of_classes(classes):
    weights = dict.fromkeys(MAP_TERMS, 0.5)
    compare(both(*case(classes=classes), weights, class_weights={"c0": 2.0}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_differs_by_its_rounding(dtype):
    weights = dict.fromkeys(MAP_TERMS, 0.5)
    compare(both(*case(dtype=dtype), weights, upstream=65536.0), gradient_rtol=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("options", [None, OPTIONS, {"focal": {"gamma": 0.5}}, {"focal": {"gamma": 0.0}}], ids=str)
@pytest.mark.parametrize(
    "weights", [{"bce": 0.3, "dice": 0.4, "focal": 0.3}, {"focal": 1.0}, {"tversky": 1.0, "bce": 0.1}]
)
def test_float64_equals_the_tiles_closely(weights, options):
    logits, planes = case(dtype=torch.float64)
    compare(both(logits, planes, weights, options=options), rtol=1e-12, gradient_rtol=1e-11)


def test_infinite_logits_give_what_tiles_give():
    logits, planes = case(spread=3.0)
    with torch.no_grad():
        logits[0, 3, 0, :4] = torch.tensor([torch.inf, -torch.inf, torch.inf, -torch.inf])
        logits[1, 10, 2, :2] = torch.tensor([torch.inf, -torch.inf])
    for weights in ({"bce": 1.0}, {"dice": 0.5, "tversky": 0.5}, {"focal": 1.0}):
        (expected, gradient), *others = both(logits, planes, weights)
        for result, own in others:
            torch.testing.assert_close(result.terms, expected.terms, equal_nan=True)
            torch.testing.assert_close(result.dice, expected.dice)
            torch.testing.assert_close(own, gradient, equal_nan=True, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", [*MAP_TERMS, "boundary"])
def test_a_nan_logit_makes_its_term_nan(name):
    logits, planes = case()
    with torch.no_grad():
        logits[1, 4, 2, 3] = torch.nan
    loss = staged("batched", {name: 1.0})
    for _ in range(2):
        result = loss(0, logits, None, planes)
        assert torch.isnan(result.total)
        assert torch.isnan(result.terms[name]).nonzero().tolist() == [[1, 4]]
        assert not torch.isnan(result.dice).any()


def test_the_incoming_gradient_comes_before_rounding():
    """1 / pixels is 0 in float16; times the loss scaler's factor it is not."""
    logits, planes = case(batch=1, classes=1, height=512, width=512, dtype=torch.float16)
    (_, gradient), (_, own), _ = both(logits, planes, {"bce": 0.01, "dice": 0.01}, upstream=65536.0)
    torch.testing.assert_close(own, gradient, rtol=2e-3, atol=0)
    assert float((own == 0).float().mean()) < 0.01


def test_logits_and_planes_need_not_be_contiguous():
    logits, planes = case(height=8, width=12)
    last = logits.detach().to(memory_format=torch.channels_last).requires_grad_()
    thin = downsample(planes.repeat_interleave(2, 2).repeat_interleave(2, 3), (8, 12))
    assert not last.is_contiguous()
    assert not thin.is_contiguous()
    weights = dict.fromkeys(MAP_TERMS, 0.5)
    (_, gradient), *_ = both(logits, planes, weights)
    for _, own in both(last, thin, weights)[1:]:
        torch.testing.assert_close(own, gradient, rtol=1e-5, atol=1e-8)


def test_the_device_decides_which_path_serves(monkeypatch):
    kernels.kernels.cache_clear()
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    assert (path_of(torch.device("cpu")), path_of(torch.device("cuda"))) == ("tiles", "batched")
    kernels.kernels.cache_clear()
    monkeypatch.setattr(kernels, "find_spec", lambda name: object())
    monkeypatch.setenv(kernels.VARIABLE, "triton")
    assert (path_of(torch.device("cpu")), path_of(torch.device("cuda"))) == ("tiles", "triton")
    kernels.kernels.cache_clear()


def test_a_second_derivative_is_refused_and_no_gradient_is_needed():
    logits, planes = case()
    total = staged("batched", {"bce": 1.0})(0, logits, None, planes).total
    (gradient,) = torch.autograd.grad(total**2, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
    with torch.no_grad():
        assert not staged("batched", {"bce": 1.0})(0, logits, None, planes).total.requires_grad


def test_points_equal_those_of_the_tiles():
    logits, planes = case()
    coords = torch.rand(2, 50, 2)
    coords[0, :3] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 1.0]])
    at = torch.randn(2, 11, 50, requires_grad=True)
    for share in (0.0, 0.5, 1.0):
        found = []
        for path in ("tiles", "batched"):
            options = {"point": {"dice_weight": share}}
            loss = staged(path, {"bce": 0.5, "point": 0.7}, options=options, class_weights={"c3": 2.0})
            result = loss(0, logits, (coords, at), planes)
            found.append((result.total, result.terms["point"], *torch.autograd.grad(result.total, at)))
        for own, expected in zip(*found, strict=True):
            torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("count", [1, 18, 50, 63, 64], ids="{} points".format)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_points_are_rows_of_the_map_without_its_options(count, dtype, monkeypatch):
    """Fewer than fill rows of 9, as many, and one more than the map has, which cannot join it."""
    joined = []
    monkeypatch.setattr(stages, "batched_point_loss", lambda *args: joined.append(args) or batched_point_loss(*args))
    logits, planes = case(dtype=dtype)
    coords, weights = torch.rand(2, count, 2), dict.fromkeys(("bce", "dice", "focal", "tversky", "point"), 0.5)
    at = torch.randn(2, 11, count, dtype=dtype, requires_grad=True)
    found = []
    for path in ("tiles", "batched"):
        loss = staged(path, weights, options=OPTIONS | {"point": {"dice_weight": 0.4}}, class_weights={"c3": 2.0})
        result = loss(0, logits, (coords, at), planes)
        found.append((result.terms, result.dice, *torch.autograd.grad(4096 * result.total, (logits, at))))
    assert len(joined) == (count == 64)
    assert found[1][3].is_contiguous()
    assert found[1][2].is_contiguous()
    (expected, dice, *gradients), (terms, own_dice, *own_gradients) = found
    assert set(terms) == set(expected)
    for name, parts in expected.items():
        torch.testing.assert_close(terms[name], parts.to(terms[name].dtype), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(own_dice, dice)
    for own, gradient in zip(own_gradients, gradients, strict=True):
        rtol = max(1e-5, 2 * torch.finfo(dtype).eps)
        torch.testing.assert_close(own, gradient, rtol=rtol, atol=rtol * float(gradient.abs().max()))


@pytest.mark.parametrize("broken", ["map", "points"])
def test_a_nan_of_points_is_not_one_of_the_map_nor_the_other_way(broken):
    logits, planes = case()
    at = torch.randn(2, 11, 50, requires_grad=True)
    with torch.no_grad():
        (logits if broken == "map" else at)[1, 4].view(-1)[3] = torch.nan
    weights = {"bce": 0.5, "dice": 0.5, "point": 0.5}
    loss = staged("batched", weights, options={"point": {"dice_weight": 0.5}})
    result = loss(0, logits, (torch.rand(2, 50, 2), at), planes)
    assert torch.isnan(result.total)
    for name in weights:
        wrong = torch.isnan(result.terms[name]).nonzero().tolist()
        assert wrong == ([[1, 4]] if (name == "point") == (broken == "points") else [])
    assert not torch.isnan(result.dice).any()


# Lovasz


def lovasz_of(logits, planes, loss):
    result = loss(0, logits, None, planes)
    return result.terms["lovasz"], *torch.autograd.grad(result.total, logits)


def test_ties_break_by_pixel_as_on_a_cpu():
    logits, planes = case(height=20, width=20)
    rounded = (logits.detach() * 2).round().div(2).requires_grad_()
    expected = lovasz_of(rounded, planes, staged("tiles", {"lovasz": 1.0}))
    loss = staged("batched", {"lovasz": 1.0})
    for _ in range(2):
        for own, other in zip(lovasz_of(rounded, planes, loss), expected, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-6, atol=0)


def test_more_active_pixels_than_room_are_still_exact():
    few, planes = case(height=40, width=40, spread=0.01)
    with torch.no_grad():
        few += torch.where(unpack(planes, slice(0, 11)), 2.0, -2.0)  # none is active
        few[:, 3, :5] = 0
    many, _ = case(height=40, width=40, seed=1)
    loss = staged("batched", {"lovasz": 1.0})
    term_rooms = []
    for logits in (few, few, many, many, few, few):
        expected = lovasz_of(logits, planes, staged("tiles", {"lovasz": 1.0}))
        for own, other in zip(lovasz_of(logits, planes, loss), expected, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-6, atol=0)
        term_rooms.append(*loss.map_terms["batched"]["lovasz"].room.values())
    assert term_rooms[1] == term_rooms[5] < term_rooms[2] == term_rooms[3]


def test_no_active_pixel_costs_nothing():
    logits, planes = case()
    with torch.no_grad():
        logits.copy_(torch.where(unpack(planes, slice(0, 11)), 2.0, -2.0))
    loss = staged("batched", {"lovasz": 1.0})
    for _ in range(2):
        parts, gradient = lovasz_of(logits, planes, loss)
        assert not parts.any()
        assert not gradient.any()


def test_keys_too_short_for_all_segments_sort_in_parts(monkeypatch):
    logits, planes = case()
    expected = lovasz_of(logits, planes, staged("batched", {"lovasz": 1.0}))
    monkeypatch.setattr(lovasz_batched, "segments_of_a_sort", lambda pixels: 4)
    loss = staged("batched", {"lovasz": 1.0})
    for _ in range(2):
        for own, other in zip(lovasz_of(logits, planes, loss), expected, strict=True):
            torch.testing.assert_close(own, other, rtol=0, atol=0)
    assert len(loss.map_terms["batched"]["lovasz"].room) == 6


def test_free_places_of_a_recorded_step_add_nothing_in_any_part(monkeypatch):
    logits, planes = case()
    expected = lovasz_of(logits, planes, staged("batched", {"lovasz": 1.0}))
    monkeypatch.setattr(lovasz_batched, "segments_of_a_sort", lambda pixels: 4)
    loss = staged("batched", {"lovasz": 1.0})
    lovasz_of(logits, planes, loss)
    with recording() as checks:
        found = lovasz_of(logits, planes, loss)
    assert [check.judge(int(check.value)) for check in checks] == ["right"] * 6
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=0)


@pytest.mark.parametrize("pixels", [1, 2, 63 * 63, 2048 * 2048, 4096 * 4096, 3 << 24])
def test_the_largest_key_fits(pixels):
    last = lovasz_batched.segments_of_a_sort(pixels)
    bits = lovasz_batched.pixel_bits(pixels)
    key = ((((last << 31) + (1 << 31) - 1) << bits) + pixels - 1) * 2 + 1
    assert last >= 1
    assert key < 1 << 63
    assert last * pixels < 1 << 31


# boundary


def test_squared_distances_are_exact():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 7), (9, 1), (17, 33), (5, 512)):
        for fraction in (0.01, 0.4, 1.0):
            sites = rng.random((2, *shape)) < fraction
            sites[:, 0, 0] = True
            y, x = np.mgrid[: shape[0], : shape[1]]
            found = nearest_squared(torch.from_numpy(sites))
            for mask, own in zip(sites, found, strict=True):
                rows, columns = np.nonzero(mask)
                slow = ((y[..., None] - rows) ** 2 + (x[..., None] - columns) ** 2).min(-1)
                np.testing.assert_array_equal(own.numpy(), slow)
    assert float(nearest_squared(torch.zeros(1, 4, 4, dtype=torch.bool)).min()) >= FAR


@pytest.mark.parametrize("side", [64, 1030])
def test_distances_are_those_of_the_cpu_within_its_chamfer(side):
    """At 1030 pixels every third is sampled, and one mask is between the samples."""
    y, x = np.mgrid[:side, :side] / side
    masks = np.zeros((1, 5, side, side), bool)
    masks[0, 1, 0, 0] = True
    masks[0, 2] = np.hypot(y - 0.4, x - 0.6) < 0.2
    masks[0, 3] = (np.hypot(y - 0.1, x) < 0.5) & (np.hypot(y - 0.1, x) > 0.3)
    masks[0, 4] = True
    found = signed_distances_of(torch.from_numpy(masks))[0].numpy()
    expected = signed_distances(pack(masks[0]).transpose(2, 0, 1), 5)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0.025, atol=1e-3)
    assert not found[[0, 4]].any()


@pytest.mark.parametrize("shape", [(24, 24), (33, 600)])
def test_the_boundary_loss_is_that_of_the_tiles_within_its_chamfer(shape):
    logits, planes = case(classes=3, height=shape[0], width=shape[1], dtype=torch.float64)
    compare(both(logits, planes, {"boundary": 1.0}), rtol=0.03, gradient_rtol=0.03)


def test_the_gradient_of_the_boundary_loss_is_that_of_its_value():
    logits, planes = case(classes=3, dtype=torch.float64)
    loss = staged("batched", {"boundary": 1.0, "bce": 0.5}, classes=3)
    assert torch.autograd.gradcheck(lambda x: loss(0, x, None, planes).total, logits)


# operations


def count(weights, batch, classes, *, points=0, auxiliary=False, path="batched", dtype=torch.bfloat16):
    """Operations of forward and gradient, without the first step, which makes constants."""
    logits, planes = case(batch, classes, 8, 8, dtype=dtype)
    half = torch.randn(batch, classes, 4, 4, requires_grad=True)
    at = torch.randn(batch, classes, int(points), requires_grad=True, dtype=dtype)
    given = (torch.rand(batch, int(points), 2), at) if points else None
    loss, learning = staged(path, weights, classes), [logits, *([given[1]] if given else []), *([half] * auxiliary)]
    for _ in range(2):
        with Operations() as found:
            total = loss(0, logits, given, planes).total
            if auxiliary:
                total = total + 0.5 * loss(0, half, None, downsample(planes, (4, 4))).total
            torch.autograd.grad(total, learning)
    return found.total


@pytest.mark.parametrize(
    ("weights", "points", "most"),
    [
        ({"bce": 0.5, "dice": 0.5}, 0, 45),
        ({"bce": 0.3, "dice": 0.4, "focal": 0.3}, 0, 50),
        ({"bce": 0.5, "dice": 0.5, "point": 0.5}, 16, 60),
        ({"bce": 0.5, "dice": 0.5, "point": 0.5}, 15, 60),  # which do not fill a row
        ({"lovasz": 1.0}, 0, 80),
        ({"bce": 0.5, "lovasz": 0.5}, 0, 80),
        ({"bce": 0.5, "lovasz": 0.5, "point": 1.0}, 16, 135),  # points apart, as a map of one row
    ],
    ids=str,
)
def test_operations_are_few_and_do_not_grow(weights, points, most):
    counts = [count(weights, *shape, points=points) for shape in ((1, 1), (2, 29), (5, 8), (3, 70))]
    assert len(set(counts)) == 1
    assert counts[0] <= most


def test_points_auxiliary_heads_and_boundaries_have_no_loops_either():
    weights = {"bce": 0.5, "dice": 0.5, "boundary": 0.5, "point": 0.5}
    counts = {count(weights, *shape, points=16, auxiliary=True) for shape in ((1, 1), (2, 29), (5, 70))}
    assert len(counts) == 1


def test_a_second_forward_leaves_the_gradient_of_the_first():
    """Points that do not fill a row are written into rows that all steps share."""
    loss, gradients = staged("batched", {"bce": 0.5, "dice": 0.5, "point": 0.5}, classes=3), []
    logits, planes = case(2, 3, 8, 8)
    at = torch.randn(2, 3, 15, requires_grad=True, dtype=logits.dtype)
    coords = torch.rand(2, 15, 2)
    for interrupted in (False, True):
        total = loss(0, logits, (coords, at), planes).total
        if interrupted:
            loss(0, -logits, (coords.flip(1), -at), planes.flip(0))
        gradients.append(torch.autograd.grad(total, [logits, at]))
    for alone, after in zip(*gradients, strict=True):
        assert torch.equal(alone, after)
