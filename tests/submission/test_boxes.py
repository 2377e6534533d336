"""The CSV of boxes: what is written is read, and what is not such a CSV is one clear line."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.commands.task_of import task_of_csv
from phalanx.errors import DataError
from phalanx.submission.boxes import HEADER, Boxes, BoxSubmission

START = ",".join(HEADER) + "\n"
GOOD = START + "a,dog,0.9,0,0,10,10\nb,,,,,,\n"


def file(tmp_path, text, name="p.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path, **options):
    with pytest.raises(DataError) as error:
        BoxSubmission.read(path, **options)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))
    return str(error.value).removeprefix(f"{path}: ")


def random_submission(rng, images=6):
    rows = []
    for _ in range(images):
        low = rng.uniform(0, 50, (rng.integers(0, 4), 2))
        corners = np.concatenate([low, low + rng.uniform(0.01, 40, low.shape)], axis=1)
        rows.append(Boxes.of(corners, np.round(rng.random(len(low)), 1), rng.integers(0, 2, len(low))))
    names = [f'im "{i}",.png' for i in rng.permutation(images)]
    return BoxSubmission("x", names, ["dog", "고양이"], rows, {names[0]: (90, 91)}, run_hashes={"runs/x/fold0": "12"})


def test_what_is_written_is_read_sorted_and_written_again_to_the_same_bytes(tmp_path):
    made = random_submission(np.random.default_rng(0))
    digest = made.write(tmp_path / "new" / "p.csv", vote={"how": "wbf", "members": ["x"]})
    found = BoxSubmission.read(tmp_path / "new" / "p.csv")
    assert found.images == tuple(sorted(made.images))
    assert (found.classes, found.sizes, found.run_hashes) == (("dog", "고양이"), made.sizes, made.run_hashes)
    for image, boxes in zip(found.images, found.boxes, strict=True):
        own = made.boxes[made.images.index(image)]
        assert np.abs(boxes.corners - own.sorted().corners).max(initial=0) <= 0.5e-4 * (1 + 1e-6)
        assert (np.diff(boxes.scores) <= 0).all()
        assert boxes.ignore is None
    assert found.write(tmp_path / "again.csv") == digest
    assert json.loads((tmp_path / "again.json").read_text())["sha256"] == digest


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_any_order_of_rows_and_columns_reads_alike(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("any")
    random_submission(rng).write(folder / "p.csv")
    import csv

    with (folder / "p.csv").open(newline="") as opened:
        header, *rows = csv.reader(opened)
    order = rng.permutation(len(header))
    with (folder / "q.csv").open("w", newline="") as opened:
        csv.writer(opened).writerows([[row[i] for i in order] for row in [header, *rng.permutation(rows).tolist()]])
    one, other = BoxSubmission.read(folder / "p.csv"), BoxSubmission.read(folder / "q.csv", ["dog", "고양이"])
    assert one.images == other.images
    assert task_of_csv(folder / "q.csv") == "detect"
    for a, b in zip(one.boxes, other.boxes, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a[:3], b[:3], strict=True))


def test_an_image_without_boxes_is_a_row_and_numbers_are_canonical(tmp_path):
    boxes = Boxes.of([[1 / 3, 0, 10, 2.5], [0, 0, 1, 1]], [0.25, 1], [0, 1])
    BoxSubmission("x", ["b", "a"], ["dog", "cat"], [boxes, Boxes.of()]).write(tmp_path / "p.csv")
    text = (tmp_path / "p.csv").read_text()
    assert text == START + "a,,,,,,\nb,cat,1,0,0,1,1\nb,dog,0.25,0.3333,0,10,2.5\n"
    assert len(BoxSubmission.read(tmp_path / "p.csv").boxes[0].scores) == 0


def test_a_ground_truth_may_lack_scores_and_have_flags_and_patients(tmp_path):
    path = file(tmp_path, "image_name,patient,class,x_min,y_min,x_max,y_max,ignore\na,p1,dog,0,0,1,1,1\nb,p2,,,,,,\n")
    found = BoxSubmission.read(path, truth=True)
    assert (found.images, dict(found.patients)) == (("a", "b"), {"a": "p1", "b": "p2"})
    assert (found.boxes[0].scores.tolist(), found.boxes[0].ignore.tolist()) == ([1], [True])
    assert "column 'patient' belongs to a ground truth" in refused(path)
    assert BoxSubmission.read(file(tmp_path, GOOD), truth=True).boxes[0].scores.tolist() == [0.9]


WRONG = {
    "an unknown column": ("image_name,class,score,x_min,y_min,x_max,ymax\n", "line 1: unknown column 'ymax'; did you"),
    "a missing column": ("image_name,class,x_min,y_min,x_max,y_max\na,dog,0,0,1,1\n", "line 1: has no column score"),
    "a column twice": (START[:-1] + ",score\n", "line 1: column 'score' appears twice"),
    "semicolons": (GOOD.replace(",", ";"), "line 1: has semicolons"),
    "no rows": (START, "has no rows"),
    "nothing": ("", "is empty"),
    "a short row": (START + "a,dog,1\n", "line 2: has 3 fields, the header has 7"),
    "a score above 1": (START + "a,dog,1.5,0,0,1,1\n", "line 2 (image 'a'): score 1.5 is not from 0 to 1"),
    "a score below 0": (START + "a,dog,-0.1,0,0,1,1\n", "score -0.1 is not from 0 to 1"),
    "not a number": (START + "a,dog,0.5,0,nan,1,1\n", "y_min is 'nan', not a number"),
    "a decimal comma": (START + 'a,dog,"0,5",0,0,1,1\n', "score is '0,5', not a number"),
    "a huge number": (START + "a,dog,0.5,0,0,1e999,1\n", "x_max is inf"),
    "no width": (START + "a,dog,0.5,3,0,3,1\n", "x_max 3 is not above x_min 3, so it has no area; leave it out"),
    "corners exchanged": (START + "a,dog,0.5,0,9,3,1\n", "y_max 1 is not above y_min 9"),
    "outside": (START + "a,dog,0.5,-2,0,3,1\n", "x_min -2 is outside the image, which begins at 0; clip it"),
    "a row half empty": (START + "a,dog,0.5,0,0,,1\n", "x_max is empty; a box has all columns"),
    "only a class": (START + "a,dog,,,,,\n", "score is empty"),
    "no class": (START + "a,,0.5,0,0,1,1\n", "class is empty"),
    "no name": (START + ",dog,0.5,0,0,1,1\n", "line 2: '' cannot be the name of an image"),
    "empty and not": (GOOD + "b,dog,1,0,0,1,1\n", "lines 3 and 4: image 'b' is listed both empty and with boxes"),
    "not and empty": (GOOD + "a,,,,,,\n", "lines 2 and 4: image 'a' is listed both empty and with boxes"),
    "empty twice": (GOOD + "b,,,,,,\n", "lines 3 and 4: image 'b' is empty twice; keep one row"),
    "a row twice": (GOOD + "a,dog,0.90,0,0,10,10\n", "lines 2 and 4: the same row twice; keep one of them"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_a_csv_of_boxes_is_one_line_with_its_place(tmp_path, case):
    text, why = WRONG[case]
    assert why in refused(file(tmp_path, text))


def test_truths_with_odd_flags_and_patients_are_refused(tmp_path):
    start = "image_name,class,x_min,y_min,x_max,y_max,ignore,patient\n"
    path = file(tmp_path, start + "a,dog,0,0,1,1,yes,p\n")
    assert "line 2 (image 'a'): ignore is 'yes'; give 0 or 1" in refused(path, truth=True)
    path = file(tmp_path, start + "a,dog,0,0,1,1,0,p\na,dog,0,0,2,2,0,q\n")
    assert "line 3: image 'a' has two patients" in refused(path, truth=True)


def test_classes_and_frames_are_checked_if_they_are_known(tmp_path):
    path = file(tmp_path, GOOD)
    assert "line 2 (image 'a'): unknown class 'dog' of 1 known; known: cat" in refused(path, classes=["cat"])
    assert "line 2 (image 'a'): x_max 10 is outside the image, whose side is 8; clip it" in refused(path, sizes=(20, 8))
    assert BoxSubmission.read(path, sizes=(20, 9)).sizes == {"a": (20, 9), "b": (20, 9)}  # a pixel is let pass
    assert BoxSubmission.read(path, classes=["cat", "dog"]).boxes[0].classes.tolist() == [1]
    assert BoxSubmission.read(path).classes == ("dog",)


def test_a_file_changed_after_it_was_written_is_refused(tmp_path):
    BoxSubmission("x", ["a"], ["dog"], [Boxes.of([[0, 0, 1, 1]])]).write(tmp_path / "p.csv")
    with (tmp_path / "p.csv").open("a") as opened:
        opened.write("b,,,,,,\n")
    assert "cut off or edited" in refused(tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"images": []}, "has no image"),
        ({"classes": ["dog", "dog"]}, "class 'dog' is there twice"),
        ({"images": ["a", "a"], "boxes": [Boxes.of()] * 2}, "image 'a' is there twice"),
        ({"images": ["a", "b"]}, "boxes of 1 images for 2 names"),
        ({"boxes": [Boxes.of([[0, 0, 1, 1]], classes=[1])]}, "image 'a', box 1: class 1 is not one of 1"),
        ({"boxes": [Boxes.of([[0, 0, 1, 1]], [np.nan])]}, "box 1: score is nan"),
        ({"boxes": [Boxes.of([[0, 0, 1e-6, 1]])]}, "x_max 0 is not above x_min 0"),
        ({"boxes": [Boxes.of([[0, 0, 12, 1]])], "sizes": {"a": (10, 10)}}, "x_max 12 is outside the image"),
        ({"boxes": [Boxes.of([[0, 0, 1, 1], [0, 0, 1, 1.00001]])]}, "box 2: is there twice with the same score"),
        ({"images": ["a\nb"]}, "cannot be an image or class name"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(tmp_path, changed, why):
    values = {"images": ["a"], "classes": ["dog"], "boxes": [Boxes.of([[0, 0, 1, 1]])], **changed}
    with pytest.raises(DataError, match=why):
        BoxSubmission("x", **values).write(tmp_path / "p.csv")
    assert list(tmp_path.iterdir()) == []


def test_boxes_need_one_score_and_class_each():
    with pytest.raises(DataError, match="2 scores for 1 boxes"):
        Boxes.of([[0, 0, 1, 1]], [1, 1])
    with pytest.raises(DataError, match="not among"):
        BoxSubmission("x", ["a"], ["dog"], [Boxes.of()]).reorder(["cat"])


def test_files_are_told_apart_by_their_header(tmp_path):
    assert task_of_csv(file(tmp_path, GOOD)) == "detect"
    assert task_of_csv(file(tmp_path, "image_name,x_min,dog\n")) == "classify"
    assert task_of_csv(file(tmp_path, "image_name,class,rle\n")) == "segment"


LETTERS = [*'",;-.e9\n\r\0', "\xe9", "nan", "1e999"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.sampled_from(LETTERS)), max_size=4))
def test_a_damaged_csv_is_read_or_refused_in_one_line(tmp_path_factory, damage):
    text = list(GOOD)
    for place, letter in damage:
        text[place] = letter
    path = tmp_path_factory.getbasetemp() / "damaged.csv"
    path.write_bytes("".join(text).encode("latin-1"))
    try:
        found = BoxSubmission.read(path)
    except DataError:
        refused(path)
        return
    for boxes in found.boxes:
        assert ((boxes.scores >= 0) & (boxes.scores <= 1)).all()
        assert (boxes.areas > 0).all()
        assert np.isfinite(boxes.corners).all()
