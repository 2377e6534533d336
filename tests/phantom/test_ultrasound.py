import csv
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from phalanx.cli import COMMANDS, main
from phalanx.errors import PhalanxError
from phalanx.phantom import ultrasound
from phalanx.phantom.dataset import Order
from phalanx.phantom.ultrasound import FILES, UltrasoundOptions, make_ultrasound
from phalanx.phantom.ultrasound_canvas import ORGANS
from phalanx.phantom.ultrasound_decoys import PLANES
from phalanx.phantom.ultrasound_plan import DECOYS, SINGLE, Fractions, plan

TRAIN, TEST = 12, 5
OPTIONS = {
    "marked": 0.5, "ambiguous": 0.2, "two_organs": 0.3, "three_organs": 0.1,
    "wrong_labels": 0.08, "missing_labels": 0.05,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A set at 128 with its manifest, made by two processes."""
    out = tmp_path_factory.mktemp("phantom") / "us"
    options = {"patients": TRAIN, "test_patients": TEST, "size": 128, "seed": 5, **OPTIONS}
    return out, make_ultrasound(out, workers=2, progress=False, **options)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def image(out, row):
    return cv2.imread(str(out / row["split"] / "images" / row["patient"] / f"{row['image']}.png"), cv2.IMREAD_UNCHANGED)


def other(out, folder, row):
    return cv2.imread(str(out / folder / f"{row['image']}.png"), cv2.IMREAD_UNCHANGED)


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def by_split(manifest, split):
    return [row for row in manifest["images"] if row["split"] == split]


def part(fraction, count):
    return int(fraction * count + 0.5)


def test_the_files_are_those_of_the_manifest(made):
    out, manifest = made
    expected = {"manifest.json", "train.csv", "answers.csv"}
    for row in manifest["images"]:
        name = f"{row['image']}.png"
        expected |= {f"{row['split']}/images/{row['patient']}/{name}", f"regions/{name}"}
        expected |= {f"overlays/{name}"} if row["marks"] else set()
        expected |= {f"clean/{name}"} if row["marks"] and row["split"] == "test" else set()
    assert set(files(out)) == expected
    assert all(FILES.fullmatch(path.relative_to(out).as_posix()) for path in out.rglob("*"))
    assert json.loads((out / "manifest.json").read_text()) == manifest
    assert manifest["classes"] == list(ORGANS)
    assert len({row["image"] for row in manifest["images"]}) == len(manifest["images"])
    for row in manifest["images"]:
        picture = image(out, row)
        assert (picture.shape, picture.dtype) == ((128, 128), np.uint8)
        assert picture.std() > 10


def test_patients_have_several_images_from_one_machine(made):
    _, manifest = made
    images = Counter(row["patient"] for row in manifest["images"])
    assert len(images) == TRAIN + TEST
    assert set(images.values()) <= set(range(4, 9))
    assert len(set(images.values())) > 2
    machines = {(row["patient"], row["machine"]) for row in manifest["images"]}
    assert len(machines) == len(images)
    assert len({machine for _, machine in machines}) > 3
    assert not {r["patient"] for r in by_split(manifest, "train")} & {r["patient"] for r in by_split(manifest, "test")}


@pytest.mark.parametrize("split", ["train", "test"])
def test_everything_planted_is_counted_exactly(made, split):
    _, manifest = made
    rows = by_split(manifest, split)
    count = Counter(len(row["organs"]) for row in rows)
    assert count[0] == part(OPTIONS["ambiguous"], len(rows)) == sum(row["ambiguous"] for row in rows)
    assert count[2] == part(OPTIONS["two_organs"], len(rows))
    assert count[3] == part(OPTIONS["three_organs"], len(rows))
    assert sum(count.values()) == count[0] + count[1] + count[2] + count[3]
    assert {organ for row in rows for organ in row["organs"]} == set(ORGANS)
    positive = [row for row in rows if row["organs"]]
    assert sum(bool(row["marks"]) for row in positive) == part(OPTIONS["marked"], len(positive))
    assert not any(row["marks"] for row in rows if row["ambiguous"])
    wrong = part(OPTIONS["wrong_labels"], len(rows)) if split == "train" else 0
    empty = part(OPTIONS["missing_labels"], 5 * len(rows)) if split == "train" else 0
    assert sum(row["wrong_label"] is not None for row in rows) == wrong
    assert sum(len(row["missing_labels"]) for row in rows) == empty
    assert all(set(row["decoys"]) <= set(DECOYS) and row["decoys"] for row in rows if row["ambiguous"])


def test_single_organs_are_dealt_in_their_proportions():
    shares = Counter()
    for person in plan(
        Order("ultrasound", 400, 128, 0, 1, 1, False, (128, 1024)),
        Fractions(0.3, 0.0, 0.0, 0.0, 0.0, 0.0),
    ):
        shares.update(shot.organs[0] for shot in person.shots if person.split == "train")
    total = sum(shares.values())
    for organ, share in SINGLE.items():
        assert shares[organ] == pytest.approx(share * total, abs=1)


def test_labels_are_the_manifests_but_for_the_planted_mistakes(made):
    out, manifest = made
    for split, name in (("train", "train.csv"), ("test", "answers.csv")):
        rows = table(out / name)
        assert list(rows[0]) == ["image_name", "patient", *ORGANS, "largest", "split"]
        assert [row["image_name"] for row in rows] == [row["image"] for row in by_split(manifest, split)]
        for written, row in zip(rows, by_split(manifest, split), strict=True):
            assert written["patient"] == row["patient"]
            organs = set(row["organs"]) if row["wrong_label"] is None else set(row["wrong_label"])
            cells = {c: "" if c in row["missing_labels"] else str(int(c in organs)) for c in ORGANS}
            assert {c: written[c] for c in ORGANS} == cells
    for row in manifest["images"]:
        if row["wrong_label"] is not None:
            assert set(row["wrong_label"]) != set(row["organs"])
            assert not row["missing_labels"]


def test_regions_have_a_bit_per_organ_and_its_area(made):
    out, manifest = made
    for row in manifest["images"]:
        regions = other(out, "regions", row)
        assert regions.shape == (128, 128)
        areas = {c: int(np.count_nonzero(regions & (1 << k))) for k, c in enumerate(ORGANS)}
        assert {c: n for c, n in areas.items() if n} == row["organs"]
        assert regions.max(initial=0) < 2 ** len(ORGANS)
        assert row["largest"] == (max(row["organs"], key=row["organs"].get) if row["organs"] else None)


def test_regions_lie_on_what_they_name(made):
    """Fluid is darker than what is around it; the femur is brighter, and its shadow is dark; a skull is a bright ring;
    a rendered face is on black."""
    out, manifest = made
    found = {organ: [] for organ in ORGANS}
    for row in manifest["images"]:
        if row["marks"]:
            continue
        picture, regions = image(out, row).astype(float), other(out, "regions", row)
        for k, organ in enumerate(ORGANS):
            inside = (regions >> k & 1).astype(np.uint8)
            if not inside.any():
                continue
            core = cv2.erode(inside, np.ones((5, 5), np.uint8)) > 0
            around = (cv2.dilate(inside, np.ones((15, 15), np.uint8)) > 0) & (inside == 0)
            if core.sum() < 20:
                continue
            if organ == "AFI":
                found[organ].append(np.median(picture[core]) < 0.6 * np.median(picture[around]))
            elif organ == "FL":
                found[organ].append(np.percentile(picture[inside > 0], 97) > 1.6 * np.median(picture[around]))
            elif organ == "BPD":
                ring = (inside > 0) & (cv2.erode(inside, np.ones((5, 5), np.uint8)) == 0)
                found[organ].append(picture[ring].mean() > 1.25 * np.median(picture[core]))
            elif organ == "3D":
                found[organ].append(np.median(picture[core]) > 1.3 * np.median(picture[around]))
            else:
                found[organ].append(5 < np.median(picture[core]) < 200)
    for organ, right in found.items():
        assert len(right) >= 3, organ
        assert np.mean(right) > 0.8, (organ, right)


def test_marked_and_clean_differ_under_the_overlay_alone(made):
    out, manifest = made
    pairs = [row for row in by_split(manifest, "test") if row["marks"]]
    assert len(pairs) > 5
    for row in pairs:
        marked, clean, mask = image(out, row), other(out, "clean", row), other(out, "overlays", row)
        assert set(np.unique(mask)) == {0, 255}
        assert np.array_equal(marked[mask == 0], clean[mask == 0])
        assert (marked[mask == 255] != clean[mask == 255]).mean() > 0.7
        assert 0.0005 < (mask == 255).mean() < 0.2


def test_marks_are_bright_and_on_their_organs(made):
    out, manifest = made
    for row in manifest["images"]:
        for mark in row["marks"]:
            assert mark["organ"] in row["organs"]
            assert mark["kinds"]
            assert set(mark["kinds"]) <= {"calipers", "text"}
        if [mark["kinds"] for mark in row["marks"]] == [["calipers"]] and row["marks"][0]["organ"] != "3D":
            mask, regions = other(out, "overlays", row), other(out, "regions", row)
            near = cv2.dilate(
                np.uint8(regions >> ORGANS.index(row["marks"][0]["organ"]) & 1), np.ones((21, 21), np.uint8)
            )
            assert (near[mask > 0] > 0).mean() > 0.6, row["image"]


def test_outside_of_the_field_is_the_machines_paper(made):
    """Most of the lower corners is one dark level, below any tissue."""
    out, manifest = made
    single = [
        row for row in manifest["images"] if row["panels"] == 1 and "3D" not in row["organs"] and not row["marks"]
    ]
    assert len(single) > 20
    levels = [np.median(image(out, row)[:14, 42:86]) for row in single]
    assert np.percentile(levels, 60) < 80
    assert np.mean([np.median(np.r_[image(out, r)[30:60, :3], image(out, r)[30:60, -3:]]) < 40 for r in single]) > 0.6


def test_repeated_looks_are_alike_but_not_the_same(made):
    """Another image of the same plane correlates more than an image of another patient does."""
    out, manifest = made
    rows = manifest["images"]
    alike, apart = [], []
    small = {row["image"]: cv2.GaussianBlur(image(out, row).astype(np.float32), (0, 0), 3).ravel() for row in rows}
    for row in rows:
        if not row["repeat"] or row["panels"] > 1:
            continue
        key = (row["patient"], tuple(row["organs"]))
        first = [r for r in rows if (r["patient"], tuple(r["organs"])) == key and not r["repeat"] and r["panels"] == 1]
        far = [r for r in rows if r["machine"] == row["machine"] and r["patient"] != row["patient"]]
        if row["organs"] and first:
            alike.append(max(np.corrcoef(small[row["image"]], small[f["image"]])[0, 1] for f in first))
            apart += [np.corrcoef(small[row["image"]], small[f["image"]])[0, 1] for f in far]
    assert len(alike) >= 3
    assert np.median(alike) > np.percentile(apart, 75)
    assert max(alike) < 0.9999


def test_same_seed_same_files_on_any_number_of_workers(tmp_path):
    options = {"patients": 1, "test_patients": 1, "size": 128, "seed": 3, "progress": False}
    make_ultrasound(tmp_path / "one", workers=1, **options)
    make_ultrasound(tmp_path / "two", workers=2, **options)
    one = files(tmp_path / "one")
    assert one == files(tmp_path / "two")
    make_ultrasound(tmp_path / "other", workers=1, **{**options, "seed": 4})
    pictures = [{v for k, v in files(tmp_path / name).items() if "/images/" in k} for name in ("one", "other")]
    assert not pictures[0] & pictures[1]


@pytest.mark.parametrize("size", [150, pytest.param(1024, marks=pytest.mark.slow)])
def test_any_size(tmp_path, size):
    manifest = make_ultrasound(
        tmp_path / "x", patients=1, test_patients=1, size=size, seed=2, marked=1, ambiguous=0, workers=1, progress=False
    )
    out = tmp_path / "x"
    for row in manifest["images"]:
        assert (
            image(out, row).shape
            == other(out, "overlays", row).shape
            == other(out, "regions", row).shape
            == (size, size)
        )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"patients": 0}, "patients"),
        ({"size": 127}, "size"),
        ({"size": 1025}, "size"),
        ({"seed": -1}, "seed"),
        ({"test_patients": 0}, "test_patients"),
        ({"workers": 0}, "workers"),
        ({"marked": 1.5}, "marked"),
        ({"marked": True}, "marked"),
        ({"two_organs": -0.1}, "two_organs"),
        ({"ambiguous": 0.6, "two_organs": 0.5}, "ambiguous"),
        ({"wrong_labels": 0.7, "missing_labels": 0.5}, "wrong_labels"),
    ],
)
def test_an_impossible_argument_is_named(tmp_path, change, named):
    with pytest.raises(PhalanxError, match=f"^{named}="):
        make_ultrasound(tmp_path / "x", **{"patients": 1, "size": 128, "seed": 0, **change})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["marked=2"], "marked=2.0: must be a fraction from 0 to 1"),
        (["marked=lots"], "marked='lots': input should be a valid number"),
        (["markd=0.2"], "markd: no such option; did you mean marked?"),
        (["size=64"], "size=64: must be a whole number from 128 to 1024"),
    ],
)
def test_bad_options_of_the_command_are_one_line(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    assert main(["phantom", "ultrasound", "out=x", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert says in said
    assert "\n" not in said
    assert not any(tmp_path.iterdir())


def test_the_command_makes_a_set_and_its_help_names_every_option(tmp_path, capsys):
    text = COMMANDS["phantom"][1]
    for name, field in UltrasoundOptions.model_fields.items():
        assert re.search(rf"(?m)^  {name}=", text), name
        if isinstance(field.default, float):
            assert re.search(rf"(?m)^  {name}={field.default:g}\b", text), name
    out = tmp_path / "x"
    assert main(["phantom", "ultrasound", "patients=1", "test_patients=1", "size=128", "workers=1", f"out={out}"]) == 0
    assert "data=ultrasound" in capsys.readouterr().out
    assert (out / "answers.csv").is_file()


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(ultrasound, "write_labels", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(PhalanxError, match="disk full"):
        make_ultrasound(tmp_path / "x", patients=1, size=128, seed=0, workers=1, progress=False)
    assert not any(tmp_path.iterdir())


def test_what_a_kill_leaves_goes_with_the_next_call(tmp_path):
    words = ["patients=40", "test_patients=1", "size=128", "workers=1", "out=set"]
    process = subprocess.Popen([sys.executable, "-m", "phalanx", "phantom", "ultrasound", *words], cwd=tmp_path)
    part = tmp_path / ".set.part"
    until = time.monotonic() + 60
    while not list(part.glob("train/images/*/*.png")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "set").exists()
    assert list(part.glob("train/images/*/*.png"))
    make_ultrasound(tmp_path / "set", patients=1, test_patients=1, size=128, seed=0, workers=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_every_decoy_can_be_drawn():
    assert set(PLANES) | {"blurred_volume", "lost_contact"} == set(DECOYS)
    assert {like for _, like in PLANES.values() if like} <= set(ORGANS)


def orientations(picture):
    """Histograms of the direction of the gradient in 8 x 8 cells of a picture at 96, float[8 * 8 * 8]."""
    small = cv2.resize(picture, (96, 96), interpolation=cv2.INTER_AREA).astype(np.float32)
    dx, dy = cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1)
    size, angle = cv2.cartToPolar(dx, dy)
    kind = np.int32(angle / (2 * np.pi) * 8) % 8
    cells = [(size * (kind == k)).reshape(8, 12, 8, 12).sum((1, 3)) for k in range(8)]
    found = np.stack(cells).reshape(8, -1)
    return (found / (np.linalg.norm(found, axis=0) + 1)).ravel()


@pytest.mark.slow
def test_the_classes_can_be_learned_but_not_easily_and_marks_give_them_away(tmp_path):
    out = tmp_path / "us"
    manifest = make_ultrasound(
        out, patients=150, test_patients=50, size=128, seed=8, marked=0.5, workers=2, progress=False
    )

    def area_under_curve(rows, picture):
        features = {s: np.array([orientations(picture(r)) for r in rows if r["split"] == s]) for s in ("train", "test")}
        found = []
        for organ in ORGANS:
            truth = {s: [organ in r["organs"] for r in rows if r["split"] == s] for s in features}
            model = LogisticRegression(C=0.3, max_iter=300).fit(features["train"], truth["train"])
            found.append(roc_auc_score(truth["test"], model.decision_function(features["test"])))
        return found

    whole = area_under_curve(manifest["images"], lambda row: image(out, row))
    assert min(whole) > 0.6
    assert 0.7 < np.mean(whole) < 0.97
    marks = area_under_curve([r for r in manifest["images"] if r["marks"]], lambda row: other(out, "overlays", row))
    assert np.mean(marks) > 0.75, marks
