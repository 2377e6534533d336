"""Panels show what is right and wrong, and not by colour alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phalanx.errors import OutputError
from phalanx.masks.stack import Stack
from phalanx.submission.boxes import Boxes
from phalanx.visualize.palette import colours
from phalanx.visualize.scene import BoxScene, LabelScene, MaskScene, worst_classes
from phalanx.visualize.scene_frames import zoom
from phalanx.visualize.scene_panels import FALSE, MISSED, Panel, heat_class, panels
from phalanx.visualize.scene_sheet import SheetRow, sheet, write_sheet

SIZE = (60, 80)


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "image.png"
    Image.fromarray(np.full(SIZE, 40, np.uint8)).save(made)
    return made


def rectangle(y0, y1, x0, x1):
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def mask_scene(path, truth, made):
    return MaskScene(path, SIZE, Stack.of_masks(truth), Stack.of_masks(made))


def near(pixels, colour, bound=90):
    """Where a panel has about a colour."""
    return np.abs(pixels.astype(int) - colour).max(axis=2) <= bound


def test_errors_are_where_truth_and_prediction_differ_and_differ_without_colour(path):
    scene = mask_scene(path, [rectangle(10, 50, 10, 40)], [rectangle(10, 50, 20, 60)])
    (_, errors), (_, image) = panels(scene, ["bone"], 160, kinds=("errors", "image"))
    changed = (errors.astype(int) != image).any(axis=2)
    missed, false = errors[45:75, 22:38], errors[45:75, 85:115]  # two panel pixels per image pixel, 10 rows of padding
    assert changed[40:120, 20:120].any()
    assert not changed[:, 130:].any()
    assert near(missed, MISSED).any()
    assert not near(missed, FALSE).any()
    assert near(false, FALSE).any()
    assert not near(false, MISSED).any()
    assert missed.min(axis=2).max() > 200  # light dots
    assert false.max(axis=2).min() < 110  # dark stripes


def test_thin_errors_of_a_large_image_stay_visible(tmp_path):
    size = (2048, 2048)
    path = tmp_path / "large.png"
    Image.fromarray(np.full(size, 30, np.uint8)).save(path)
    truth = np.zeros(size, bool)
    truth[500:1500, 500:1500] = True
    made = truth.copy()
    made[500:502, 500:1500] = False  # two of 2048 rows
    scene = MaskScene(path, size, Stack.of_masks([truth]), Stack.of_masks([made]))
    (_, errors), (_, image) = panels(scene, ["x"], 300, kinds=("errors", "image"), numbers=False)
    assert near(errors, MISSED).sum() > 100
    assert not near(image, MISSED).any()


def test_a_zoom_shows_the_errors_at_full_resolution(tmp_path):
    size = (2048, 1500)
    path = tmp_path / "large.png"
    pixels = np.random.default_rng(0).integers(0, 255, size, np.uint8)
    Image.fromarray(pixels).save(path)
    truth, made = np.zeros((2, *size), bool), np.zeros((2, *size), bool)
    truth[0, 1500:1560, 900:950] = True
    truth[1, 100:700, 100:700] = True  # a larger error of a class that is not asked for
    scene = MaskScene(path, size, Stack.of_masks(truth), Stack.of_masks(made))
    frame = zoom(scene, [0], 400)
    assert frame.side == 400
    assert frame.x <= 900
    assert frame.x + 400 >= 950
    assert frame.y <= 1500
    assert frame.y + 400 >= 1560
    assert worst_classes(scene, 1) == [1]


def test_a_zoom_without_errors_is_the_whole_image(path):
    same = [rectangle(10, 50, 10, 40)]
    assert zoom(mask_scene(path, same, same), [0], 100).side == 80


def test_truth_is_solid_and_prediction_dashed(path):
    mask = [rectangle(10, 50, 10, 70)]
    (_, truth), (_, made) = panels(
        mask_scene(path, mask, mask), ["x"], 320, kinds=("truth", "prediction"), numbers=False
    )
    row = slice(78, 83)  # the upper border: image row 10, 4 panel pixels each, 40 rows of padding
    solid, dashed = (near(one[row, 60:260], colours(1)[0], 70).any(axis=0) for one in (truth, made))
    assert solid.all()
    assert 0.3 < dashed.mean() < 0.9


def test_only_chosen_classes_are_drawn(path):
    scene = mask_scene(path, [rectangle(5, 20, 5, 20), rectangle(30, 50, 40, 70)], [rectangle(0, 0, 0, 0)] * 2)
    (_, first), (_, image) = panels(scene, ["a", "b"], 160, chosen=[0], kinds=("truth", "image"))
    changed = (first != image).any(axis=2)
    assert changed[:70, :60].any()
    assert not changed[80:, 70:].any()


def test_boxes_that_are_wrong_are_crossed_and_missed_objects_dashed(path):
    truth = Boxes.of([[10, 10, 30, 30], [50, 30, 70, 50]], classes=[0, 1])
    made = Boxes.of([[11, 10, 31, 30], [5, 35, 25, 55]], scores=[0.9, 0.8], classes=[0, 1])
    scene = BoxScene(path, SIZE, truth, made, np.array([True, False]), np.array([False, True]), 2)
    (_, errors), (_, image) = panels(scene, ["a", "b"], 320, kinds=("errors", "image"), numbers=False)
    changed = (errors != image).any(axis=2)
    assert near(errors[217:223, 55:65], FALSE).any()  # the middle of the wrong box, where its diagonals cross
    assert not changed[110:130, 70:90].any()  # the right one is not drawn
    assert near(errors, MISSED).any()
    assert scene.faults().tolist() == [0, 2]


def test_labels_have_bars_and_heat_of_the_class_that_is_called_wrongly(path):
    heat = np.zeros((4, 4))
    heat[0, 0] = 3
    asked = []
    scene = LabelScene(
        path, SIZE, np.array([1.0, 0.0, np.nan]), np.array([0.2, 0.9, 0.4]), np.array([False, True, False]),
        lambda c: asked.append(c) or heat,
    )  # fmt: skip
    found = panels(scene, ["a", "b", "c"], 200)
    assert [one.title for one in found] == ["image", "probabilities", "Grad-CAM: b"]
    assert asked == [1]
    changed = (found[2].pixels != found[0].pixels).any(axis=2)
    assert changed[25:60, :40].any()
    assert not changed[120:, 100:].any()
    assert heat_class(scene, [0, 2]) == 0
    assert [one.title for one in panels(scene._replace(heat=None), ["a", "b", "c"], 200)] == ["image", "probabilities"]


def test_bars_that_do_not_fit_are_counted(path):
    count = 60
    scene = LabelScene(path, SIZE, np.zeros(count), np.linspace(0, 0.4, count), np.zeros(count, bool))
    (one,) = panels(scene, [f"class {c}" for c in range(count)], 200, kinds=("truth", "prediction"))
    assert one.pixels.shape == (200, 200, 3)


def test_a_sheet_has_every_panel_and_replaces_no_foreign_file(path, tmp_path):
    scene = mask_scene(path, [rectangle(10, 50, 10, 40)], [rectangle(10, 50, 20, 60)])
    out = tmp_path / "sheet.png"
    made = panels(scene, ["<b>bone</b>"], 100)
    write_sheet([SheetRow(["one", "Dice 0.5"], made)] * 2, "Title", "text " * 60, out, classes=["<b>bone</b>"])
    pixels = np.asarray(Image.open(out))
    for one in made:
        assert any(
            (pixels[y : y + 100, x : x + 100] == one.pixels).all()
            for y in range(pixels.shape[0] - 100)
            for x in (18 + k * 110 for k in range(4))
        )
    with pytest.raises(OutputError):
        write_sheet([], "Title", "", Path(path))


def test_panels_below_others_are_in_their_columns():
    flat = [
        Panel(f"{k}", np.full((60, 60, 3), (shade, 0, 255), np.uint8)) for k, shade in enumerate((10, 90, 170, 40, 120))
    ]
    rows = [SheetRow(["one"], flat[:3], [[None, flat[3], None], [None, None, flat[4]]]), SheetRow(["two"], flat[:1])]
    page = sheet(rows, "Title", "")
    corners = []
    for one in flat:
        here = (page == one.pixels[0, 0]).all(axis=2)
        ys, xs = np.nonzero(here)
        corners.append((int(xs.min()), int(ys.min())))
        assert (page[ys.min() : ys.min() + 60, xs.min() : xs.min() + 60] == one.pixels).all()
    assert [x for x, _ in corners] == [18, 88, 158, 88, 158]
    tops = [y for _, y in corners]
    assert tops[0] == tops[1] == tops[2]
    assert tops[3] - tops[2] == tops[4] - tops[3] > 60
    first = (page[:, 18:78] == flat[0].pixels[0]).all(axis=(1, 2)).nonzero()[0]
    assert len(first) == 120  # of both rows, the second below all panels of the first
    assert first[60] > tops[4] + 60
    assert len(page) > first[-1]


def test_a_line_below_may_have_more_columns_than_the_first():
    wide = [Panel("a", np.full((60, width, 3), (30, 0, 255), np.uint8)) for width in (60, 800)]
    page = sheet([SheetRow(["one"], wide[:1], [[None, wide[1]]])], "Title", "")
    assert page.shape[1] == 18 + 60 + 10 + 800 + 18
    assert (page == (30, 0, 255)).all(axis=2).sum() == 60 * 860
