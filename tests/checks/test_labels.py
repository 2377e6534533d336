"""`phalanx check` of images with labels: each planted fault is found with its severity, sound sets have none."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.labelled import CLASSES, make_folders, make_table, words, write

from phalanx.checks.labels import check
from phalanx.cli import main
from phalanx.config.compose import compose
from phalanx.data.folds import draw
from phalanx.data.groups import read_groups
from phalanx.data.quarantine import kept_records, read_quarantine

GROUPED = {"data.folders.group_pattern": "^(P[0-9]+)-"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("sound")
    return {"folders": make_folders(place / "folders"), "table": make_table(place / "table")}


@pytest.fixture
def spoiled(sound, tmp_path) -> dict[str, Path]:
    """Copies that a test may spoil."""
    return {name: Path(shutil.copytree(root, tmp_path / name)) for name, root in sound.items()}


def data_of(root: Path, layout: str, **changes: object):
    more = GROUPED if layout == "folders" else {}
    return compose(words(root, layout) | more | {k.replace("__", "."): str(v) for k, v in changes.items()}).data


def found(root: Path, layout: str, **changes: object) -> set[tuple[str, str, str]]:
    """Severity, kind and file name of all findings but notes."""
    report = check(data_of(root, layout, **changes), workers=1, progress=False)
    return {(f.severity, f.kind, Path(f.file).name) for f in report.findings if f.severity != "note"}


def train_images(root: Path) -> list[Path]:
    return sorted((root / "train").rglob("*.png"))


def copy(source: Path, target: Path, change=lambda image: image) -> None:
    write(target, change(cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)))


def smooth(seed: int) -> np.ndarray:
    """An image of its own that stays alike when it is encoded again."""
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 255, (6, 6), np.uint8), (48, 48), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("layout", ["folders", "table"])
def test_a_sound_set_has_no_errors_and_no_warnings(sound, layout):
    report = check(data_of(sound[layout], layout), workers=1, progress=False)
    assert [f for f in report.findings if f.severity != "note"] == []
    assert report.images == {"train": 24, "test": 6}


def test_folders_of_no_class_and_classes_without_a_folder(spoiled):
    root = spoiled["folders"]
    (root / "train/slant").rename(root / "train/slanted")
    errors = found(root, "folders")
    assert ("error", "unknown-label", "slanted") in errors
    assert ("error", "no-category", "train") in errors
    assert ("warning", "rare-class", "") in errors  # nothing is left of it


def test_the_same_pixels_in_two_classes_are_a_contradiction(spoiled):
    root = spoiled["folders"]
    copy(root / "train/up/P00-000.png", root / "train/flat/P00-900.png")
    errors = found(root, "folders")
    assert ("error", "contradiction", "P00-900.png") in errors or ("error", "contradiction", "P00-000.png") in errors
    assert sum(kind == "contradiction" for _, kind, _ in errors) == 1


def test_the_same_pixels_with_other_labels_in_a_table_are_a_contradiction(spoiled):
    root = spoiled["table"]
    with (root / "train.csv").open("a", newline="") as file:
        csv.writer(file).writerows([["copy.png", "P0", 1, 1, 1], ["agrees.png", "P0", "", "", ""]])
    for name in ("copy.png", "agrees.png"):
        copy(root / "train/images/P0/000.png", root / "train/images/P0" / name)
    report = check(data_of(root, "table", data__skip_unlabelled="true"), workers=1, progress=False)
    assert [(f.kind, f.severity) for f in report.findings if f.kind == "contradiction"] == [("contradiction", "error")]


def test_copies_within_train_and_across_splits(spoiled):
    """An exact copy of another patient's image, of the same patient's, of a test image, and one that looks like one."""
    root = spoiled["folders"]
    up = root / "train/up"
    copy(up / "P00-000.png", up / "P90-900.png")
    copy(up / "P00-006.png" if (up / "P00-006.png").exists() else up / "P03-006.png", up / "P03-901.png")
    tested = sorted((root / "test").rglob("*.png"))
    copy(tested[0], up / "P91-902.png")
    write(root / "test/up/P99-903.png", smooth(1))
    copy(root / "test/up/P99-903.png", up / "P92-904.png", lambda image: cv2.convertScaleAbs(image, alpha=0.9, beta=5))
    report = check(data_of(root, "folders"), workers=1, progress=False)
    kinds = Counter((f.severity, f.kind) for f in report.findings if f.severity != "note")
    assert kinds[("error", "test-image-in-train")] == 1
    assert kinds[("error", "duplicate")] == 1
    assert kinds[("warning", "duplicate")] == 1
    assert kinds[("warning", "near-duplicate")] == 1
    (summary,) = [f for f in report.findings if f.kind == "copies-in-test"]
    assert summary.severity == "warning"
    assert "1 of 7 test images" in summary.text
    assert ", 1 more" in summary.text
    assert {"P91-902.png"} <= report.bad_images().keys() <= {"P91-902.png", "P90-900.png", "P00-000.png"}


def test_rows_without_image_and_images_without_row_or_label(spoiled):
    root = spoiled["table"]
    lines = (root / "train.csv").read_text().splitlines()
    assert lines[1].startswith("000.png")
    lines[1] = "gone.png,P0,1,0,0"
    lines[2] = lines[2].split(",")[0] + ",P0,,,"
    (root / "train.csv").write_text("\n".join(lines) + "\n")
    assert found(root, "table") == {
        ("error", "no-image", "train.csv"), ("error", "unannotated", "000.png"), ("error", "unannotated", "001.png")
    }  # fmt: skip
    assert found(root, "table", data__skip_unlabelled="true") == {("error", "no-image", "train.csv")}


def test_rare_classes_are_counted_on_both_sides(spoiled):
    root = spoiled["folders"]
    for path in sorted((root / "train/up").iterdir())[3:]:
        path.unlink()
    report = check(data_of(root, "folders"), workers=1, progress=False)
    assert [f.text for f in report.findings if f.kind == "rare-class"] == ["3 training image(s) with up"]


def test_bad_names_names_without_patient_and_files_that_are_no_images(spoiled):
    root = spoiled["folders"]
    some = root / "train/up/P00-000.png"
    copy(some, root / "train/up/P00-00\n1.png", lambda image: image + 1)
    copy(some, root / "train/up/nobody.png", lambda image: image + 2)
    copy(some, root / "train/flat/P00-000.png", lambda image: image + 3)
    (root / "train/up/P00-905.png").write_bytes(some.read_bytes()[:100])
    (root / "train/up/P00-906.gif").write_bytes(b"GIF89a")
    (root / "train/up/notes.txt").write_text("mine")
    errors = {(severity, kind) for severity, kind, _ in found(root, "folders")}
    assert {
        ("error", "bad-name"), ("error", "no-patient"), ("error", "doubled-name"), ("error", "unreadable")
    } <= errors  # fmt: skip
    notes = check(data_of(root, "folders"), workers=1, progress=False).findings
    passed = {Path(f.file).name: f.severity for f in notes if f.kind in ("unread-image", "not-an-image")}
    assert passed["notes.txt"] == "note"
    assert "P00-906.gif" in passed


def test_quarantine_takes_what_has_errors_out_and_misspelt_names_are_reported(spoiled, tmp_path, capsys):
    root, out = spoiled["folders"], tmp_path / "quarantine.txt"
    copy(sorted((root / "test").rglob("*.png"))[0], root / "train/up/P91-902.png")
    line = [f"{k}={v}" for k, v in (words(root, "folders") | GROUPED).items()]
    line = [word for word in line if word.split("=")[0] in ("data", "data.root", "data.classes", "workers")]
    report = f"json={tmp_path / 'check.json'}"
    assert main(["check", *line, f"quarantine={out}", report, "progress=false"]) == 1
    assert json.loads((tmp_path / "check.json").read_text())["counts"]["error"] == 1
    assert read_quarantine(out).keys() == {"P91-902.png"}
    assert main(["check", *line, f"data.quarantine={out}", report, "progress=false"]) == 0
    out.write_text(out.read_text() + "P91-903.png # no such\n")
    capsys.readouterr()
    assert main(["check", *line, f"data.quarantine={out}", report, "progress=false"]) == 0
    assert "P91-903.png is not a training image" in capsys.readouterr().out
    assert main(["check", *line, f"quarantine={out}", report]) == 2


@pytest.mark.parametrize("layout", ["folders", "table"])
def test_groups_keep_copies_in_one_fold(spoiled, tmp_path, layout):
    """Three patients share an image, one exactly and one nearly; without the file some draw parts them."""
    root, out = spoiled[layout], tmp_path / "groups.csv"
    names = {"a": "P70-700.png", "b": "P71-701.png", "c": "P72-702.png"}
    for (key, name), patient in zip(names.items(), ("P70", "P71", "P72"), strict=True):
        place = root / "train" / ("up" if layout == "folders" else f"images/{patient}") / name
        image = smooth(7)
        write(place, cv2.convertScaleAbs(image, alpha=0.92, beta=4) if key == "c" else image)
        if layout == "table":
            with (root / "train.csv").open("a", newline="") as file:
                csv.writer(file).writerow([name, patient, 1, 0, 0])
    line = [f"{k}={v}" for k, v in (words(root, layout) | (GROUPED if layout == "folders" else {})).items()]
    line = [word for word in line if word.startswith(("data", "workers"))]
    line = [word for word in line if not word.startswith("data.size")]
    assert main(["check", *line, f"groups={out}", f"json={tmp_path / 'check.json'}", "progress=false"]) == 1
    groups = read_groups(out)
    assert {groups[name] for name in names.values()} == {"P70"}
    assert len(groups) == 24 + 3 + 6

    def parted(**changes: object) -> int:
        records = kept_records(data_of(root, layout, **changes), report=False)
        drawn = [draw(records, 2, seed) for seed in range(20)]
        return sum(len({folds[name] for name in names.values()}) > 1 for folds in drawn)

    assert parted() > 0
    assert parted(data__groups_file=out) == 0
    # other patients stay as they are
    own = {r.name: r.group for r in kept_records(data_of(root, layout), report=False)}
    joined = {r.name: r.group for r in kept_records(data_of(root, layout, data__groups_file=out), report=False)}
    assert {name for name in own if own[name] != joined[name]} == {"P71-701.png", "P72-702.png"}
    (tmp_path / "mine.csv").write_text("mine\n")
    assert main(["check", *line, f"groups={tmp_path / 'mine.csv'}"]) == 2
    assert (tmp_path / "mine.csv").read_text() == "mine\n"


def test_a_data_set_s_name_is_enough(tmp_path, capsys):
    """Its recipe need not be named: each fails for want of the folder alone."""
    for name in ("brain", "ultrasound"):
        assert main(["check", f"data={name}", f"data.root={tmp_path / 'none'}", f"json={tmp_path / 'x.json'}"]) == 2
        assert "no such folder" in capsys.readouterr().err
    assert main(["check", "data=hand", f"data.root={tmp_path}", f"groups={tmp_path / 'g.csv'}"]) == 2
    assert "groups=" in capsys.readouterr().err
    assert CLASSES
