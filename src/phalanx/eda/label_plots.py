"""The plots of ``phalanx eda`` of images with labels, drawn without a display."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .plots import COLOURS, GREY
from .plots import new_figure as _figure

PLOTS = ("classes", "patients", "cooccurrence", "sizes", "intensity", "folds")
MAX_CLASSES = 40  # in a plot; the tables have all
MISSING = "#ccbb44"


def draw_all(tables: dict[str, pd.DataFrame], classes: Sequence[str]) -> Iterator[tuple[str, Figure]]:
    """Yields (name, figure) of every plot that the tables have data for."""
    shown = list(classes)[:MAX_CLASSES]
    yield "classes", counts(tables["classes"].head(MAX_CLASSES))
    yield "patients", patients(tables["patients"])
    if len(shown) > 1:
        yield "cooccurrence", cooccurrence(tables["cooccurrence"], shown)
    yield "sizes", sizes(tables["images"])
    yield "intensity", intensity(tables["images"], shown)
    if len(tables["folds"]):
        yield "folds", folds(tables["folds"], shown)


def counts(table: pd.DataFrame) -> Figure:
    """Draws per class the images with, without and not labelled."""
    figure, (axes,) = _figure(1, 1, width=7, height=0.32 * len(table) + 1.4)
    left = np.zeros(len(table))
    parts = (("images", COLOURS["train"], "with"), ("without", "#dddddd", "without"))
    for column, colour, label in (*parts, ("not_labelled", MISSING, "not labelled")):
        values = table[column].to_numpy(float)
        if values.any():
            axes.barh(table["class"], values, left=left, color=colour, height=0.7, label=label)
        left += values
    for place, row in enumerate(table.to_dict("records")):
        axes.text(
            left.max() * 1.01, place, f"{row['images']} images, {row['patients']} patients", va="center", fontsize=8
        )
    axes.invert_yaxis()
    axes.set_xlim(0, left.max() * 1.28)
    axes.set_xlabel("training images")
    axes.set_title("Images per class", loc="left")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.18 - 0.5 / len(table)), ncols=3)
    return figure


def patients(table: pd.DataFrame) -> Figure:
    """Draws how many images patients have."""
    figure, (axes,) = _figure(1, 1, width=6, height=3)
    values = table["images"].to_numpy()
    found = np.bincount(values)
    axes.bar(np.arange(len(found)), found, color=COLOURS["train"], width=0.8)
    axes.set_xlim(0.2, len(found) - 0.2)
    if len(found) <= 12:
        axes.set_xticks(range(1, len(found)))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("images of a patient")
    axes.set_ylabel("training patients")
    axes.set_title(f"{len(table)} patients, {values.sum()} images", loc="left")
    return figure


def cooccurrence(table: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Draws the number of images with each pair of classes, coloured by the correlation of the two labels."""
    place = {name: k for k, name in enumerate(classes)}
    phi, both = np.full((len(classes),) * 2, np.nan), np.zeros((len(classes),) * 2, int)
    for row in table.to_dict("records"):
        if row["class"] in place and row["other"] in place:
            i, j = place[row["class"]], place[row["other"]]
            phi[i, j] = phi[j, i] = row["phi"]
            both[i, j] = both[j, i] = row["both"]
    side = max(3.5, 0.45 * len(classes) + 2)
    figure, (axes,) = _figure(1, 1, width=side + 1, height=side)
    drawn = axes.imshow(phi, cmap="RdBu_r", vmin=-1, vmax=1)
    for i in range(len(classes)):
        for j in range(len(classes)):
            if i != j:
                dark = np.isfinite(phi[i, j]) and abs(phi[i, j]) > 0.6
                colour = "white" if dark else "black"
                axes.text(j, i, str(both[i, j]), ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.spines[:].set_visible(False)
    axes.set_title("Images with both classes", loc="left")
    figure.colorbar(drawn, ax=axes, label="correlation of the labels (phi)", shrink=0.8)
    return figure


def sizes(images: pd.DataFrame) -> Figure:
    """Draws the sizes of images, the area of a point by their number."""
    figure, (axes,) = _figure(1, 1, width=5, height=4)
    for split, rows in images.groupby("split", sort=False, observed=True):
        found = rows.groupby(["width_px", "height_px"]).size().reset_index(name="images")
        hollow = split == "test"  # both may be at one point
        axes.scatter(
            found["width_px"], found["height_px"], s=(60 if hollow else 24) * np.sqrt(found["images"]),
            edgecolors=COLOURS[str(split)], facecolors="none" if hollow else COLOURS[str(split)],
            label=f"{split}, {len(rows)}",
        )  # fmt: skip
    largest = float(images[["width_px", "height_px"]].max().max())
    axes.set_xlim(0, 1.15 * largest)
    axes.set_ylim(0, 1.15 * largest)
    axes.set_aspect("equal")
    axes.set_xlabel("width (pixels)")
    axes.set_ylabel("height (pixels)")
    axes.set_title("Sizes of images", loc="left")
    axes.legend(frameon=False, loc="lower left", markerscale=0.5)
    return figure


def intensity(images: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Draws the mean grey level of images with each class, and of all images of train and test."""
    train = images[images["split"] == "train"]
    rows = [(name, train.loc[train[f"label {name}"] == 1, "mean"].to_numpy(float), GREY) for name in classes]
    for split in ("train", "test"):
        rows.append((f"all of {split}", images.loc[images["split"] == split, "mean"].to_numpy(float), COLOURS[split]))
    rows = [(name, values, colour) for name, values, colour in rows if len(values)]
    figure, (axes,) = _figure(1, 1, width=7, height=0.34 * len(rows) + 1.2)
    boxes = axes.boxplot(
        [values for _, values, _ in rows], orientation="horizontal", widths=0.6, patch_artist=True,
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": GREY}, medianprops={"color": "black"},
    )  # fmt: skip
    for box, (_, _, colour) in zip(boxes["boxes"], rows, strict=True):
        box.set(facecolor=colour, alpha=0.6, linewidth=0.8)
    axes.set_yticks(range(1, len(rows) + 1), [f"{name} ({len(values)})" for name, values, _ in rows])
    axes.invert_yaxis()
    axes.set_xlabel("mean grey level of an image (0 to 255)")
    axes.set_title("Intensity: median, quartiles, whiskers of 1.5 quartile ranges", loc="left", fontsize=11)
    return figure


def folds(table: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """Draws the images with each class per fold."""
    figure, (axes,) = _figure(1, 1, width=max(6, 0.5 * len(classes) + 2), height=3.4)
    width = 0.8 / len(table)
    for k, row in enumerate(table.to_dict("records")):
        place = np.arange(len(classes)) + (k - (len(table) - 1) / 2) * width
        shade = 0.25 + 0.65 * (k + 1) / len(table)
        axes.bar(
            place, [row[name] for name in classes], width=0.9 * width, color=COLOURS["train"], alpha=shade,
            label=f"fold {row['fold']}, {row['images']} images",
        )  # fmt: skip
    axes.set_xticks(range(len(classes)), classes, rotation=45 if len(classes) > 8 else 0)
    axes.set_ylabel("images with the class")
    axes.set_title("Classes per fold", loc="left")
    axes.legend(frameon=False, bbox_to_anchor=(1.01, 1), loc="upper left")
    return figure
