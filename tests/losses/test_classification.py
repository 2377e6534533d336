"""Classification losses against formulas written out in numpy float64, cell by cell, and their gradients."""

import numpy as np
import pytest
import torch

from phalanx.config.base import validate_as
from phalanx.config.classify_loss import ClassifyLoss
from phalanx.errors import ConfigError
from phalanx.losses.class_weights import Counts, class_weights, count_labels, margins
from phalanx.losses.classification import ClassificationLoss

CLASSES = ["a", "b", "c", "d"]
COUNTS = Counts(np.array([60, 25, 10, 5]), np.array([40, 75, 90, 95]))
NAN = float("nan")


def make(head, counts=COUNTS, classes=CLASSES, **values):
    return ClassificationLoss(validate_as(ClassifyLoss, values), head, classes, counts)


def batch(head, seed=0, rows=6, soft=False):
    """Logits and labels; some labels are missing: a whole row, and with sigmoids single cells."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (rows, 4))
    if head == "softmax":
        labels = np.eye(4)[rng.integers(0, 4, rows)]
        if soft:
            labels = 0.7 * labels + 0.3 * np.eye(4)[rng.integers(0, 4, rows)]
        labels[2] = NAN
        labels[4, 1] = NAN  # one cell of a softmax: the image is left out
    else:
        labels = (rng.random((rows, 4)) < 0.4).astype(float)
        if soft:
            labels = 0.7 * labels + 0.3 * (rng.random((rows, 4)) < 0.4)
        labels[2] = NAN
        labels[[0, 3, 3], [1, 0, 2]] = NAN
    return logits, labels


def by_hand(logits, labels, cell):
    """Mean over the images of the mean (sigmoid) or sum (softmax) of ``cell(z_row, y_row, c)`` over their cells."""
    values = []
    for z, y in zip(logits, labels, strict=True):
        if cell.head == "softmax":
            values.append(0.0 if np.isnan(y).any() else sum(cell(z, y, c) for c in range(len(z))))
        else:
            there = [c for c in range(len(z)) if not np.isnan(y[c])]
            values.append(sum(cell(z, y, c) for c in there) / len(there) if there else 0.0)
    return np.array(values)


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Ce:
    head, options = "softmax", {"name": "ce"}

    def __call__(self, z, y, c):
        return -y[c] * np.log(softmax(z)[c])


class SmoothCe:
    head, options = "softmax", {"name": "ce", "smoothing": 0.2}

    def __call__(self, z, y, c):
        return -(0.8 * y[c] + 0.05) * np.log(softmax(z)[c])


class InverseCe:
    head, options = "softmax", {"name": "ce", "class_weights": "inverse"}

    def __call__(self, z, y, c):
        return -100 / (4 * [60, 25, 10, 5][c]) * y[c] * np.log(softmax(z)[c])


class ShareCe:
    """Shares .6, .25, .1, .05: the mean of 1 - share over the images is 1 - (.36 + .0625 + .01 + .0025)."""

    head, options = "softmax", {"name": "ce", "class_weights": "one_minus_share"}

    def __call__(self, z, y, c):
        return -[0.4, 0.75, 0.9, 0.95][c] / 0.565 * y[c] * np.log(softmax(z)[c])


class NumberCe:
    head, options = "softmax", {"name": "ce", "class_weights": "effective_number", "beta": 0.9}

    def __call__(self, z, y, c):
        n = [60, 25, 10, 5]
        raw = [0.1 / (1 - 0.9**k) for k in n]
        return -raw[c] / (sum(r * k for r, k in zip(raw, n, strict=True)) / 100) * y[c] * np.log(softmax(z)[c])


class NamedCe:
    head, options = "softmax", {"name": "ce", "class_weights": {"c": 3, "others": 0.5}}

    def __call__(self, z, y, c):
        return -[0.5, 0.5, 3, 0.5][c] / (0.5 * 0.9 + 3 * 0.1) * y[c] * np.log(softmax(z)[c])


class FocalSoftmax:
    head, options = "softmax", {"name": "focal", "focal": {"gamma": 1.5}}

    def __call__(self, z, y, c):
        p = softmax(z)[c]
        return -y[c] * (1 - p) ** 1.5 * np.log(p)


class LdamPlain:
    head, options = "softmax", {"name": "ldam", "ldam": {"max_margin": 0.4, "scale": 2.0}}

    def __call__(self, z, y, c):
        margin = [0.4 * (5 / n) ** 0.25 for n in (60, 25, 10, 5)]
        return -y[c] * np.log(softmax(2.0 * (z - np.array(margin) * y))[c])


class Adjusted:
    head, options = "softmax", {"name": "logit_adjusted", "logit_adjusted": {"tau": 1.3}}

    def __call__(self, z, y, c):
        return -y[c] * np.log(softmax(z + 1.3 * np.log([0.6, 0.25, 0.1, 0.05]))[c])


class Bce:
    head, options = "sigmoid", {"name": "bce"}

    def __call__(self, z, y, c):
        p = sigmoid(z[c])
        return -y[c] * np.log(p) - (1 - y[c]) * np.log(1 - p)


class SmoothInverseBce:
    """Sides weighted by half of their class's images over theirs; labels go to .05 and .95."""

    head, options = "sigmoid", {"name": "bce", "smoothing": 0.1, "class_weights": "inverse"}

    def __call__(self, z, y, c):
        p, soft = sigmoid(z[c]), 0.9 * y[c] + 0.05
        up, down = 50 / [60, 25, 10, 5][c], 50 / [40, 75, 90, 95][c]
        return -up * soft * np.log(p) - down * (1 - soft) * np.log(1 - p)


class FocalSigmoid:
    head, options = "sigmoid", {"name": "focal", "focal": {"gamma": 2.5, "alpha": 0.3}}

    def __call__(self, z, y, c):
        p = sigmoid(z[c])
        return -0.3 * y[c] * (1 - p) ** 2.5 * np.log(p) - 0.7 * (1 - y[c]) * p**2.5 * np.log(1 - p)


class Asymmetric:
    head, options = "sigmoid", {"name": "asl", "asl": {"gamma_pos": 1, "gamma_neg": 3, "margin": 0.2}}

    def __call__(self, z, y, c):
        p = sigmoid(z[c])
        m = max(p - 0.2, 0)
        return -y[c] * (1 - p) * np.log(p) - (1 - y[c]) * m**3 * np.log(1 - m)


class AsymmetricWithoutMargin:
    head, options = "sigmoid", {"name": "asl", "asl": {"gamma_pos": 0, "gamma_neg": 4, "margin": 0}}

    def __call__(self, z, y, c):
        p = sigmoid(z[c])
        return -y[c] * np.log(p) - (1 - y[c]) * p**4 * np.log(1 - p)


FORMULAS = [
    Ce, SmoothCe, InverseCe, ShareCe, NumberCe, NamedCe, FocalSoftmax, LdamPlain, Adjusted, Bce, SmoothInverseBce,
    FocalSigmoid, Asymmetric, AsymmetricWithoutMargin,
]  # fmt: skip


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("formula", FORMULAS)
def test_a_loss_is_its_formula(formula, soft):
    cell = formula()
    logits, labels = batch(cell.head, soft=soft)
    found = make(cell.head, **cell.options)(torch.tensor(logits), torch.tensor(labels), 0)
    wanted = by_hand(logits, labels, cell)
    np.testing.assert_allclose(found.per_image.numpy(), wanted, rtol=1e-10, atol=1e-12)
    assert float(found.total) == pytest.approx(wanted.mean(), rel=1e-12)
    assert set(found.terms) == {cell.options["name"], "nll"}
    plain = by_hand(logits, labels, Ce() if cell.head == "softmax" else Bce())
    np.testing.assert_allclose(found.terms["nll"].numpy(), plain, rtol=1e-10)
    np.testing.assert_allclose(found.terms[cell.options["name"]].numpy(), wanted, rtol=1e-10)
    assert not found.terms["nll"].requires_grad


@pytest.mark.parametrize("formula", FORMULAS)
def test_gradients_are_those_of_finite_differences(formula):
    cell = formula()
    logits, labels = batch(cell.head, seed=4, soft=True)
    loss = make(cell.head, **cell.options)
    inputs = torch.tensor(logits, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: loss(z, torch.tensor(labels), 0).per_image, (inputs,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("formula", FORMULAS)
def test_extreme_logits_are_finite_in_every_type(formula, dtype):
    cell = formula()
    loss = make(cell.head, **cell.options)
    extremes = torch.tensor([[1e4, -1e4, 0, 1e4], [-1e4] * 4, [0.0] * 4, [1e4, -1e4, -1e4, -1e4], [1e-4] * 4])
    for right in (0, 1, 2, 3):
        labels = torch.zeros(5, 4)
        labels[:, right] = 1
        labels[4] = NAN
        logits = extremes.to(dtype).requires_grad_()
        found = loss(logits, labels, 0)
        found.total.backward()
        assert found.total.dtype == torch.float32
        assert found.per_image.isfinite().all()
        assert (found.per_image >= 0).all()
        assert logits.grad.dtype == dtype
        assert logits.grad.isfinite().all()
        assert (logits.grad[4] == 0).all()


def test_half_precision_computes_in_float32():
    logits, labels = (torch.tensor(values, dtype=torch.float32) for values in batch("sigmoid"))
    rounded = logits.half()
    for name in ("bce", "focal", "asl"):
        loss = make("sigmoid", name=name)
        assert torch.equal(loss(rounded, labels, 0).per_image, loss(rounded.float(), labels, 0).per_image)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_an_image_without_labels_adds_nothing_and_has_no_gradient(head):
    name = "ce" if head == "softmax" else "bce"
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    labels = torch.tensor([[1.0, 0, 0, 0], [NAN] * 4, [0, 1.0, 0, 0]])
    found = make(head, name=name)(logits, labels, 0)
    found.total.backward()
    assert found.per_image[1] == 0
    assert (logits.grad[1] == 0).all()
    assert found.total == found.per_image.sum() / 3
    nothing = make(head, name=name)(logits, torch.full((3, 4), NAN), 0)
    assert nothing.total == 0


def test_parts_of_a_batch_add_up():
    logits, labels = map(torch.tensor, batch("sigmoid", rows=8))
    loss = make("sigmoid", name="asl")
    parts = [loss(logits[a:b], labels[a:b], 0).total * (b - a) for a, b in ((0, 3), (3, 8))]
    assert float(sum(parts)) / 8 == pytest.approx(float(loss(logits, labels, 0).total), rel=1e-12)


def test_deferred_weights_begin_with_their_epoch():
    logits, labels = batch("softmax")
    loss = make("softmax", name="ldam", ldam={"drw_epoch": 2}, beta=0.9)
    values = [loss(torch.tensor(logits), torch.tensor(labels), epoch).per_image.numpy() for epoch in range(4)]
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[2], values[3])
    raw = np.array([0.1 / (1 - 0.9**n) for n in (60, 25, 10, 5)])
    weights = raw / (raw * [0.6, 0.25, 0.1, 0.05]).sum()
    known = ~np.isnan(labels).any(axis=1)
    np.testing.assert_allclose(values[2][known], (values[0] * weights[np.nan_to_num(labels).argmax(1)])[known])
    np.testing.assert_allclose(loss.weights_at(2).positive, weights)
    np.testing.assert_array_equal(loss.weights_at(1).positive, 1)


def test_weights_have_a_mean_of_one_over_the_training_labels():
    for rule in ("inverse", "one_minus_share", "effective_number", {"b": 4.0, "others": 2.0}):
        one = class_weights(rule, "softmax", CLASSES, COUNTS, 0.99)
        assert np.average(one.positive, weights=COUNTS.positives) == pytest.approx(1)
        two = class_weights(rule, "sigmoid", CLASSES, COUNTS, 0.99)
        cells = two.positive * COUNTS.positives + two.negative * COUNTS.negatives
        assert cells.sum() / 400 == pytest.approx(1)
        assert (np.diff(two.positive / two.negative) > 0).all() or isinstance(rule, dict)  # rarer, heavier


def test_the_published_rule_gives_the_published_weights():
    """One minus the share, of the two sides of a class: 7,312 normal and 7,450 diseased are .5047 and .4953."""
    names = ["normal", "diseased"]
    raw = class_weights("one_minus_share", "softmax", names, Counts(np.array([7312, 7450]), np.array([7450, 7312])))
    ratio = raw.positive / raw.positive.sum()
    assert [round(float(value), 4) for value in ratio] == [0.5047, 0.4953]
    rare = class_weights("one_minus_share", "softmax", names, Counts(np.array([5594, 1190]), np.array([1190, 5594])))
    assert [round(float(value), 4) for value in rare.positive / rare.positive.sum()] == [0.1754, 0.8246]


def test_the_rarest_class_has_the_largest_margin():
    found = margins(np.array([10000, 16, 1]), 0.5, ["a", "b", "c"])
    np.testing.assert_allclose(found, [0.05, 0.25, 0.5])


def test_counts_leave_missing_labels_out():
    counts = count_labels(np.array([[1, NAN, 0], [1, 0, NAN], [0, NAN, 1.0]]))
    assert (counts.positives.tolist(), counts.negatives.tolist()) == ([2, 0, 1], [1, 1, 1])


@pytest.mark.parametrize(
    ("head", "values", "message"),
    [
        ("softmax", {"name": "ldam"}, "loss.name=ldam: 'c' has no training images"),
        ("softmax", {"name": "logit_adjusted"}, "loss.name=logit_adjusted: 'c' has no"),
        ("softmax", {"name": "ce", "class_weights": "inverse"}, "class_weights=inverse: 'c' has no"),
        ("softmax", {"name": "ce", "class_weights": "effective_number"}, "effective_number: 'c' has no"),
        ("softmax", {"name": "ce", "class_weights": "one_minus_share"}, "one_minus_share: 'c' has no training images"),
        ("sigmoid", {"name": "bce", "class_weights": "inverse"}, "'c' has no positive training images"),
        ("sigmoid", {"name": "asl", "class_weights": "effective_number"}, "'c' has no positive"),
        ("sigmoid", {"name": "ce"}, "loss.name=ce: is for head=softmax"),
    ],
)
def test_a_class_without_images_is_refused_where_its_number_divides(head, values, message):
    counts = Counts(np.array([60, 25, 0, 5]), np.array([40, 75, 100, 95]))
    with pytest.raises(ConfigError, match=message):
        make(head, counts, **values)


@pytest.mark.parametrize(
    ("head", "values"),
    [
        ("softmax", {"name": "ce"}),
        ("softmax", {"name": "focal", "class_weights": {"c": 2}}),
        ("sigmoid", {"name": "bce", "class_weights": "one_minus_share"}),
        ("sigmoid", {"name": "asl"}),
    ],
)
def test_a_class_without_images_or_labels_is_fine_elsewhere(head, values):
    counts = Counts(np.array([60, 25, 0, 0]), np.array([40, 75, 100, 0]))
    logits, labels = batch(head)
    assert make(head, counts, **values)(torch.tensor(logits), torch.tensor(labels), 0).total.isfinite()


class Counted(torch.utils._python_dispatch.TorchDispatchMode):
    """Records operations whose result a processor must wait for, or whose shape depends on values."""

    WAITING = ("aten._local_scalar_dense", "aten.nonzero", "aten.index.", "aten.index_put", "aten.masked_select",
               "aten.is_nonzero", "aten.equal")  # fmt: skip

    def __init__(self):
        super().__init__()
        self.found, self.seen = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen += 1
        if str(func).startswith(self.WAITING):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_step_never_waits_for_a_gpu(formula):
    cell = formula()
    logits, labels = batch(cell.head)
    loss = make(cell.head, **cell.options)
    logits, labels = torch.tensor(logits, requires_grad=True), torch.tensor(labels)
    with Counted() as seen:
        loss(logits, labels, 3).total.backward()
    assert seen.seen > 5
    assert seen.found == []


def test_the_watch_over_waiting_operations_sees_them():
    with Counted() as seen:
        torch.ones(2).sum().item()
        torch.ones(3)[torch.ones(3) > 0]
    assert len(seen.found) >= 2
