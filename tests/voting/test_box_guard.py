"""The guard of a fusion of boxes: honest members pass, and what is misaligned is named."""

import numpy as np
import pytest
from tests.scoring.random_boxes import submission

from phalanx.errors import DataError
from phalanx.masks.box_geometry import BoxView
from phalanx.submission.boxes import Boxes
from phalanx.voting.box_guard import measure_box_agreement

SIZE = (200, 300)
CLASSES = ("a", "b", "c")


def truths(rng, images, most=4, side=(20, 60), classes=3):
    found = []
    for _ in range(images):
        count = rng.integers(1, most + 1)
        low = rng.uniform(0, np.array(SIZE[::-1]) - side[1], (count, 2))
        corners = np.concatenate([low, low + rng.uniform(*side, (count, 2))], axis=1)
        found.append(Boxes.of(corners, classes=rng.integers(0, classes, count)))
    return found


def detected(rng, truth, noise=3.0, missed=0.1, wrong=0.05, classes=3):
    """What an honest detector finds: moved, some missed, some of a wrong class, some invented."""
    found = []
    for boxes in truth:
        seen = boxes.chosen(rng.random(len(boxes.scores)) >= missed)
        corners = seen.corners + rng.normal(0, noise, seen.corners.shape)
        labels = np.where(rng.random(len(corners)) < wrong, rng.integers(0, classes, len(corners)), seen.classes)
        low = rng.uniform(0, 100, (rng.integers(0, 3), 2))
        invented = np.concatenate([low, low + 30], axis=1)
        scores = np.concatenate([rng.uniform(0.6, 0.95, len(corners)), rng.uniform(0.05, 0.5, len(invented))])
        found.append(
            Boxes.of(
                np.concatenate([corners, invented]).clip(0, 300), scores,
                np.concatenate([labels, rng.integers(0, classes, len(invented))]),
            )
        )  # fmt: skip
    return found


def table(boxes, name, sizes=True):
    made = submission(boxes, name, CLASSES)
    return type(made)(
        made.name, made.images, made.classes, made.boxes, dict.fromkeys(made.images, SIZE) if sizes else {}
    )


def agreement(*members, sizes=True):
    return measure_box_agreement([table(boxes, f"m{i}.csv", sizes) for i, boxes in enumerate(members, 1)])


@pytest.mark.parametrize(
    ("most", "noise", "classes"),
    [(4, 3.0, 3), (1, 6.0, 1), (1, 3.0, 2), (8, 6.0, 3)],
    ids=["few", "one", "two", "many"],
)
def test_honest_members_pass(most, noise, classes):
    for seed in range(3):
        rng = np.random.default_rng([seed, most])
        truth = truths(rng, 60, most, classes=classes)
        members = [detected(rng, truth, noise, missed, 0.1, classes) for missed in (0.05, 0.3, 0.1)]
        found = agreement(*members)
        assert found.misaligned == []
        assert found.mean[0, 2] > 0.3


CHANGES = {
    "mirrored left to right": lambda boxes: boxes._replace(corners=BoxView(hflip=True).apply(boxes.corners, SIZE)),
    "upside down": lambda boxes: boxes._replace(corners=BoxView(vflip=True).apply(boxes.corners, SIZE)),
    "turned by 180 degrees": lambda boxes: boxes._replace(corners=BoxView(turns=2).apply(boxes.corners, SIZE)),
    "with x and y exchanged": lambda boxes: boxes._replace(corners=boxes.corners[:, [1, 0, 3, 2]]),
    "smaller or larger by 0.": lambda boxes: boxes._replace(corners=boxes.corners / 2),
    "shifted by": lambda boxes: boxes._replace(corners=boxes.corners + 40),
}


@pytest.mark.parametrize("how", CHANGES)
def test_coordinates_of_another_frame_are_named(how):
    rng = np.random.default_rng(1)
    truth = truths(rng, 40)
    wrong = [CHANGES[how](boxes) for boxes in detected(rng, truth)]
    (text,) = agreement(detected(rng, truth), wrong, detected(rng, truth)).misaligned
    assert text.startswith("m2.csv is misaligned: the boxes of m2.csv are " + how)
    (alone,) = agreement(detected(rng, truth), wrong).misaligned
    assert alone.startswith("m1.csv or m2.csv is misaligned")


def test_swapped_classes_are_named():
    rng = np.random.default_rng(2)
    truth = truths(rng, 40)
    wrong = [boxes._replace(classes=np.array([1, 0, 2])[boxes.classes]) for boxes in detected(rng, truth)]
    (text,) = agreement(detected(rng, truth), detected(rng, truth), wrong).misaligned
    assert text.startswith("m3.csv is misaligned: classes are swapped: a of m3.csv is b of m1.csv (")


@pytest.mark.parametrize("how", ["shifted", "shuffled", "some"])
def test_images_under_other_names_are_named(how):
    rng = np.random.default_rng(3)
    truth = truths(rng, 40)
    order = {"shifted": np.roll(np.arange(40), 1), "shuffled": rng.permutation(40),
             "some": np.array([1, 2, 3, 0, *range(4, 40)])}[how]  # fmt: skip
    wrong = detected(rng, truth)
    wrong = [wrong[i] for i in order]
    (text,) = agreement(detected(rng, truth), wrong, detected(rng, truth)).misaligned
    assert text.startswith("m2.csv is misaligned: ")
    assert "images have other names: im0" in text


def test_two_exchanged_images_are_a_note():
    rng = np.random.default_rng(4)
    truth = truths(rng, 40)
    wrong = detected(rng, truth, missed=0)
    wrong[3], wrong[7] = wrong[7], wrong[3]
    found = agreement(detected(rng, truth, missed=0), wrong)
    assert found.misaligned == []
    (note,) = found.notes
    assert note.startswith("2 of 40 images have other names: im003 of m1.csv is im007 of m2.csv")


def test_a_member_that_agrees_with_none_is_named():
    rng = np.random.default_rng(5)
    truth, other = truths(rng, 40), truths(rng, 40)
    (text,) = agreement(detected(rng, truth), detected(rng, truth), detected(rng, other)).misaligned
    assert text.startswith("m3.csv is misaligned: its boxes are elsewhere than those of the others (overlap 0.")


def test_members_without_boxes_are_a_note_and_same_ones_are_listed():
    rng = np.random.default_rng(6)
    truth = truths(rng, 10)
    good = detected(rng, truth)
    found = agreement(good, good, [Boxes.of()] * 10)
    assert found.misaligned == []
    assert found.notes == ["m3.csv has no box in any image"]
    assert found.identical() == [("m1.csv", "m2.csv")]
    assert found.to_json()["pairs"][0] == {"members": [1, 2], "overlap": 1.0, "classes": [1.0, 1.0, 1.0]}
    assert "1.0000" in found.to_text()
    assert agreement([Boxes.of()] * 3, [Boxes.of()] * 3).misaligned == []
    with pytest.raises(DataError, match="differ in images"):
        agreement(good, good[:5])
