"""The plots of ``phalanx eda``, drawn without a display."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..config.ranges import UNITS
from ..runtime.files import write_bytes
from .tables import patients

COLOURS = {"train": "#4477aa", "test": "#cc6677"}
GREY = "#777777"
PLOTS = ("rotation", "shift", "size", "sex", "overlap", "brightness")
MAX_PAIRS = 15  # of overlapping classes in the plot


def draw_all(tables: dict[str, pd.DataFrame], limit: float) -> Iterator[tuple[str, Figure]]:
    """Yields (name, figure) of every plot that the tables have data for."""
    images = tables["images"]
    if images["degrees"].notna().any() or ("degrees_csv" in images and images["degrees_csv"].notna().any()):
        yield "rotation", rotation(images, limit)
    if tables["shift"]["value"].notna().any():
        yield "shift", shift(tables["shift"])
    if tables["size"]["value"].notna().any():
        yield "size", size(images, tables["size"])
    if tables["sex"]["value"].notna().any():
        yield "sex", by_sex(images, tables["sex"])
    if len(tables["overlap"]):
        yield "overlap", overlap(tables["overlap"])
    yield "brightness", brightness(images)


def rotation(images: pd.DataFrame, limit: float) -> Figure:
    """Draws the tilt of the hands: fraction of images per bin of three degrees, one row per source."""
    rows = []
    for split in ("train", "test"):
        for column, source in (("degrees", "annotations"), ("degrees_csv", "csv")):
            own = images[images["split"] == split]
            values = own[column].dropna().to_numpy() if column in images else np.zeros(0)
            if len(values):
                rows.append((split, source, values))
    figure, all_axes = new_figure(len(rows), 1, width=7, height=1.9 * len(rows) + 0.6, share_axes=True)
    most = max(60.0, max(values.max() for _, _, values in rows))
    bins = np.arange(0, most + 3, 3)
    for axes, (split, source, values) in zip(all_axes, rows, strict=True):
        axes.hist(values, bins=list(bins), weights=np.full(len(values), 100 / len(values)), color=COLOURS[split])
        axes.axvline(limit, color="black", linewidth=1, linestyle="--")
        turned = (values >= limit).mean()
        axes.set_title(f"{split}, {source}: {len(values)} images, {turned:.1%} rotated", loc="left")
        axes.set_ylabel("% of images")
    all_axes[-1].set_xlabel(
        f"tilt from vertical, Ulna to tip of the little finger (degrees); rotated: {limit:g} or more"
    )
    all_axes[-1].set_xlim(0, bins[-1])
    return figure


def shift(table: pd.DataFrame) -> Figure:
    """Draws test minus train with 95% intervals: proportions in points, measures in standard deviations."""
    kinds = [(kind, rows) for kind, rows in table.groupby("effect", sort=False) if rows["value"].notna().any()]
    figure, all_axes = new_figure(len(kinds), 1, width=7, height=0.55 * len(table) + 1.0 * len(kinds) + 0.4)
    for axes, (kind, rows) in zip(all_axes, kinds, strict=True):
        scale = 100 if str(kind).startswith("diff") else 1
        labels = []
        for place, row in enumerate(rows.to_dict("records")):
            axes.plot([row["low"] * scale, row["high"] * scale], [place, place], color=COLOURS["test"], linewidth=2)
            axes.plot([row["value"] * scale], [place], "o", color=COLOURS["test"])
            if scale == 100:
                labels.append(f"{row['attribute']}\n{row['train']:.1%} → {row['test']:.1%}")
            else:
                unit = UNITS[row["attribute"]]
                labels.append(f"{row['attribute']}\n{row['train']:.1f} → {row['test']:.1f} {unit}")
        axes.axvline(0, color="black", linewidth=1)
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(
            "proportion in test minus train (percentage points)" if scale == 100 else "Cohen's d, test minus train"
        )
    all_axes[0].set_title("Shift from train to test, patients, 95% intervals", loc="left")
    return figure


def size(images: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draws the area of all bones over each number of the metadata, one point per image."""
    found = table[table["relation"] == "correlation"]
    r = dict(zip(found["attribute"], found["value"], strict=True))
    shown = [attribute for attribute in UNITS if np.isfinite(r.get(attribute, np.nan))]
    figure, all_axes = new_figure(
        1, max(1, len(shown)), width=3.4 * max(1, len(shown)) + 0.6, height=3.4, share_axes=True
    )
    for axes, attribute in zip(all_axes, shown, strict=False):
        known = images.dropna(subset=[attribute, "area"])
        for sex, colour, marker in (("male", "#228833", "^"), ("female", "#aa3377", "o"), (None, GREY, "s")):
            rows = known[known["sex"].isna() if sex is None else known["sex"] == sex]
            if len(rows):
                label = sex or "sex missing"
                axes.scatter(
                    rows[attribute], 100 * rows["area"], s=9, alpha=0.6, color=colour, marker=marker, linewidths=0,
                    label=label,
                )  # fmt: skip
        axes.set_title(f"{attribute}: r = {r[attribute]:.2f}", loc="left")
        axes.set_xlabel(f"{attribute} ({UNITS[attribute]})")
    all_axes[0].set_ylabel("area of all bones (% of the image)")
    all_axes[0].legend(frameon=False, markerscale=2, handletextpad=0.2)
    return figure


def by_sex(images: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draws area, height and weight of patients by their sex: a point per patient, the mean and its 95% interval."""
    people = patients(images).drop_duplicates("group")
    shown = [name for name in ("area", "height", "weight") if name in people and people[name].notna().any()]
    figure, all_axes = new_figure(1, len(shown), width=3.2 * len(shown) + 0.4, height=3.4)
    rng = np.random.default_rng(0)  # of the places beside each other, which mean nothing
    found = dict(zip(table["attribute"], table[["value", "unit"]].to_numpy().tolist(), strict=True))
    for axes, name in zip(all_axes, shown, strict=True):
        scale = 100 if name == "area" else 1
        for place, (sex, colour, marker) in enumerate((("female", "#aa3377", "o"), ("male", "#228833", "^"))):
            values = scale * people.loc[people["sex"] == sex, name].dropna().to_numpy(float)
            if not len(values):
                continue
            across = place + rng.uniform(-0.18, 0.18, len(values))
            axes.scatter(across, values, s=14, alpha=0.55, color=colour, marker=marker, linewidths=0)
            half = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
            axes.errorbar(place, values.mean(), half, color="black", capsize=5, marker="_", markersize=14)
        axes.set_xticks([0, 1], [f"{sex}\n{(people['sex'] == sex).sum()} patients" for sex in ("female", "male")])
        axes.set_xlim(-0.5, 1.5)
        value, unit = found.get(name, (np.nan, ""))
        gap = f": {value:+.2f} {unit}" if np.isfinite(value) else ""
        axes.set_title(f"{name}{gap}", loc="left")
        axes.set_ylabel("area of all bones (% of the image)" if name == "area" else f"{name} ({UNITS[name]})")
    return figure


def overlap(table: pd.DataFrame) -> Figure:
    """Draws the pairs with the largest overlap relative to the smaller class, mean over images with both."""
    rows = table.head(MAX_PAIRS)
    figure, (axes,) = new_figure(1, 1, width=7, height=0.28 * len(rows) + 1.2)
    names = [f"{a} & {b}" for a, b in zip(rows["class"], rows["other"], strict=True)]
    axes.barh(names, 100 * rows["of_smaller_mean"], color=COLOURS["train"], height=0.7)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel("shared area (% of the smaller class, mean over images with both)")
    axes.set_title(f"The {len(rows)} largest of {len(table)} overlaps between classes", loc="left")
    return figure


def brightness(images: pd.DataFrame) -> Figure:
    """Draws the fraction of bright pixels, images sorted, and the sizes of noise bands if there are any."""
    banded = bool(images["noise_band"].any())
    figure, (first, *others) = new_figure(1, 1 + banded, width=9 if banded else 5, height=3.4)
    for split, rows in images.groupby("split", sort=False):
        values = np.sort(100 * rows["bright"].to_numpy())
        first.plot(np.linspace(0, 100, len(values)), values, color=COLOURS[str(split)], label=f"{split}, {len(values)}")
    out = images[images["bright_outlier"]]
    if len(out):
        first.axhline(100 * out["bright"].min(), color="black", linewidth=1, linestyle="--")
    first.set_title(f"Bright pixels: {len(out)} outliers, above the dashed line", loc="left")
    first.set_xlabel("images, darkest to brightest (%)")
    first.set_ylabel("pixels ≥ 240 (%, outside noise bands)")
    first.legend(frameon=False)
    for axes in others:
        _noise_bands(axes, images)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes the figure as a PNG, atomically."""
    data = io.BytesIO()
    FigureCanvasAgg(figure).print_png(data)
    write_bytes(path, data.getvalue())


def _noise_bands(axes: Axes, images: pd.DataFrame) -> None:
    for split, rows in images.groupby("split", sort=False):
        found = rows[rows["noise_band"]].groupby(["noise_left", "noise_top"]).size().reset_index(name="images")
        hollow = split == "test"  # both may be at one point
        axes.scatter(
            found["noise_left"], found["noise_top"], s=(60 if hollow else 24) * np.sqrt(found["images"]),
            edgecolors=COLOURS[str(split)], facecolors="none" if hollow else COLOURS[str(split)],
            label=f"{split}, {found['images'].sum()} of {len(rows)}",
        )  # fmt: skip
    axes.set_title("Noise bands", loc="left")
    axes.set_xlabel("columns at the left (pixels)")
    axes.set_ylabel("rows at the top (pixels)")
    deepest = max(1.0, float(images[["noise_left", "noise_top"]].max().max()))
    axes.set_xlim(0, 1.4 * deepest)
    axes.set_ylim(0, 1.4 * deepest)
    axes.legend(frameon=False, loc="lower left", markerscale=0.7)


def new_figure(
    rows: int, columns: int, *, width: float, height: float, share_axes: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure, in inches, and its axes, row by row."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    axes = figure.subplots(
        rows, columns, squeeze=False, sharex=share_axes and columns == 1, sharey=share_axes and rows == 1
    )
    for one in axes.flat:
        one.spines[["top", "right"]].set_visible(False)
        one.title.set_fontsize(10)
    return figure, list(axes.flat)
