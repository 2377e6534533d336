"""A softmax, or one label per image, scored by a truth with several labels per image or none."""

import csv
import json

import numpy as np
import pytest
import sklearn.metrics as sk

from phalanx.cli import main
from phalanx.errors import DataError
from phalanx.scoring.several import score_several

COLUMNS, CLASSES = ("a", "none", "b", "c"), ("b", "a", "c")
NAN = float("nan")


def case(count=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, 3)) < 0.4).astype(float)
    p = rng.random((count, 4)) + 0.5 * np.column_stack([labels[:, 1], labels.sum(1) == 0, labels[:, 0], labels[:, 2]])
    return p / p.sum(1, keepdims=True), labels, [f"i{k:02d}" for k in range(count)]


def scored(p, labels, images, **options):
    return score_several("x", p, COLUMNS, labels, CLASSES, images=images, **({"head": "softmax"} | options))


def test_the_likeliest_column_is_the_only_class_predicted_and_a_negative_means_none():
    p = np.array([[0.4, 0.3, 0.2, 0.1], [0.3, 0.4, 0.2, 0.1], [0.1, 0.1, 0.4, 0.4]])
    found = scored(p, np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1.0]]), ["x", "y", "z"])
    assert found.predicted.astype(int).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]  # of equals the first column
    assert found.value("subset_accuracy") == pytest.approx(1 / 3)


def test_figures_equal_scikit_learn_s():
    p, labels, images = case()
    found = scored(p, labels, images)
    best = np.array(COLUMNS)[p.argmax(1)]
    predicted = np.column_stack([best == name for name in CLASSES])
    chosen = p[:, [2, 0, 3]]
    assert found.value("macro_f1") == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    assert found.value("macro_auc") == pytest.approx(sk.roc_auc_score(labels, chosen, average="macro"))
    assert found.value("macro_ap") == pytest.approx(sk.average_precision_score(labels, chosen, average="macro"))
    assert found.interval("macro_f1")[0] < found.value("macro_f1") < found.interval("macro_f1")[1]


def test_thresholds_find_several_classes_per_image():
    p, labels, images = case()
    limits = np.array([0.2, 0.3, 0.1])
    found = scored(p, labels, images, thresholds=limits)
    assert (found.predicted == (p[:, [2, 0, 3]] >= limits)).all()
    assert found.predicted.sum(1).max() > 1


def test_one_forced_label_is_ones_and_zeros():
    found = scored(np.eye(4), np.array([[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1.0]]), list("wxyz"))
    assert found.value("macro_f1") == found.value("macro_auc") == 1


def test_sigmoids_have_thresholds_of_a_half():
    p, labels, images = case()
    found = scored(p, labels, images, head="sigmoid")
    assert (found.predicted == (p[:, [2, 0, 3]] >= 0.5)).all()


def test_a_missing_label_leaves_out_its_cell_alone():
    p, labels, images = case()
    labels[:, 0] = NAN
    labels[3] = NAN
    found = scored(p, labels, images)
    assert np.isnan(found.per_class("auc")[0])
    assert found.labelled.sum() == 59
    kept = np.delete(labels[:, 1:], 3, 0), np.delete(p[:, [0, 3]], 3, 0)
    assert found.value("macro_auc") == pytest.approx(sk.roc_auc_score(*kept, average="macro"))
    assert np.isnan(scored(p, np.full_like(labels, NAN), images).value("macro_f1"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"classes": ("b", "a", "d")}, "no column of class 'd'"),
        ({"columns": ("a", "a", "b", "c")}, "'a' is twice among its columns"),
        ({"thresholds": np.ones(2)}, "2 thresholds for 3 classes"),
        ({"probabilities": np.ones((60, 3))}, "60 images x 4 columns"),
    ],
)
def test_what_does_not_fit_is_refused(change, why):
    p, labels, images = case()
    values = {"probabilities": p, "columns": COLUMNS, "labels": labels, "classes": CLASSES} | change
    with pytest.raises(DataError, match=why):
        score_several("x", **values, head="softmax", images=images)


def write(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def files(tmp_path):
    p, labels, images = case()
    made = write(
        tmp_path / "made.csv", [["image_name", *COLUMNS], *([i, *r] for i, r in zip(images, p.tolist(), strict=True))]
    )
    cells = zip(images, labels.astype(int).tolist(), strict=True)
    rows = [[name, f"P{k // 2}", *row, COLUMNS[k % 4]] for k, (name, row) in enumerate(cells)]
    truth = write(tmp_path / "truth.csv", [["image_name", "patient", *CLASSES, "largest"], *rows])
    return made, truth, p, labels


def run(*words):
    return main([str(word) for word in words])


def test_score_and_compare_find_out_that_images_have_several_labels(files, tmp_path, capsys):
    made, truth, p, labels = files
    assert run("score", made, truth, "head=softmax", f"json={tmp_path / 's.json'}") == 0
    assert "none: not in the ground truth" in capsys.readouterr().out
    values = json.loads((tmp_path / "s.json").read_text())
    assert values["metrics"]["macro_auc"]["value"] == pytest.approx(sk.roc_auc_score(labels, p[:, [2, 0, 3]]))
    assert values["patients"] == 30
    low = tmp_path / "t.json"
    assert run("score", made, truth, "head=softmax", "threshold=.1", f"json={low}") == 0
    recall = [json.loads(f.read_text())["metrics"]["macro_recall"]["value"] for f in (tmp_path / "s.json", low)]
    assert recall[0] < recall[1]
    capsys.readouterr()
    assert run("compare", made, made, truth, "head=softmax") == 0
    assert "second less first +0.0000" in capsys.readouterr().out


def test_a_softmax_is_compared_with_sigmoids_by_the_same_truth(files, tmp_path, capsys):
    made, truth, p, _ = files
    images = [f"i{k:02d}" for k in range(60)]
    rows = [[name, *row] for name, row in zip(images, p[:, [0, 2, 3]].tolist(), strict=True)]
    other = write(tmp_path / "other.csv", [["image_name", "a", "b", "c"], *rows])
    for path, head in ((made, "softmax"), (other, "sigmoid")):
        from phalanx.submission.probabilities import Probabilities, write_probabilities

        one = Probabilities.read(path, head=head)
        write_probabilities(path, one.images, one.classes, one.values, head, run_hashes={})
    assert run("compare", made, other, truth) == 0
    assert "macro_auc" in capsys.readouterr().out


def test_thresholds_of_a_calibration_decide(files, tmp_path):
    from phalanx.runtime.files import write_report
    from phalanx.scoring.calibration_file import KIND, Calibration

    made, truth, p, labels = files
    one = Calibration(
        run="r", run_hashes={}, classes=["none", *CLASSES], head="softmax", temperature=[1.0] * 4,
        thresholds=[None, 0.2, 0.3, 0.1],
    )  # fmt: skip
    write_report(tmp_path / "c.json", KIND, one.model_dump(mode="json", exclude={"format"}))
    words = ("head=softmax", f"postprocess={tmp_path / 'c.json'}", f"json={tmp_path / 's.json'}")
    assert run("score", made, truth, *words) == 0
    want = sk.f1_score(labels, p[:, [2, 0, 3]] >= [0.2, 0.3, 0.1], average="macro")
    assert json.loads((tmp_path / "s.json").read_text())["metrics"]["macro_f1"]["value"] == pytest.approx(want)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["data.classes=[a,b,d]"], "no column of 'd'"),
        (["healthy=a"], "healthy: needs one class per image"),
        (["threshold=2"], "between 0 and 1"),
    ],
)
def test_impossible_options_are_one_line(files, capsys, words, why):
    made, truth, _, _ = files
    assert run("score", made, truth, "head=softmax", *words) == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1


def test_some_columns_of_the_truth_may_be_chosen(files, tmp_path):
    made, truth, _, _ = files
    assert run("score", made, truth, "head=softmax", "data.classes=[a,b]", f"json={tmp_path / 's.json'}") == 0
    assert list(json.loads((tmp_path / "s.json").read_text())["classes"]) == ["a", "b"]


def test_one_label_per_image_is_scored_as_before(files, tmp_path):
    made, truth, _p, _ = files
    words = ("head=softmax", "data.table.label=largest", f"json={tmp_path / 's.json'}")
    assert run("score", made, truth, *words) == 0
    assert json.loads((tmp_path / "s.json").read_text())["head"] == "softmax"
