"""`phalanx score`, `compare` and `ensemble` of CSVs of boxes by command, and F1 at an IoU of masks."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.scoring.random_boxes import predicted_of, submission, truth_of
from tests.scoring.test_f1_iou import AB01, published_maps

from phalanx.cli import main
from phalanx.config.compose import config_folder
from phalanx.masks import rle
from phalanx.scoring.boxes import score_boxes
from phalanx.submission.boxes import Boxes, BoxSubmission
from phalanx.submission.table import write

SIZE = (120, 140)


def truth_csv(path, made, patients=None):
    lines = ["image_name,class,x_min,y_min,x_max,y_max,patient"]
    for i, (image, boxes) in enumerate(zip(made.images, made.boxes, strict=True)):
        patient = f"p{i // 2}"
        rows = zip(boxes.corners.tolist(), boxes.classes.tolist(), strict=True)
        lines += [f"{image},{made.classes[c]},{','.join(map(repr, box))},{patient}" for box, c in rows]
        lines += [f"{image},,,,,,{patient}"] * (not len(boxes.scores))
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """truth.csv and two guesses a.csv and b.csv with sidecars, c.csv without, of 16 images and 8 patients."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(config_folder())
    rng = np.random.default_rng(0)
    truth = submission(truth_of(rng, 16))
    truth_csv(tmp_path / "truth.csv", truth)
    sizes = dict.fromkeys(truth.images, SIZE)
    for name in ("a", "b", "c"):
        made = submission([boxes.rounded() for boxes in predicted_of(rng, truth.boxes)])
        BoxSubmission("x", made.images, made.classes, made.boxes, sizes, run_hashes={f"runs/{name}/fold0": "12"}).write(
            tmp_path / f"{name}.csv"
        )
    (tmp_path / "c.json").unlink()
    return tmp_path


def values_of(capsys, *words):
    assert main([*words, f"json={words[0]}.json"]) == 0, capsys.readouterr()
    return json.loads(Path(f"{words[0]}.json").read_text())


def refused(capsys, *words):
    assert main([*words]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1, text
    return text


def test_score_is_that_of_the_library(place, capsys):
    values = values_of(capsys, "score", "a.csv", "truth.csv", "iou=0.6", "threshold=0.3")
    made, gold = BoxSubmission.read("a.csv"), BoxSubmission.read("truth.csv", ["a", "b", "c"], truth=True)
    score = score_boxes(made, gold, iou=0.6, threshold=0.3)
    assert values["format"] == "phalanx-score-1"
    assert values["metrics"]["map"]["value"] == score.value("map")
    assert values["metrics"]["f1"]["interval"] == list(score.intervals("f1")[0])
    assert (values["patients"], values["iou"]) == (8, 0.6)
    assert values["classes"]["b"]["tp"] == int(score.counts.tp[1])
    assert values["classes"]["b"]["objects"] == sum(int((boxes.classes == 1).sum()) for boxes in gold.boxes)
    assert values["confusion"] == score.confusion.tolist()
    text = capsys.readouterr().out
    assert "true, then found as" in text
    assert "over patients" in text


def test_a_csv_without_sidecar_has_the_classes_of_its_truth_and_partial_truth(place, capsys):
    lines = (place / "c.csv").read_text().splitlines()
    (place / "d.csv").write_text("\n".join([lines[0], *(line for line in lines[1:] if line < "im008")]) + "\n")
    assert "only in the second" in refused(capsys, "score", "d.csv", "truth.csv")
    values = values_of(capsys, "score", "d.csv", "truth.csv", "partial=true")
    assert values["images"] == 8
    assert list(values["classes"]) == ["a", "b", "c"]


def test_coco_and_polygons_are_ground_truths_too(place, capsys):
    gold = BoxSubmission.read("truth.csv", truth=True)
    coco = {"images": [], "annotations": [], "categories": [{"id": i, "name": name} for i, name in enumerate("abc")]}
    for i, (image, boxes) in enumerate(zip(gold.images, gold.boxes, strict=True)):
        coco["images"].append({"id": i, "file_name": f"p{i // 2}/{image}", "height": SIZE[0], "width": SIZE[1]})
        for corners, label in zip(boxes.corners.tolist(), boxes.classes.tolist(), strict=True):
            bbox = [corners[0], corners[1], corners[2] - corners[0], corners[3] - corners[1]]
            coco["annotations"].append({"id": len(coco["annotations"]), "image_id": i, "category_id": label,
                                        "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0})  # fmt: skip
    (place / "coco.json").write_text(json.dumps(coco))
    by_csv = values_of(capsys, "score", "a.csv", "truth.csv")
    by_coco = values_of(capsys, "score", "a.csv", "coco.json")
    assert by_coco["metrics"]["map"]["value"] == pytest.approx(by_csv["metrics"]["map"]["value"], abs=1e-9)
    words = ["data=teeth_tooth", "data.classes=[a,b,c]", "data.labels=null"]
    assert "is unknown (no sidecar c.json)" in refused(capsys, "score", "c.csv", "coco.json", *words)
    values = values_of(capsys, "score", "c.csv", "coco.json", *words, "size=120x140")
    assert values["images"] == 16
    assert "give data=NAME" in refused(capsys, "score", "c.csv", "coco.json")


def test_polygons_are_a_ground_truth_whose_patients_are_folders(place, capsys):
    gold = BoxSubmission.read("truth.csv", truth=True)
    whole = [boxes._replace(corners=np.round(boxes.corners)) for boxes in gold.boxes]
    for i, (image, boxes) in enumerate(zip(gold.images, whole, strict=True)):
        items = []
        for (x, y, x2, y2), label in zip(boxes.corners.tolist(), boxes.classes.tolist(), strict=True):
            points = [[x, y], [x2 - 1, y], [x2 - 1, y2 - 1], [x, y2 - 1]]  # of pixels, the last one included
            items.append({"label": gold.classes[label], "points": [[int(a), int(b)] for a, b in points]})
        folder = place / "json" / f"p{i // 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{image}.json").write_text(json.dumps({"annotations": items}))
    sizes = dict.fromkeys(gold.images, SIZE)
    BoxSubmission("x", gold.images, gold.classes, whole, sizes).write("whole.csv")
    values = values_of(capsys, "score", "whole.csv", "json")
    assert values["metrics"]["map"]["value"] == pytest.approx(1)
    assert values["patients"] == 8


def test_compare_is_paired(place, capsys):
    values = values_of(capsys, "compare", "a.csv", "b.csv", "truth.csv", "f1_iou={positive:a,negative:b}")
    assert set(values) - {"format", "by_class"} == {"map", "map50", "f1", "f1 at IoU 0.5 of a"}
    same = values_of(capsys, "compare", "a.csv", "a.csv", "truth.csv")
    assert (same["map50"]["difference"], same["map50"]["tied"]) == (0, True)


def test_f1_of_images_of_boxes_and_of_masks(place, capsys):
    values = values_of(capsys, "score", "a.csv", "truth.csv", "f1_iou=[{positive:a,negative:b,iou:.25},{positive:c}]")
    assert [one["rule"]["iou"] for one in values["f1_iou"]] == [0.25, 0.5]
    assert sum(values["f1_iou"][0][cell] for cell in ("tp", "fp", "fn", "tn")) == 16
    for name, maps in zip(("gold", "maps"), published_maps(AB01[0], 0.5), strict=True):
        images = [f"i{k:03}" for k in range(len(maps))]
        rows = [(image, [rle.encode(labels == c) for c in (1, 2)]) for image, labels in zip(images, maps, strict=True)]
        write(f"{name}.csv", rows, ["normal", "diseased"], dict.fromkeys(images, (8, 40)))
    values = values_of(capsys, "score", "maps.csv", "gold.csv", "f1_iou={positive:diseased,negative:normal,iou:0.5}")
    (one,) = values["f1_iou"]
    assert [one[cell] for cell in ("tp", "fp", "fn", "tn")] == [127, 57, 31, 339]
    assert round(one["f1"], 2) == 0.74
    assert 0 < one["class_iou"]["background"] < 1
    assert "called diseased" in capsys.readouterr().out
    compared = values_of(capsys, "compare", "maps.csv", "gold.csv", "gold.csv", "f1_iou={positive:diseased}")
    assert compared["f1_iou"][0]["difference"] == pytest.approx(1 - one["f1"])
    assert "no confidence" in refused(
        capsys, "score", "maps.csv", "gold.csv", "f1_iou={positive:diseased,negative:normal,both:most_confident}"
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["iou=2"], "iou=2: expected a number above 0"),
        (["threshold=-1"], "threshold=-1: expected a number from 0 to 1"),
        (["max_boxes=1.5"], "max_boxes=1.5: expected a whole number"),
        (["surface=2"], "surface: no such option"),
        (["f1_iou=0.5"], "expected a mapping or a list"),
        (["f1_iou={positive:x}"], "f1_iou.positive=x: is not a class of a.csv"),
        (["f1_iou={positive:a,iuo:.5}"], "f1_iou.iuo: no such option; did you mean iou?"),
        (["f1_iou=[{positive:a},{positive:a}]"], "positive in two rules"),
        (["f1_iou={positive:"], "f1_iou={positive:: not a value"),
        (["data=teeth_boxes"], "of 32 known; known: tooth-11"),
    ],
)
def test_options_that_cannot_work_are_one_line(place, capsys, words, why):
    assert why in refused(capsys, "score", "a.csv", "truth.csv", *words)


def test_ensemble_fuses_into_a_csv_with_a_sidecar(place, capsys):
    words = ["ensemble", "mode=wbf", "members=a.csv,b.csv,c.csv", "weights=2,1,1", "scores=sum"]
    assert main([*words, "out=new/f.csv"]) == 0
    text = capsys.readouterr().out
    assert "agreement (overlap of boxes) over 16 images" in text
    assert text.endswith("new/f.csv\n")
    found = BoxSubmission.read("new/f.csv")
    assert found.classes == ("a", "b", "c")
    assert found.sizes["im000"] == SIZE
    assert set(found.run_hashes) == {"runs/a/fold0", "runs/b/fold0"}
    side = json.loads((place / "new" / "f.json").read_text())
    assert side["vote"]["how"] == "wbf iou=0.55 scores=sum weights=2,1,1"
    assert len(side["vote"]["agreement"]["pairs"]) == 3
    first = (place / "new" / "f.csv").read_bytes()
    assert main([*words, "out=new/f.csv"]) == 0  # ours may be replaced
    assert (place / "new" / "f.csv").read_bytes() == first
    assert main(["ensemble", "mode=nms", "members=a.csv,b.csv", "out=nms.csv", "most=1"]) == 0
    assert max(len(boxes.scores) for boxes in BoxSubmission.read("nms.csv").boxes) == 1


def test_a_misaligned_member_stops_a_fusion(place, capsys):
    gold = BoxSubmission.read("truth.csv", truth=True)
    wrong = [boxes._replace(corners=boxes.corners / 2) for boxes in gold.boxes]
    for name, boxes in (("x", gold.boxes), ("y", gold.boxes), ("z", wrong)):
        BoxSubmission("x", gold.images, gold.classes, boxes).write(f"{name}.csv")
    words = ["ensemble", "mode=wbf", "members=x.csv,y.csv,z.csv", "out=f.csv"]
    text = refused(capsys, *words)
    assert "z.csv is misaligned: the boxes of z.csv are smaller or larger by 0.5" in text
    assert not (place / "f.csv").exists()
    assert main([*words, "allow_misaligned=true"]) == 0
    assert "voted with it" in capsys.readouterr().out


def test_fusions_that_cannot_be_are_one_line(place, capsys):
    BoxSubmission("x", ["im000"], ["a"], [Boxes.of()]).write("e.csv")
    (place / "f.csv").write_text((place / "e.csv").read_text())
    (place / "g.csv").write_text((place / "e.csv").read_text())
    cases = {
        "weights: 1 for 2 members": ["mode=wbf", "members=a.csv,b.csv", "weights=1"],
        "is named twice": ["mode=wbf", "members=a.csv,./a.csv"],
        "only mode=wbf combines scores": ["mode=nms", "members=a.csv,b.csv", "scores=sum"],
        "has no threshold of overlap": ["mode=soft_nms", "members=a.csv,b.csv", "iou=0.5"],
        "mode='soft'": ["mode=soft", "members=a.csv,b.csv"],
        "iou=2": ["mode=wbf", "members=a.csv,b.csv", "iou=2"],
        "would replace the member a.csv": ["mode=wbf", "members=a.csv,b.csv", "out=a.csv"],
        "in classes: 2 only in the first": ["mode=wbf", "members=a.csv,e.csv"],
        "differ in images": ["mode=wbf", "members=a.csv,f.csv"],
        "nothing to fuse": ["mode=wbf", "members=f.csv,g.csv"],
        "none.csv: no such submission file": ["mode=wbf", "members=a.csv,none.csv"],
        "cannot be combined": ["mode=wbf", "members=a.csv,maps.csv"],
    }
    (place / "maps.csv").write_text("image_name,class,rle\nim000,a,\n")
    for why, words in cases.items():
        assert why in refused(capsys, "ensemble", *words, *(["out=o.csv"] if "out=a.csv" not in words else []))
    assert not (place / "o.csv").exists()
