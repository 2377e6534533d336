"""Names of runs, models and classes in figures: they are shown as they are, whole, and one model is not another."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from phalanx.errors import OutputError
from phalanx.visualize import review_classes
from phalanx.visualize.figures import fitted, plain, save, titled
from phalanx.visualize.gap_plot import GapPoint, draw_gaps
from phalanx.visualize.review_classes import Errors, draw_balance

LONG = "What each class lacks: " + ", ".join(f"unetpp_efficientnet_b{k}_fold0" for k in range(9))


@pytest.mark.parametrize("text", [LONG, "W" * 300, "short"])
@pytest.mark.parametrize("columns", [1, 3])
def test_a_title_fits_its_axes(text, columns):
    figure = Figure(figsize=(9, 3))
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0, 0]
    titled(axes, text)
    figure.canvas.draw()
    shown = axes.get_title(loc="left")
    assert axes._left_title.get_window_extent().width <= 1.02 * axes.bbox.width
    assert "".join(shown.split()) == "".join(text.split())
    assert ("\n" in shown) == (text != "short")


def test_a_figure_s_title_fits_it():
    figure = Figure(figsize=(5, 3))
    FigureCanvasAgg(figure)
    title = figure.suptitle(fitted(LONG, figure, 11), fontsize=11)
    figure.canvas.draw()
    assert title.get_window_extent().width <= 1.02 * figure.bbox.width


@pytest.mark.parametrize("name", ["a$b", r"$\frac{", "_hidden", "$x$ and $"])
def test_no_name_is_a_formula_or_hidden(name, tmp_path):
    assert plain(name).strip().replace(r"\$", "$") == name
    draw_gaps([GapPoint(name, name, 0.8, 0.7), GapPoint("b", "b", 0.7, 0.6)], name, name, tmp_path / "gap.png")
    draw_balance([name], [Errors(name, np.array([0.1]), np.array([0.2]))], "pixels", name, tmp_path / "balance.png")
    assert (tmp_path / "gap.png").stat().st_size > 1000
    assert (tmp_path / "balance.png").stat().st_size > 1000


def test_a_picture_of_somebody_else_stays_unless_the_folder_is_ours(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"theirs")
    with pytest.raises(OutputError):
        save(Figure(), path)
    assert path.read_bytes() == b"theirs"
    save(Figure(), path, replace=True)
    save(Figure(), path)
    assert b"phalanx" in path.read_bytes()


def test_ten_models_differ_by_their_hatches_and_each_has_its_net(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(review_classes, "save", lambda figure, out: drawn.append(figure))
    models = [Errors(f"m{k}", np.array([0.1 * k, 0.5]), np.array([0.2, np.nan])) for k in range(10)]
    draw_balance(["one", "other"], models, "pixels", "title", tmp_path / "x.png")
    axes = drawn[0].axes[0]
    hatches = [bars[0].get_hatch() for bars in axes.containers[::2]]
    assert len(set(hatches)) == len(hatches) == 10
    assert [text.get_text() for text in axes.texts] == [f"{100 * (0.1 * k - 0.2):+.1f}" for k in range(10)]
    heights = [text.xy[1] for text in axes.texts]
    assert heights == sorted(heights)
