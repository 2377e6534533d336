"""The tables of ``phalanx eda``, from the measurements of each image and the metadata sheet."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..config.ranges import UNITS
from ..data.brightness import fence
from ..data.metadata import COLUMNS, rows_of
from ..data.rotation import LIMIT
from .measure import Measured
from .stats import Effect, cohens_d, correlation, joint_regression, proportion_difference, regression

MIN_BAND = 0.005  # fraction of the side; thinner noise is not counted as a band
PROPORTIONS = "difference in proportions"


def image_table(measured: Sequence[Measured], sheet: pd.DataFrame | None) -> pd.DataFrame:
    """Returns one row per image: its measurements, and its patient's metadata if there is a sheet."""
    table = pd.DataFrame(
        [
            {
                "image_name": row.name, "group": row.group, "split": row.split, "height_px": row.height,
                "width_px": row.width, "degrees": row.degrees, "area": sum(row.areas) if row.areas else math.nan,
                "bright": row.bright, "noise_top": row.top, "noise_left": row.left,
            }
            for row in measured
        ]
    )  # fmt: skip
    ours = table.loc[table["split"] == "train", "bright"]  # outliers are defined by the training images
    table["bright_outlier"] = table["bright"] > fence((ours if len(ours) else table["bright"]).to_list())
    table["noise_band"] = (table["noise_top"] > MIN_BAND * table["height_px"]) | (
        table["noise_left"] > MIN_BAND * table["width_px"]
    )
    if sheet is not None:
        rows = rows_of(sheet, table["group"])
        for column in COLUMNS:
            table[column] = rows[column].to_numpy()
    return table


def patients(images: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per patient and split: rotated if any hand is, mean area, metadata."""
    best = images["degrees"].where(images["degrees"].notna(), images.get("degrees_csv", math.nan))
    table = images.assign(rotated=(best >= LIMIT).astype(float).where(best.notna()))
    kept = {name: (name, "first") for name in COLUMNS if name in table}
    return (
        table.groupby(["split", "group"]).agg(rotated=("rotated", "max"), area=("area", "mean"), **kept).reset_index()
    )


def shift_table(images: pd.DataFrame) -> pd.DataFrame:
    """Compares train and test by patients: differences in proportions and Cohen's d, with 95% intervals."""
    people = patients(images)
    sides = [people[people["split"] == split] for split in ("train", "test")]
    rows: list[dict[str, Any]] = []
    proportions: dict[str, Callable[[pd.DataFrame], Any]] = {
        "rotated": lambda side: side["rotated"].dropna(),
        "male": lambda side: (side["sex"].dropna() == "male") if "sex" in side else pd.Series(dtype=float),
    }
    for attribute, values in proportions.items():
        a, b = (values(side).astype(float) for side in sides)
        if len(a) and len(b):
            effect = proportion_difference(int(a.sum()), len(a), int(b.sum()), len(b))
            rows.append(_shift_row(attribute, PROPORTIONS, a.to_numpy(), b.to_numpy(), effect))
    for attribute in UNITS:
        if attribute in people:
            a, b = (side[attribute].dropna().to_numpy(float) for side in sides)
            if len(a) > 1 and len(b) > 1:
                rows.append(_shift_row(attribute, "Cohen's d", a, b, cohens_d(a, b)))
    columns = [
        "attribute",
        "patients_train",
        "patients_test",
        "train",
        "test",
        "ratio",
        "effect",
        "value",
        "low",
        "high",
    ]
    return pd.DataFrame(rows, columns=columns)


def size_table(images: pd.DataFrame) -> pd.DataFrame:
    """Relates the annotated area of a patient to the metadata: single correlations and one joint regression."""
    people = patients(images).dropna(subset=["area"])
    columns = ["relation", "attribute", "value", "low", "high", "patients", "r_squared"]
    if "sex" not in people or not len(people):
        return pd.DataFrame(columns=columns)
    area = people["area"].to_numpy()
    factors = {name: people[name].to_numpy(float) for name in UNITS}
    factors["male"] = people["sex"].map({"male": 1.0, "female": 0.0}).to_numpy(float)
    factors = {name: column for name, column in factors.items() if np.isfinite(column).any()}
    rows: list[dict[str, Any]] = []
    for name, column in factors.items():
        count = int(np.isfinite(column).sum())
        rows.append(
            {"relation": "correlation", "attribute": name, **correlation(column, area)._asdict(), "patients": count}
        )
    effects, explained, count = regression(factors, area) if factors else ({}, math.nan, 0)
    for name, effect in effects.items():
        rows.append(
            {"relation": "regression", "attribute": name, **effect._asdict(), "patients": count, "r_squared": explained}
        )
    return pd.DataFrame(rows, columns=columns)


def sex_table(images: pd.DataFrame) -> pd.DataFrame:
    """What goes with a patient's sex: area of the bones (Cohen's d), and height and weight, regressed on it jointly.

    Patients of both splits count; areas are known of annotated ones alone.
    """
    columns = ["relation", "attribute", "unit", "value", "low", "high", "patients", "r_squared", "p"]
    people = patients(images)
    if "sex" not in people:
        return pd.DataFrame(columns=columns)
    people = people.drop_duplicates("group")
    male = people["sex"].map({"male": 1.0, "female": 0.0}).to_numpy(float)
    rows: list[dict[str, Any]] = []
    area = people["area"].to_numpy(float)
    effect = cohens_d(area[male == 0], area[male == 1])
    if math.isfinite(effect.value):
        count = int((np.isfinite(area) & np.isfinite(male)).sum())
        rows.append({"relation": "area, male less female", "attribute": "area", "unit": "SD", **effect._asdict(),
                     "patients": count})  # fmt: skip
    measures = {name: people[name].to_numpy(float) for name in ("height", "weight") if name in people}
    if measures:
        found = joint_regression(measures, male)
        for name, one in found.effects.items():
            rows.append({"relation": "regression on sex, male less female", "attribute": name, "unit": UNITS[name],
                         **one._asdict(), "patients": found.rows, "r_squared": found.explained[name],
                         "p": found.p})  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def class_table(measured: Sequence[Measured], images: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Returns one row per class: number of images, area, and the correlation of its area with the metadata."""
    annotated = [i for i, row in enumerate(measured) if row.areas]
    areas = np.array([measured[i].areas for i in annotated]).reshape(len(annotated), len(classes))
    areas[areas == 0] = math.nan
    known = images.iloc[annotated]
    rows = []
    for label, name in enumerate(classes):
        own = areas[:, label]
        present = own[np.isfinite(own)]
        row: dict[str, Any] = {"class": name, "images": len(present)}
        row["area_mean"] = present.mean() if len(present) else math.nan
        row["area_sd"] = present.std(ddof=1) if len(present) > 1 else math.nan
        for attribute in UNITS:
            if attribute in known:
                row[f"r_{attribute}"] = correlation(known[attribute].to_numpy(float), own).value
        rows.append(row)
    return pd.DataFrame(rows)


def overlap_table(measured: Sequence[Measured], classes: Sequence[str]) -> pd.DataFrame:
    """Returns the pairs of classes that share pixels in any image, the largest overlap first.

    ``images`` counts images in which they overlap, ``images_both`` those with both classes. The means, of the shared
    area and of its fraction of the smaller class, are over the latter.
    """
    present = np.array([row.areas for row in measured if row.areas]).reshape(-1, len(classes)) > 0
    both = present.astype(int).T @ present.astype(int)
    sums: dict[tuple[int, int], list[float]] = {}
    for row in measured:
        for a, b, shared in row.overlaps:
            found = sums.setdefault((a, b), [0, 0.0, 0.0])
            found[0] += 1
            found[1] += shared
            found[2] += shared / min(row.areas[a], row.areas[b])
    rows = [
        {
            "class": classes[a], "other": classes[b], "images": count, "images_both": both[a, b],
            "area_mean": total / both[a, b], "of_smaller_mean": parts / both[a, b],
        }
        for (a, b), (count, total, parts) in sums.items()
    ]  # fmt: skip
    columns = ["class", "other", "images", "images_both", "area_mean", "of_smaller_mean"]
    return pd.DataFrame(rows, columns=columns).sort_values(["of_smaller_mean", "class"], ascending=False)


def _shift_row(attribute: str, effect: str, a: np.ndarray, b: np.ndarray, found: Effect) -> dict[str, Any]:
    ratio = b.mean() / a.mean() if a.mean() else math.nan
    return {"attribute": attribute, "patients_train": len(a), "patients_test": len(b), "train": a.mean(),
            "test": b.mean(), "ratio": ratio, "effect": effect, **found._asdict()}  # fmt: skip
