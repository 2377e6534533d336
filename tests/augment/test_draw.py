"""What is drawn, in which order: a run goes on to the same samples only while both stay as they are."""

import numpy as np
import pytest

from phalanx.augment.draw import Crop, Stretch, draw
from phalanx.config import Augment, Elastic, GridDistortion

FULL = Augment(
    flip=0.5, warp=1, shift=0.1, scale=0.2, rotate=30,
    elastic=Elastic(p=1, strength=0.02, cell=0.25), grid_distortion=GridDistortion(p=1, steps=3, limit=0.4),
)  # fmt: skip
AFFINE = [("uniform", (-30.0, 30.0)), ("uniform", (0.8, 1.2)), ("uniform", (-0.1, 0.1, 2))]
FIELD, STRIPS = ("normal", (0, 0.02 * 64, (2, 5, 5))), ("uniform", (0.6, 1.4, 3))
ONCE = ("random", ())


class Recorder:
    """A generator that keeps a list of what it was asked for."""

    def __init__(self):
        self.rng, self.asked = np.random.default_rng(0), []

    def __getattr__(self, name):
        def ask(*values):
            told = tuple(value for value in values if not isinstance(value, np.ndarray))
            self.asked.append((name, told))
            return getattr(self.rng, name)(*values)

        return ask


@pytest.mark.parametrize(
    ("augment", "crop", "asked"),
    [
        (Augment(), None, [ONCE] * 3),
        (FULL, None, [ONCE, ONCE, *AFFINE, ONCE, FIELD, ONCE, STRIPS, STRIPS]),
        (Augment(), Crop(32, 0.0), [*[ONCE] * 3, ONCE, ("uniform", (0, 33)), ("uniform", (0, 9))]),
        (Augment(), Crop(32, 1.0), [*[ONCE] * 3, ONCE, *[("choice", ())] * 2, *[("uniform", (0.25, 0.75))] * 2]),
    ],
    ids=["nothing", "all", "crop anywhere", "crop around foreground"],
)
def test_the_generator_is_asked_for_this_in_this_order(augment, crop, asked):
    planes = np.full((64, 64, 1), 3, np.uint8)
    rng = Recorder()
    draw(rng, augment, (64, 40), 64, planes, crop)
    assert rng.asked == asked


def test_a_field_is_zero_where_none_was_due_and_empty_where_the_recipe_has_none():
    planes, sometimes = np.zeros((64, 64, 1), np.uint8), Augment(elastic=Elastic(p=0.5, cell=0.25))
    fields = [draw(np.random.default_rng(i), sometimes, (64, 64), 64, planes).field for i in range(40)]
    assert {field.shape for field in fields} == {(2, 5, 5)}
    assert 5 < sum(field.any() for field in fields) < 35
    assert draw(np.random.default_rng(0), Augment(), (64, 64), 64, planes).field.shape == (2, 0, 0)


def test_rows_and_columns_add_up_to_the_matrix_of_stretched_places():
    drawn = draw(np.random.default_rng(1), FULL, (64, 40), 64, np.ones((64, 64, 1), np.uint8), Crop(16, 1.0))
    down, along = drawn.lines()
    assert down.dtype == along.dtype == np.float32
    rows, columns = drawn.stretches
    for r in (0, 7, 15):
        for c in (0, 9, 15):
            place = float(columns(np.array(drawn.window.left + c))), float(rows(np.array(drawn.window.top + r))), 1.0
            np.testing.assert_allclose(down[:, r] + along[:, c], drawn.matrix @ place, atol=1e-3)


def test_a_stretch_and_its_inverse_undo_each_other_inside():
    one = Stretch(np.array([-0.5, 10.0, 39.5]), np.array([-0.5, 25.0, 39.5]))
    places = np.linspace(1, 37, 30)
    np.testing.assert_allclose(one.inverse()(one(places)), places, atol=1e-9)
