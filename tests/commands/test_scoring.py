"""`phalanx score` and `compare` by command: every form of answers gives the Dice of the painted masks."""

import json

import cv2
import numpy as np
import pytest

from phalanx.cli import main
from phalanx.config.compose import config_folder
from phalanx.masks import rle
from phalanx.submission.table import write

SIZES = {"a.png": (40, 50), "b.png": (40, 50), "c.png": (64, 30)}
PATIENTS = {"a.png": "P1", "b.png": "P1", "c.png": "P2"}
CLASSES = ["Radius", "Ulna", "Capitate"]


def squares(seed):
    """bool[C, H, W] by image name: apart, so that a label map can hold them; c has no Capitate."""
    found = {}
    for i, (name, size) in enumerate(SIZES.items()):
        rng = np.random.default_rng([seed, i])
        found[name] = np.zeros((3, *size), bool)
        for c in range(3 if name != "c.png" else 2):
            top, left = rng.integers(0, 4, 2)
            found[name][c, 12 * c + top : 12 * c + top + 8, left + 2 : left + 20] = True
    return found


TRUTH, GUESSES = squares(0), [squares(1), squares(2)]


def dense_dice(guess):
    pairs = [(a, b) for name in SIZES for a, b in zip(guess[name], TRUTH[name], strict=True)]
    return np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) if (a | b).any() else 1.0 for a, b in pairs])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the answers in every form and two guesses; configs/data/three.yaml has the classes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(config_folder())
    for i, guess in enumerate(GUESSES):
        rows = [(name, [rle.encode(mask) for mask in guess[name]]) for name in SIZES]
        write(tmp_path / f"g{i}.csv", rows, CLASSES, SIZES)
    rows = [(name, [rle.encode(mask) for mask in TRUTH[name]]) for name in SIZES]
    write(tmp_path / "truth.csv", rows, CLASSES, SIZES)
    coco = {"images": [], "annotations": [], "categories": [{"id": i, "name": n} for i, n in enumerate(CLASSES)]}
    for i, (name, masks) in enumerate(TRUTH.items()):
        patient, (height, width) = PATIENTS[name], SIZES[name]
        stem = name.removesuffix(".png")
        folders = {kind: tmp_path / kind / patient for kind in ("polygons", "labels", "classes", "beside")}
        (folders["classes"] / stem).mkdir(parents=True)
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        coco["images"].append({"id": i, "file_name": f"{patient}/{name}", "height": height, "width": width})
        items, labels = [], np.zeros((height, width), np.uint8)
        for c, mask in enumerate(masks):
            if not mask.any():
                continue
            y, x = np.nonzero(mask)
            corners = [[x.min(), y.min()], [x.max(), y.min()], [x.max(), y.max()], [x.min(), y.max()]]
            items.append({"label": CLASSES[c], "points": np.array(corners).tolist()})
            labels[mask] = c + 1
            cv2.imwrite(str(folders["classes"] / stem / f"{CLASSES[c]}.png"), mask * np.uint8(255))
            cv2.imwrite(str(folders["beside"] / f"{stem}_{CLASSES[c]}.png"), mask * np.uint8(255))
            columns = np.concatenate([[0], mask.T.ravel(), [not mask[-1, -1]]]).astype(int)
            counts = np.diff(np.flatnonzero(np.diff(columns)), prepend=0).tolist()
            counts[-1] += height * width - sum(counts)
            segmentation = {"size": [height, width], "counts": counts}
            coco["annotations"].append({"id": 9 * i + c, "image_id": i, "category_id": c, "segmentation": segmentation})
        (folders["polygons"] / f"{stem}.json").write_text(json.dumps({"annotations": items}))
        cv2.imwrite(str(folders["labels"] / name), labels)
        image = tmp_path / "set" / "train" / "DCM" / patient / name
        image.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), np.zeros((height, width), np.uint8))
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    (tmp_path / "set" / "train" / "outputs_json").symlink_to(tmp_path / "polygons")
    return tmp_path


THREE = f"data.classes=[{','.join(CLASSES)}]"
FORMS = {
    "polygons": ["polygons"],
    "csv": ["truth.csv"],
    "coco": ["coco.json"],
    "labels": ["labels"],
    "classes": ["classes", "data=hand", "data.masks.kind=classes", THREE],
    "classes beside": ["beside", "data=hand", "data.masks.kind=classes", THREE],
    "a data set": ["data=hand", "data.root=set", THREE],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_answers_gives_the_dice_of_painted_masks(place, form):
    assert main(["score", "g0.csv", *FORMS[form], "--json", "out.json"]) == 0
    told = json.loads((place / "out.json").read_text())
    assert told["dice"] == pytest.approx(dense_dice(GUESSES[0]), abs=1e-12)
    assert (told["images"], told["patients"]) == (3, None if form == "csv" else 2)
    assert told["classes"]["Capitate"]["present"] == 2


def test_answers_that_do_not_fit_are_refused(place, capsys):
    def refused(*words):
        assert main(["score", *words]) == 2
        return capsys.readouterr().err

    (place / "labels" / "P1" / "a.png").rename(place / "labels" / "P1" / "z.png")
    assert "labels: has no ground truth for a.png (expected <patient>/<image>.png" in refused("g0.csv", "labels")
    coco = json.loads((place / "coco.json").read_text())
    (place / "flat.json").write_text(json.dumps(coco).replace("P1/", "").replace("P2/", ""))
    assert "data.coco.group=image" in refused("g0.csv", "flat.json")
    assert main(["score", "g0.csv", "flat.json", "data=hand", THREE, "data.coco.group=image"]) == 0
    assert "no ground truth: name it, or a data set" in refused("g0.csv")
    assert "sizee: no such option; did you mean size?" in refused("g0.csv", "truth.csv", "sizee=2")
    assert "surface=-1: expected a number of pixels" in refused("g0.csv", "truth.csv", "surface=-1")
    assert "spacing=0: expected a number of mm per pixel" in refused("g0.csv", "truth.csv", "surface=1", "spacing=0")
    assert "give surface=PIXELS too" in refused("g0.csv", "truth.csv", "spacing=1")
    (place / "g0.json").unlink()
    (place / "truth.json").unlink()
    assert "the size of a.png is not known, which surfaces need" in refused("g0.csv", "truth.csv", "surface=1")


def test_surfaces_are_told_in_pixels_and_in_mm_where_the_spacing_is_known(place, capsys):
    assert main(["score", "g0.csv", "polygons", "surface=1", "spacing=0.5", "--json", "out.json"]) == 0
    text = capsys.readouterr().out
    told = json.loads((place / "out.json").read_text())["surface"]
    assert (told["tolerance"], told["spacing"], told["without"]) == (1, 0.5, 1)
    assert told["classes"]["Capitate"]["without"] == 1
    assert 0 < told["surface_dice"] < 1
    assert "surface Dice at 1 px (0.5 mm)" in text
    assert f"{told['hausdorff95']:.2f} ({told['hausdorff95'] / 2:.2f})" in text
    assert main(["score", "g0.csv", "polygons", "surface=1"]) == 0
    assert "mm" not in capsys.readouterr().out


def test_two_csvs_are_compared_by_patient(place, capsys):
    assert main(["compare", "g0.csv", "g1.csv", "polygons", "--json", "out.json"]) == 0
    told = json.loads((place / "out.json").read_text())
    assert told["difference"] == pytest.approx(dense_dice(GUESSES[1]) - dense_dice(GUESSES[0]))
    assert list(told["per_patient"]) == ["P1", "P2"]
    assert list(told["classes"]) == CLASSES
    assert f"second less first: {told['difference']:+.4f}" in capsys.readouterr().out
    assert main(["compare", "g0.csv"]) == 2
    assert "expected A B TRUTH" in capsys.readouterr().err


def reversed_rows(source, target):
    """The CSV without sidecar, its rows and so its classes in the opposite order."""
    header, *rows = source.read_text().splitlines()
    target.write_text("\n".join([header, *rows[::-1]]) + "\n")


def test_the_order_of_rows_and_classes_changes_no_comparison(place, capsys):
    reversed_rows(place / "g1.csv", place / "other.csv")
    reversed_rows(place / "truth.csv", place / "answers.csv")
    told = []
    for second, truth in (("g1.csv", "truth.csv"), ("other.csv", "truth.csv"), ("other.csv", "answers.csv")):
        assert main(["compare", "g0.csv", second, truth, "--json", "out.json"]) == 0
        told.append(json.loads((place / "out.json").read_text()) | {"names": None})
    assert told[0] == told[1] == told[2]
    assert main(["compare", "g0.csv", "g1.csv", "truth.csv", "surface=2"]) == 2
    assert "surface: compare computes no surfaces" in capsys.readouterr().err


def test_without_patients_intervals_are_said_to_be_over_images(place, capsys):
    for command in (["score", "g0.csv"], ["compare", "g0.csv", "g1.csv"]):
        assert main([*command, "polygons"]) == 0
        assert "over patients" in capsys.readouterr().out
        assert main([*command, "truth.csv"]) == 0
        text = capsys.readouterr().out
        assert "over images (too narrow" in text
        assert "patient" not in text
        assert "3 images" in text


@pytest.mark.parametrize("answers", ["truth.csv", "polygons"])
def test_some_of_the_answered_images_are_scored_on_request(place, capsys, answers):
    rows = [(name, [rle.encode(mask) for mask in GUESSES[0][name]]) for name in ("b.png", "c.png")]
    write(place / "some.csv", rows, CLASSES, SIZES)
    assert main(["score", "g0.csv", answers, "--json", "all.json"]) == 0
    if answers == "truth.csv":
        assert main(["score", "some.csv", answers]) == 2
        assert "1 only in the second ('a.png')" in capsys.readouterr().err
    assert main(["score", "some.csv", answers, "--partial", "--json", "partial.json"]) == 0
    whole, part = (json.loads((place / f"{name}.json").read_text())["per_image"] for name in ("all", "partial"))
    assert part == {name: whole[name] for name in ("b.png", "c.png")}


def test_answers_of_other_classes_are_named(place, capsys):
    lines = (place / "truth.csv").read_text().splitlines()
    (place / "fewer.csv").write_text("\n".join(line for line in lines if ",Ulna," not in line) + "\n")
    assert main(["score", "g0.csv", "fewer.csv"]) == 2
    assert "g0.csv and fewer.csv differ in classes: 1 only in the first ('Ulna')" in capsys.readouterr().err


def test_two_runs_are_compared_by_their_out_of_fold_scores(runs, capsys, tmp_path):
    assert main(["compare", str(runs / "fpn"), str(runs / "unet"), "--json", str(tmp_path / "out.json")]) == 0
    told = json.loads((tmp_path / "out.json").read_text())
    assert (told["images"], told["patients"]) == (12, 6)
    for name, dice in zip(("fpn", "unet"), told["dice"], strict=True):
        folds = [json.loads((runs / name / f"fold{k}" / "oof_score.json").read_text()) for k in (0, 1)]
        assert dice == pytest.approx(sum(f["dice"] * f["images"] for f in folds) / 12)
    assert main(["compare", str(runs / "fpn"), str(tmp_path)]) == 2
    assert "has no finished fold" in capsys.readouterr().err
