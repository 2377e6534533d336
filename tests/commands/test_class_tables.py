"""``phalanx score`` and ``compare`` by class: errors as counted by hand, sorted by a column."""

import json

import numpy as np
import pytest

from phalanx.cli import main
from phalanx.masks import rle
from phalanx.submission.table import write

SIZES = {"a.png": (4, 5), "b.png": (4, 5)}


def rows(*boxes):
    """Rows of a CSV: of each image a box (top, bottom, left, right) of each of two classes, or None."""
    lines = []
    for name, pair in zip(SIZES, boxes, strict=True):
        masks = np.zeros((2, *SIZES[name]), bool)
        for mask, box in zip(masks, pair, strict=True):
            if box is not None:
                mask[box[0] : box[1], box[2] : box[3]] = True
        lines.append((name, [rle.encode(mask) for mask in masks]))
    return lines


@pytest.fixture
def masks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "truth.csv", rows([(0, 2, 0, 2), (2, 4, 0, 5)], [(0, 1, 0, 3), None]), ["U", "R"], SIZES)
    # U of a: 2 of 4 pixels right, 1 too many; of b: all 3 right and 2 too many. R of a: 5 of 10; of b: 4 too many
    write(tmp_path / "one.csv", rows([(0, 1, 0, 3), (2, 3, 0, 5)], [(0, 1, 0, 5), (2, 4, 0, 2)]), ["U", "R"], SIZES)
    # U of a missed, of b right; R of a all right, none of b
    write(tmp_path / "two.csv", rows([None, (2, 4, 0, 5)], [(0, 1, 0, 3), None]), ["U", "R"], SIZES)
    return tmp_path


BY_HAND = {  # tp, fp, fn
    "one.csv": {"U": (2 + 3, 1 + 2, 2 + 0), "R": (5 + 0, 0 + 4, 5 + 0)},
    "two.csv": {"U": (0 + 3, 0, 4), "R": (10, 0, 0)},
}


def order_in(text, labels):
    """The labels in the order of the lines that begin with them."""
    return [line.split()[0] for line in text.splitlines() if line.split()[:1] and line.split()[0] in labels]


@pytest.mark.parametrize("file", BY_HAND)
def test_pixels_of_masks(masks, capsys, file):
    assert main(["score", file, "truth.csv", "json=out.json"]) == 0
    text = capsys.readouterr().out
    values = json.loads((masks / "out.json").read_text())["classes"]
    for label, (tp, fp, fn) in BY_HAND[file].items():
        own = values[label]
        assert (own["tp"], own["fp"], own["fn"]) == (tp, fp, fn)
        assert own["precision"] == pytest.approx(tp / (tp + fp))
        assert own["recall"] == pytest.approx(tp / (tp + fn))
        [line] = [line for line in text.splitlines() if line.startswith(f"{label} ")]
        assert line.split()[-4:] == [str(fp), str(fn), f"{tp / (tp + fp):.4f}", f"{tp / (tp + fn):.4f}"]


@pytest.mark.parametrize(
    ("sort", "order"),
    [("name", "UR"), ("fp", "RU"), ("fn", "RU"), ("precision", "RU"), ("dice", "RU"), ("value", "RU")],
)
def test_masks_are_sorted_from_the_worst(masks, capsys, sort, order):
    assert main(["score", "one.csv", "truth.csv", f"sort={sort}"]) == 0
    assert order_in(capsys.readouterr().out, "UR") == list(order)


def test_a_column_that_is_not_there_is_named_with_a_hint(masks, capsys):
    for words in (["score", "one.csv", "truth.csv"], ["compare", "one.csv", "two.csv", "truth.csv"]):
        assert main([*words, "sort=recal"]) == 2
        assert "sort=recal: no such column; did you mean recall?" in capsys.readouterr().err
    assert main(["score", "one.csv", "truth.csv", "sort=auc"]) == 2  # of labels


def test_both_sides_of_csvs_are_compared(masks, capsys):
    assert main(["compare", "one.csv", "two.csv", "truth.csv", "sort=fn", "json=out.json"]) == 0
    text = capsys.readouterr().out
    table = text[text.index("one.csv > two.csv") :]
    assert order_in(table, "UR") == ["U", "R"]  # 4 pixels missed by the second, and none
    assert "3 > 0" in table
    assert "2 > 4" in table
    found = json.loads((masks / "out.json").read_text())["by_class"]
    assert (found["unit"], found["figure"]) == ("pixels", "dice")
    for side, file in (("first", "one.csv"), ("second", "two.csv")):
        for label, counts in BY_HAND[file].items():
            own = found["classes"][label][side]
            assert (own["tp"], own["fp"], own["fn"]) == counts
    assert found["classes"]["R"]["second"]["recall"] == 1
    assert main(["compare", "one.csv", "two.csv", "truth.csv", "sort=fp"]) == 0
    assert order_in(capsys.readouterr().out.partition(">")[2], "UR") == ["U", "R"]  # none of either: their order


LABELS = "image_name,cat,dog\n" + "".join(
    f"{k}.png,{c},{d}\n" for k, (c, d) in enumerate([(1, 0), (1, 1), (0, 0), (0, 1)])
)
# at .5: cat of 0, 1 and 2; dog of none. At .3: cat of 0, 1 and 2; dog of 1 and 2
GUESS = "image_name,cat,dog\n0.png,0.9,0.1\n1.png,0.8,0.4\n2.png,0.7,0.3\n3.png,0.1,0.2\n"


@pytest.fixture
def labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text(LABELS)
    (tmp_path / "guess.csv").write_text(GUESS)
    return tmp_path


@pytest.mark.parametrize(("threshold", "cat", "dog"), [("0.5", (2, 1, 0), (0, 0, 2)), ("0.3", (2, 1, 0), (1, 1, 1))])
def test_images_of_labels_at_a_threshold(labels, capsys, threshold, cat, dog):
    words = ["head=sigmoid", f"threshold={threshold}", "json=out.json", "sort=fn"]
    assert main(["score", "guess.csv", "labels.csv", *words]) == 0
    text = capsys.readouterr().out
    values = json.loads((labels / "out.json").read_text())["classes"]
    assert [values["cat"][name] for name in ("tp", "fp", "fn")] == [*cat]
    assert [values["dog"][name] for name in ("tp", "fp", "fn")] == [*dog]
    assert values["cat"]["precision"] == pytest.approx(2 / 3)
    assert values["dog"]["recall"] == dog[0] / 2
    assert order_in(text, ("cat", "dog"))[:2] == ["dog", "cat"]  # further lines are about prevalences
    line = next(line for line in text.splitlines() if line.startswith("dog"))
    assert line.split()[2:4] == [str(dog[1]), str(dog[2])]
    assert f"at probabilities from {threshold}" in text
    assert main(["score", "guess.csv", "labels.csv", "head=sigmoid", "sort=auc"]) == 0  # a column of this table


def test_labels_of_two_csvs_are_compared(labels, capsys):
    (labels / "other.csv").write_text(GUESS.replace("3.png,0.1,0.2", "3.png,0.6,0.7"))
    assert main(["compare", "guess.csv", "other.csv", "labels.csv", "head=sigmoid", "json=out.json"]) == 0
    found = json.loads((labels / "out.json").read_text())["by_class"]
    assert found["unit"] == "images"
    sides = found["classes"]["cat"]
    assert [(sides[side]["fp"], sides[side]["fn"]) for side in ("first", "second")] == [(1, 0), (2, 0)]
    sides = found["classes"]["dog"]
    assert [(sides[side]["fp"], sides[side]["fn"]) for side in ("first", "second")] == [(0, 2), (0, 1)]
    assert "1 > 2" in capsys.readouterr().out


TRUE_BOXES = "image_name,class,x_min,y_min,x_max,y_max\nu.png,a,0,0,10,10\nu.png,b,20,20,30,30\nv.png,a,0,0,10,10\n"
HEAD = "image_name,class,score,x_min,y_min,x_max,y_max\n"
FOUND = HEAD + "u.png,a,0.9,0,0,10,10\nu.png,a,0.8,50,50,60,60\nv.png,b,0.7,0,0,10,10\n"
# a: u right, one box of nothing, v missed; b: u missed, a box on an a


@pytest.fixture
def boxes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truth.csv").write_text(TRUE_BOXES)
    (tmp_path / "one.csv").write_text(FOUND)
    (tmp_path / "two.csv").write_text(FOUND + "u.png,b,0.6,20,20,30,30\nv.png,a,0.4,0,0,10,10\n")
    return tmp_path


def test_boxes_at_a_threshold(boxes, capsys):
    assert main(["score", "one.csv", "truth.csv", "sort=recall", "json=out.json"]) == 0
    text = capsys.readouterr().out
    values = json.loads((boxes / "out.json").read_text())["classes"]
    assert [values["a"][name] for name in ("tp", "fp", "fn")] == [1, 1, 1]
    assert [values["b"][name] for name in ("tp", "fp", "fn")] == [0, 1, 1]
    assert (values["a"]["precision"], values["a"]["found"], values["b"]["found"]) == (0.5, 0.5, 0)
    lines = [line.split() for line in text.splitlines() if line[:2] in ("a ", "b ")][:2]
    assert [line[0] for line in lines] == ["b", "a"]
    assert [line[2:4] for line in lines] == [["1", "1"], ["1", "1"]]
    assert main(["score", "one.csv", "truth.csv", "sort=map50"]) == 0
    assert main(["score", "one.csv", "truth.csv", "sort=auc"]) == 2


def test_boxes_of_two_csvs_are_compared(boxes, capsys):
    assert main(["compare", "one.csv", "two.csv", "truth.csv", "threshold=0.3", "json=out.json"]) == 0
    found = json.loads((boxes / "out.json").read_text())["by_class"]
    assert found["unit"] == "boxes"
    errors = {label: [(one[side]["fp"], one[side]["fn"]) for side in ("first", "second")]
              for label, one in found["classes"].items()}  # fmt: skip
    assert errors == {"a": [(1, 1), (1, 0)], "b": [(1, 1), (1, 0)]}
    assert "FP and FN in boxes" in capsys.readouterr().out
