import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from phalanx.data.polygons import rasterise, read_annotations
from phalanx.errors import PhalanxError
from phalanx.masks.planes import one_class
from phalanx.phantom.anatomy import (
    CANVAS,
    HAND_CLASSES,
    area_and_centroid,
    cut_below,
    geometry,
    pose_hand,
    spline,
)
from phalanx.phantom.hand import WRONG, annotate, make_hands
from phalanx.phantom.patients import draw_patients
from phalanx.phantom.xray import bone_density, draw_appearance

INDEX = {name: i for i, name in enumerate(HAND_CLASSES)}


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def hands(tmp_path_factory):
    """A set of 10 train and 4 test patients at 128, with its manifest."""
    out = tmp_path_factory.mktemp("phantom") / "hands"
    manifest = make_hands(out, patients=10, test_patients=4, size=128, seed=7, workers=1, progress=False)
    return out, manifest


@pytest.fixture(scope="module")
def posed():
    """60 hands without pictures: (hand, bool[29, 512, 512])."""
    result = []
    for i in range(60):
        hand = pose_hand(
            np.random.SeedSequence(i),
            np.random.default_rng(1000 + i),
            rotated=i % 2 == 1,
            right=i % 4 < 2,
            size_z=float(np.random.default_rng(i).standard_normal()),
        )
        result.append((hand, masks(annotate(hand, 512, {}), 512)))
    return result


def masks(annotations: list[dict], size: int) -> np.ndarray:
    """bool[29, S, S]: each polygon filled on a plane of its own, the slow way."""
    planes = np.zeros((len(HAND_CLASSES), size, size), np.uint8)
    for item in annotations:
        points = np.round(np.array(item["points"]) * 16).astype(np.int32)
        cv2.fillPoly(planes[INDEX[item["label"]]], [points], 1, shift=4)
    return planes.astype(bool)


def angle(planes: np.ndarray) -> float:
    """The rotation rule, from pixels: vector Ulna centroid -> finger-16 centroid from vertical."""
    (uy, ux), (ty, tx) = (np.argwhere(planes[INDEX[name]]).mean(0) for name in ("Ulna", "finger-16"))
    return float(np.degrees(np.arctan2(abs(tx - ux), uy - ty)))


def test_layout_is_the_competitions(hands):
    out, manifest = hands
    assert sorted(p.name for p in out.iterdir()) == ["manifest.json", "meta_data.xlsx", "test", "train"]
    names = [row["image"] for row in manifest["images"]]
    assert len(names) == len(set(names)) == 28
    for row in manifest["images"]:
        answers = "outputs_json" if row["split"] == "train" else "answers_json"
        picture = cv2.imread(
            str(out / row["split"] / "DCM" / row["group"] / f"{row['image']}.png"), cv2.IMREAD_UNCHANGED
        )
        assert picture.shape == (128, 128)
        assert picture.dtype == np.uint8
        assert picture.std() > 10
        polygons = read_annotations(out / row["split"] / answers / row["group"] / f"{row['image']}.json", HAND_CLASSES)
        assert sorted(p.label for p in polygons) == list(range(29))
        planes = rasterise(polygons, (128, 128), 29)
        assert all(one_class(planes, c).any() for c in range(29))
    assert json.loads((out / "manifest.json").read_text()) == manifest
    assert not (out / "test" / "outputs_json").exists()


def test_same_seed_same_files_on_any_number_of_workers(tmp_path):
    options = {"patients": 3, "size": 128, "seed": 3, "progress": False}
    make_hands(tmp_path / "one", workers=1, **options)
    make_hands(tmp_path / "two", workers=2, **options)
    make_hands(tmp_path / "other", workers=1, **{**options, "seed": 4})
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert not set(files(tmp_path / "one").values()) & set(files(tmp_path / "other").values())


def test_metadata_is_spelled_by_humans(hands):
    out, _ = hands
    sheet = pd.read_excel(out / "meta_data.xlsx")
    assert list(sheet.columns) == ["ID", "age", "sex", "height", "weight"]
    assert list(sheet["ID"]) == [f"ID{i:03d}" for i in range(1, 15)]
    assert sheet["sex"].dropna().nunique() > 3
    assert sheet["height"].dropna().between(140, 200).all()


def test_bone_size_follows_the_patient():
    people = draw_patients(1500, 1, 0.5, 0)
    size, height, weight, age = np.array([(p.size_z, p.height, p.weight, p.age) for p in people]).T
    correlations = [np.corrcoef(size, other)[0, 1] for other in (height, weight, age)]
    assert np.allclose(correlations, (0.84, 0.70, 0.15), atol=0.07)
    assert np.mean([p.height for p in people if p.male]) > np.mean([p.height for p in people if not p.male]) + 8


@pytest.mark.parametrize(("patients", "test", "share", "expected"), [(100, 20, 0.5, (5, 10)), (4, 3, 1.0, (0, 3))])
def test_rotated_patients_are_counted_exactly(patients, test, share, expected):
    people = draw_patients(patients, test, share, 1)
    assert tuple(sum(p.rotated for p in people if p.split == s) for s in ("train", "test")) == expected


def test_patients_do_not_depend_on_how_many_there_are():
    # all but the group: who is rotated is a share of the whole
    few, many = draw_patients(3, 1, 0.0, 5)[:3], draw_patients(50, 9, 0.0, 5)[:3]
    assert few == many


def test_rotation_groups_are_apart(hands, posed):
    for hand, planes in posed:
        measured = angle(planes)
        assert measured >= 34.5 if hand.rotated else measured <= 28, measured
    assert {row["rotated"] for row in hands[1]["images"]} == {False, True}
    for row in hands[1]["images"]:
        assert (row["rotation_deg"] >= 33) == row["rotated"]


def test_hands_of_a_patient_are_alike_and_mirrored(hands):
    out, manifest = hands
    shapes = {}
    for row in manifest["images"]:
        if row["split"] == "test":
            path = out / "test" / "answers_json" / row["group"] / f"{row['image']}.json"
            planes = masks(json.loads(path.read_text())["annotations"], 128)
            thumb, little = (np.argwhere(planes[INDEX[n]])[:, 1].mean() for n in ("finger-3", "finger-19"))
            assert (thumb < little) == (row["side"] == "right")
            shapes[row["group"], row["side"]] = planes.sum((1, 2))[:19]
    groups = sorted({group for group, _ in shapes})
    area = {key: value.sum() for key, value in shapes.items()}
    within = np.mean([abs(np.log(area[g, "left"] / area[g, "right"])) for g in groups])
    assert within < 0.05


def test_mirror_is_exact():
    seed = np.random.SeedSequence(5)
    left, right = (
        pose_hand(seed, np.random.default_rng(1), rotated=False, right=side, size_z=0.0) for side in (False, True)
    )
    for name in HAND_CLASSES:
        a, b = left.bones[name].outline, right.bones[name].outline
        shift = a[0] * (-1, 1) - b[0]
        assert np.allclose(a * (-1, 1) - shift, b)


def test_overlaps_follow_the_real_ones(posed):
    for a, b, goal in geometry()["overlaps"]:
        shares = []
        for _, planes in posed:
            first, second = planes[INDEX[a]], planes[INDEX[b]]
            shares.append((first & second).sum() / min(first.sum(), second.sum()))
        assert np.mean(shares) == pytest.approx(goal, abs=0.05), (a, b)


@pytest.mark.parametrize("group", ["upright", "rotated"])
def test_sizes_and_places_follow_the_real_ones(posed, group):
    chosen = [hand for hand, _ in posed if hand.rotated == (group == "rotated")]
    for name in HAND_CLASSES:
        real, measured = geometry()["measured"][name][group], []
        for hand in chosen:
            area, centre = area_and_centroid(cut_below(hand.bones[name].outline, CANVAS - 0.5))
            place = centre - area_and_centroid(hand.bones["Capitate"].outline)[1]
            measured.append((area, place[0] if hand.right else -place[0], place[1]))
        means, spreads = np.mean(measured, axis=0), np.std(measured, axis=0)
        for key, ours, spread in zip(("area", "dx", "dy"), means, spreads, strict=True):
            goal, goal_spread = real[key]
            if goal is not None:
                assert ours == pytest.approx(goal, abs=0.8 * goal_spread + 1e-6), (name, key)
                assert 0.4 * goal_spread <= spread + 1e-6 <= 1.8 * goal_spread + 1e-3, (name, key)


def test_overlapping_bones_add_in_brightness(posed):
    hand, _ = posed[0]
    appearance = draw_appearance(np.random.default_rng(3))
    both = bone_density(hand, appearance, 512, np.random.default_rng(0))
    planes = masks(annotate(hand, 512, {}), 512)
    first, second = planes[INDEX["Triquetrum"]], planes[INDEX["Pisiform"]]
    others = planes.sum(0) - first - second == 0
    assert both[first & second & others].mean() > 1.4 * both[first & ~second & others].mean()


def test_a_small_picture_is_a_large_one_made_smaller(tmp_path):
    pictures = {}
    for size in (128, 512):
        options = {
            "patients": 1,
            "test_patients": 1,
            "size": size,
            "seed": 11,
            "workers": 1,
            "progress": False,
        }
        manifest = make_hands(tmp_path / str(size), **options)
        row = manifest["images"][0]
        pictures[size] = cv2.imread(
            str(tmp_path / str(size) / "train" / "DCM" / row["group"] / f"{row['image']}.png"), 0
        )
    smaller = cv2.resize(pictures[512], (128, 128), interpolation=cv2.INTER_AREA)
    assert np.abs(smaller.astype(float) - pictures[128]).mean() < 6
    assert np.corrcoef(smaller.ravel(), pictures[128].ravel())[0, 1] > 0.98


def test_wrong_annotations_are_listed_and_only_in_train(hands):
    out, manifest = hands
    wrong = [row for row in manifest["images"] if row["wrong_annotation"]]
    assert sorted(row["wrong_annotation"] for row in wrong) == sorted(WRONG)
    for row in wrong:
        assert row["split"] == "train"
        path = out / "train" / "outputs_json" / row["group"] / f"{row['image']}.json"
        labels = [item["label"] for item in json.loads(path.read_text())["annotations"]]
        swap = WRONG[row["wrong_annotation"]]
        assert labels == [swap.get(name, name) for name in HAND_CLASSES]


def test_coordinates_are_whole_pixels_from_1024_on(posed):
    hand, _ = posed[0]
    whole, tenths = (annotate(hand, size, {}) for size in (1024, 300))
    assert all(isinstance(v, int) for item in whole for point in item["points"] for v in point)
    values = np.concatenate([np.array(item["points"]) for item in tenths]) * 10
    assert np.allclose(values, values.round())
    assert values.min() >= 0
    assert values.max() <= 2990


def test_area_and_cut_agree_with_pixels():
    outline = spline(np.array([(20, 10), (60, 30), (90, 120), (40, 150), (30, 70)]), 200)
    canvas = np.zeros((200, 200), np.uint8)
    cut = cut_below(outline, 100)
    cv2.fillPoly(canvas, [np.round(cut * 16).astype(np.int32)], 1, shift=4)
    area, (x, y) = area_and_centroid(cut)
    rows, columns = np.nonzero(canvas)
    assert area == pytest.approx(len(rows), rel=0.05)
    assert (x, y) == pytest.approx((columns.mean(), rows.mean()), abs=0.5)
    assert cut[:, 1].max() <= 100


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"patients": 0}, "patients"),
        ({"size": 100}, "size"),
        ({"size": 4096}, "size"),
        ({"seed": -1}, "seed"),
        ({"test_patients": 0}, "test_patients"),
        ({"workers": 0}, "workers"),
        ({"rotated_test": 1.5}, "rotated_test"),
    ],
)
def test_an_impossible_argument_is_named(tmp_path, change, named):
    with pytest.raises(PhalanxError, match=f"^{named}="):
        make_hands(tmp_path / "x", **{"patients": 1, "size": 128, "seed": 0, **change})
    assert not any(tmp_path.iterdir())


def test_an_existing_folder_is_kept(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(PhalanxError, match="exists already"):
        make_hands(tmp_path, patients=1, size=128, seed=0)
    assert (tmp_path / "mine").read_text() == "precious"


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("phalanx.phantom.hand.write_sheet", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(PhalanxError, match="disk full"):
        make_hands(tmp_path / "x", patients=1, size=128, seed=0, workers=1, progress=False)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("size", [128, 256, 333])
def test_any_size(tmp_path, size):
    manifest = make_hands(tmp_path / "x", patients=1, size=size, seed=2, workers=1, progress=False)
    path = next((tmp_path / "x").rglob("*.png"))
    assert cv2.imread(str(path), 0).shape == (size, size)
    assert manifest["size"] == size
