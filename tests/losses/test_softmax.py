"""The losses of a softmax against their formulas, written out pixel by pixel in float64."""

import math

import numpy as np
import pytest
import torch

from phalanx.config import Loss, validate_as
from phalanx.errors import ConfigError
from phalanx.losses.class_weights import class_weights, count_pixels
from phalanx.losses.softmax import SoftmaxLoss, exclusive_dice
from phalanx.masks.planes_torch import label_map

CLASSES = ["normal", "diseased"]


def case(seed=0, batch=2, classes=2, side=6, dtype=torch.float64):
    """Logits [B, 1 + C, S, S], channels [B, S, S] and their bit-planes."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 1 + classes, side, side, generator=random, dtype=dtype) * 2
    channels = torch.randint(0, 1 + classes, (batch, side, side), generator=random)
    planes = torch.zeros(batch, -(-classes // 8), side, side, dtype=torch.uint8)
    for c in range(classes):
        planes[:, c // 8] |= (channels == 1 + c).to(torch.uint8) << (c % 8)
    return logits.requires_grad_(), channels, planes


def loss_of(weights, classes=CLASSES, **more):
    return SoftmaxLoss(validate_as(Loss, {"stages": [{"weights": weights}], **more}), classes)


def softmax(values):
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def pixels(logits, channels):
    """Probabilities and channel of each pixel, image by image."""
    for image, truth in zip(logits.tolist(), channels.tolist(), strict=True):
        side = len(truth)
        yield [
            (softmax([image[k][y][x] for k in range(len(image))]), truth[y][x])
            for y in range(side) for x in range(side)
        ]  # fmt: skip


def check(found, logits, expected):
    """The value, and that the gradient is the value's."""
    assert found.item() == pytest.approx(expected, abs=1e-10)
    (gradient,) = torch.autograd.grad(found, logits)
    assert torch.isfinite(gradient).all()
    return gradient


@pytest.mark.parametrize("gamma", [None, 2.0, 0.5])
def test_cross_entropy_and_focal_cross_entropy_are_their_formulas(gamma):
    logits, channels, planes = case()
    weights = [0.01, 0.2, 0.79]
    found = loss_of({"ce": 1.0}) if gamma is None else loss_of({"focal": 1.0}, options={"focal": {"gamma": gamma}})
    counts = count_pixels(np.array([[40, 30]]), np.array([1000]))
    made = class_weights(weights, "softmax", ["background", *CLASSES], counts)
    found.set_weights(made)
    scale = (930 * 0.01 + 40 * 0.2 + 30 * 0.79) / 1000  # so that a pixel of the fold weighs 1 on average
    np.testing.assert_allclose(made.positive, np.array(weights) / scale)
    each = []
    for image in pixels(logits.detach(), channels):
        terms = [-weights[k] / scale * (1 - p[k]) ** (gamma or 0) * math.log(p[k]) for p, k in image]
        each.append(sum(terms) / len(terms))
    step = found(0, logits, None, planes)
    check(step.total, logits, sum(each) / len(each))
    (parts,) = step.terms.values()
    np.testing.assert_allclose(parts[:, 0].numpy(), each)
    assert not parts.requires_grad


def test_soft_dice_is_its_formula_over_the_classes_without_background():
    logits, channels, planes = case(1)
    losses = []
    for image in pixels(logits.detach(), channels):
        for c in (1, 2):
            tp = sum(p[c] for p, k in image if k == c)
            fp = sum(p[c] for p, k in image if k != c)
            fn = sum(1 - p[c] for p, k in image if k == c)
            losses.append(1 - (2 * tp + 1) / (2 * tp + fp + fn + 1))
    step = loss_of({"dice": 1.0})(0, logits, None, planes)
    check(step.total, logits, sum(losses) / 4)
    assert step.terms["dice"].shape == (2, 2)


def lovasz_extension(errors, truth):
    """The Lovasz extension of the Jaccard loss, by its definition: sorted errors times what each adds to the loss."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    total, before, wrong = 0.0, 0.0, set()
    there = {i for i, value in enumerate(truth) if value}
    for i in order:
        wrong.add(i)
        jaccard = 1 - len(there - wrong) / len(there | wrong)
        total += errors[i] * (jaccard - before)
        before = jaccard
    return total


def test_lovasz_softmax_is_its_definition_over_the_classes_of_an_image():
    logits, channels, planes = case(2)
    with torch.no_grad():
        planes[1] &= 1  # the second image lacks the second class
        channels[1][channels[1] == 2] = 0
    expected = []
    for image in pixels(logits.detach(), channels):
        own = []
        for c in range(3):
            truth = [k == c for _, k in image]
            if any(truth):
                errors = [1 - p[c] if k == c else p[c] for p, k in image]
                own.append(lovasz_extension(errors, truth))
        expected.append(sum(own) / len(own))
    step = loss_of({"lovasz": 1.0})(0, logits, None, planes)
    check(step.total, logits, sum(expected) / 2)
    torch.autograd.gradcheck(lambda x: loss_of({"lovasz": 1.0})(0, x, None, planes).total, logits)


def test_an_image_of_background_alone_has_a_finite_loss_and_learns_background():
    logits, _, planes = case(3)
    planes.zero_()
    found = loss_of({"ce": 0.4, "focal": 0.2, "dice": 0.2, "lovasz": 0.2})(0, logits, None, planes)
    gradient = check(found.total, logits, found.total.item())
    assert (gradient[:, 0] < 0).all()  # a step down raises background everywhere


def test_certain_predictions_of_any_size_have_finite_gradients():
    logits = torch.tensor([[[[200.0, -200.0]], [[-200.0, 200.0]], [[0.0, 0.0]]]], requires_grad=True)
    planes = torch.tensor([[[[0, 0]]]], dtype=torch.uint8)  # right at one pixel, wrong at the other
    for weights, options in (({"ce": 1.0}, {}), ({"focal": 1.0}, {"focal": {"gamma": 0.5}}), ({"lovasz": 1.0}, {})):
        loss_of(weights, options=options)(0, logits, None, planes).total.backward()
    assert torch.isfinite(logits.grad).all()


def test_half_precision_is_computed_in_float32():
    logits, _, planes = case(4, side=64, dtype=torch.float32)
    half = logits.detach().half().requires_grad_()
    weights = {"ce": 1.0, "focal": 1.0, "dice": 1.0, "lovasz": 1.0}
    one, other = (loss_of(weights)(0, x, None, planes).total for x in (half, half.detach().float().requires_grad_()))
    assert one.dtype == torch.float32
    assert one.item() == other.item()


def test_points_are_cross_entropy_with_dice_over_them():
    logits, channels, planes = case(5)
    random = torch.Generator().manual_seed(5)
    coords = torch.rand(2, 9, 2, generator=random)
    at = torch.randn(2, 3, 9, generator=random, dtype=torch.float64, requires_grad=True)
    place = (coords * 6).long()
    expected = []
    for b in range(2):
        truth = [int(channels[b, y, x]) for x, y in place[b].tolist()]
        p = [softmax(column) for column in at[b].T.tolist()]
        ce = -sum(math.log(q[k]) for q, k in zip(p, truth, strict=True)) / 9
        dice = []
        for c in (1, 2):
            tp = sum(q[c] for q, k in zip(p, truth, strict=True) if k == c)
            dice.append(1 - (2 * tp + 1) / (sum(q[c] for q in p) + truth.count(c) + 1))
        expected.append(0.7 * ce + 0.3 * sum(dice) / 2)
    found = loss_of({"point": 1.0}, options={"point": {"dice_weight": 0.3}})
    check(found(0, logits, (coords, at), planes).total, at, sum(expected) / 2)


def test_training_dice_is_that_of_the_likeliest_channel():
    logits, channels, planes = case(6)
    guess = logits.argmax(1)
    for b in range(2):
        for c in (1, 2):
            both = int(((guess[b] == c) & (channels[b] == c)).sum())
            expected = 2 * both / int((guess[b] == c).sum() + (channels[b] == c).sum())
            assert exclusive_dice(logits, channels)[b, c - 1].item() == pytest.approx(expected)
    assert torch.equal(loss_of({"ce": 1.0})(0, logits, None, planes).dice, exclusive_dice(logits.detach(), channels))
    empty = torch.zeros_like(channels)
    nothing = torch.zeros_like(logits)
    nothing[:, 0] = 1
    assert (exclusive_dice(nothing, empty) == 1).all()


def test_more_than_eight_classes_are_told_apart_and_the_last_of_several_counts():
    logits, channels, planes = case(7, classes=19)
    assert torch.equal(label_map(planes), channels)
    planes[0, 0, 0, 0], planes[0, 1, 0, 0], planes[0, 2, 0, 0] = 0b1010, 0b1, 0
    assert label_map(planes)[0, 0, 0] == 9
    classes = [f"c{i}" for i in range(19)]
    channels = label_map(planes)
    expected = [sum(-math.log(p[k]) for p, k in image) / len(image) for image in pixels(logits.detach(), channels)]
    check(loss_of({"ce": 1.0}, classes)(0, logits, None, planes).total, logits, sum(expected) / 2)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"stages": [{"weights": {"bce": 1.0}}]}, "weights.bce: is not a term of model.head=softmax"),
        ({"stages": [{"weights": {"boundary": 1.0}}]}, "weights.boundary: is not a term of model.head=softmax"),
        ({"stages": [{"weights": {"focal": 1.0}}], "options": {"focal": {"alpha": 0.3}}}, "focal.alpha: weighs"),
        ({"stages": [{"weights": {"dice": 1.0}}], "class_weights": "inverse"}, "no loss stage has one of these"),
    ],
)
def test_what_a_softmax_does_not_read_is_refused(loss, message):
    with pytest.raises(ConfigError, match=message):
        SoftmaxLoss(validate_as(Loss, loss), CLASSES)
