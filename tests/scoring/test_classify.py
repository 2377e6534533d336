"""Classification scores equal scikit-learn's and torchmetrics'; what is not defined is NaN, silently."""

import json
import warnings

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torchmetrics.functional.classification as tm

from phalanx.errors import DataError
from phalanx.scoring.classify import score_classes
from phalanx.scoring.classify_compare import compare_classes, rank_classes
from phalanx.scoring.classify_report import score_json, score_text
from phalanx.scoring.confusion import predictive_values
from phalanx.scoring.ranking import Ranking
from phalanx.scoring.resampling import RESAMPLES, draws

NAN = float("nan")
CLASSES = ["healthy", "glioma", "meningioma", "pituitary"]
OVER = {"average": "macro", "zero_division": np.nan}


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def names(count):
    return [f"i{i:04d}" for i in range(count)]


def softmax_case(count=300, seed=0, digits=1, classes=4, skill=1.0):
    """Probabilities rounded so far that many are equal, and true classes."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(classes, count, p=np.array([4, 3, 2, 1])[:classes] / np.array([4, 3, 2, 1])[:classes].sum())
    logits = rng.normal(size=(count, classes)) + skill * np.eye(classes)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities.round(digits), np.eye(classes)[truth], truth


def sigmoid_case(count=200, seed=0, digits=1, classes=5, missing=0.2):
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, classes)) < np.linspace(0.1, 0.7, classes)).astype(float)
    probabilities = (1 / (1 + np.exp(-rng.normal(size=labels.shape) - 1.5 * (labels - 0.5)))).round(digits)
    labels[rng.random(labels.shape) < missing] = NAN
    return probabilities, labels


def soft_score(probabilities, labels, classes=CLASSES, **options):
    options = {"images": names(len(labels))} | options
    return score_classes("x", probabilities, labels, classes[: labels.shape[1]], "softmax", **options)


def multi_score(probabilities, labels, **options):
    options = {"images": names(len(labels))} | options
    classes = [f"c{c}" for c in range(labels.shape[1])]
    return score_classes("x", probabilities, labels, classes, "sigmoid", **options)


@pytest.mark.parametrize("seed", range(4))
def test_softmax_figures_are_scikit_learns(seed):
    probabilities, labels, truth = softmax_case(seed=seed, digits=1 + seed)
    score, guess = soft_score(probabilities, labels, healthy="healthy"), probabilities.argmax(axis=1)
    np.testing.assert_array_equal(score.confusion, sk.confusion_matrix(truth, guess, labels=range(4)))
    assert score.confusion.dtype == np.int64
    found = {
        "accuracy": sk.accuracy_score(truth, guess),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, guess),
        "macro_precision": sk.precision_score(truth, guess, labels=range(4), **OVER),
        "macro_recall": sk.recall_score(truth, guess, labels=range(4), **OVER),
        "macro_f1": sk.f1_score(truth, guess, labels=range(4), **OVER),
        "macro_ap": sk.average_precision_score(labels, probabilities, average="macro"),
        "macro_auc": sk.roc_auc_score(labels, probabilities, average="macro"),
        "disease_accuracy": sk.accuracy_score(truth > 0, guess > 0),
        "disease_recall": sk.recall_score(truth > 0, guess > 0),
        "disease_specificity": sk.recall_score(truth == 0, guess == 0),
        "disease_precision": sk.precision_score(truth > 0, guess > 0),
        "disease_f1": sk.f1_score(truth > 0, guess > 0),
        "disease_auc": sk.roc_auc_score(truth > 0, 1 - probabilities[:, 0]),
        "macro_specificity": np.mean([sk.recall_score(truth != c, guess != c) for c in range(4)]),
    }
    assert set(found) == set(score.metrics)
    for name, value in found.items():
        assert score.value(name) == pytest.approx(value, abs=1e-12), name
    for name, of in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        np.testing.assert_allclose(
            score.per_class(name), of(truth, guess, labels=range(4), average=None, zero_division=np.nan)
        )
    np.testing.assert_allclose(score.per_class("auc"), sk.roc_auc_score(labels, probabilities, average=None))


@pytest.mark.parametrize("seed", range(3))
def test_softmax_figures_are_torchmetrics(seed):
    probabilities, labels, truth = softmax_case(seed=seed, digits=6)
    score, p, t = soft_score(probabilities, labels), torch.tensor(probabilities), torch.tensor(truth)
    kind = {"num_classes": 4, "average": None}
    np.testing.assert_array_equal(score.confusion, tm.multiclass_confusion_matrix(p, t, 4).numpy())
    for name, of in (
        ("precision", tm.multiclass_precision), ("recall", tm.multiclass_recall), ("f1", tm.multiclass_f1_score),
        ("specificity", tm.multiclass_specificity), ("auc", tm.multiclass_auroc),
        ("ap", tm.multiclass_average_precision),
    ):  # fmt: skip
        np.testing.assert_allclose(score.per_class(name), of(p, t, **kind).numpy(), atol=1e-6, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_sigmoid_figures_leave_missing_labels_out(seed):
    probabilities, labels = sigmoid_case(seed=seed, digits=1 + seed)
    limits = np.array([0.3, 0.4, 0.5, 0.6, 0.7])
    score = multi_score(probabilities, labels, thresholds=limits)
    columns = {name: [] for name in ("precision", "recall", "specificity", "f1", "auc", "ap")}
    for c in range(5):
        known = ~np.isnan(labels[:, c])
        t, p = labels[known, c].astype(int), probabilities[known, c]
        guess = (p >= limits[c]).astype(int)
        columns["precision"].append(sk.precision_score(t, guess))
        columns["recall"].append(sk.recall_score(t, guess))
        columns["specificity"].append(sk.recall_score(1 - t, 1 - guess))
        columns["f1"].append(sk.f1_score(t, guess))
        columns["auc"].append(sk.roc_auc_score(t, p))
        columns["ap"].append(sk.average_precision_score(t, p))
        tn, fp, fn, tp = sk.confusion_matrix(t, guess).ravel()
        assert [int(side[c]) for side in score.counts] == [tp, fp, fn, tn]
    for name, values in columns.items():
        np.testing.assert_allclose(score.per_class(name), values, err_msg=name)
        assert score.value(f"macro_{name}") == pytest.approx(np.mean(values))
    known = ~np.isnan(labels)
    right = (probabilities >= limits) == (labels == 1)
    assert score.value("accuracy") == pytest.approx(right[known].mean())
    rows = known.any(axis=1)
    assert score.value("subset_accuracy") == pytest.approx((right | ~known).all(axis=1)[rows].mean())
    assert score.value("balanced_accuracy") == pytest.approx(np.mean([columns["recall"], columns["specificity"]]))


def test_sigmoid_figures_are_torchmetrics():
    probabilities, labels = sigmoid_case(digits=6)
    score, p = multi_score(probabilities, labels), torch.tensor(probabilities)
    t = torch.tensor(np.where(np.isnan(labels), -1, labels).astype(int))
    kind = {"num_labels": 5, "average": None, "ignore_index": -1}
    for name, of in (
        ("precision", tm.multilabel_precision), ("recall", tm.multilabel_recall), ("f1", tm.multilabel_f1_score),
        ("specificity", tm.multilabel_specificity), ("auc", tm.multilabel_auroc),
        ("ap", tm.multilabel_average_precision),
    ):  # fmt: skip
        np.testing.assert_allclose(score.per_class(name), of(p, t, **kind).numpy(), atol=1e-6, err_msg=name)
    full = np.nan_to_num(labels)
    exact = tm.multilabel_exact_match(p, torch.tensor(full.astype(int)), 5)
    assert multi_score(probabilities, full).value("subset_accuracy") == pytest.approx(float(exact))


def test_a_class_that_is_absent_or_never_predicted_has_only_what_is_defined():
    labels = np.eye(4)[[0, 0, 1, 1, 2]]
    probabilities = np.eye(4)[[0, 3, 1, 1, 0]]
    score = soft_score(probabilities, labels)
    np.testing.assert_array_equal(score.per_class("recall"), [0.5, 1, 0, NAN])  # no pituitary
    np.testing.assert_array_equal(score.per_class("precision"), [0.5, 1, NAN, 0])  # meningioma never predicted
    np.testing.assert_array_equal(score.per_class("f1"), [0.5, 1, 0, 0])
    assert np.isnan(score.per_class("auc")).tolist() == [False, False, False, True]
    assert np.isnan(score.per_class("ap")).tolist() == [False, False, False, True]
    assert score.value("macro_recall") == score.value("balanced_accuracy") == 0.5
    assert score.value("macro_f1") == 0.375
    assert np.isfinite(score.value("macro_auc"))
    assert score_json(score)["classes"]["pituitary"]["recall"] is None


def test_one_class_only_has_no_ranking():
    score = soft_score(np.full((6, 2), 0.5), np.eye(2)[[0] * 6], healthy="healthy")
    assert np.isnan(score.value("macro_auc"))
    assert np.isnan(score.value("disease_recall"))
    assert score.value("accuracy") == 1
    assert score.value("disease_specificity") == 1
    assert score.interval("macro_auc") is None
    assert score.per_class("ap").tolist()[0] == 1


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_without_any_label_nothing_is_defined(head):
    score = score_classes("x", np.full((4, 3), 0.2), np.full((4, 3), NAN), list("abc"), head, images=names(4))
    assert all(np.isnan(score.value(name)) for name in score.metrics)
    assert all(score.interval(name) is None for name in score.metrics)
    assert json.loads(json.dumps(score_json(score), allow_nan=False))["labelled"] == 0
    assert "0 of 4 images have labels" in score_text(score)
    none = score_classes("x", np.zeros((0, 3)), np.zeros((0, 3)), list("abc"), head, images=[])
    assert np.isnan(none.value("accuracy"))
    assert compare_classes(none, none, "accuracy").tied


def test_a_softmax_image_with_a_missing_label_is_left_out():
    labels = np.array([[1, 0], [0, 1], [NAN, 0], [NAN, NAN]])
    score = soft_score(np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]]), labels)
    assert score.labelled.tolist() == [True, True, False, False]
    assert score.value("accuracy") == 0.5


def test_equal_probabilities_take_the_first_class_and_a_threshold_counts_as_positive():
    score = soft_score(np.array([[0.4, 0.4, 0.2]]), np.array([[0, 1.0, 0]]))
    assert score.confusion.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert multi_score(np.array([[0.5, 0.4]]), np.array([[1.0, 0]])).value("subset_accuracy") == 1


def test_predictive_values_at_a_prevalence():
    """By hand: of 10,000 people one is ill; of 9,999 healthy .99 are spared."""
    ppv, npv = predictive_values(0.9, 0.99, 0.0001)
    assert ppv == pytest.approx(0.9 / (0.9 + 99.99))
    assert npv == pytest.approx(9899.01 / (9899.01 + 0.1))
    assert np.isnan(predictive_values(NAN, 0.9, 0.1)).all()
    assert np.isnan(predictive_values(0.0, 1.0, 0.1)[0])  # nobody is found
    probabilities, labels, truth = softmax_case()
    score = soft_score(probabilities, labels, healthy="healthy")
    share = float((truth > 0).mean())  # at the data's own prevalence they are the data's own precision
    ppv, npv = predictive_values(score.value("disease_recall"), score.value("disease_specificity"), share)
    assert ppv == pytest.approx(score.value("disease_precision"))
    assert npv == pytest.approx(sk.precision_score(truth == 0, probabilities.argmax(1) == 0))
    assert list(score.predictive_values()["disease"]) == [0.25, 0.1, 0.0001]
    assert list(multi_score(*sigmoid_case()).predictive_values()) == ["c0", "c1", "c2", "c3", "c4"]
    assert soft_score(probabilities, labels).predictive_values() == {}


def test_the_ranking_of_resamples_is_scikit_learns():
    rng = np.random.default_rng(3)
    for digits in (1, 8):
        scores, positive = rng.random(80).round(digits), rng.random(80) < 0.3
        ranking, weights = Ranking(scores, positive), rng.multinomial(80, np.full(80, 1 / 80), size=5).astype(float)
        weights[4] = 1
        for found, of in ((ranking.auc, sk.roc_auc_score), (ranking.ap, sk.average_precision_score)):
            wanted = [of(positive, scores, sample_weight=row) for row in weights]
            np.testing.assert_allclose(found(weights), wanted, atol=1e-12)
    none = Ranking(np.zeros(0), np.zeros(0, bool))
    assert np.isnan(none.auc(np.zeros((2, 0)))).all()
    assert np.isnan(Ranking(np.ones(2), np.array([True, True])).auc(np.ones((1, 2)))).all()


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_a_resample_is_the_score_of_the_images_drawn(head):
    """Each patient's images repeated as often as the draw has the patient, scored plainly."""
    probabilities, labels = softmax_case(60)[:2] if head == "softmax" else sigmoid_case(60)
    labels[:3] = NAN
    patients = [f"p{i // 4}" for i in range(60)]
    kind = {"healthy": "healthy"} if head == "softmax" else {}
    classes = CLASSES if head == "softmax" else list("abcde")
    score = score_classes("x", probabilities, labels, classes, head, images=names(60), patients=patients, **kind)
    known = sorted(set(np.array(patients)[score.labelled]))
    drawn = next(draws(len(known)))[7]
    times = np.array([drawn[known.index(p)] if p in known else 0 for p in patients], int)
    rows = np.repeat(np.arange(60), times)
    again = score_classes("y", probabilities[rows], labels[rows], classes, head, images=names(len(rows)), **kind)
    for metric in score.metrics:
        values = score.resampled(metric)
        assert values.shape == (RESAMPLES,)
        assert values[7] == pytest.approx(again.value(metric), nan_ok=True, abs=1e-12), metric


def test_intervals_are_over_patients_and_repeatable():
    """Each patient's four images are alike, so single images would give half as wide an interval."""
    rng = np.random.default_rng(1)
    truth = np.repeat(rng.integers(0, 2, 60), 4)
    guess = np.where(np.repeat(rng.random(60) < 0.7, 4), truth, 1 - truth)
    case = (np.eye(2)[guess], np.eye(2)[truth])
    patients = [f"p{i // 4}" for i in range(240)]
    alike, alone = soft_score(*case, patients=patients), soft_score(*case)
    (low, high), (above, below) = alike.interval("accuracy"), alone.interval("accuracy")
    assert high - low > 1.6 * (below - above)
    assert low < alike.value("accuracy") < high
    assert soft_score(*case, patients=patients).interval("accuracy") == (low, high)
    assert soft_score(*case, patients=["p"] * 240).interval("accuracy") is None


def test_a_rare_class_absent_from_draws_leaves_the_others_in_the_mean():
    probabilities, labels, _ = softmax_case(40, classes=2)
    labels = np.pad(labels, ((0, 0), (0, 1)))
    probabilities = np.pad(probabilities, ((0, 0), (0, 1)))
    labels[0], probabilities[0] = [0, 0, 1], [0.2, 0.2, 0.6]
    score = soft_score(probabilities, labels)
    values = score.resampled("macro_recall")
    assert np.isfinite(values).all()
    assert np.isnan(Ranking(probabilities[:, 2], labels[:, 2] == 1).auc(next(draws(40)))).any()
    assert score.interval("macro_recall")[1] > score.interval("macro_recall")[0]


def test_a_paired_difference_is_narrower_than_two_intervals():
    probabilities, labels, _ = softmax_case(400, digits=4)
    rng = np.random.default_rng(5)
    better = probabilities + 0.15 * labels
    better = better / better.sum(axis=1, keepdims=True)
    rest = rng.random(probabilities.shape)
    kept = [soft_score(p, labels) for p in (probabilities, better, rest / rest.sum(1, keepdims=True))]
    for metric in ("accuracy", "macro_f1", "macro_auc", "macro_ap"):
        found = compare_classes(kept[0], kept[1], metric)
        assert found.difference == pytest.approx(kept[1].value(metric) - kept[0].value(metric))
        assert found.interval[0] > 0
        assert not found.tied
        wide = [score.interval(metric) for score in kept[:2]]
        assert found.interval[1] - found.interval[0] < max(high - low for low, high in wide)
        same = compare_classes(kept[0], kept[0], metric)
        assert (same.difference, same.interval, same.tied) == (0, (0, 0), True)
    assert json.dumps(found.to_json(), allow_nan=False)
    assert "second less first +" in found.to_text()
    swapped = compare_classes(kept[1], kept[0], "accuracy")
    back = compare_classes(kept[0], kept[1], "accuracy")
    assert swapped.difference == -back.difference
    np.testing.assert_allclose(np.array(swapped.interval), -np.array(back.interval)[::-1], atol=1e-12)


def test_rankings_by_two_figures_may_differ_and_name_ties():
    probabilities, labels, _ = softmax_case(300, digits=6)
    nearly = probabilities.copy()
    nearly[0] = np.roll(nearly[0], 1)
    sharp = np.eye(4)[probabilities.argmax(axis=1)]  # the same decisions, no order
    rest = np.full(probabilities.shape, 0.25)
    scores = [
        score_classes(name, p, labels, CLASSES, "softmax", images=names(300))
        for name, p in (("rest", rest), ("sharp", sharp), ("nearly", nearly), ("own", probabilities))
    ]
    by_accuracy = rank_classes(scores, "accuracy")
    by_auc = rank_classes(scores, "macro_auc")
    assert [(rank.name, rank.tied) for rank in by_auc] == [
        (by_auc[0].name, True), (by_auc[1].name, True), ("sharp", False), ("rest", False)
    ]  # fmt: skip
    assert {rank.name for rank in by_auc[:2]} == {"own", "nearly"}
    assert {rank.name for rank in by_accuracy if rank.tied} == {"own", "nearly", "sharp"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"probabilities": np.array([[1.2, 0]])}, "'i0000' has a probability that is not from 0 to 1"),
        ({"probabilities": np.array([[NAN, 0]])}, "'i0000' has a probability that is not from 0 to 1"),
        ({"labels": np.array([[0.5, 0.5]])}, "a label that is not 0, 1 or missing"),
        ({"labels": np.array([[1.0, 1]])}, "not exactly one class"),
        ({"labels": np.array([[0.0, 0]])}, "not exactly one class"),
        ({"labels": np.array([[1.0, 0, 0]])}, r"labels are \[1, 3\]"),
        ({"thresholds": np.array([0.5, 0.5])}, "thresholds are for head=sigmoid"),
        ({"healthy": "well"}, "healthy=well is not a class"),
        ({"prevalences": (0.0,)}, "must be above 0"),
        ({"patients": ["a", "b"]}, "2 patients for 1 images"),
        ({"head": "sigmoid", "healthy": "a"}, "healthy=a is for head=softmax"),
        ({"head": "sigmoid", "thresholds": np.array([0.5])}, "1 thresholds for 2 classes"),
    ],
)
def test_what_cannot_be_scored_is_refused(values, message):
    good = {"probabilities": np.array([[0.5, 0.5]]), "labels": np.array([[1.0, 0]]), "head": "softmax"}
    with pytest.raises(DataError, match=message):
        score_classes("x", **{**good, "classes": ["a", "b"], "images": names(1), **values})


def test_other_figures_and_unlike_scores_are_refused():
    probabilities, labels, _ = softmax_case(20)
    score = soft_score(probabilities, labels)
    for metric in ("dice", "macro_dice", "subset_accuracy", "disease_f1"):
        with pytest.raises(DataError, match=f"metric={metric}: "):
            score.value(metric)
        with pytest.raises(DataError, match=f"metric={metric}: "):
            score.resampled(metric)
    with pytest.raises(DataError, match="no confusion matrix"):
        _ = multi_score(*sigmoid_case()).confusion
    for other, what in (
        (soft_score(probabilities, labels, images=names(21)[1:]), "images"),
        (soft_score(probabilities, np.roll(labels, 1, axis=0)), "labels"),
        (soft_score(probabilities, labels, patients=["a"] * 20), "patients"),
        (soft_score(probabilities, labels, classes=list("abcd")), "classes"),
    ):
        with pytest.raises(DataError, match=f"differ in {what}"):
            compare_classes(score, other, "accuracy")


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_reports_have_all_figures(head):
    probabilities, labels = softmax_case(50)[:2] if head == "softmax" else sigmoid_case(50)
    kind = {"healthy": "healthy"} if head == "softmax" else {}
    classes = CLASSES if head == "softmax" else list("abcde")
    score = score_classes("run", probabilities, labels, classes, head, images=names(50), patients=names(50), **kind)
    found = json.loads(json.dumps(score_json(score, ["macro_f1"]), allow_nan=False))
    assert set(found["metrics"]) == set(score.metrics)
    assert found["metrics"]["macro_f1"]["value"] == score.value("macro_f1")
    assert found["metrics"]["macro_f1"]["interval"] == [*score.interval("macro_f1")]
    assert "interval" not in found["metrics"]["accuracy"]
    assert (found["images"], found["patients"]) == (50, 50)
    shown = score_text(score, ["macro_f1"])
    assert f"macro_f1             {score.value('macro_f1'):.4f}, 95% interval" in shown
    assert all(name in shown for name in [*classes, *score.metrics])
    if head == "softmax":
        assert found["confusion"] == score.confusion.tolist()
        assert sum(found["disease"][side] for side in ("tp", "fp", "fn", "tn")) == 50
        assert "disease at prevalence 0.0001: PPV" in shown
    else:
        assert found["classes"]["a"]["threshold"] == 0.5
