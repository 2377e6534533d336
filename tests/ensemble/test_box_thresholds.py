"""Thresholds of boxes by command: tune stores them with the run, infer applies them, score reads them from the CSV."""

import json

import numpy as np
import pytest
from tests.boxed import CLASSES, make_polygons, words

from phalanx.cli import main
from phalanx.runtime.sidecar import read_sidecar
from phalanx.submission.boxes import BoxSubmission
from phalanx.submission.probabilities import Probabilities, write_probabilities

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run of two folds, and one of another network."""
    place = tmp_path_factory.mktemp("thresholds")
    root = make_polygons(place / "set", train=16, test=4)
    for name, epochs in (("found", 8), ("other", 1)):
        pairs = words(root, runs=place / "runs", name=name, epochs=epochs, augment="none", validate_every=0)
        assert main(["train", *(f"{k}={v}" for k, v in pairs.items()), "fold=0,1"]) == 0
    return place


@pytest.fixture
def call(trained, capsys):
    def run(*given, code=0):
        capsys.readouterr()
        assert main([*map(str, given)]) == code, capsys.readouterr()
        out, err = capsys.readouterr()
        return err.strip() if code else out

    return run


@pytest.fixture(autouse=True)
def without(trained):
    (trained / "runs/found/thresholds.json").unlink(missing_ok=True)


def infer(trained, out, *more):
    return ["infer", "experiment=found", f"runs={trained}/runs", f"out={out}", "device=cpu", "progress=false", *more]


def test_infer_leaves_out_boxes_below_the_thresholds_of_the_run(trained, tmp_path, call):
    runs = f"runs={trained}/runs"
    plain = call(*infer(trained, tmp_path / "all.csv"))
    assert "left out" not in plain
    shown = call("tune", "members=found", runs, "thresholds=class")
    file = trained / "runs/found/thresholds.json"
    assert shown.splitlines()[-1] == str(file)
    assert "F1 by one for all" in shown
    stored = json.loads(file.read_text())
    assert set(stored["thresholds"]) == set(CLASSES)
    assert len(stored["run_hashes"]) == 2
    assert stored["report"]["used"] == "class"
    assert "boxes with lower scores are left out" in call(*infer(trained, tmp_path / "some.csv"))
    every, some = (BoxSubmission.read(tmp_path / f"{name}.csv") for name in ("all", "some"))
    limits = np.array([stored["thresholds"][name] for name in every.classes])
    for whole, part in zip(every.boxes, some.boxes, strict=True):
        kept = whole.chosen(whole.scores >= limits[whole.classes])
        assert np.array_equal(kept.corners, part.corners)
        assert np.array_equal(kept.scores, part.scores)
    assert sum(len(one.scores) for one in some.boxes) < sum(len(one.scores) for one in every.boxes)
    assert some.thresholds == stored["thresholds"]
    assert every.thresholds is None
    # the same by the file's name, and all boxes on request; each is predicted again, as it is another result
    call(*infer(trained, tmp_path / "named.csv", f"postprocess={file}"))
    assert (tmp_path / "named.csv").read_bytes() == (tmp_path / "some.csv").read_bytes()
    call(*infer(trained, tmp_path / "some.csv", "postprocess=null"))
    assert (tmp_path / "some.csv").read_bytes() == (tmp_path / "all.csv").read_bytes()


def test_scores_are_at_the_thresholds_that_infer_applied(trained, tmp_path, call):
    call("tune", "members=found", f"runs={trained}/runs", "thresholds=class")
    call(*infer(trained, tmp_path / "some.csv"))
    call(*infer(trained, tmp_path / "all.csv", "postprocess=null"))
    stored = json.loads((trained / "runs/found/thresholds.json").read_text())["thresholds"]
    truth = trained / "set/test/answers_json"
    text = "{" + ",".join(f"{name}:{value!r}" for name, value in stored.items()) + "}"
    found = {}
    for name, more in (("some", []), ("all", [f"threshold={text}"])):
        call("score", tmp_path / f"{name}.csv", truth, *more, f"json={tmp_path}/{name}.json.txt")
        found[name] = json.loads((tmp_path / f"{name}.json.txt").read_text())
    assert found["some"]["confusion"] == found["all"]["confusion"]
    assert found["some"]["metrics"]["f1"] == found["all"]["metrics"]["f1"]
    assert {name: one["threshold"] for name, one in found["some"]["classes"].items()} == stored
    shown = call("ensemble", "mode=wbf", f"members={tmp_path}/some.csv,{tmp_path}/all.csv", f"out={tmp_path}/f.csv",
                 "allow_misaligned=true")  # fmt: skip
    assert f"{tmp_path}/some.csv lacks boxes below its thresholds" in shown


def test_a_retrained_run_or_another_needs_thresholds_of_its_own(trained, tmp_path, call):
    runs = f"runs={trained}/runs"
    call("tune", "members=other", runs, f"out={tmp_path}/other.json", "thresholds=one")
    line = call(*infer(trained, tmp_path / "x.csv", f"postprocess={tmp_path}/other.json"), code=2)
    assert "were chosen for other weights than those of found; choose them again with phalanx tune" in line
    assert "\n" not in line
    assert not (tmp_path / "x.csv").exists()


BROKEN = {
    "not ours": ("{}", "its format is null"),
    "no JSON": ("[", "postprocess="),
    "above 1": ({"thresholds": {"block": 1.5, "disc": 0.5}}, "less than or equal to 1"),
    "no number": ({"thresholds": {"block": "x", "disc": 0.5}}, "valid number"),
    "a class lacks one": ({"thresholds": {"block": 0.5}}, "give each class one"),
    "another class": ({"thresholds": {"block": 0.5, "disc": 0.5, "ring": 0.5}}, "give each class one"),
    "other classes": ({"classes": ["disc", "block"]}, "is of the classes"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_is_none_is_one_line(trained, tmp_path, call, case):
    content, expected = BROKEN[case]
    call("tune", "members=found", f"runs={trained}/runs")
    file = trained / "runs/found/thresholds.json"
    if isinstance(content, dict):
        content = json.dumps(json.loads(file.read_text()) | content)
    file.write_text(content)
    line = call(*infer(trained, tmp_path / "x.csv"), code=2)
    assert expected in line
    assert "\n" not in line
    assert not (tmp_path / "x.csv").exists()


def test_tune_refuses_what_cannot_be_tuned(trained, tmp_path, call):
    runs = f"runs={trained}/runs"
    assert "one run at a time" in call("tune", "members=found,other", runs, code=2)
    assert "should be 'auto', 'class' or 'one'" in call("tune", "members=found", runs, "thresholds=both", code=2)
    assert "no trained run of that name" in call("tune", "members=fuond", runs, code=2)
    assert "name a .json file" in call("tune", "members=found", runs, f"out={tmp_path}/x.csv", code=2)
    (tmp_path / "mine.json").write_text("{}")
    assert "mine.json" in call("tune", "members=found", runs, f"out={tmp_path}/mine.json", code=2)
    assert (tmp_path / "mine.json").read_text() == "{}"
    call(*infer(trained, tmp_path / "all.csv"))
    assert "leave one of them out" in call(
        *infer(trained, tmp_path / "m.csv", "masks=true", "postprocess=x.json"), code=2
    )
    for text, expected in (
        ("2", "expected a number from 0 to 1"), ("x", "expected a number"), ("-0.1", "expected a number"),
        ("{block:.5}", "has none of 'disc'"), ("{block:.5,disc:.5,ring:.5}", "'ring' is not a class"),
        ("{block:.5,disc:2}", "expected a number"), ("[.5,.5]", "expected a number"), ("true", "expected a number"),
    ):  # fmt: skip
        line = call("score", tmp_path / "all.csv", trained / "set/test/answers_json", f"threshold={text}", code=2)
        assert expected in line, text
        assert "\n" not in line


def test_a_sidecar_with_wrong_thresholds_is_damaged(trained, tmp_path, call):
    call("tune", "members=found", f"runs={trained}/runs")
    call(*infer(trained, tmp_path / "some.csv"))
    side = tmp_path / "some.json"
    found = json.loads(side.read_text())
    for wrong in ({"block": 0.5}, {"block": 0.5, "disc": 2}, [0.5, 0.5]):
        side.write_text(json.dumps(found | {"thresholds": wrong}))
        assert "is a damaged sidecar" in call("score", tmp_path / "some.csv", trained / "set/test/answers_json", code=2)
    side.write_text(json.dumps(found))
    assert read_sidecar(tmp_path / "some.csv")[0].thresholds == found["thresholds"]


def test_labels_of_a_detector_are_the_objects_to_expect_and_vote_with_classifiers(trained, tmp_path, call):
    call("tune", "members=found", f"runs={trained}/runs", "thresholds=class")  # which probabilities do without
    call(*infer(trained, tmp_path / "boxes.csv", "postprocess=null"))
    out = tmp_path / "labels.csv"
    assert "left out" not in call(*infer(trained, out, "labels=true"))
    boxes, made = BoxSubmission.read(tmp_path / "boxes.csv"), Probabilities.read(out)
    assert (made.classes, made.images, made.head) == (boxes.classes, boxes.images, "sigmoid")
    assert len(made.run_hashes) == 2
    for image, found, row in zip(boxes.images, boxes.boxes, made.values, strict=True):
        sums = [found.scores[found.classes == c].sum() for c in range(len(CLASSES))]
        assert row == pytest.approx(np.minimum(sums, 1), abs=1e-4), image  # the CSV of boxes is rounded
    assert (made.values > 0).any()
    assert "finished before" in call(*infer(trained, out, "labels=true"))

    contrary = 1 - made.values[:, ::-1]
    write_probabilities(tmp_path / "other.csv", made.images, made.classes[::-1], contrary, "sigmoid")
    vote = ["ensemble", "mode=soft", f"members={out},{tmp_path / 'other.csv'}", f"out={tmp_path / 'vote.csv'}"]
    call(*vote, "allow_misaligned=true")
    assert Probabilities.read(tmp_path / "vote.csv").values == pytest.approx(np.full(made.values.shape, 0.5), abs=1e-6)

    for more, expected in (
        (["masks=true"], "labels: asks for probabilities of classes, and masks=true for masks"),
        (["postprocess=x.json"], "postprocess: has thresholds of boxes, and labels=true asks for labels"),
    ):
        assert expected in call(*infer(trained, tmp_path / "x.csv", "labels=true", *more), code=2)
