"""``phalanx review`` of runs with given out-of-fold predictions: tables, pictures, messages."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from tests.boxed import make_table
from tests.boxed import words as box_words
from tests.label_maps import make, words

from phalanx.cli import main
from phalanx.config.compose import compose
from phalanx.data.objects import box_truth
from phalanx.data.quarantine import kept_records
from phalanx.data.truth import truth_of
from phalanx.masks.stack import Stack
from phalanx.runs.reader import FORMAT, FoldResult
from phalanx.runtime.files import write_json
from phalanx.runtime.metric import Metric
from phalanx.submission.boxes import Boxes, BoxSubmission
from phalanx.submission.table import write

RULE = "{positive:diseased,negative:normal,iou:0.5}"
PICTURES = ("tp.png", "fp.png", "fn.png", "tn.png", "suspects.png", "area.png")


def finish(folder, config, records, number, log=()):
    """What a finished fold has besides its predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(f"format: {FORMAT}\n{yaml.safe_dump(config.model_dump(mode='json'))}")
    rows = [f"{record.name},{record.group},{number[record.name]}\n" for record in records]
    (folder / "folds.csv").write_text("image_name,group,fold\n" + "".join(rows))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    write_json(folder / "oof_score.json", {})
    write_json(folder / "done.json", FoldResult(Metric("dice"), 0.5, 4, 1.0, 1.0).to_json())


def validations(*values):
    return [{"event": "validate", "step": 10 * k, "time": 1.0, "held_out/image_f1": value} for k, value in
            enumerate(values, 1)]  # fmt: skip


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return make(tmp_path_factory.mktemp("review") / "set", train=16, every=3)


def masks_run(maps, runs, name, change, log=(), **options):
    """A run of two folds whose masks are those of the ground truth as ``change(number, masks)`` has them."""
    config = compose(words(maps, runs=runs, name=name, image_f1=RULE, **options))
    records = kept_records(config.data, report=False)
    truth, number = truth_of(records, config.data), {r.name: int(r.group[1:]) % 2 for r in records}
    for fold in (0, 1):
        rows, sizes = [], {}
        for k, record in enumerate(records):
            if number[record.name] == fold:
                size = sizes[record.name] = truth.sizes[record.name]
                changed = change(k, truth.stack(record.name).masks(size).copy())
                rows.append((record.name, Stack.of_masks(changed).texts()))
        folder = runs / name / f"fold{fold}"
        folder.mkdir(parents=True)
        hashes = {str(folder): f"{fold:064x}"}
        write(folder / "oof.csv", rows, config.data.classes, sizes, hashes, head="softmax")
        finish(folder, config, records, number, log)
    return runs / name


def swapped(*numbers):
    """Images of these numbers get the other class."""
    return lambda k, masks: masks[::-1] if k in numbers else masks


def shifted(k, masks):
    return np.roll(masks, 3, axis=2)


@pytest.fixture(scope="module")
def runs(maps, tmp_path_factory):
    """``one`` misses image 0 and invents a disease in images 1 and 2; ``two`` is a little off everywhere."""
    runs = tmp_path_factory.mktemp("runs")
    masks_run(maps, runs, "one", swapped(0, 1, 2), validations(0.0, 0.5, 0.75))
    masks_run(maps, runs, "two", shifted, validations(0.25, 0.5), **{"optim.name": "sgd"})
    return runs


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def size_of(path):
    picture = cv2.imread(str(path))
    assert picture is not None, path
    return picture.shape[:2]


def test_every_image_is_in_its_cell_with_pictures_and_report(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["review", "one", "two", f"out={out}", f"runs={runs}", "worst=4", "rows=6", "progress=false"]) == 0
    printed = capsys.readouterr().out
    rows = rows_of(out / "one" / "cells.csv")
    cells = {row["image_name"]: row["cell"] for row in rows}
    assert len(rows) == 16
    assert [row["cell"] for row in rows] == sorted(cells.values(), key=["fn", "fp", "tp", "tn"].index)
    assert (cells["x000.png"], cells["x001.png"], cells["x002.png"]) == ("fn", "fp", "fp")
    assert sum(cell == "tp" for cell in cells.values()) == 5  # 3, 6, 9, 12 and 15
    first = rows[0]
    assert (first["truth"], first["prediction"], first["iou"]) == ("diseased", "normal", "0")
    assert first["area_of_diseased"] == first["predicted_area_of_normal"] != "0"
    assert (first["patient"], first["fold"], first["confidence"]) == ("A0", "0", "")
    assert {row["mean_iou"] for row in rows if row["cell"] == "tp"} == {"1"}
    for name in ("one", "two"):
        for picture in PICTURES:
            assert min(size_of(out / name / picture)) > 50
    report = json.loads((out / "review.json").read_text())
    assert report["finished"]
    assert (report["runs"][0]["f1_iou"]["fn"], report["runs"][0]["f1_iou"]["fp"]) == (1, 2)
    assert "oof_prob=true" in printed
    assert "16 images" in printed


def test_the_comparison_has_a_column_per_run_and_says_how_it_chose(runs, tmp_path):
    out = tmp_path / "out"
    assert main(["review", "one", "two", f"out={out}", f"runs={runs}", "rows=6"]) == 0
    rows = rows_of(out / "comparison.csv")
    assert [row["image_name"] for row in rows] == sorted(row["image_name"] for row in rows)
    shown = [row for row in rows if row["shown"]]
    assert [row["shown"] for row in shown].count("worst") == [row["shown"] for row in shown].count("spread") == 3
    worst = {row["image_name"] for row in shown if row["shown"] == "worst"}
    assert worst == {"x000.png", "x001.png", "x002.png"}
    best = max(rows, key=lambda row: (float(row["mean_iou"]), row["image_name"]))
    assert best["shown"] == "spread"
    assert {row["mean_iou one"] for row in rows} == {"0", "1"}
    assert all(0 < float(row["mean_iou two"]) < 1 for row in rows)
    one, both = size_of(out / "comparison.png"), out / "alone"
    assert main(["review", "one", f"out={both}", f"runs={runs}", "rows=3"]) == 0
    assert size_of(both / "comparison.png")[0] < one[0]


def test_curves_have_each_fold_and_step(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["review", "one", "two", f"out={out}", f"runs={runs}"]) == 0
    rows = rows_of(out / "curves.csv")
    assert [(row["step"], row["f1"]) for row in rows if (row["run"], row["fold"]) == ("one", "fold1")] == [
        ("10", "0"), ("20", "0.5"), ("30", "0.75"),
    ]  # fmt: skip
    assert len(rows) == 2 * 3 + 2 * 2
    assert size_of(out / "curves.png")[1] > 500
    assert "F1 over iterations of 2 run(s)" in capsys.readouterr().out


def test_a_log_without_f1_is_reported(maps, tmp_path, capsys):
    masks_run(maps, tmp_path, "silent", swapped())
    assert main(["review", "silent", f"out={tmp_path / 'out'}", f"runs={tmp_path}"]) == 0
    assert "no curve of F1: the logs have none; train with image_f1= and validate_steps=" in capsys.readouterr().out
    assert not (tmp_path / "out" / "curves.png").exists()


def test_suspects_are_the_objects_that_a_good_run_calls_otherwise(maps, tmp_path):
    masks_run(maps, tmp_path, "good", swapped(6, 7))  # which disagrees with two annotations
    out = tmp_path / "out"
    assert main(["review", "good", f"out={out}", f"runs={tmp_path}"]) == 0
    rows = rows_of(out / "good" / "suspects.csv")
    assert len(rows) == 16
    assert {row["image_name"] for row in rows[:2]} == {"x006.png", "x007.png"}
    assert [row["given"] for row in rows[:2]] == ["diseased", "normal"] or rows[0]["given"] == "normal"
    assert all("predicted" in row["reasons"] for row in rows[:2])
    assert {row["width_ratio"] for row in rows} == {""}  # discs have no midline
    assert not (out / "good" / "width.png").exists()


def test_long_objects_have_widths_along_their_midline(tmp_path):
    root = make(tmp_path / "set", train=12)
    for k, path in enumerate(sorted((root / "train" / "labels").iterdir())):
        bar = np.zeros((48, 40), np.uint8)
        bar[20:26, 2:38] = 2 if k % 4 == 0 else 1
        if k % 4 == 0:
            bar[20:22, 15:24] = bar[24:26, 15:24] = 0
        path.write_bytes(cv2.imencode(".png", bar)[1].tobytes())
    masks_run(root, tmp_path, "bars", swapped())
    out, place = tmp_path / "out", f"runs={tmp_path}"
    assert main(["review", "bars", f"out={out}", place, "worst=2", "rows=1"]) == 0
    ratios = {row["image_name"]: float(row["width_ratio"]) for row in rows_of(out / "bars" / "suspects.csv")}
    assert all((ratio < 0.6) == (int(image[1:4]) % 4 == 0) for image, ratio in ratios.items())
    assert size_of(out / "bars" / "width.png") == size_of(out / "bars" / "predicted_width.png")
    assert main(["review", "bars", f"out={tmp_path / 'no'}", place, "worst=1", "rows=1", "midline=false"]) == 0
    assert not (tmp_path / "no" / "bars" / "width.png").exists()


def test_it_can_be_repeated_but_replaces_nothing_of_others(runs, tmp_path, capsys):
    out = tmp_path / "out"
    words_ = ["review", "one", f"out={out}", f"runs={runs}", "worst=1", "rows=1"]
    assert main(words_) == 0
    assert main(words_) == 0
    (tmp_path / "other" / "one").mkdir(parents=True)
    (tmp_path / "other" / "one" / "cells.csv").write_text("mine")
    assert main(["review", "one", f"out={tmp_path / 'other'}", f"runs={runs}"]) == 2
    assert "cells.csv" in capsys.readouterr().err
    assert (tmp_path / "other" / "one" / "cells.csv").read_text() == "mine"
    assert [path.name for path in (tmp_path / "other" / "one").iterdir()] == ["cells.csv"]


def fault(capsys, *words_):
    """The one line that a command refuses with."""
    assert main(["review", *words_]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_what_cannot_be_reviewed_is_one_line(runs, maps, tmp_path, capsys):
    place, out = f"runs={runs}", f"out={tmp_path / 'out'}"
    assert "expected RUN" in fault(capsys, out)
    assert "no trained run of that name" in fault(capsys, "three", out, place)
    assert "one: two runs of that name" in fault(capsys, "one", "one", out, place)
    assert "wurst: no such option; did you mean worst?" in fault(capsys, "one", out, place, "wurst=3")
    assert "f1_iou.positive=sick: is not a class" in fault(capsys, "one", out, place, "f1_iou={positive:sick}")
    assert "a review is of one disease" in fault(
        capsys, "one", out, place, "f1_iou=[{positive:diseased},{positive:normal}]"
    )
    assert "truth: is of the test images; add split=test" in fault(capsys, "one", out, place, f"truth={maps}")
    assert "truth=nowhere: no such file or folder" in fault(capsys, "one", out, place, "split=test", "truth=nowhere")
    empty = make(tmp_path / "empty", train=2)
    assert "has no annotated image x002.png" in fault(capsys, "one", out, place, f"data.root={empty}")
    assert not (tmp_path / "out").exists()


def test_a_damaged_or_unfinished_run_is_one_line(maps, tmp_path, capsys):
    place, out = f"runs={tmp_path}", f"out={tmp_path / 'out'}"
    run = masks_run(maps, tmp_path, "broken", swapped())
    (run / "fold1" / "oof.csv").unlink()
    assert "oof.csv" in fault(capsys, "broken", out, place)
    for fold in (0, 1):
        for name in ("done.json", "oof_score.json"):
            (run / f"fold{fold}" / name).unlink()
    assert "has no finished fold with held-out images" in fault(capsys, "broken", out, place)
    config = yaml.safe_load((run / "fold0" / "config.yaml").read_text())
    (run / "fold0" / "config.yaml").write_text(yaml.safe_dump(config | {"task": "classify"}))
    assert "has no finished fold" in fault(capsys, "broken/fold0", out, place)


def test_one_fold_and_other_folds_are_compared_where_they_overlap(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["review", "one/fold0", "two", f"out={out}", f"runs={runs}", "worst=1", "rows=2"]) == 0
    assert (out / "one_fold0" / "cells.csv").is_file()
    assert len(rows_of(out / "comparison.csv")) == 8
    assert "8 of its images are not of all runs" in capsys.readouterr().out
    assert "no image in common" in fault(capsys, "one/fold0", "two/fold1", f"out={tmp_path / 'none'}", f"runs={runs}")
    assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """A run that finds each object but those of image 4, whose classes it exchanges, and invents a disc in image 0."""
    place = tmp_path_factory.mktemp("boxes")
    root = make_table(place / "set")
    config = compose(box_words(root, "boxes", runs=place, name="found", image_f1="{positive:disc,negative:block}"))
    records = kept_records(config.data, report=False)
    truth, number = box_truth(records, config.data), {r.name: int(r.group[1:]) % 2 for r in records}
    for fold in (0, 1):
        found = []
        for k, (image, own) in enumerate(zip(truth.images, truth.boxes, strict=True)):
            made = own._replace(
                scores=np.full(len(own.scores), 0.9), classes=1 - own.classes if k == 4 else own.classes
            )
            if k == 0:
                made = Boxes.of([[5, 5, 20, 20]], [0.8], [1])
            if number[image] == fold:
                found.append((image, made))
        images, predicted = zip(*found, strict=True)
        folder = place / "found" / f"fold{fold}"
        folder.mkdir(parents=True)
        BoxSubmission("found", images, truth.classes, predicted, dict.fromkeys(images, (64, 64))).write(
            folder / "oof.csv"
        )
        finish(folder, config, records, number)
    return place


def test_boxes_are_reviewed_alike(boxes, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["review", "found", f"out={out}", f"runs={boxes}", "threshold=0.5", "rows=4"]) == 0
    rows = rows_of(out / "found" / "cells.csv")
    assert len(rows) == 16
    assert next(row for row in rows if row["image_name"] == "000.png")["cell"] == "fp"
    assert {row["confidence"] for row in rows} <= {"0.9", "0.8", ""}
    suspects = rows_of(out / "found" / "suspects.csv")
    assert len(suspects) == 14 * 3  # two images are empty
    assert {row["image_name"] for row in suspects[:3]} == {"004.png"}
    assert all(min(size_of(out / "found" / picture)) > 50 for picture in PICTURES)
    capsys.readouterr()
    assert main(["review", "found", f"out={out}", f"runs={boxes}", "rows=4", "worst=1"]) == 0
    assert "boxes count from a score of 0.900, the best one out of fold" in capsys.readouterr().out


def test_boxes_count_from_the_thresholds_that_infer_applies(boxes, tmp_path, capsys):
    copied, out = tmp_path / "runs" / "found", tmp_path / "out"
    shutil.copytree(boxes / "found", copied)

    def confidences(*words):
        assert main(["review", str(copied), f"out={out}", "rows=1", "worst=1", *words]) == 0
        printed = capsys.readouterr().out
        return {row["confidence"] for row in rows_of(out / "found" / "cells.csv")} - {""}, printed

    limits = {"format": "phalanx-box-thresholds-1", "run": "found", "run_hashes": {"fold0": "0"}}
    limits |= {"classes": ["block", "disc"], "thresholds": {"disc": 0.95, "block": 0.85}}
    (copied / "thresholds.json").write_text(json.dumps(limits))
    found, printed = confidences()
    assert found == {"0.9"}  # of blocks; discs have .9 too, and one false block .8
    assert all(not float(row["predicted_area_of_disc"] or 0) for row in rows_of(out / "found" / "cells.csv"))
    assert f"{copied / 'thresholds.json'} (disc 0.9500, block 0.8500); threshold= sets it" in printed
    assert confidences("threshold=0.5")[0] == {"0.9", "0.8"}
    (copied / "thresholds.json").write_text(json.dumps(limits | {"classes": ["block", "ring"]}))
    assert "give each class one" in fault(capsys, str(copied), f"out={out}")


def test_runs_of_two_tasks_are_not_compared(runs, boxes, tmp_path, capsys):
    text = fault(capsys, str(runs / "one"), str(boxes / "found"), f"out={tmp_path / 'out'}")
    assert "task=segment" in text
    assert "task=detect" in text


def test_test_images_are_predicted_and_reviewed(maps, tmp_path, capsys):
    pairs = words(maps, runs=tmp_path, name="trained", epochs=1, image_f1=RULE, validate_every=0)
    pairs["data.masks.patients"] = "[train.csv,test/answers.csv]"
    assert main(["train", *(f"{key}={value}" for key, value in pairs.items()), "fold=0"]) == 0
    out = tmp_path / "out"
    assert main(["review", "trained", f"out={out}", f"runs={tmp_path}", "split=test", "progress=false"]) == 0
    rows = rows_of(out / "trained" / "cells.csv")
    assert {row["image_name"] for row in rows} == {"x016.png", "x017.png", "x018.png", "x019.png"}
    assert {row["fold"] for row in rows} == {""}
    assert all(row["confidence"] for row in rows if row["prediction"] != "nothing")
    assert (out / "trained" / "test.csv").is_file()
    score = json.loads((tmp_path / "trained" / "fold0" / "oof_score.json").read_text())
    assert score["f1_iou"][0]["rule"]["positive"] == "diseased"  # of the rule of the recipe
    moved = make(tmp_path / "moved", train=16, test=4)
    (moved / "test" / "answers").rename(moved / "test" / "hidden")
    assert "has no test/answers" in fault(
        capsys, "trained", f"out={tmp_path / 'no'}", f"runs={tmp_path}", "split=test", f"data.root={moved}"
    )
    assert Path(moved / "test" / "hidden").is_dir()
