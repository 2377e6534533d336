"""What is said below each figure of an exploration: whom it shows, whom it leaves out, and why."""

from collections.abc import Sequence

import pandas as pd

from ..config.ranges import UNITS
from ..data.brightness import BRIGHT
from ..data.rotation import BASE, TIP
from .tables import patients

NAMED = 40  # images that a caption names; the table has all


def captions(images: pd.DataFrame) -> dict[str, str]:
    """The caption of each plot by its name."""
    people = patients(images)
    bright = images.loc[images["bright_outlier"], "image_name"].tolist()
    banded = images.loc[images["noise_band"], "image_name"].tolist()
    found = {
        "rotation": _rotation(images),
        "brightness": f"Of all {len(images)} images. Unusually many pixels of {BRIGHT} or more, outside noise bands: "
                      f"{_named(bright)}. With noise bands: {_named(banded)}.",
        "overlap": f"Of the {int(images['area'].notna().sum())} annotated images; {int(images['area'].isna().sum())} "
                   "without annotation are left out, such as those of the test set.",
    }  # fmt: skip
    if "sex" in people:
        lacking = [f"{int(people[name].isna().sum())} without {name}" for name in ("sex", *UNITS) if name in people]
        found["shift"] = f"Of {len(people)} patients; each comparison leaves out those without its value: " \
                         f"{', '.join(lacking)}."  # fmt: skip
        annotated = people[people["area"].notna()]
        lacking = [f"{int(annotated[name].isna().sum())} without {name}" for name in UNITS if name in annotated]
        found["size"] = (
            f"Of the {len(annotated)} annotated patients of {len(people)}: of others the area is not known. Left out "
            f"are also {', '.join(lacking)}; the joint regression needs all of these and the sex."
        )
        once = people.drop_duplicates("group")
        both = once.dropna(subset=[name for name in ("sex", "height", "weight") if name in once])
        found["sex"] = (
            f"Of {len(once)} patients, {int(once['sex'].isna().sum())} without sex are left out. Areas are known of "
            f"{int(once['area'].notna().sum())}. The regression of height and weight on sex is over the {len(both)} "
            "patients with all three. Bars are the mean and its 95% interval."
        )
    return found


def _rotation(images: pd.DataFrame) -> str:
    parts = []
    for column, source in (("degrees", "annotations"), ("degrees_csv", "csv")):
        if column in images:
            for split, rows in images.groupby("split"):
                if known := int(rows[column].notna().sum()):
                    parts.append(f"{known} of {len(rows)} {split} images by {source}")
    left = f"Images without annotation, or without {BASE} or {TIP}, have no measured rotation and are left out."
    return f"Shown are {'; '.join(parts) or 'none'}. {left}"


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown or "none"
