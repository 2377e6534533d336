"""Suspects among annotated objects: planted wrong labels are found by whichever measure gives them away."""

import cv2
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from phalanx.masks.midline import widths_along_midline
from phalanx.phantom.pet import make_pet
from phalanx.scoring.object_suspects import Annotated, measures_of, rank_objects

NAMES = ("normal", "diseased")


def objects(seed, measure, count=120, wrong=8):
    """Annotated objects of which ``wrong`` have the wrong class, and which they are; only one measure shows it."""
    rng = np.random.default_rng(seed)
    sick = np.arange(count) % 4 == 0
    planted = np.zeros(count, bool)
    planted[rng.choice(count, wrong, replace=False)] = True
    values = {"area": np.exp(rng.normal(6, 0.3, count)), "width": rng.uniform(0.6, 1, count),
              "prediction": rng.uniform(0.4, 0.6, count)}  # fmt: skip
    if measure == "area":
        values["area"] *= np.where(sick, 2.5, 1)
    elif measure == "width":
        values["width"] = np.where(sick, rng.uniform(0.3, 0.6, count), rng.uniform(0.85, 1, count))
    elif measure == "prediction":
        values["prediction"] = np.where(sick, rng.uniform(0.6, 1, count), rng.uniform(0, 0.4, count))
    made = [
        Annotated(f"{i:03d}.png", f"P{i // 3}", 1, bool(sick[i] != planted[i]), values["area"][i],
                  values["prediction"][i], values["width"][i])
        for i in range(count)
    ]  # fmt: skip
    return made, {f"{i:03d}.png" for i in np.flatnonzero(planted)}


@pytest.mark.parametrize("measure", ["area", "width", "prediction"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_labels_come_first(measure, seed):
    made, planted = objects(seed, measure)
    found = rank_objects(made, NAMES)
    assert len(found) == len(made)
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    precision = average_precision_score([one.object.image in planted for one in found], scores)
    assert precision > (0.6 if measure == "area" else 0.85)
    first = found[0]
    assert first.doubts[measure] > 0.6
    assert len(first.reasons) >= 1


def test_reasons_name_the_size_for_the_class_and_what_was_predicted():
    made, _ = objects(0, "area", wrong=0)
    tiny = made[0]._replace(area=20.0, prediction=0.03)
    one = next(each for each in rank_objects([tiny, *made[1:]], NAMES) if each.object.image == tiny.image)
    assert tiny.diseased
    assert one.smaller == 0
    assert "small for diseased" in one.reasons
    assert "area as of normal" in one.reasons


def test_without_anything_to_compare_with_there_are_no_suspects():
    made, _ = objects(0, "area")
    assert rank_objects([], NAMES) == []
    assert rank_objects([one for one in made if one.diseased], NAMES) == []
    single = [one._replace(patient="P") for one in made]
    assert {one.score for one in rank_objects(single, NAMES)} == {0.5}  # no other patient to be judged by


def test_widths_are_a_measure_only_if_most_objects_have_one():
    made, _ = objects(0, "width")
    assert "width" in measures_of(made)
    few = [one._replace(width=None) if i % 3 else one for i, one in enumerate(made)]
    assert "width" not in measures_of(few)
    some = [one._replace(width=None) if i % 10 == 0 else one for i, one in enumerate(made)]
    assert np.isfinite(measures_of(some)["width"]).all()


def test_planted_labels_of_synthetic_tracheas_are_found_by_their_widths(tmp_path):
    made = make_pet(
        tmp_path / "set", patients=30, size=128, seed=4, disease="ch02", wrong_labels=0.08, test_patients=1,
        test_diseased=0, workers=1, progress=False,
    )  # fmt: skip
    rows, annotated = [row for row in made["images"] if row["split"] == "train"], []
    for row in rows:
        place = tmp_path / "set" / "train" / "labels" / row["patient"] / f"{row['image']}.png"
        mask = cv2.imread(str(place), cv2.IMREAD_UNCHANGED) > 0
        annotated.append(
            Annotated(row["image"], row["patient"], 1, row["class"] == "diseased", float(mask.sum()), 0.5,
                      widths_along_midline(mask).ratio)
        )  # fmt: skip
    wrong = {row["image"] for row in rows if row["wrong_label"]}
    found = rank_objects(annotated, NAMES)
    assert len(wrong) >= 4
    truth, scores = [one.object.image in wrong for one in found], [one.doubts["width"] for one in found]
    assert average_precision_score(truth, scores) > 0.75
