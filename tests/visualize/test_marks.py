"""Colours, numbers and legends of classes, and pages of panels."""

import numpy as np
import pytest

from phalanx.visualize.marks import Marks, draw_marks, numbered, shrunk
from phalanx.visualize.overlay import palette
from phalanx.visualize.palette import class_colours, colours, in_lab
from phalanx.visualize.sheets import Panel, page, wrap


def test_twenty_nine_colours_are_distinct_and_show_on_black_and_white():
    lab = in_lab(np.array(colours(29), np.uint8))
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)[~np.eye(29, dtype=bool)]
    assert apart.min() > 25  # a just noticeable difference is about 2
    assert lab[:, 0].min() > 45  # on black
    assert np.linalg.norm(lab - (100, 0, 0), axis=1).min() > 25  # on white
    assert np.linalg.norm(lab[:, 1:], axis=1).min() > 20  # on an X-ray


def test_colours_of_few_are_those_of_many():
    assert colours(5) == colours(29)[:5]
    assert list(class_colours(["a", "b"]).values()) == list(colours(2))
    np.testing.assert_array_equal(palette(29)[:, ::-1], colours(29))
    assert len(set(colours(300))) == 300


def test_colours_keep_away_from_one_that_means_something_else():
    red = in_lab(np.array([[255, 60, 60]], np.uint8))
    for count in (2, 12):
        lab = in_lab(np.array(colours(count, avoid=(255, 60, 60)), np.uint8))
        assert np.linalg.norm(lab - red, axis=1).min() > 50


def test_masks_and_boxes_have_the_colours_of_their_classes():
    image = np.full((200, 200), 60, np.uint8)
    planes = np.zeros((200, 200, 1), np.uint8)
    planes[20:180, 20:90] |= 1
    planes[20:180, 110:180] |= 4
    drawn = draw_marks(image, Marks(planes=planes), 3, 400)
    for place, label in ((60, 0), (240, 2)):
        want = np.clip(0.55 * 60 + 0.45 * np.array(colours(3)[label]), 0, 255)
        assert np.abs(drawn[100, place].astype(float) - want).max() < 3
    assert (drawn[10, 10] == 60).all()
    boxes = draw_marks(image, Marks(boxes=np.array([[20.0, 40, 100, 160]]), labels=[1]), 3, 400)
    assert tuple(boxes[200, 40]) == colours(3)[1]


def test_numbers_do_not_cover_each_other():
    blank = np.zeros((600, 600, 3), np.uint8)
    alone = [(numbered(blank, [(300.0, 300.0, k)]) == 255).all(2).sum() for k in range(6)]
    together = numbered(blank, [(300.0, 300.0, k) for k in range(6)])
    assert (together == 255).all(2).sum() >= sum(alone) * 0.95


def test_a_page_has_its_panels_where_it_says():
    rng = np.random.default_rng(0)
    panels = [Panel(rng.integers(0, 255, (50, 70, 3), np.uint8), [f"panel {k}", "a caption " * 9]) for k in range(5)]
    found = page("A title", "a text " * 40, [panels[:3], panels[3:]], ["one", "two"], {1})
    assert [caption for caption, _ in found.panels] == [f"panel {k}" for k in range(5)]
    for panel, (_, (x, y, wide, high)) in zip(panels, found.panels, strict=True):
        np.testing.assert_array_equal(found.pixels[y : y + high, x : x + wide], panel.pixels)
    assert (found.pixels == colours(2)[0]).all(2).sum() > 100  # the legend
    only = page("A title", "", [panels], ["one", "two"], {1}, only_present=True)
    assert not (only.pixels == colours(2)[0]).all(2).any()
    assert (only.pixels == colours(2)[1]).all(2).sum() > 100


@pytest.mark.parametrize("text", ["x" * 300, "some words " * 20, ""])
def test_wrapped_text_is_whole(text):
    lines = wrap(text, 120)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert len(lines) > 5 or not text


def test_an_image_keeps_its_proportions():
    assert shrunk(np.zeros((300, 100), np.uint8), 150).shape == (150, 50, 3)
