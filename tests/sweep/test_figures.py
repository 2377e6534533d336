"""Figures of a sweep's table beside Dice: F1 at an IoU by rules that the table names."""

import numpy as np
import pytest
from tests.scoring.test_f1_iou import AB01, published_maps

from phalanx.config import validate_as
from phalanx.config.f1_iou import F1AtIoU
from phalanx.errors import ConfigError
from phalanx.masks.stack import Stack
from phalanx.submission.table import Submission
from phalanx.sweep.figures import f1_name, figures_of, has_figures
from phalanx.sweep.table import read_table

RULE = validate_as(F1AtIoU, {"positive": "diseased", "negative": "normal"})


def submissions():
    found = []
    for name, maps in zip(("truth", "found"), published_maps(AB01[0], 0.5), strict=True):
        masks = {f"i{k:03}": Stack.of_masks([labels == c for c in (1, 2)]) for k, labels in enumerate(maps)}
        found.append(Submission.of(masks, ["normal", "diseased"], dict.fromkeys(masks, (8, 40)), name))
    return found


def test_figures_have_f1_of_each_rule_by_its_name():
    truth, found = submissions()
    strict = RULE.model_copy(update={"iou": 0.75, "below": "fn_and_fp"})
    figures = figures_of(["iou", RULE, strict], found, truth)
    assert figures["F1@0.5 diseased"] == round(2 * 127 / (2 * 127 + 57 + 31), 5)
    assert 0 < figures["F1@0.75 diseased, fn_and_fp"] < figures["F1@0.5 diseased"]
    assert set(figures) == {
        "IoU background", "IoU normal", "IoU diseased", "F1@0.5 diseased", "F1@0.75 diseased, fn_and_fp"
    }  # fmt: skip


def test_a_set_without_disease_has_no_undefined_figure():
    some = np.array([[True, False], [False, False]])
    masks = {"i": Stack.of_masks([some, ~some])}
    both = [Submission.of(masks, ["normal", "other"], {"i": (2, 2)}, name) for name in "ab"]
    rule = RULE.model_copy(update={"positive": "other"})
    empty = {"i": Stack.of_masks([some, some & False])}
    none = [Submission.of(empty, ["normal", "other"], {"i": (2, 2)}, name) for name in "ab"]
    assert figures_of([rule], *both) == {"F1@0.5 other": 1}
    assert figures_of([rule], *none) == {"F1@0.5 other": 0}


def test_results_without_a_figure_are_computed_again():
    assert has_figures(None, [])
    assert not has_figures(None, ["iou"])
    assert not has_figures({"IoU a": 1.0}, ["iou", RULE])
    assert has_figures({"IoU a": 1.0, f1_name(RULE): 0.5}, ["iou", RULE])


@pytest.mark.parametrize(("name", "figure"), [("pet", "F1@0.5 diseased"), ("pet_optimizers", "F1@0.25 diseased")])
def test_tables_of_pets_ask_for_f1_at_the_threshold_of_their_disease(name, figure):
    table = read_table(name)
    assert [f1_name(one) for one in table.figures if isinstance(one, F1AtIoU)] == [figure]


def test_a_wrong_rule_is_refused():
    with pytest.raises(ConfigError, match=r"positive=ill: is not a class"):
        figures_of([RULE.model_copy(update={"positive": "ill"})], *submissions()[::-1])
