"""What `phalanx check` notes of the pictures: metal, collimator edges, bands of noise."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from phalanx.checks.compare import bright_spots
from phalanx.checks.inspection import Inspection
from phalanx.checks.metal import collimation, metal, peaks
from phalanx.checks.run import check
from phalanx.config.compose import compose
from phalanx.data.records import Record
from phalanx.masks.planes import pack
from phalanx.phantom.hand import make_hands


@pytest.fixture(scope="module")
def noted(tmp_path_factory) -> dict[str, tuple[set[str], set[str]]]:
    """Of each annotated image of a set: the kinds noted, and the faults planted."""
    root = tmp_path_factory.mktemp("pictures") / "hands"
    make_hands(root, patients=15, test_patients=1, size=512, seed=2, workers=1, progress=False)
    report = check(compose({"data.root": str(root)}).data, workers=1, progress=False)
    rows = json.loads((root / "manifest.json").read_text())["images"]
    kinds = {row["image"]: set() for row in rows if row["split"] == "train"}
    for finding in report.findings:
        if Path(finding.file).stem in kinds:
            kinds[Path(finding.file).stem].add(finding.kind)
    return {row["image"]: (kinds[row["image"]], set(row["faults"])) for row in rows if row["image"] in kinds}


def test_rings_implants_and_collimator_edges_are_noted(noted):
    planted = {fault for _, faults in noted.values() for fault in faults}
    assert {"ring", "implant", "collimation", "noise_band"} <= planted
    for kinds, faults in noted.values():
        assert ("metal" in kinds) >= bool(faults & {"ring", "implant"})
        assert ("collimation" in kinds) == ("collimation" in faults)
        assert ("noise-band" in kinds) == ("noise_band" in faults)


def test_few_images_without_metal_are_noted(noted):
    plain = [kinds for kinds, faults in noted.values() if not faults & {"ring", "implant", "nail_art"}]
    assert len(plain) > 20
    assert sum("metal" in kinds for kinds in plain) <= 1  # a sesamoid, which nobody annotates


def test_a_small_spot_is_told_by_the_same_bone_of_other_images(bones):
    """Darker than where two bones overlap, and far brighter than this bone ever is."""
    picture, planes, boxes = bones
    rng = np.random.default_rng(0)
    inspections = []
    for number in range(20):
        image = picture + rng.integers(0, 8, picture.shape, np.uint8)
        if number == 7:
            image[80:84, 98:102] += 60
        inspection = Inspection(
            Record(f"{number}.png", "p", Path(f"{number}.png"), Path("x.json")), "train", np.zeros((2, 6))
        )
        for label, peak in peaks(image, planes, boxes).items():
            inspection.peaks[label] = peak
        inspections.append(inspection)
    assert metal(image, planes, boxes) is None
    assert bright_spots(inspections) == {7: 0}
    assert bright_spots(inspections[:7]) == {}  # too few to know what is usual
    assert peaks(image, planes, boxes, bands=(0, 200)) == {}  # where noise is, no spot is sought


@pytest.fixture
def bones() -> tuple[np.ndarray, np.ndarray, dict[int, tuple[slice, slice]]]:
    """Two bones that overlap in flesh: a picture, its bit-planes and boxes."""
    masks = np.zeros((2, 200, 200), bool)
    masks[0, 40:120, 90:110] = masks[1, 110:180, 88:112] = True
    picture = np.full((200, 200), 20, np.uint8)
    picture[30:190, 70:130] = 60
    picture[masks[0]] = picture[masks[1]] = 140
    picture[masks.all(axis=0)] = 250
    whole = (slice(0, 200), slice(0, 200))
    return picture, pack(masks), {0: whole, 1: whole}


def test_what_two_bones_explain_is_no_metal(bones):
    assert metal(*bones) is None


@pytest.mark.parametrize(("rows", "columns"), [((70, 76), (80, 120)), ((60, 90), (99, 102)), ((150, 154), (98, 102))])
def test_a_bright_thing_is_found_where_it_lies(bones, rows, columns):
    picture, planes, boxes = bones
    picture[slice(*rows), slice(*columns)] = 250
    spot = metal(picture, planes, boxes)
    assert spot is not None
    assert rows[0] <= spot.y < rows[1]
    assert columns[0] <= spot.x < columns[1]
    assert metal(picture, planes, boxes, bands=(rows[1] + 3, 0)) is None


def test_edges_of_the_collimator():
    picture = cv2.GaussianBlur(np.random.default_rng(0).normal(60, 3, (300, 200)).astype(np.float32), (0, 0), 1)
    picture += np.linspace(0, 20, 200, dtype=np.float32)  # a slope is no edge
    assert collimation(picture.astype(np.uint8)) == []
    picture[80:] += 60  # nor is a step beyond the margin
    assert collimation(picture.astype(np.uint8)) == []
    picture[:7] += 40
    picture[:, -9:] += 40
    assert collimation(picture.astype(np.uint8)) == ["top", "right"]
    assert collimation(picture.astype(np.uint8), bands=(7, 0)) == ["right"]
    picture[:, 100:] = np.arange(100)  # half an edge is none
    assert collimation(picture.astype(np.uint8)) == []
