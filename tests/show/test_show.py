"""Pictures of data sets: each shows what it says, for masks, labels and boxes."""

import json
import re

import cv2
import numpy as np
import pytest
import torch
from tests import boxed, labelled

from phalanx.augment.draw import draw
from phalanx.augment.pixels import PixelTransforms
from phalanx.augment.points import warp_points
from phalanx.augment.warp import warp_drawn
from phalanx.cli import main
from phalanx.commands.show import augmentations
from phalanx.config import Augment
from phalanx.config.compose import compose
from phalanx.data.images import read_grey
from phalanx.data.polygons import read_annotations
from phalanx.data.prepared import prepare
from phalanx.data.preprocess import preprocess
from phalanx.data.rotation import tilt_of_polygons
from phalanx.losses.boundary import signed_distances
from phalanx.models.build import normalise
from phalanx.show.augmented import first_warp, grid_lines, parts_of
from phalanx.show.masks import MaskSubject
from phalanx.show.options import SECTIONS
from phalanx.tasks.segment import Segment
from phalanx.visualize.marks import Marks, draw_marks, shrunk

SIDE = 256  # of panels in pages with many


def shown(out):
    return json.loads((out / "show.json").read_text())


def of(out, what):
    return [one for one in shown(out)["pictures"] if one["what"] == what]


def pixels(out, one):
    return cv2.cvtColor(cv2.imread(str(out / one["file"])), cv2.COLOR_BGR2RGB)


def cut(out, one, caption):
    """The panel of a picture with that caption."""
    box = next(panel["box"] for panel in one["panels"] if panel["caption"] == caption)
    x, y, wide, high = box
    return pixels(out, one)[y : y + high, x : x + wide]


def hand_words(hands, out, *more):
    return [f"data.root={hands}", "data.size=128", f"out={out}", "workers=1", "progress=false", "size=256", *more]


@pytest.fixture(scope="module")
def drawn(hands, tmp_path_factory):
    """All pictures of the tiny hands."""
    out = tmp_path_factory.mktemp("show") / "hands"
    assert main(["show", *hand_words(hands, out, "images=2", "seed=3", "data.oversample.sex={male:2}")]) == 0
    return out


@pytest.fixture(scope="module")
def subject(hands):
    config = compose({
        "name": "show", "data.root": str(hands), "data.size": "128", "seed": "3", "workers": "1", "progress": "false"
    })  # fmt: skip
    return MaskSubject(config, Segment)


def test_the_index_lists_every_picture_and_what_does_not_apply(drawn, subject):
    index = shown(drawn)
    assert sorted(one["file"] for one in index["pictures"]) == sorted(path.name for path in drawn.glob("*.png"))
    assert {one["what"] for one in index["pictures"]} | index["left_out"].keys() == set(SECTIONS)
    assert index["left_out"].keys() >= {"mix", "marks", "noise"}
    names = {record.name for record in subject.records}
    assert all(set(one["images"]) <= names and one["images"] for one in index["pictures"])
    for one in index["pictures"]:
        height, width = pixels(drawn, one).shape[:2]
        assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in (
            panel["box"] for panel in one["panels"]
        ))  # fmt: skip


def test_an_annotation_is_beside_its_image(drawn, subject):
    one = of(drawn, "annotations")[0]
    record = next(record for record in subject.records if record.name == one["images"][0])
    image = read_grey(record.image)
    np.testing.assert_array_equal(cut(drawn, one, record.name), shrunk(image, 256))
    coloured = cut(drawn, one, "annotation").astype(int)
    coloured = np.ptp(coloured, axis=2) > 12
    inside = subject.marks(record, image.shape).planes.any(2)
    inside = cv2.resize(inside.astype(np.uint8), (256, 256)) > 0
    assert not (coloured & ~(cv2.dilate(inside.astype(np.uint8), np.ones((9, 9))) > 0)).any()
    assert (coloured & inside).sum() > 0.6 * inside.sum()  # numbers are white


def expected(subject, record, augment, number, index=0):
    """A sample by the library's warp and the seed alone."""
    image, runs, grid = prepare(record, subject.data)
    rng = np.random.default_rng((subject.config.seed, number, index))
    return warp_drawn(draw(rng, augment, grid.content, 128, runs.planes()), image, runs.planes(), [])


@pytest.mark.parametrize("name", ["flip", "shift=0.05", "scale=0.1", "rotate=15", "elastic, strength=0.01"])
def test_an_augmented_panel_is_what_training_makes_with_its_seed(drawn, subject, name):
    augment = parts_of(subject.config.augment)[name]
    one = next(one for one in of(drawn, "augment") if name in one["facts"]["names"])
    record = next(record for record in subject.records if record.name == one["images"][0])
    panels = []
    for number in range(one["facts"]["draws"]):
        image, planes = expected(subject, record, augment, number)
        want = draw_marks(image, Marks(planes=planes), 29, SIDE)
        panels.append(cut(drawn, one, f"{name}: draw {number + 1}"))
        np.testing.assert_array_equal(panels[-1], want)
    before = cut(drawn, one, f"{name}: original")
    image, runs, _ = prepare(record, subject.data)
    np.testing.assert_array_equal(before, draw_marks(image, Marks(planes=runs.planes()), 29, SIDE))
    assert all((panel != before).any() for panel in panels)
    if name == "flip":  # the masks move with the image
        np.testing.assert_array_equal(expected(subject, record, augment, 0)[1], runs.planes()[:, ::-1])


def test_every_augmentation_is_shown_by_its_name(drawn):
    names = [name for one in of(drawn, "augment") if one["facts"]["of"] == "configs" for name in one["facts"]["names"]]
    assert sorted(names) == sorted(augmentations())
    assert {"none", "affine", "clahe_8"} <= set(names)
    nothing = next(one for one in of(drawn, "augment") if "none" in one["facts"]["names"])
    assert "none: draw 1 (not applied)" in [panel["caption"] for panel in nothing["panels"]]


def test_a_transform_of_pixels_is_shown_without_masks_over_it(hands, tmp_path, subject):
    out = tmp_path / "out"
    assert main(["show", "augment", *hand_words(hands, out, "augment=clahe_8", "seed=3")]) == 0
    one = next(one for one in of(out, "augment") if "CLAHE" in one["facts"]["names"])
    record = next(record for record in subject.records if record.name == one["images"][0])
    image, _, _ = prepare(record, subject.data)
    chain = PixelTransforms(parts_of(augmentations()["clahe_8"])["CLAHE"].pixel)
    for number in range(one["facts"]["draws"]):
        rng = np.random.default_rng((3, number, 0))
        draw(rng, Augment(), (128, 128), 128, np.zeros((1, 1, 1), np.uint8))  # comes first, and moves nothing
        np.testing.assert_array_equal(cut(out, one, f"CLAHE: draw {number + 1}"), shrunk(chain(image, rng), SIDE))
    np.testing.assert_array_equal(cut(out, one, "CLAHE: original"), shrunk(image, SIDE))


def test_pixel_transforms_are_parts_of_their_own():
    found = parts_of(Augment(vflip=0.2, pixel=[{"name": "CLAHE", "p": 0.1}, {"name": "CLAHE", "p": 0.3}]))
    assert list(found) == ["vflip", "CLAHE", "CLAHE'"]
    assert [part.pixel[0]["p"] for part in list(found.values())[1:]] == [1.0, 1.0]
    assert found["vflip"].vflip == 1
    assert not found["vflip"].pixel


def test_the_grid_goes_through_the_warp_of_the_image(drawn, subject):
    one = of(drawn, "warp")[0]
    records = [next(record for record in subject.records if record.name == name) for name in one["images"]]
    augment = subject.config.augment.model_copy(update={"pixel": []})
    number, found = first_warp(subject, augment, records[0], 0)
    assert one["facts"]["draws"][records[0].name]["matrix"] == found.matrix.tolist()
    image, planes = expected(subject, records[0], augment, number)
    warped = draw_marks(image, Marks(planes=planes), 29, SIDE)
    np.testing.assert_array_equal(cut(drawn, one, f"warped, draw {number + 1}"), warped)
    box = next(panel["box"] for panel in one["panels"] if panel["caption"] == "the grid, through the same map")
    x, y, wide, high = box
    grid = pixels(drawn, one)[y : y + high, x : x + wide].astype(int)
    yellow = (grid[:, :, 0] > 120) & (grid[:, :, 1] > 100) & (grid[:, :, 2] < 90)
    crossings = np.array([[a, b] for a in range(16, 128, 16) for b in range(16, 128, 16)], float) + 0.5
    places = warp_points(found, crossings) * SIDE / 128
    inside = ((places > 4) & (places < SIDE - 4)).all(1)
    assert inside.sum() > 20
    near = cv2.dilate(yellow.astype(np.uint8), np.ones((5, 5)))
    assert all(near[int(b), int(a)] for a, b in places[inside])
    assert yellow.mean() < 0.4


def test_grid_lines_stay_on_the_image(subject):
    found = draw(np.random.default_rng(0), Augment(), (128, 70), 128, np.zeros((1, 1, 1), np.uint8))
    lines = grid_lines(found)
    assert lines[:, :70].any()
    assert not lines[:, 70:].any()


def test_a_batch_is_shown_as_the_network_gets_it(drawn, subject):
    one = of(drawn, "batch")[0]
    assert len(one["images"]) == subject.config.batch == len(set(one["images"]))
    records = [next(record for record in subject.records if record.name == name) for name in one["images"]]
    for index, record in enumerate(records):
        image, planes = expected(subject, record, subject.config.augment, 0, index)
        tensor = normalise(torch.from_numpy(image))
        assert one["facts"][record.name] == pytest.approx(
            {"mean": float(tensor.mean()), "min": float(tensor.min()), "max": float(tensor.max())}, rel=1e-5
        )
        np.testing.assert_array_equal(cut(drawn, one, record.name), draw_marks(image, Marks(planes=planes), 29, SIDE))


def test_rotated_hands_are_beside_upright_ones(drawn, subject):
    one = of(drawn, "rotation")[0]
    degrees = {
        record.name: tilt_of_polygons(read_annotations(record.labels, subject.classes), subject.classes)
        for record in subject.records
    }
    order = sorted(degrees, key=degrees.get)
    upright = [name for name in order if degrees[name] < 33]
    rotated = [name for name in reversed(order) if degrees[name] >= 33]
    assert one["facts"]["rotated"] == len(rotated)
    assert one["images"] == [*upright[:2], *rotated[:2]]
    for panel, name in zip(one["panels"], one["images"], strict=True):
        assert float(re.search("([0-9]+) degrees", panel["caption"])[1]) == pytest.approx(degrees[name], abs=1.5)


def test_background_panels_are_what_preprocessing_makes(drawn, subject):
    one = of(drawn, "background")[0]
    record = next(record for record in subject.records if record.name == one["images"][0])
    image, rows = read_grey(record.image), one["facts"]["blackout"]
    for caption, change in (
        ("blackout", {"blackout": rows}), ("contour", {"background": "contour"}),
        ("contrast: stretch", {"contrast": "stretch"}),
    ):  # fmt: skip
        after = preprocess(image, subject.data.model_copy(update=change))
        assert (after != image).any()
        np.testing.assert_array_equal(cut(drawn, one, caption), shrunk(after, SIDE))


def test_distances_are_those_of_the_boundary_loss(drawn, subject):
    one = of(drawn, "distance")[0]
    record = next(record for record in subject.records if record.name == one["images"][0])
    planes = np.ascontiguousarray(prepare(record, subject.data).runs.planes().transpose(2, 0, 1))
    found = signed_distances(planes, 29)
    facts = one["facts"][record.name]
    assert facts["least"] == pytest.approx(float(found.min()), abs=1e-6)
    panel = cut(drawn, one, "nearest outline").astype(int)
    any_class = cv2.resize(planes.any(0).astype(np.uint8), (SIDE, SIDE)) > 0
    deep = cv2.erode(any_class.astype(np.uint8), np.ones((9, 9))) > 0
    far = cv2.dilate(any_class.astype(np.uint8), np.ones((25, 25))) == 0
    assert (panel[deep][:, 2] >= panel[deep][:, 0]).mean() > 0.9  # blue inside
    assert (panel[far][:, 0] >= panel[far][:, 2]).all()  # orange outside


def test_weights_are_those_of_the_selection(drawn, hands):
    one = of(drawn, "selection")[0]
    config = compose({"name": "x", "data.root": str(hands), "data.oversample.sex": "{male:2}"})
    found = MaskSubject(config, Segment).selection
    assert one["facts"]["weights"] == {name: found.by_image[name].weight for name in one["images"]}
    assert 2.0 in one["facts"]["weights"].values()


@pytest.fixture
def spoiled(hands, tmp_path):
    """The tiny hands with an image that cannot be read and one with very many bright pixels."""
    import shutil

    root = tmp_path / "spoiled"
    shutil.copytree(hands, root)
    images = sorted((root / "train" / "DCM").rglob("*.png"))
    images[0].write_bytes(images[0].read_bytes()[:200])
    image = cv2.imread(str(images[3]), cv2.IMREAD_GRAYSCALE)
    image[20:100, 5:40] = 255
    cv2.imwrite(str(images[3]), image)
    return root, images


def test_outliers_come_with_their_reasons(spoiled, tmp_path):
    root, images = spoiled
    out = tmp_path / "out"
    assert main(["show", "outliers", *hand_words(root, out)]) == 0
    one = of(out, "outliers")[0]
    assert one["images"][0] == images[0].name
    assert one["facts"]["reasons"][images[0].name][0].startswith("error: ")
    assert any("bright: " in reason for reason in one["facts"]["reasons"][images[3].name])


def test_labels_are_shown_in_words_and_mixed_as_the_library_does(tmp_path):
    root, out = labelled.make_table(tmp_path / "data", train=8, test=2), tmp_path / "out"
    words = labelled.words(root, "table", mix__mixup_alpha="0.4")
    given = [f"{key}={value}" for key, value in words.items()]
    assert main(["show", *given, f"out={out}", "size=256", "images=3", "seed=1"]) == 0
    assert shown(out)["left_out"].keys() >= {"rotation", "distance", "noise"}
    for one in of(out, "annotations"):
        number = int(one["images"][0].split(".")[0])
        there = [name for bit, name in enumerate(labelled.CLASSES) if (number * 5 + number // 7) >> bit & 1]
        known = [name for bit, name in enumerate(labelled.CLASSES) if (number + bit) % 8]
        want = " + ".join(name for name in there if name in known) or "none of the classes"
        assert one["facts"]["labels"].split(";")[0] == want
    (mixed,) = of(out, "mix")
    fractions = np.array(mixed["facts"]["labels"])
    assert ((fractions > 0) & (fractions < 1)).any()


def test_a_recipe_in_colour_is_shown_in_colour(tmp_path):
    root, out = labelled.make_folders(tmp_path / "data", train=6, test=3, colour=True), tmp_path / "out"
    words = labelled.words(root, "folders", data__colour="true", augment="flip")
    given = [*(f"{key}={value}" for key, value in words.items()), f"out={out}", "size=256", "images=2"]
    assert main(["show", "annotations", "augment", "batch", *given]) == 0
    one = of(out, "annotations")[0]
    shown_bar = cut(out, one, one["images"][0]).astype(int)
    stored = cv2.imread(str(next(root.rglob(one["images"][0]))))  # OpenCV's order: blue first
    assert (stored[:, :, 0] > stored[:, :, 1]).any()
    assert (shown_bar[:, :, 2] - shown_bar[:, :, 0] > 100).any()  # blue bars
    assert (shown_bar[:, :, 0] <= shown_bar[:, :, 2] + 60).all()
    for what in ("augment", "batch"):
        picture = pixels(out, of(out, what)[0]).astype(int)
        assert (picture[:, :, 2] - picture[:, :, 0] > 100).any()


def test_burnt_in_marks_are_shown_before_and_after(tmp_path):
    root, out = labelled.make_table(tmp_path / "data", train=8, test=2), tmp_path / "out"
    marked = next((root / "train").rglob("003.png"))
    ultrasound = cv2.GaussianBlur(np.random.default_rng(0).integers(20, 120, (160, 200), np.uint8), (7, 7), 0)
    cv2.putText(ultrasound, "+ 12.5 mm", (20, 80), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    cv2.imwrite(str(marked), ultrasound)
    words = [*(f"{key}={value}" for key, value in labelled.words(root, "table").items()), f"out={out}", "size=256"]
    assert main(["show", "marks", "image=003.png", *words]) == 0
    (one,) = of(out, "marks")
    assert one["images"] == ["003.png"]
    before, found = cut(out, one, "003.png").astype(int), cut(out, one, "found").astype(int)
    letters = before.min(axis=2) > 220
    assert letters.sum() > 500
    assert ((found[:, :, 0] - found[:, :, 1])[letters] > 80).mean() > 0.9  # red
    for how in ("black", "fast_marching", "bilinear"):
        after = cut(out, one, how).astype(int)
        assert after[letters].mean() < 0.6 * before[letters].mean()


@pytest.mark.parametrize("kind", ["labels", "boxes"])
def test_noise_bands_are_shown_for_every_task(tmp_path, kind):
    """A band at the top of one image: it comes first, with its depth, and the blackout hides it."""
    if kind == "labels":
        root = labelled.make_folders(tmp_path / "data", train=6, test=3)
        words = labelled.words(root, "folders")
    else:
        root = boxed.make_table(tmp_path / "data")
        words = boxed.words(root, "boxes")
    images = sorted((root / "train").rglob("*.png"))
    for k, path in enumerate(images):
        image = np.zeros((320, 320), np.uint8)
        cv2.circle(image, (160, 180), 90, 150, -1)
        if k == 2:
            image[:40] = np.random.default_rng(1).integers(0, 256, (40, 320))
        cv2.imwrite(str(path), image)
    out = tmp_path / "out"
    given = [*(f"{key}={value}" for key, value in words.items() if key != "runs"), f"out={out}", "size=512", "images=2"]
    assert main(["show", "background", *given]) == 0
    (one,) = of(out, "background")
    assert one["images"][0] == images[2].name
    top, _ = one["facts"]["noise_bands"][images[2].name]
    assert 36 <= top <= 48
    assert one["facts"]["blackout"] >= top
    before, after = cut(out, one, images[2].name), cut(out, one, "blackout")
    assert before[: SIDE * 30 // 320].mean() > 50
    assert after[: SIDE * 36 // 320].max() == 0


def test_boxes_move_with_their_image(tmp_path):
    root, out = boxed.make_table(tmp_path / "data"), tmp_path / "out"
    words = [
        "experiment=pet_boxes_hips", f"data.root={root}", f"data.classes=[{','.join(boxed.CLASSES)}]", "data.size=64",
        "augment=flip", "loss=boxes", f"out={out}", "size=256", "images=2", "workers=1", "progress=false",
    ]  # fmt: skip
    assert main(["show", "annotations", "augment", "warp", "batch", *words]) == 0
    one = of(out, "augment")[0]
    before, after = cut(out, one, "flip: original").astype(int), cut(out, one, "flip: draw 1").astype(int)
    frames = [np.ptp(panel, axis=2) > 40 for panel in (before, after)]  # coloured lines, but for the numbers
    assert frames[0].any()
    mirrored = cv2.dilate(frames[0][:, ::-1].astype(np.uint8), np.ones((5, 5))) > 0
    assert (frames[1] & ~mirrored).sum() < 0.02 * frames[1].sum()
    assert (frames[1] & ~frames[0]).sum() > 0.2 * frames[1].sum()


BAD = {
    ("show", "augmnt"): "augmnt: not something to show; did you mean augment?",
    ("show", "images=0"): "images=0",
    ("show", "image=nobody.png"): "image=nobody.png: not an annotated image of the data set",
    ("show", "mix"): "mix: mixup and CutMix are of images with labels",
    ("show", "sise=3"): "sise: no such option",
}


@pytest.mark.parametrize("words", BAD, ids="-".join)
def test_bad_words_are_one_line(words, hands, tmp_path, capsys):
    command, *rest = words
    assert main([command, *rest, *hand_words(hands, tmp_path / "out")]) == 2
    text = capsys.readouterr().err
    assert BAD[words] in text
    assert text.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_folder_is_asked_for(hands, capsys):
    assert main(["show", f"data.root={hands}"]) == 2
    assert "out=DIR: missing" in capsys.readouterr().err


def test_files_of_others_are_not_replaced(hands, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "batch_1.png").write_bytes(b"mine")
    assert main(["show", "batch", *hand_words(hands, out)]) == 2
    assert "batch_1.png" in capsys.readouterr().err
    assert (out / "batch_1.png").read_bytes() == b"mine"
    assert not (out / "show.json").exists()


def test_a_later_call_leaves_no_old_pictures(hands, tmp_path):
    out = tmp_path / "out"
    assert main(["show", "annotations", *hand_words(hands, out, "images=3")]) == 0
    (out / "mine.png").write_bytes(b"mine")
    assert main(["show", "annotations", *hand_words(hands, out, "images=1")]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["annotations_1.png", "mine.png", "show.json"]
