"""Pictures of curves: lines where the numbers are, of any number of classes, and several runs over each other."""

import numpy as np
import pytest
from PIL import Image
from tests.tracking.test_curves import START, epochs, validation

from phalanx.errors import OutputError
from phalanx.tracking.curves import curves_of
from phalanx.tracking.json_lines import Event
from phalanx.visualize import curves as drawing
from phalanx.visualize.curves import Named, draw_overlay, draw_run


def many(classes, groups=()):
    """A training of three epochs with a validation each."""
    events = [START]
    for number, event in enumerate(epochs([1, 2, 3]), 1):
        figures = {f"held_out/dice/class/c{c}": number / 4 - c / 100 for c in range(classes)}
        figures |= {f"held_out/dice/group/{name}": number / 5 for name in groups}
        values = {"epoch": number, "held_out/dice": number / 4, **figures}
        events += [event, Event("validate", event.step, 1.0, values)]
    events += [
        Event("stage", 10, 1.0, {"stage": 2, "text": "begins"}),
        Event("held_out", 30, 1.0, {"out_of_fold/dice": 0.7}),
    ]
    return curves_of(events)


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved."""
    kept, save = [], drawing.save
    monkeypatch.setattr(drawing, "save", lambda figure, path, **how: (kept.append(figure), save(figure, path, **how)))
    return kept


def data(axes):
    return {line.get_label(): [*zip(*line.get_data(), strict=True)] for line in axes.lines}


@pytest.mark.parametrize(
    ("classes", "groups"), [(0, ()), (1, ()), (3, ("rotated", "upright")), (29, ("rotated", "upright"))]
)
def test_a_training_has_a_panel_for_all_that_was_measured(tmp_path, figures, classes, groups):
    draw_run(many(classes, groups), "r, fold0", tmp_path / "curves.png")
    [figure] = figures
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:3] == ["loss, and its terms unweighted", "dice", "learning rate"]
    assert any("rotated and upright" in title for title in titles) == bool(groups)
    assert sum("class" in title for title in titles) == (classes > 1) + (classes > 8)
    loss, metric, rate = map(data, figure.axes[:3])
    assert loss["loss"] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert loss["bce"][0] == (1, 0.5)
    assert metric["training steps"] == [(1, 0.1), (2, 0.2), (3, pytest.approx(0.3))]
    assert metric["held out"] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert metric["best held out: 0.7500, epoch 3"] == [(3, 0.75)]
    assert "out of fold: 0.7000" in metric
    assert rate["planned"] == [(0.1, 1e-4), (3.0, 0.0)]
    if classes == 29:
        lines = data(next(axes for axes in figure.axes if "worst" in axes.get_title(loc="left")))
        assert [label for label in lines if label.startswith("c")] == ["c28", "c27", "c26", "c25", "c24"]
        heat = next(axes for axes in figure.axes if axes.images)
        assert np.asarray(heat.images[0].get_array()).shape == (29, 3)
        assert len({text.get_text() for text in heat.get_yticklabels()}) == 29
    image = np.asarray(Image.open(tmp_path / "curves.png").convert("L"))
    assert (image < 128).mean() > 0.002
    assert min(image[0].min(), image[-1].min(), image[:, 0].min(), image[:, -1].min()) > 250  # nothing is cut off


def test_a_run_without_validation_and_one_without_an_epoch_are_drawn(tmp_path, figures):
    draw_run(curves_of([START, *epochs([1])]), "no validation", tmp_path / "a.png")
    draw_run(curves_of([validation(25, 0.5)]), "killed in its first epoch", tmp_path / "b.png")
    assert [figure.axes[0].get_xlabel() for figure in figures] == ["epoch", "step"]


def test_runs_are_drawn_over_each_other_by_their_mean_over_folds(tmp_path, figures):
    one, two = (
        curves_of([START, *epochs([1, 2, 3]), validation(20, 0.5)]),
        curves_of([*epochs([1, 2]), validation(20, 0.7)]),
    )
    draw_overlay([Named("a", [one, two]), Named("b", [two])], tmp_path / "out.png", ["a"])
    axes = figures[0].axes
    assert [panel.get_title(loc="left") for panel in axes] == [
        "held-out dice", "dice of training steps", "loss of training steps", "learning rate", "held-out dice of a"
    ]  # fmt: skip
    assert data(axes[0])["a, mean of 2 folds"] == [(2, pytest.approx(0.6))]
    assert data(axes[2])["a, mean of 2 folds"] == [(1, 1.0), (2, 0.5)]  # epochs that both folds have
    assert data(axes[2])["b"] == [(1, 1.0), (2, 0.5)]
    assert data(axes[4])["b"] == [(2, pytest.approx(0.6))]
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["a, mean of 2 folds", "b"]
    styles = {
        (line.get_color(), line.get_linestyle(), line.get_marker())
        for line in axes[0].lines
        if line.get_linewidth() > 1
    }
    assert len(styles) == 2


def test_names_are_text_whatever_they_contain(tmp_path, figures):
    names = ["a$b$", "_hidden", "$\\frac{", "<b>", "손", "x" * 90]
    rows = {f"held_out/dice/class/{name}": 0.5 for name in names} | {"held_out/dice": 0.5}
    found = curves_of([START, *epochs([1]), Event("validate", 10, 1.0, {"epoch": 1, **rows})])
    draw_run(found, "$r_, fold0", tmp_path / "a.png")
    shown = [text.get_text().strip() for text in figures[0].axes[-1].get_legend().get_texts()]
    assert shown == [r"a\$b\$", "_hidden", r"\$\frac{", "<b>", "손", "x" * 40]
    draw_overlay([Named("_$a", [found]), Named("b", [found])], tmp_path / "b.png", [names[0]])
    assert len(figures[1].legends[0].get_texts()) == 2


def test_a_picture_of_somebody_else_is_not_replaced(tmp_path):
    (tmp_path / "out.png").write_bytes(b"a picture")
    with pytest.raises(OutputError, match=r"out\.png"):
        draw_overlay([Named("a", [curves_of([START, *epochs([1])])])], tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == b"a picture"
