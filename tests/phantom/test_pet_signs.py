"""That the signs of disease are in the truth, and only where they should be."""

import cv2
import numpy as np
import pytest

from phalanx.phantom.pet import draw_picture
from phalanx.phantom.pet_abdomen import INSIDE, draw_liver
from phalanx.phantom.pet_animal import BUILDS, draw_animal
from phalanx.phantom.pet_canvas import Canvas, View, band, curve, rod
from phalanx.phantom.pet_plan import PetAnimal
from phalanx.phantom.pet_truth import label_map

SIZE = 128


def picture(disease: str, index: int, sick: bool, size: int = SIZE):
    return draw_picture(PetAnimal(index, "A0001", "train", 1), 1, disease, size, 7, sick=sick)


@pytest.fixture(scope="module")
def livers():
    """Outlines of normal and of crossing livers of 40 animals, with the animals."""
    found = {False: [], True: []}
    for index in range(40):
        animal = draw_animal(np.random.default_rng([1, index]))
        rng = np.random.default_rng([2, index])
        for sick in found:
            crossing = rng.uniform(0.45, 1.5) if sick else rng.uniform(-1.1, -0.25)
            args = rng.uniform(-1, 1), rng.uniform(0, 1), crossing, rng.uniform(0, 1)
            found[sick].append((animal, draw_liver(animal, *args, rng)))
    return found


def test_a_normal_liver_is_inside_the_costal_arch_and_a_diseased_one_crosses_it(livers):
    for sick, pairs in livers.items():
        for animal, liver in pairs:
            beyond = animal.beyond_arch(liver.outline)
            assert beyond.max() == pytest.approx(liver.crossing)
            if sick:
                assert beyond.max() > 0.25
                assert (beyond > 0.1).mean() > 0.03  # a lobe, not a point
            else:
                assert beyond.max() <= -INSIDE + 1e-6


def test_large_livers_may_be_normal_and_small_ones_diseased(livers):
    areas = {
        sick: np.array([cv2.contourArea(liver.outline.astype(np.float32)) for _, liver in pairs])
        for sick, pairs in livers.items()
    }
    assert areas[False].max() > np.quantile(areas[True], 0.35)
    assert areas[True].min() < np.quantile(areas[False], 0.65)
    larger = (areas[True][:, None] > areas[False][None]).mean()  # the AUC of the area alone
    assert larger < 0.96


@pytest.mark.parametrize(("disease", "shares"), [("ab01", (0.031, 0.050)), ("ch02", (0.0212, 0.016))])
def test_areas_are_near_those_of_the_source(disease, shares):
    for sick, share in zip((False, True), shares, strict=True):
        areas = [label_map(picture(disease, k, sick).things[0].outline, 1, SIZE).mean() for k in range(14)]
        assert share / 1.5 < np.mean(areas) < share * 1.5


def widths(labels: np.ndarray) -> np.ndarray:
    """Height of a trachea in each column that shows it; it runs almost level."""
    return labels.sum(0)[labels.any(0)].astype(float)


def test_a_diseased_trachea_narrows_in_its_label_map_and_a_normal_one_does_not():
    ratios = {False: [], True: []}
    medians = {False: [], True: []}
    for index in range(12):
        for sick, found in ratios.items():
            drawn = picture("ch02", index, sick, 256)
            labels = label_map(drawn.things[0].outline, 1, 256)
            across = widths(labels)[3:-9]  # its ends are cut at an angle
            found.append(across.min() / np.median(across))
            medians[sick].append(drawn.facts["trachea_median"])
            assert drawn.facts["narrowing"] == pytest.approx(
                drawn.facts["trachea_least"] / drawn.facts["trachea_median"], abs=0.01
            )
            assert (drawn.facts["narrowing"] < 0.75) == sick
    assert min(ratios[False]) > 0.75
    assert max(ratios[True]) < 0.75
    assert min(medians[False]) < np.median(medians[True])  # narrow throughout is normal


def test_a_diseased_heart_is_large_for_its_vertebrae_and_its_box_encloses_it():
    for index in range(8):
        drawn = {sick: picture("ch05", index, sick) for sick in (False, True)}
        scores = {sick: one.facts["vhs"] for sick, one in drawn.items()}
        usual = BUILDS[drawn[False].facts["build"]][3]
        assert abs(scores[False] - usual) < 0.8
        assert scores[True] > usual + 0.7
        area = {sick: np.prod(np.ptp(one.things[0].outline, axis=0)) for sick, one in drawn.items()}
        assert area[True] > area[False]


def test_stones_are_bright_spots_inside_the_box_of_the_bladder():
    differences = []
    for index in range(6):
        plain, stony = picture("ab04", index, False), picture("ab04", index, True)
        assert (plain.facts["stones"], stony.facts["stones"] > 0) == (0, True)
        np.testing.assert_allclose(plain.things[0].outline, stony.things[0].outline)
        mask = label_map(stony.things[0].outline, 1, SIZE) > 0
        inside = stony.image[mask].astype(float), plain.image[mask].astype(float)
        differences.append(np.ptp(inside[0]) - np.ptp(inside[1]))
    assert np.median(differences) > 8


def test_a_dysplastic_hip_is_shallow_and_loose():
    hips = {False: [], True: []}
    for index in range(16):
        for sick in hips:
            for thing in picture("mu04", index, sick).things:
                hips[thing.sick].append(thing.facts)
    assert min(hip["norberg"] for hip in hips[False]) > 104
    assert max(hip["norberg"] for hip in hips[True]) < 100
    assert max(hip["gap_u"] for hip in hips[False]) < min(hip["gap_u"] for hip in hips[True])
    assert np.mean([hip["cover"] for hip in hips[True]]) < np.mean([hip["cover"] for hip in hips[False]]) - 0.15


def test_one_joint_or_both_are_shown_and_a_diseased_image_shows_a_diseased_joint():
    counts = set()
    for index in range(16):
        for sick in (False, True):
            drawn = picture("mu04", index, sick)
            counts.add(len(drawn.things))
            assert (len(drawn.things) == 1) == drawn.facts["one_joint"]
            assert any(thing.sick for thing in drawn.things) == sick
    assert counts == {1, 2}


def test_a_fracture_is_where_its_box_is():
    for index in range(6):
        whole, broken = picture("mu02", index, False), picture("mu02", index, True)
        assert whole.things == []
        assert whole.facts["fracture"] is None
        (thing,) = broken.things
        assert broken.facts["fracture"] in ("transverse", "oblique", "spiral", "comminuted", "hairline")
        low, high = thing.outline.min(0), thing.outline.max(0)
        assert (low >= 0).all()
        assert (high <= SIZE).all()
        assert ((high - low) > 0.03 * SIZE).all()


def test_the_letter_of_the_side_is_burnt_in_where_the_manifest_says():
    for index in range(6):
        drawn = picture("ab04", index, False, 256)
        assert drawn.facts["letter"] == drawn.facts["view"][0].upper()
        x, y = (int(256 * at) for at in drawn.facts["letter_at"])
        around = drawn.image[max(y - 8, 0) : y + 8, max(x - 8, 0) : x + 8]
        assert around.max() > 150
        assert around.max() > np.median(around) + 40


def test_a_canvas_draws_where_it_says():
    canvas = Canvas(200, View((5.0, 2.0), 10.0, 0.0))
    np.testing.assert_allclose(canvas.place(np.array([(5.0, 2.0), (6.0, 2.0)])), [(100, 100), (120, 100)])
    square = np.array([(4.0, 1.0), (6.0, 1.0), (6.0, 3.0), (4.0, 3.0)])
    canvas.add_soft(square, 1.0, 0.5, 0.0)
    assert canvas.soft[100, 100] == pytest.approx(1.0)
    assert canvas.soft[100, 70] == 0
    rows, columns = np.nonzero(canvas.soft)
    assert (rows.min(), columns.max()) == (80, 120)
    canvas.add_bone(square, 0.5, 0.1)
    assert canvas.bone[100, 100] > 0
    canvas.add_soft(square + 50, 1.0, 0.5)  # off the film
    assert canvas.soft.max() == pytest.approx(1.0)


def test_curves_pass_through_their_points_and_bands_have_their_width():
    points = np.array([(0.0, 0.0), (1.0, 0.5), (2.0, 0.0)])
    path = curve(points, 41)
    np.testing.assert_allclose(path[[0, 20, 40]], points, atol=1e-12)
    straight = curve([(0.0, 0.0), (1.0, 0.0), (2.0, 0.0)], 21)
    outline = band(straight, 0.4)
    assert np.ptp(outline[:, 1]) == pytest.approx(0.4)
    ends = rod(straight, 0.4, 1.0)
    assert (ends[:, 0].min(), ends[:, 0].max()) == (pytest.approx(-0.2), pytest.approx(2.2))
    assert cv2.contourArea(ends.astype(np.float32)) == pytest.approx(2 * 0.4 + np.pi * 0.04, rel=0.01)
