"""`phalanx eda` names the images whose rotation is not measured."""

import math

from phalanx.eda.measure import Measured
from phalanx.eda.report import _without_bones


def measured(name, degrees, areas):
    return Measured(name, "P", "train", 64, 64, degrees, 0.0, 0, 0, areas, ())


def test_annotated_images_without_one_of_the_two_bones_are_counted():
    rows = [
        measured("a.png", 5.0, (0.1, 0.1)),
        measured("b.png", math.nan, (0.1, 0.0)),
        measured("c.png", math.nan, ()),
    ]
    assert _without_bones(rows) == ["rotation of 1 annotated image(s) without Ulna or finger-16, such as b.png"]
    assert _without_bones(rows[:1]) == []
