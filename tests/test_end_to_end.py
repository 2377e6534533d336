"""The main job as a user calls it, on tiny hands, with the submission read by someone else's reader."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from phalanx.cli import main

ROOT = Path(__file__).resolve().parents[1]
CLASSES = yaml.safe_load((ROOT / "configs" / "data" / "hand.yaml").read_text())["classes"]
THRESHOLD = 0.1  # tiny runs are seldom sure of more


def read_submission(
    path: Path, sizes: dict[str, tuple[int, int]], classes: list[str]
) -> dict[tuple[str, str], np.ndarray]:
    """The competition's format, written down once more from its description; uses nothing of ours.

    A header, then a row for every image (sorted) and class (in order); a mask is 'start length' pairs counted from 1
    along the rows, sorted and apart, within the image.
    """
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["image_name", "class", "rle"]
    assert [(row[0], row[1]) for row in rows] == [(image, label) for image in sorted(sizes) for label in classes]
    masks = {}
    for image, label, rle in rows:
        height, width = sizes[image]
        numbers = [int(word) for word in rle.split()]
        assert rle == " ".join(map(str, numbers))
        assert len(numbers) % 2 == 0
        painted, before = [0] * (height * width), 0
        for start, length in zip(numbers[::2], numbers[1::2], strict=True):
            assert start > before
            assert length >= 1
            before = start + length - 1
            assert before <= height * width
            for pixel in range(start - 1, before):
                painted[pixel] = 1
        masks[image, label] = np.array(painted, bool).reshape(height, width)
    return masks


def paint_answers(folder: Path, size: int) -> dict[tuple[str, str], np.ndarray]:
    """The truth, each polygon filled on a plane of its own."""
    masks = {}
    for path in folder.rglob("*.json"):
        for item in json.loads(path.read_text())["annotations"]:
            plane = np.zeros((size, size), np.uint8)
            cv2.fillPoly(plane, [np.round(np.array(item["points"]) * 16).astype(np.int32)], 1, shift=4)
            masks[f"{path.stem}.png", item["label"]] = plane.astype(bool)
    return masks


def plain_dice(guess, truth) -> float:
    """Mean over all images and classes; both empty counts 1."""
    scores = []
    for key, a in guess.items():
        b = truth[key]
        scores.append(1.0 if not a.any() and not b.any() else 2 * (a & b).sum() / (a.sum() + b.sum()))
    return float(np.mean(scores))


@pytest.fixture(scope="module")
def made(runs, hands, tmp_path_factory):
    """Submissions of both runs and of their votes, each scored, and a picture, all by command."""
    out = tmp_path_factory.mktemp("submissions")
    common = [f"runs={runs}", f"data.root={hands}", "device=cpu", "progress=false", f"threshold={THRESHOLD}"]
    files = {name: out / f"{name}.csv" for name in ("fpn", "unet", "soft", "hard")}
    for name in ("fpn", "unet"):
        assert main(["infer", f"experiment={name}", *common, f"out={files[name]}"]) == 0
    assert main(["ensemble", "mode=soft", "members=fpn,unet", *common, f"out={files['soft']}"]) == 0
    members = ",".join(str(files[name]) for name in ("fpn", "unet", "soft"))
    assert main(["ensemble", "mode=hard", f"members={members}", f"out={files['hard']}"]) == 0
    answers = hands / "test" / "answers_json"
    for name, file in files.items():
        assert main(["score", str(file), str(answers), "--json", str(out / f"{name}.score.json")]) == 0
    words = [str(files["soft"]), str(answers), str(hands / "test" / "DCM"), "--out", str(out / "picture.png")]
    assert main(["picture", *words, "--rows", "2"]) == 0
    return files


@pytest.fixture(scope="module")
def read(made, hands):
    """Every submission, as the independent reader sees it."""
    sizes = {path.name: (128, 128) for path in (hands / "test" / "DCM").rglob("*.png")}
    assert len(sizes) == 4
    return {name: read_submission(file, sizes, CLASSES) for name, file in made.items()}


def test_an_independent_reader_accepts_every_csv(read):
    for name, masks in read.items():
        assert len(masks) == 4 * 29
        assert any(mask.any() for mask in masks.values()), name


def test_masks_lie_where_the_bones_are(read, hands):
    """A mask read along columns, or one pixel off in its rows, would lie elsewhere: Radius and Ulna end below."""
    truth = paint_answers(hands / "test" / "answers_json", 128)
    placed = {name: plain_dice(masks, truth) for name, masks in read.items()}
    turned = {name: plain_dice({k: m.T for k, m in masks.items()}, truth) for name, masks in read.items()}
    assert all(placed[name] > 2 * turned[name] for name in ("unet", "soft")), (placed, turned)


def test_scores_are_those_of_painted_masks(read, made, hands):
    truth = paint_answers(hands / "test" / "answers_json", 128)
    for name, masks in read.items():
        told = json.loads(made[name].with_suffix(".score.json").read_text())
        assert told["dice"] == pytest.approx(plain_dice(masks, truth), abs=1e-9)
        assert (told["images"], told["patients"]) == (4, 2)
        assert list(told["classes"]) == CLASSES


def test_the_hard_vote_is_the_majority_of_painted_masks(read):
    for key, mask in read["hard"].items():
        votes = sum(read[name][key].astype(int) for name in ("fpn", "unet", "soft"))
        np.testing.assert_array_equal(mask, votes >= 2)


def test_the_soft_vote_lies_between_its_members(read):
    """Where both are sure of the same, so is their mean."""
    for key, mask in read["soft"].items():
        both, either = (read["fpn"][key] & read["unet"][key]), (read["fpn"][key] | read["unet"][key])
        assert not (both & ~mask).any()
        assert not (mask & ~either).any()


def test_a_vote_knows_the_runs_behind_it(made, runs):
    expected = {str(runs / name / f"fold{k}") for name in ("fpn", "unet") for k in (0, 1)}
    for name in ("soft", "hard"):
        assert set(json.loads(made[name].with_suffix(".json").read_text())["run_hashes"]) == expected


def test_out_of_fold_predictions_cover_every_image_once(runs, hands, capsys):
    images = {path.name for path in (hands / "train" / "DCM").rglob("*.png")}
    for run in ("fpn", "unet"):
        parts = []
        for fold in (0, 1):
            file = runs / run / f"fold{fold}" / "oof.csv"
            parts.append({row[0] for row in list(csv.reader(file.open()))[1:]})
            assert main(["score", str(file), str(hands / "train" / "outputs_json"), "--partial"]) == 0
            told = json.loads(file.with_name("oof_score.json").read_text())["dice"]
            assert f"Dice {told:.4f}" in capsys.readouterr().out.splitlines()[-1]
        assert parts[0] | parts[1] == images
        assert not parts[0] & parts[1]


def test_training_learns(runs):
    lines = [json.loads(line) for line in (runs / "unet" / "fold0" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["event"] == "epoch"]
    assert len(losses) == 6
    assert losses[-1] < 0.9 * losses[0], losses


def test_the_picture_shows_two_images(made):
    picture = cv2.imread(str(made["soft"].with_name("picture.png")))
    assert picture.shape[0] > 2 * 512
    assert picture.shape[1] == 4 * 512
    assert picture.std() > 20
