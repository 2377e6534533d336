"""One table of several classifiers: its numbers are scikit-learn's, its rankings and its answer follow from them."""

import csv
import json

import numpy as np
import pytest
from sklearn import metrics

from phalanx.cli import main
from phalanx.scoring.classify import score_classes
from phalanx.scoring.classify_rank import rank_table
from phalanx.scoring.ranking import average_precision, average_precision_at
from phalanx.submission.probabilities import write_probabilities

CLASSES = ["healthy", "glioma", "pituitary"]
COUNT = 120


def case(seed: int, sharpness: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(COUNT, 3)) + sharpness * np.eye(3)[truth()]
    made = np.exp(logits)
    return made / made.sum(axis=1, keepdims=True)


def truth() -> np.ndarray:
    return np.arange(COUNT) % 3


IMAGES = [f"P{i // 2:02d}-{i:03d}.png" for i in range(COUNT)]
PATIENTS = [name[:3] for name in IMAGES]


def scored(name: str, probabilities: np.ndarray):
    return score_classes(
        name, probabilities, np.eye(3)[truth()], CLASSES, "softmax", images=IMAGES, patients=PATIENTS,
        healthy="healthy",
    )  # fmt: skip


def test_every_number_is_scikit_learns():
    probabilities = case(0, 1.0)
    found = rank_table([scored("a", probabilities), scored("b", case(1, 1.0))], ["a", "b"]).to_json()["models"]["a"]
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(truth(), predicted, average="macro")
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth(), predicted))
    assert found["macro_auc"] == pytest.approx(metrics.roc_auc_score(truth(), probabilities, multi_class="ovr"))
    assert (found["macro_recall"], found["macro_f1"]) == pytest.approx((recall, f1))
    ill, called = truth() > 0, predicted > 0
    assert found["disease_recall"] == pytest.approx(metrics.recall_score(ill, called))
    assert found["disease_specificity"] == pytest.approx(metrics.recall_score(~ill, ~called))
    assert found["disease_f1"] == pytest.approx(metrics.f1_score(ill, called))
    for c, name in enumerate(CLASSES):
        assert found["auc"][name] == pytest.approx(metrics.roc_auc_score(truth() == c, probabilities[:, c]))
    assert found["confusion"] == metrics.confusion_matrix(truth(), predicted).tolist()
    assert precision > 0


def test_average_precision_at_a_prevalence():
    rng = np.random.default_rng(0)
    positive = rng.random(200) < 0.3
    scores = rng.normal(size=200) + positive
    own = float(positive.mean())
    assert average_precision_at(scores, positive, own) == pytest.approx(average_precision(scores, positive))
    # as if the negatives were repeated: 1 positive in 10
    ratio = 9 * positive.sum() / (~positive).sum()
    weights = np.where(positive, 1, ratio)
    wanted = metrics.average_precision_score(positive, scores, sample_weight=weights)
    assert average_precision_at(scores, positive, 0.1) == pytest.approx(wanted)
    assert average_precision_at(scores, positive, 0.0001) < 0.1
    assert np.isnan(average_precision_at(scores, np.zeros(200, bool), 0.1))
    one = scored("a", case(0, 1.0))
    ill, probability = truth() > 0, 1 - case(0, 1.0)[:, 0]
    assert one.precision_at_prevalence()["disease"][0.1] == average_precision_at(probability, ill, 0.1)


def sorted_but_wrong(sharp: np.ndarray) -> np.ndarray:
    """The same order within each class, with the decision moved towards class 0: lower accuracy, similar AUC."""
    made = sharp * np.array([6.0, 1.0, 1.0])
    return made / made.sum(axis=1, keepdims=True)


def test_the_answer_follows_from_the_numbers():
    weak, strong = case(3, 0.5), case(3, 3.0)
    table = rank_table([scored("weak", weak), scored("strong", strong)], ["weak", "strong"])
    assert [rank.name for rank in table.rankings["accuracy"]] == ["strong", "weak"]
    assert not table.rankings["accuracy"][1].tied
    assert table.answer().startswith("The accuracy winner is the AUC winner: strong is first by accuracy")
    accurate, ordered = case(4, 1.5), sorted_but_wrong(case(4, 2.2))
    table = rank_table([scored("accurate", accurate), scored("ordered", ordered)], ["accurate", "ordered"])
    if table.rankings["accuracy"][0].name == "accurate" and table.rankings["macro_auc"][0].name == "ordered":
        assert table.answer().startswith("The accuracy winner is not the AUC winner: accurate is first by accuracy")
    else:
        pytest.fail("the case no longer separates both rankings")
    same = rank_table([scored("x", weak), scored("y", weak)], ["x", "y"])
    assert all(rank.tied for rank in same.rankings["accuracy"])
    assert "within noise of it y" in same.answer()


def test_by_the_command(tmp_path, capsys):
    files = []
    for name, sharpness in (("one", 0.5), ("two", 1.0), ("three", 1.2)):
        files.append(str(tmp_path / f"{name}.csv"))
        write_probabilities(tmp_path / f"{name}.csv", IMAGES, CLASSES, case(5, sharpness), "softmax", run_hashes={})
    answers = tmp_path / "truth.csv"
    with answers.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["image_name", "patient", *CLASSES]]
            + [[n, p, *np.eye(3, dtype=int)[t]] for n, p, t in zip(IMAGES, PATIENTS, truth(), strict=True)]
        )
    out = tmp_path / "rank.json"
    assert main(["rank", *files, str(answers), "healthy=healthy", f"json={out}"]) == 0
    text = capsys.readouterr().out
    assert "by accuracy" in text
    assert "over patients" in text
    assert json.loads(out.read_text())["answer"] in text
    assert set(json.loads(out.read_text())["models"]) == {"one", "two", "three"}
    groups = tmp_path / "groups.csv"
    groups.write_text("image_name,group\n" + "".join(f"{n},g{i // 6}\n" for i, n in enumerate(IMAGES)))
    assert main(["rank", *files, str(answers), f"data.groups_file={groups}", f"json={out}"]) == 0
    assert json.loads(out.read_text())["patients"] == COUNT // 6
    capsys.readouterr()
    for words, message in (
        ([files[0], str(answers)], "expected two CSVs or more"),
        ([files[0], files[0], str(answers)], "given twice"),
        ([*files, str(answers), "healthy=well"], "healthy=well is not a class"),
    ):
        assert main(["rank", *words]) == 2
        assert message in capsys.readouterr().err
