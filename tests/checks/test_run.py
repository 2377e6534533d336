"""`phalanx check`: every planted fault is found under its name, clean images are left alone, the quarantine holds."""

import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from phalanx.checks.findings import Report
from phalanx.checks.geometry import expect, relabel
from phalanx.checks.pixels import perceptual_hash
from phalanx.checks.run import check
from phalanx.cli import main
from phalanx.config.compose import compose
from phalanx.data.quarantine import kept_records, read_quarantine, write_quarantine
from phalanx.errors import DataError
from phalanx.phantom.hand import make_hands


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """Forty training and eight test images, two of the former with wrong labels (``manifest.json``)."""
    out = tmp_path_factory.mktemp("check") / "hands"
    make_hands(out, patients=20, test_patients=4, size=160, seed=3, workers=1, progress=False)
    return out


@pytest.fixture(scope="module")
def of_clean(clean):
    """The report on them."""
    return report(clean)


@pytest.fixture
def spoiled(clean, tmp_path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(clean, tmp_path / "hands")
    return tmp_path / "hands"


def report(root: Path, **keys: object) -> Report:
    pairs = {"data.root": str(root)} | {key.replace("__", "."): str(value) for key, value in keys.items()}
    return check(compose(pairs).data, workers=1, progress=False)


def config(root: Path, quarantine: Path):
    return compose({"data.root": str(root), "data.quarantine": str(quarantine)}).data


def kinds(found: Report, name: str = "", severity: str = "error") -> set[str]:
    """Kinds of the findings about files whose path holds ``name``."""
    return {f.kind for f in found.findings if name in f.file and f.severity == severity}


def rows(root: Path) -> list[dict]:
    return json.loads((root / "manifest.json").read_text())["images"]


def sound(root: Path, count: int = 6) -> list[tuple[Path, Path]]:
    """(image, annotation) of training images without planted faults, of different patients."""
    found: dict[str, tuple[Path, Path]] = {}
    for row in rows(root):
        if row["split"] == "train" and not row["wrong_annotation"] and not row["faults"]:
            place = Path(row["group"]) / row["image"]
            image, labels = root / "train/DCM" / place, root / "train/outputs_json" / place
            found.setdefault(row["group"], (image.with_suffix(".png"), labels.with_suffix(".json")))
    return list(found.values())[:count]


def redraw(path: Path, change) -> None:
    """Lets ``change`` alter the list of annotations of a file."""
    value = json.loads(path.read_text())
    change(value["annotations"])
    path.write_text(json.dumps(value))


def rename(names: dict[str, str]):
    def change(items: list[dict]) -> None:
        for item in items:
            item["label"] = names.get(item["label"], item["label"])

    return change


def move(label: str, factor: float = 1.0, by: tuple[float, float] = (0, 0)):
    def change(items: list[dict]) -> None:
        for item in items:
            if item["label"] == label:
                points = np.array(item["points"])
                item["points"] = ((points - points.mean(0)) * factor + points.mean(0) + by).tolist()

    return change


# the synthetic set as it comes


def wrong(root: Path) -> set[str]:
    """Images whose annotations were made wrong."""
    return {f"{row['image']}.png" for row in rows(root) if row["wrong_annotation"]}


def test_the_planted_wrong_annotations_are_found_and_nothing_else(clean, of_clean):
    found = of_clean
    assert len(wrong(clean)) == 2
    assert set(found.bad_images()) == wrong(clean)
    assert {f.kind for f in found.findings if f.severity == "error"} == {"swapped-labels"}
    assert found.counts["warning"] == 0  # the rotated hands among them are no outliers


def test_noise_bands_are_noted(clean, of_clean):
    planted = {row["image"] for row in rows(clean) if "noise_band" in row["faults"]}
    noted = {Path(f.file).stem for f in of_clean.findings if f.kind == "noise-band"}
    assert planted
    assert noted == planted


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_clean_hands_are_not_flagged_whatever_their_pose(tmp_path, seed):
    make_hands(tmp_path / "h", patients=9, test_patients=6, size=128, seed=seed, workers=1, progress=False)
    for image in sorted((tmp_path / "h/test/DCM").rglob("*.png")):  # half of these are rotated
        for part, folder in (("DCM", "DCM"), ("answers_json", "outputs_json")):
            name = image.with_suffix(".png" if part == "DCM" else ".json").name
            target = tmp_path / "h/train" / folder / image.parent.name / name
            target.parent.mkdir(exist_ok=True)
            (tmp_path / "h/test" / part / image.parent.name / name).rename(target)
    found = report(tmp_path / "h")
    assert found.images == {"train": 30, "test": 0}
    assert [f for f in found.findings if f.severity != "note"] == []


# faults of one image


def test_unreadable_images(spoiled):
    (a, _), (b, _), (c, _), (d, _) = sound(spoiled)[:4]
    a.write_bytes(b"")
    b.write_bytes(b.read_bytes()[:2000])
    c.write_text("no image")
    cv2.imwrite(str(d), np.full((160, 160), 30, np.uint8))
    found = report(spoiled)
    for path, kind in ((a, "unreadable"), (b, "unreadable"), (c, "unreadable"), (d, "blank")):
        assert kinds(found, path.name) == {kind}


BAD = {
    "outlines": [
        (lambda items: items[3].update(label="finger-20"), "unknown-label"),
        (lambda items: items[3].update(points=[[1, 2], [3, 4]]), "bad-polygon"),
        (lambda items: items[3].update(points=[[1, "x"], [3, 4], [5, 6]]), "bad-polygon"),
        (lambda items: items[3].pop("points"), "bad-polygon"),
        (lambda items: items[3].update(points=[[9, 9], [20, 20], [30, 30]]), "no-area"),
    ],
    "bones": [
        (lambda items: items.clear(), "no-annotation"),
        (lambda items: items.pop(5), "absent"),
        (move("Lunate", by=(500, 0)), "out-of-frame"),
        (move("Radius", factor=0.05), "tiny"),
        (move("finger-9", by=(-70, 40)), "odd-place"),
        (lambda items: items.append(items[4] | {"label": "Ulna"}), "same-outline"),
        (lambda items: items[-1].update(points=[[x + 0.1, y] for x, y in items[4]["points"]]), "same-outline"),
    ],
}


@pytest.mark.parametrize("group", BAD)
def test_bad_annotations(spoiled, group):
    paths = [labels for _, labels in sound(spoiled, len(BAD[group]))]
    for path, (change, _) in zip(paths, BAD[group], strict=True):
        redraw(path, change)
    found = report(spoiled)
    for path, (_, kind) in zip(paths, BAD[group], strict=True):
        assert kind in kinds(found, path.name)
        assert found.bad_images()[f"{path.stem}.png"]


def test_every_problem_of_a_file_is_reported_not_only_the_first(spoiled):
    path = sound(spoiled)[0][1]

    def change(items):
        items[1]["label"] = "thumb"
        items[2]["label"] = "toe"
        items[7]["points"] = [[1, 1]]

    redraw(path, change)
    told = [f.text for f in report(spoiled).findings if path.name in f.file and f.kind != "absent"]
    assert len(told) == 3
    assert all("annotation " in text for text in told)


def test_a_file_that_is_no_json(spoiled):
    path = sound(spoiled)[0][1]
    path.write_text("{")
    assert kinds(report(spoiled), path.name) == {"bad-annotation"}


def test_an_outline_that_crosses_itself_and_one_that_leaves_the_image(spoiled):
    (_, a), (_, b) = sound(spoiled)[:2]
    redraw(a, lambda items: items[-2].update(points=[[30, 100], [90, 150], [90, 100], [30, 150]]))
    redraw(b, move("Radius", by=(0, 15)))
    found = report(spoiled)
    assert "crossed-outline" in kinds(found, a.name, "warning")
    assert "out-of-frame" in kinds(found, b.name, "warning")


# faults among images


EXCHANGED = {
    "neighbours": [
        {"Pisiform": "Trapezoid", "Trapezoid": "Pisiform"},
        {"finger-1": "finger-3", "finger-3": "finger-1"},
        {"finger-4": "finger-5", "finger-5": "finger-4"},
        {"Radius": "Ulna", "Ulna": "Radius"},
    ],
    "rows and circles": [
        {"finger-9": "finger-13", "finger-13": "finger-9"},
        {"Scaphoid": "Lunate", "Lunate": "Triquetrum", "Triquetrum": "Scaphoid"},
        {"finger-8": "finger-9", "finger-9": "finger-10", "finger-10": "finger-11", "finger-11": "finger-8"},
    ],
}


@pytest.mark.parametrize("group", EXCHANGED)
def test_labels_in_each_others_place(spoiled, group):
    paths = [labels for _, labels in sound(spoiled, len(EXCHANGED[group]) + 1)[1:]]
    for path, names in zip(paths, EXCHANGED[group], strict=True):
        redraw(path, rename(names))
    errors = [f for f in report(spoiled).findings if f.severity == "error"]
    for path, names in zip(paths, EXCHANGED[group], strict=True):
        found = [f for f in errors if path.name in f.file]
        assert [f.kind for f in found] == ["swapped-labels"]
        assert all(name in found[0].text for name in names)


def test_copies_and_leaks(spoiled):
    (a, a_labels), (b, _), (c, _), (d, d_labels) = sound(spoiled)[:4]
    shutil.copy(a, b)  # another patient's
    d_labels.write_text(a_labels.read_text())
    test = min((spoiled / "test/DCM").rglob("*.png"))
    shutil.copy(test, c)
    brighter = cv2.imread(str(d), cv2.IMREAD_GRAYSCALE) * 0.9 + 9
    (spoiled / "test/DCM/ID900").mkdir()
    cv2.imwrite(str(spoiled / "test/DCM/ID900/other.jpg"), brighter, [cv2.IMWRITE_JPEG_QUALITY, 70])
    found = report(spoiled)
    assert "duplicate" in kinds(found, b.name) | kinds(found, a.name)
    assert "test-image-in-train" in kinds(found, c.name)
    assert "copied-annotation" in kinds(found, a_labels.name) | kinds(found, d_labels.name)
    near = [f for f in found.findings if f.kind == "near-duplicate"]
    assert [f.severity for f in near] == ["warning"]
    assert {"other.jpg", d.name} == {Path(near[0].file).name, near[0].text.split(" (")[0].split("/")[-1]}


def test_files_without_partner_and_doubled_names(spoiled):
    (a, a_labels), (b, _), (c, _) = sound(spoiled)[:3]
    a_labels.unlink()
    b.unlink()
    (spoiled / "test/DCM" / "ID901").mkdir()
    shutil.copy(c, spoiled / "test/DCM/ID901" / c.name)
    found = report(spoiled)
    assert kinds(found, a.name) == {"unannotated"}
    assert kinds(found, b.with_suffix(".json").name) == {"no-image"}
    assert kinds(found, f"ID901/{c.name}") == {"doubled-name"}
    assert kinds(report(spoiled, data__skip_unlabelled="true"), a.name) == set()


def test_metadata_without_images_and_the_reverse(spoiled):
    groups = sorted({row["group"] for row in rows(spoiled)})
    (spoiled / "meta_data.xlsx").unlink()
    assert not any("metadata" in f.kind for f in report(spoiled).findings)  # a sheet is optional
    lines = [f"{name},30,M,170,60" for name in [*groups[1:], "ID999"]]
    (spoiled / "meta_data.csv").write_text("\n".join(["ID,age,sex,height,weight", *lines]))
    found = {f.kind: f.text for f in report(spoiled).findings if f.severity == "warning"}
    assert groups[0] in found["no-metadata"]
    assert "ID999" in found["no-images"]


def test_palette_colour_and_deep_images_are_only_noted(clean, spoiled):
    for path, kind in zip([image for image, _ in sound(spoiled, 3)], ("colour", "deep", "alpha"), strict=True):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        other = {"colour": cv2.merge([grey] * 3), "deep": grey.astype(np.uint16) * 257, "alpha": cv2.merge([grey] * 4)}
        cv2.imwrite(str(path), other[kind])
    found = report(spoiled)
    (mixed,) = [f for f in found.findings if f.kind == "mixed-types"]
    assert mixed.severity == "note"
    assert "png, 16 bit, grey" in mixed.text
    assert set(found.bad_images()) == wrong(clean)
    assert not kinds(found, severity="warning")


def test_an_annotation_of_another_image_lies_off_the_bones(spoiled):
    (image, labels), *_ = sound(spoiled)
    redraw(
        labels, lambda items: [i.update(points=(np.array(i["points"]) * (-1, 1) + (159, 0)).tolist()) for i in items]
    )
    found = [f for f in report(spoiled).findings if f.image == image.name and f.severity != "note"]
    assert [f.kind for f in found] == ["off-image"]


# teeth: absence is usual, left and right are classes


def jaws(count: int, seed: int = 0) -> np.ndarray:
    """float[N, 16, 3]: two rows of eight teeth, classes 2k and 2k + 1 left-right partners; a sixth absent."""
    rng = np.random.default_rng(seed)
    k = np.arange(16) // 4 + 0.5
    side, row = np.where(np.arange(16) % 2, 1, -1), np.where(np.arange(16) // 2 % 2, 1, -1)
    x, y = side * k * 0.08, row * (0.08 - 0.01 * k)
    bones = np.stack([x, y, 0.002 + 0.0004 * k], axis=-1) * np.ones((count, 1, 1))
    bones[..., :2] = bones[..., :2] * rng.normal(1, 0.05, (count, 1, 1)) + rng.normal(0.5, 0.02, (count, 1, 2))
    bones[..., :2] += rng.normal(0, 0.004, (count, 16, 2))
    bones[..., 2] *= np.exp(rng.normal(0, 0.1, (count, 16)))
    bones[rng.random((count, 16)) < 1 / 6] = np.nan
    return bones


PAIRS = [(2 * i, 2 * i + 1) for i in range(8)]


def test_left_and_right_exchanged_throughout():
    bones = jaws(60)
    bones[7] = bones[7][np.arange(16) ^ 1]
    assert np.flatnonzero(expect(bones, PAIRS).mirrored).tolist() == [7]


def test_one_swap_among_teeth_is_found_and_no_other():
    bones = jaws(60)
    bones[5] = jaws(400)[np.isfinite(jaws(400)).all(axis=(1, 2)).argmax()]
    bones[5][[0, 1]] = bones[5][[1, 0]]
    places = expect(bones, PAIRS)
    moves = {image: relabel(places.deviations(image)) for image in range(60)}
    assert {image: move for image, move in moves.items() if move} == {5: {0: 1, 1: 0}}


@pytest.fixture
def teeth(tmp_path) -> Path:
    """Thirty panoramic pictures of 16 of the 32 teeth, a sixth of them absent."""
    names = [f"tooth-{q}{k}" for k in range(1, 5) for q in (11, 21, 41, 31) for q in (q // 10,)]
    rng = np.random.default_rng(1)
    for number, bones in enumerate(jaws(30)):
        picture = rng.normal(60, 5, (200, 400))
        items = []
        for name, (x, y, area) in zip(names, bones, strict=True):
            if np.isnan(x):
                continue
            half = 400 * np.sqrt(area) / 2
            box = np.array([x * 400, y * 400 - 100]) + half * np.array(
                [[-0.8, -1.2], [0.8, -1.2], [0.8, 1.2], [-0.8, 1.2]]
            )
            cv2.fillPoly(picture, [box.astype(np.int32)], 160.0)
            items.append({"label": name, "points": box.round(1).tolist()})
        for part in ("DCM", "outputs_json"):
            (tmp_path / "t/train" / part / f"ID{number}").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / f"t/train/DCM/ID{number}/i{number:02}.png"), picture.clip(0, 255).astype(np.uint8))
        (tmp_path / f"t/train/outputs_json/ID{number}/i{number:02}.json").write_text(json.dumps({"annotations": items}))
    return tmp_path / "t"


def test_a_set_with_absent_classes_does_not_drown(teeth):
    found = Counter((f.severity, f.kind) for f in report(teeth, data="teeth").findings)
    assert found[("note", "absent")] == 1
    assert not [key for key in found if key[0] == "error"]
    assert found.total() <= 2


# the command and the quarantine


def test_the_command_writes_its_files_and_exits_with_one_on_errors(clean, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["check", "data=hand", f"data.root={clean}", "workers=1", "progress=false"]
    assert main([*words, "--quarantine", "out.txt"]) == 1
    said = capsys.readouterr().out
    assert "error: swapped-labels, 2x" in said
    assert said.index("error: ") < said.index("note: ")
    value = json.loads(Path("check.json").read_text())
    assert value["counts"]["error"] == 2
    assert {"file", "severity", "kind", "text", "remedy"} <= value["findings"][0].keys()
    assert not Path(value["findings"][0]["file"]).is_absolute()
    assert set(read_quarantine(Path("out.txt"))) == wrong(clean)
    # what is in quarantine is settled
    assert main([*words, "data.quarantine=out.txt", "--json", "again.json"]) == 0
    assert "2 more are in quarantine" in capsys.readouterr().out
    assert json.loads(Path("again.json").read_text())["passed_over"] == sorted(wrong(clean))
    # and never overwritten
    assert main([*words, "--quarantine", "out.txt"]) == 2
    assert "out.txt: exists" in capsys.readouterr().err


def test_workers_do_not_change_the_result(clean, of_clean):
    assert check(compose({"data.root": str(clean)}).data, workers=2, progress=False) == of_clean


def test_a_folder_without_images_is_refused(tmp_path, capsys):
    (tmp_path / "x").mkdir()
    assert main(["check", f"data.root={tmp_path / 'x'}", "progress=false"]) == 2
    assert "no images in train/DCM or test/DCM" in capsys.readouterr().err


def test_a_quarantine_file_is_read_as_it_was_written(tmp_path):
    reasons = {"a b.png": "tiny: 1 of 2", "c#1.png": "two\nlines", "d.png": ""}
    write_quarantine(tmp_path / "q.txt", reasons)
    assert read_quarantine(tmp_path / "q.txt") == reasons | {"c#1.png": "two lines"}


def test_training_leaves_out_what_is_in_quarantine_and_says_so(hands, tiny, tmp_path, capsys):
    name = min((hands / "train/DCM").rglob("*.png")).name
    (tmp_path / "q.txt").write_text(f"{name} # an implant\n")
    place = {"runs": tmp_path / "runs", "data__quarantine": tmp_path / "q.txt", "name": "x", "epochs": 1}
    assert main(["train", *tiny("unet", fold=0, **place)]) == 0
    assert f"1 image(s) left out\n  {name} (an implant)" in capsys.readouterr().out
    trained = (tmp_path / "runs/x/fold0/folds.csv").read_text()
    assert name not in trained
    assert len(trained.splitlines()) == 12


def test_an_unannotated_image_in_quarantine_does_not_stop_training(spoiled, tmp_path):
    image, labels = sound(spoiled)[0]
    labels.unlink()
    write_quarantine(tmp_path / "q.txt", {image.name: ""})
    assert len(kept_records(config(spoiled, tmp_path / "q.txt"))) == 39


def test_a_misspelt_name_or_file_is_refused(clean, tmp_path):
    with pytest.raises(DataError, match=r"q\.txt: no such file; data\.quarantine= names a text file"):
        kept_records(config(clean, tmp_path / "q.txt"))
    write_quarantine(tmp_path / "q.txt", {"nobody.png": ""})
    with pytest.raises(DataError, match=r"nobody\.png is not a training image of"):
        kept_records(config(clean, tmp_path / "q.txt"))


# parts


def test_the_hash_forgives_exposure_and_tells_pictures_apart():
    rng = np.random.default_rng(0)
    pictures = [cv2.GaussianBlur(rng.integers(0, 256, (200, 200)).astype(np.uint8), (0, 0), 12) for _ in range(2)]
    one, other = (perceptual_hash(cv2.normalize(p, None, 0, 200, cv2.NORM_MINMAX))[0] for p in pictures)
    brighter = perceptual_hash(cv2.normalize(pictures[0], None, 40, 250, cv2.NORM_MINMAX))[0]
    assert (one ^ brighter).bit_count() <= 4
    assert (one ^ other).bit_count() > 12
