"""Run by test_triton.py in a process of its own, where Triton's interpreter computes the kernels on CPU tensors.

The interpreter is chosen before Triton is imported. Prints the number of operations of some steps as JSON.
"""

import json
import sys

import torch
from tests.losses.test_batched import OPTIONS, case, compare, count, staged

from phalanx.losses import lovasz_batched
from phalanx.masks.planes_torch import downsample

TERMS = ("bce", "dice", "focal", "tversky", "lovasz")
ALL = dict.fromkeys(TERMS, 0.5)
SIZES = {1: (23, 41), 8: (7, 9), 29: (40, 33), 32: (1, 70), 70: (9, 5)}


def both(logits, planes, weights, points=None, upstream=1.0, **more):
    """Result and gradient by tiles, and by the kernels with and without a known number of active pixels."""
    found = []
    for path, times in (("tiles", 1), ("triton", 2 if "lovasz" in weights else 1)):
        loss = staged(path, weights, logits.shape[1], **more)
        for _ in range(times):
            result = loss(0, logits, points, planes)
            found.append((result, *torch.autograd.grad(upstream * result.total, logits)))
    return found


def check(classes, dtype, weights=ALL, batch=2, **more):
    height, width = SIZES[classes]
    logits, planes = case(batch, classes, height, width, dtype=dtype)
    # the interpreter truncates to bfloat16; each further term adds to what is rounded
    rtol = 1e-5 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    compare(both(logits, planes, weights, upstream=1.0 if dtype == torch.float32 else 4096.0, **more), 1e-6, rtol)


def check_float64(*spreads):
    """Single-precision kernels against tiles in float64, over the confident logits of a trained network too."""
    weights = {name: 0.5 for name in TERMS if name != "lovasz"}
    for spread in spreads:
        logits, planes = case(1, 3, 33, 35, spread=spread)
        double = logits.detach().double().requires_grad_()
        expected = staged("tiles", weights, 3)(0, double, None, planes)
        (gradient,) = torch.autograd.grad(expected.total, double)
        found = staged("triton", weights, 3)(0, logits, None, planes)
        (own,) = torch.autograd.grad(found.total, logits)
        for name, parts in expected.terms.items():
            torch.testing.assert_close(found.terms[name].double(), parts, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(own.double(), gradient, rtol=1e-5, atol=1e-5 * float(gradient.abs().max()))


def check_infinite():
    logits, planes = case(1, 4, spread=3.0)
    with torch.no_grad():
        logits[0, 1, 0, :4] = torch.tensor([torch.inf, -torch.inf, torch.inf, -torch.inf])
        logits[0, 3, 2, :2] = torch.tensor([torch.inf, -torch.inf])
        logits[0, 2, 1, 1] = torch.nan
    for weights in ({"bce": 1.0}, {"dice": 0.5, "tversky": 0.5}, {"focal": 1.0}):
        (expected, gradient), (result, own) = both(logits, planes, weights)
        torch.testing.assert_close(result.terms, expected.terms, equal_nan=True)
        torch.testing.assert_close(result.dice, expected.dice)
        torch.testing.assert_close(own, gradient, equal_nan=True, rtol=1e-5, atol=1e-8)
    terms = [staged("triton", {"lovasz": 1.0}, 4)(0, logits, None, planes).terms["lovasz"] for _ in range(2)]
    for parts in terms:
        assert torch.isnan(parts).nonzero().tolist() == [[0, 2]]


def check_layouts():
    logits, planes = case(1, 9, 8, 12)
    last = logits.detach().to(memory_format=torch.channels_last).requires_grad_()
    part = torch.nn.functional.pad(logits.detach(), (1, 2))[..., 1:-2].requires_grad_()
    thin = downsample(planes.repeat_interleave(2, 2).repeat_interleave(2, 3), (8, 12))
    for mixture in ({"bce": 0.5, "dice": 0.5}, {"bce": 0.5, "lovasz": 0.5}):
        result = staged("tiles", mixture, 9)(0, logits, None, planes)
        (gradient,) = torch.autograd.grad(result.total, logits)
        for view in (last, part):
            (own,) = torch.autograd.grad(staged("triton", mixture, 9)(0, view, None, thin).total, view)
            torch.testing.assert_close(own, gradient, rtol=1e-5, atol=1e-8)
            if view is last and "dice" in mixture:
                assert own.is_contiguous(memory_format=torch.channels_last)


def check_points():
    logits, planes = case(2, 3)
    coords, at = torch.rand(2, 50, 2), torch.randn(2, 3, 50, requires_grad=True)
    found = []
    for path in ("tiles", "triton"):
        result = staged(path, {"bce": 0.5, "point": 0.7}, 3)(0, logits, (coords, at), planes)
        found.append((result.total, result.terms["point"], *torch.autograd.grad(result.total, at)))
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-7)


def check_parts():
    """Keys too short for all segments."""
    logits, planes = case(1, 5)
    found, most = [], lovasz_batched.segments_of_a_sort
    for segments in (most, lambda pixels: 2):
        lovasz_batched.segments_of_a_sort = segments
        result = staged("triton", {"lovasz": 1.0}, 5)(0, logits, None, planes)
        found.append((result.total, *torch.autograd.grad(result.total, logits)))
    lovasz_batched.segments_of_a_sort = most
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=0)


def check_twice_the_same():
    logits, planes = case(2, 29, 40, 33)
    runs = [both(logits, planes, ALL)[1] for _ in range(2)]
    assert torch.equal(runs[0][0].total, runs[1][0].total)
    assert torch.equal(runs[0][1], runs[1][1])


def main(extent):
    if extent == "quick":
        check(29, torch.float32, batch=1)
        check(1, torch.bfloat16)
        check(8, torch.float16, batch=1, options=OPTIONS)
        check_float64(12.0)
    else:
        for classes in SIZES:
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                for options in (None, OPTIONS, {"focal": {"gamma": 0.5}}, {"focal": {"gamma": 0.0}}):
                    check(classes, dtype, options=options)
            for name in TERMS:
                check(classes, torch.float32, {name: 1.0}, class_weights={"c0": 3.0})
        check_twice_the_same()
        check_float64(0.5, 3.0, 12.0, 50.0)
    check_infinite()
    check_layouts()
    check_points()
    check_parts()
    default, second = {"bce": 0.5, "dice": 0.5, "point": 0.5}, {"bce": 0.5, "lovasz": 0.5, "point": 0.5}
    for weights in (default, second):
        counts = {count(weights, *shape, points=16, path="triton") for shape in ((1, 1), (2, 9))}
        print(json.dumps({"weights": weights, "counts": sorted(counts)}))


if __name__ == "__main__":
    main(sys.argv[1])
