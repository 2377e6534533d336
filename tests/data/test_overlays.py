"""Burnt-in marks: found where they are drawn, removed in three ways, and nothing else changed."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.cli import main
from phalanx.config import ClassifyData
from phalanx.data.overlays import bilinear, find_overlays, remove_overlays
from phalanx.data.prepared import prepare_image, prepared_key
from phalanx.data.preprocess import preprocess
from phalanx.data.records import Record
from phalanx.phantom.ultrasound import make_ultrasound

RECALL, PRECISION, CHANGED = 0.8, 0.4, 0.01  # of pixels; measured on more images by bench/overlays.py
WAYS = ("black", "fast_marching", "bilinear")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A set of a seed and size that the network was not trained on, half of its images marked."""
    out = tmp_path_factory.mktemp("overlays") / "ultrasound"
    make_ultrasound(out, patients=4, test_patients=1, size=320, seed=77, marked=0.5, workers=1, progress=False)
    return out


def images_of(root):
    for path in sorted(root.glob("*/images/*/*.png")):
        truth = cv2.imread(str(root / "overlays" / path.name), 0)
        image = cv2.imread(str(path), 0)
        yield image, np.zeros(image.shape, bool) if truth is None else truth > 0


def test_marks_are_found_and_unmarked_images_hardly_change(root):
    marked = found = right = plain = changed = 0
    for image, truth in images_of(root):
        marks = find_overlays(image).marks
        if truth.any():
            marked, found, right = marked + truth.sum(), found + marks.sum(), right + (marks & truth).sum()
        else:
            plain, changed = plain + truth.size, changed + (remove_overlays(image, "black") != image).sum()
    assert marked
    assert plain
    assert right / marked > RECALL
    assert right / found > PRECISION
    assert changed / plain < CHANGED


@pytest.mark.parametrize("colour", [(255, 255, 0), (0, 255, 0), (0, 255, 255), (255, 255, 255)])
def test_coloured_marks_are_found(root, colour):
    """A dotted line in a colour over the first image without marks; both in colour and read as grey."""
    image = next(image for image, truth in images_of(root) if not truth.any())
    shown, truth = np.repeat(image[:, :, None], 3, 2), np.zeros(image.shape, np.uint8)
    for x in range(110, 210, 6):
        cv2.circle(truth, (x, 60 + x // 2), 1, 1, -1)
    shown[truth > 0] = colour
    marks = find_overlays(shown).marks
    assert marks[truth > 0].mean() > 0.6
    after = remove_overlays(shown, "bilinear")
    assert np.abs(after[truth > 0].astype(int) - colour).max(1).mean() > 60


@pytest.mark.parametrize("how", WAYS)
def test_only_the_surroundings_of_marks_change(root, how):
    image, _ = next(pair for pair in images_of(root) if pair[1].any())
    found = find_overlays(image)
    after = remove_overlays(image, how)
    near = cv2.dilate(found.marks.astype(np.uint8), np.ones((3, 3))) > 0
    if how == "black":  # the rectangle of a text is filled
        ys, xs = np.nonzero(found.text)
        if len(ys):
            near[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = True
    assert (after != image)[~near].sum() == 0
    assert (after != image).any()
    assert after.dtype == np.uint8
    assert not after[found.marks].any() or how != "black"


@given(st.integers(0, 2**32 - 1))
def test_bilinear_restores_a_plane_and_stays_within_the_border(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(3, 30, 2))
    mask = rng.random(shape) < rng.random()
    mask[0] = mask[-1] = mask[:, 0] = mask[:, -1] = False
    image = rng.integers(0, 256, shape).astype(np.uint8)
    after = bilinear(image, mask)
    assert (after[~mask] == image[~mask]).all()
    assert after.min() >= image[~mask].min()
    assert after.max() <= image[~mask].max()
    plane = (np.arange(shape[0])[:, None] * 2 + np.arange(shape[1]) * 3).astype(np.uint8)
    assert np.abs(bilinear(plane, mask).astype(int) - plane).max() <= 1
    both = bilinear(np.dstack([image, plane, image]), mask)
    assert (both[:, :, 0] == after).all()
    assert (both[:, :, 1] == bilinear(plane, mask)).all()


def test_bilinear_at_the_border_and_without_a_source():
    image = np.array([[1, 2], [3, 4]], np.uint8)
    assert (bilinear(image, np.ones((2, 2), bool)) == image).all()
    corner = bilinear(np.full((4, 4), 7, np.uint8) + 0, np.pad(np.ones((2, 2), bool), ((0, 2), (0, 2))))
    assert (corner == 7).all()
    cross = np.zeros((3, 3), bool)
    cross[1] = cross[:, 1] = True  # the middle has no source in its row or column
    assert (bilinear(np.full((3, 3), 9, np.uint8), cross) == 9).all()


def data(root, **changes):
    given_ = {"name": "u", "root": root, "classes": ["AC"], "size": 64, "layout": "table"}
    return ClassifyData(**{**given_, **changes})


def test_the_option_changes_prepared_images_and_their_key(root):
    name = next(p.stem for p in sorted((root / "overlays").glob("*.png")))
    path = next(root.glob(f"*/images/*/{name}.png"))
    record = Record(path.name, "p", path, None)
    plain, _ = prepare_image(record, data(root))
    grey, _ = prepare_image(record, data(root, overlays="black"))
    colour, _ = prepare_image(record, data(root, overlays="black", colour=True))
    assert plain.shape == grey.shape == (64, 64)
    assert (plain != grey).any()
    assert (colour == grey[:, :, None]).all()
    keys = {prepared_key(record, ["d"], data(root, overlays=how)) for how in ("keep", *WAYS)}
    assert len(keys) == 4


def test_preprocess_of_a_grey_recipe_returns_grey(root):
    image, _ = next(pair for pair in images_of(root) if pair[1].any())
    shown = np.repeat(image[:, :, None], 3, 2)
    assert preprocess(shown, data(root, overlays="bilinear")).shape == image.shape


def test_the_command_writes_a_table_and_pages(root, tmp_path, capsys):
    words = ["overlays", "data=ultrasound", f"data.root={root}", "workers=1", "progress=false", "count=7"]
    assert main([*words, f"out={tmp_path}/o"]) == 0
    assert "marks found in" in capsys.readouterr().out
    rows = (tmp_path / "o" / "overlays.csv").read_text().splitlines()
    assert rows[0] == "image_name,patient,split,removed,text,captions"
    assert len(rows) == 1 + len(list(root.glob("*/images/*/*.png")))
    assert sorted(p.name for p in (tmp_path / "o").glob("*.png")) == ["overlays_1.png", "overlays_2.png"]
    assert main([*words, f"out={tmp_path}/o"]) == 0  # again, over its own files
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "overlays.csv").write_text("mine")
    assert main([*words, f"out={tmp_path}/x"]) == 2
    assert (tmp_path / "x" / "overlays.csv").read_text() == "mine"
    assert main(words) == 2
    assert main([*words[:-1], "count=0", f"out={tmp_path}/o"]) == 2
