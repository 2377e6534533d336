"""`phalanx eda` finds what the synthetic set planted, and says what it leaves out."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.cli import main
from phalanx.config import SegmentData
from phalanx.data.records import test_records as records_of_test
from phalanx.data.truth import truth_of
from phalanx.eda.measure import overlaps_of
from phalanx.masks.planes import pack
from phalanx.masks.rle import encode_planes
from phalanx.masks.stack import Stack
from phalanx.phantom.anatomy import HAND_CLASSES
from phalanx.submission.table import write


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Twelve training patients, one of them rotated, and four test patients, two of them rotated."""
    from phalanx.phantom.hand import make_hands

    out = tmp_path_factory.mktemp("eda") / "hands"
    make_hands(out, patients=12, test_patients=4, size=128, seed=3, workers=1, progress=False)
    return out


@pytest.fixture(scope="module")
def csv(root) -> Path:
    """The answers to the test set, as a submission without sidecar."""
    answers = root / "test" / "answers_json"
    records = [r._replace(labels=answers / r.group / f"{r.image.stem}.json") for r in records_of_test(root)]
    truth = truth_of(records, SegmentData(name="hand", root=root, classes=list(HAND_CLASSES), size=128))
    path = root.parent / "test.csv"
    write(path, ((name, truth.rles(name)) for name in truth.images), HAND_CLASSES, truth.sizes)
    path.with_suffix(".json").unlink()
    return path


def eda(root, out, *words) -> int:
    return main(["eda", "data=hand", f"data.root={root}", f"out={out}", "workers=1", "progress=false", *words])


@pytest.fixture(scope="module")
def found(root, csv) -> Path:
    out = root.parent / "found"
    assert eda(root, out, f"csv={csv}") == 0
    return out


def test_rotation_is_measured_without_error_on_annotations_and_on_a_csv(root, found):
    planted = {f"{r['image']}.png": r for r in json.loads((root / "manifest.json").read_text())["images"]}
    table = pd.read_csv(found / "images.csv", index_col="image_name")
    assert set(table.index) == set(planted)
    for name, row in table.iterrows():
        told, other = ("degrees", "degrees_csv") if row["split"] == "train" else ("degrees_csv", "degrees")
        assert np.isnan(row[other])
        assert (row[told] >= 33) == planted[name]["rotated"]
        assert row[told] == pytest.approx(planted[name]["rotation_deg"], abs=1.0)  # 128 pixels
        assert row["noise_band"] == ("noise_band" in planted[name]["faults"])


def test_the_shift_is_told_by_patients(found):
    shift = pd.read_csv(found / "shift.csv", index_col="attribute")
    assert list(shift.index) == ["rotated", "male", "age", "height", "weight"]
    rotated = shift.loc["rotated"]
    assert (rotated["patients_train"], rotated["patients_test"]) == (12, 4)
    assert (rotated["train"], rotated["test"]) == (pytest.approx(1 / 12), 0.5)
    assert rotated["value"] == pytest.approx(0.5 - 1 / 12)
    assert rotated["low"] < rotated["value"] < rotated["high"]


def test_sizes_overlaps_and_classes_are_tables(found):
    size = pd.read_csv(found / "size.csv")
    assert set(size["relation"]) == {"correlation", "regression"}
    assert set(size["attribute"]) == {"age", "height", "weight", "male"}
    assert size.set_index(["relation", "attribute"]).loc[("correlation", "height"), "value"] > 0.5
    classes = pd.read_csv(found / "classes.csv")
    assert classes["class"].tolist() == list(HAND_CLASSES)
    assert (classes["images"] == 24).all()
    pairs = pd.read_csv(found / "overlap.csv")
    assert {"Triquetrum", "Pisiform"} == {pairs["class"][0], pairs["other"][0]}
    assert pairs["of_smaller_mean"].is_monotonic_decreasing


def test_the_json_has_every_table_and_the_plots_are_pictures(found):
    facts = json.loads((found / "eda.json").read_text())
    assert {"images", "rotation", "shift", "size", "overlap", "classes", "noise_bands", "left_out"} <= set(facts)
    assert facts["rotation"]["test, csv"]["rotated"] == 4
    for name in ("rotation", "shift", "size", "overlap", "brightness"):
        picture = cv2.imread(str(found / f"{name}.png"))
        assert min(picture.shape[:2]) > 200
        assert picture.std() > 5


def test_overlaps_are_means_over_the_images_with_both_classes(tmp_path, capsys):
    """tooth-11 in three images, tooth-12 in two of them, shared in one; against masks painted in numpy."""
    labels, images = tmp_path / "train" / "outputs_json" / "p", tmp_path / "train" / "DCM" / "p"
    for folder in (labels, images):
        folder.mkdir(parents=True)
    boxes = [{"tooth-11": (5, 5, 24, 24)}, {"tooth-11": (5, 5, 24, 24), "tooth-12": (20, 5, 29, 14)}]
    boxes.append({"tooth-11": (5, 5, 24, 24), "tooth-12": (30, 30, 39, 39)})
    for i, box in enumerate(boxes):
        cv2.imwrite(str(images / f"{i}.png"), np.full((40, 50), 100, np.uint8))
        corners = {name: [[a, b], [c, b], [c, d], [a, d]] for name, (a, b, c, d) in box.items()}
        items = [{"label": name, "points": points} for name, points in corners.items()]
        (labels / f"{i}.json").write_text(json.dumps({"annotations": items}))
    words = ["eda", "data=teeth", f"data.root={tmp_path}", "workers=1", "progress=false"]
    assert main([*words, f"out={tmp_path / 'out'}"]) == 0
    assert "not every image has every class; tooth-13 is in 0 of 3" in capsys.readouterr().out
    (row,) = pd.read_csv(tmp_path / "out" / "overlap.csv").to_dict("records")
    masks = np.zeros((2, 40, 50), bool)
    for mask, (a, b, c, d) in zip(masks, boxes[1].values(), strict=True):
        mask[b : d + 1, a : c + 1] = True
    shared = (masks[0] & masks[1]).sum()
    assert (row["class"], row["other"], row["images"], row["images_both"]) == ("tooth-11", "tooth-12", 1, 2)
    assert row["area_mean"] == pytest.approx(shared / 2000 / 2)
    assert row["of_smaller_mean"] == pytest.approx(shared / masks[1].sum() / 2)
    # what lies in quarantine is not looked at
    (tmp_path / "q.txt").write_text("1.png # seen\n")
    assert main([*words, f"out={tmp_path / 'less'}", f"data.quarantine={tmp_path / 'q.txt'}"]) == 0
    assert pd.read_csv(tmp_path / "less" / "images.csv")["image_name"].tolist() == ["0.png", "2.png"]
    assert pd.read_csv(tmp_path / "less" / "overlap.csv").empty


def test_the_blackout_told_hides_the_planted_bands(root, found):
    bands = json.loads((found / "eda.json").read_text())["noise_bands"]
    planted = [row for row in json.loads((root / "manifest.json").read_text())["images"] if row["faults"]]
    with_band = sum("noise_band" in row["faults"] for row in planted)
    assert (len(bands["images"]), bands["hidden"]) == (with_band, with_band)
    assert round(bands["blackout"] * 128 / 2048) == bands["top_median"] > 0  # all bands are as deep


def test_what_cannot_be_measured_is_left_out_and_reported(tmp_path, capsys):
    """No sheet, no test set, no bones of the rule, a broken image; and the pool gives what one process gives."""
    labels, images = tmp_path / "set" / "train" / "outputs_json", tmp_path / "set" / "train" / "DCM"
    for i in range(40):
        for folder in (labels / "p", images / "p"):
            folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(images / "p" / f"{i:02d}.png"), np.full((40, 50), 100 + i, np.uint8))
        items = [{"label": "tooth-11", "points": [[5, 5], [20, 5], [20, 20 + i % 3]]}]
        (labels / "p" / f"{i:02d}.json").write_text(json.dumps({"annotations": items}))
    (images / "p" / "07.png").write_bytes(b"no image")
    words = ["eda", "data=teeth", f"data.root={tmp_path / 'set'}", "progress=false"]
    assert main([*words, "workers=2", f"out={tmp_path / 'two'}"]) == 0
    text = capsys.readouterr().out
    for reason in (
        "the test set",
        "1 unusable image(s), such as",
        "sex, age, height and weight",
        "rotation",
    ):
        assert f"left out: {reason}" in text or f"left out: everything about {reason}" in text
    assert main([*words, "workers=1", f"out={tmp_path / 'one'}"]) == 0
    assert (tmp_path / "one" / "images.csv").read_bytes() == (tmp_path / "two" / "images.csv").read_bytes()
    assert not (tmp_path / "one" / "rotation.png").exists()
    assert (tmp_path / "one" / "classes.csv").read_text().count("\n") == 33


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("out=", "out=DIR: missing"),
        ("csv=nothing.csv", "csv=nothing.csv: no such file"),
        ("outt=x", "outt: no such option"),
    ],
)
def test_a_wrong_call_is_told_in_a_line(root, tmp_path, capsys, word, message):
    key = word.partition("=")[0]
    words = [w for w in (f"out={tmp_path}", f"data.root={root}", "data=hand") if not w.startswith(f"{key}=")]
    assert main(["eda", *words, word]) == 2
    assert message in capsys.readouterr().err


def test_a_csv_of_another_data_set_is_refused(root, tmp_path, capsys):
    path = tmp_path / "other.csv"
    write(path, [("other.png", [""] * 29)], HAND_CLASSES, {})
    assert eda(root, tmp_path / "out", f"csv={path}") == 2
    assert "has no image of this data set (such as other.png)" in capsys.readouterr().err


@given(st.randoms())
def test_overlaps_are_those_of_the_pixels(rng):
    masks = np.array(
        [[[rng.random() < 0.2 and (y // 4 == c % 2 or c > 2) for _ in range(9)] for y in range(8)] for c in range(5)]
    )
    found = {(a, b): shared for a, b, shared in overlaps_of(Stack.parse(encode_planes(pack(masks), 5)), 9)}
    truth = {(a, b): int((masks[a] & masks[b]).sum()) for a in range(5) for b in range(a + 1, 5)}
    assert found == {pair: shared for pair, shared in truth.items() if shared}
