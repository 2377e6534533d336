"""The plots of ``phalanx eda`` of images with objects, drawn without a display."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from .plots import COLOURS, GREY
from .plots import new_figure as _figure

PLOTS = ("classes", "objects_per_image", "sizes", "aspect", "places", "anchors")
MAX_CLASSES = 40  # in a plot; the tables have all
HUES = ("#4477aa", "#cc6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")  # of classes, if there are no more
BINS = 24  # of places, along each side of an image


def draw_all(
    tables: dict[str, pd.DataFrame], classes: Sequence[str], anchors: list[list[list[float]]] | None
) -> Iterator[tuple[str, Figure]]:
    """Yields (name, figure) of every plot that the tables have data for.

    Args:
        anchors: widths and heights by level; None: the recipe has none.
    """
    objects = tables["objects"]
    yield "classes", counts(tables["classes"].head(MAX_CLASSES))
    yield "objects_per_image", per_image(tables["images"])
    yield "sizes", sizes(objects, classes, anchors)
    yield "aspect", aspect(objects, list(classes)[:MAX_CLASSES])
    yield "places", places(objects, tables["images"])
    if len(tables["anchors"]):
        yield "anchors", reached(objects, tables["anchors"])


def counts(table: pd.DataFrame) -> Figure:
    """Draws the objects of each class."""
    figure, (axes,) = _figure(1, 1, width=7, height=0.32 * len(table) + 1.2)
    axes.barh(table["class"], table["objects"], color=COLOURS["train"], height=0.7)
    most = max(1, table["objects"].max())
    for place, row in enumerate(table.to_dict("records")):
        text = f"{row['objects']} in {row['images']} images, {row['patients']} patients"
        axes.text(row["objects"] + most * 0.01, place, text, va="center", fontsize=8)
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_xlim(0, most * 1.4)
    axes.set_xlabel("objects in training images")
    axes.set_title("Objects per class", loc="left")
    return figure


def per_image(images: pd.DataFrame) -> Figure:
    """Draws how many objects images have."""
    figure, (axes,) = _figure(1, 1, width=6, height=3)
    found = np.bincount(images["objects"].to_numpy())
    axes.bar(np.arange(len(found)), found, color=COLOURS["train"], width=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("objects in an image")
    axes.set_ylabel("training images")
    axes.set_title(f"Objects per image; {found[0]} of {found.sum()} images have none", loc="left")
    return figure


def sizes(objects: pd.DataFrame, classes: Sequence[str], anchors: list[list[list[float]]] | None) -> Figure:
    """Draws width against height of the boxes in pixels of the input, and the anchors."""
    figure, (axes,) = _figure(1, 1, width=6.4, height=5)
    several = 1 < len(classes) <= len(HUES)
    for name, hue in zip(classes, HUES, strict=False) if several else [("objects", COLOURS["train"])]:
        own = objects[objects["class"] == name] if several else objects
        axes.plot(own["input_width"], own["input_height"], ".", color=hue, markersize=4, alpha=0.5, label=name)
    for number, level in enumerate(anchors or []):
        w, h = np.array(level).T
        label = "anchors" if number == 0 else None
        axes.plot(w, h, "x", color="black", markersize=7, markeredgewidth=1.5, label=label)
    low = min(objects["input_width"].min(), objects["input_height"].min())
    high = max(objects["input_width"].max(), objects["input_height"].max())
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle="--")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("width in pixels of the input")
    axes.set_ylabel("height in pixels of the input")
    axes.set_title("Sizes of the boxes; dashed: squares", loc="left")
    axes.legend(frameon=False, bbox_to_anchor=(1.01, 1), loc="upper left")
    return figure


def aspect(objects: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Draws width / height of the boxes of each class."""
    rows = [(name, objects.loc[objects["class"] == name, "aspect"].to_numpy()) for name in classes]
    rows = [(name, values) for name, values in rows if len(values)]
    figure, (axes,) = _figure(1, 1, width=7, height=0.34 * len(rows) + 1.3)
    boxes = axes.boxplot(
        [values for _, values in rows], orientation="horizontal", widths=0.6, patch_artist=True,
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": GREY}, medianprops={"color": "black"},
    )  # fmt: skip
    for box in boxes["boxes"]:
        box.set(facecolor=COLOURS["train"], alpha=0.6, linewidth=0.8)
    axes.set_yticks(range(1, len(rows) + 1), [f"{name} ({len(values)})" for name, values in rows])
    axes.invert_yaxis()
    axes.axvline(1, color=GREY, linewidth=0.8, linestyle="--")
    axes.set_xlabel("width / height of a box")
    axes.set_title("Shapes: median, quartiles, whiskers of 1.5 quartile ranges", loc="left")
    return figure


def places(objects: pd.DataFrame, images: pd.DataFrame) -> Figure:
    """Draws where in the image the centres of the boxes are."""
    sizes_of = images.set_index("image_name").loc[objects["image_name"], ["width_px", "height_px"]].to_numpy()
    x = (objects["x_min"] + objects["x_max"]).to_numpy() / 2 / sizes_of[:, 0]
    y = (objects["y_min"] + objects["y_max"]).to_numpy() / 2 / sizes_of[:, 1]
    figure, (axes,) = _figure(1, 1, width=5.4, height=4.4)
    found, _, _ = np.histogram2d(y, x, bins=BINS, range=[[0, 1], [0, 1]])
    drawn = axes.imshow(found, extent=(0, 1, 1, 0), cmap="Blues")
    figure.colorbar(drawn, ax=axes, label="objects", shrink=0.8)
    axes.set_xlabel("from left to right, fraction of the image")
    axes.set_ylabel("from top to bottom")
    axes.set_title("Centres of the boxes", loc="left")
    return figure


def reached(objects: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draws how many objects an anchor reaches at each IoU."""
    figure, (axes,) = _figure(1, 1, width=6, height=3.4)
    best = np.sort(objects["anchor_iou"].to_numpy())
    axes.step(best, 100 * (1 - np.arange(len(best)) / len(best)), where="pre", color=COLOURS["train"])
    for column in (name for name in table.columns if name.startswith("recall_")):
        iou, value = float(column.removeprefix("recall_")), 100 * float(table[column].iloc[-1])
        axes.axvline(iou, color=GREY, linewidth=0.8, linestyle="--")
        axes.text(iou - 0.01, 8, f"{value:.1f}% at {iou:g}", ha="right", fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 104)
    axes.set_xlabel("IoU of an object with its best anchor")
    axes.set_ylabel("% of objects")
    axes.set_title("Best possible recall of the anchors", loc="left")
    return figure
