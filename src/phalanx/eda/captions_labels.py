"""What is said below each figure of an exploration of images with labels: of which images it is, and which it lacks."""

from collections.abc import Mapping, Sequence

import pandas as pd

from .label_plots import MAX_CLASSES


def captions(tables: Mapping[str, pd.DataFrame], classes: Sequence[str], unusable: int) -> dict[str, str]:
    """The caption of each plot by its name.

    Args:
        tables: of the exploration.
        unusable: images that cannot be read.
    """
    images, people = tables["images"], tables["patients"]
    train, test = (int((images["split"] == split).sum()) for split in ("train", "test"))
    table = tables["classes"]
    lacking = [f"{row['class']} {row['not_labelled']}" for _, row in table.iterrows() if row["not_labelled"]]
    cut = f" Only the first {MAX_CLASSES} of {len(classes)} classes are drawn; the table has all." if len(
        classes) > MAX_CLASSES else ""  # fmt: skip
    broken = f" {unusable} unusable images are left out." if unusable else ""
    unlabelled = (
        f"Images that are not labelled are neither with nor without a class: {', '.join(lacking[:MAX_CLASSES])}."
        if lacking
        else "Every training image is labelled for every class."
    )
    of_train = f"Of {int(people['images'].sum())} training images; test images are left out, as their labels are for "
    found = {
        "classes": f"{of_train}scores alone. {unlabelled}{cut}",
        "patients": f"Of {len(people)} training patients; those of test images are left out.",
        "sizes": f"Of {train} training and {test} test images.{broken}",
        "intensity": f"Of {train} training and {test} test images, which have no class here.{broken} {unlabelled}{cut}",
    }
    pairs = tables["cooccurrence"]
    if len(pairs):
        fewest, most = int(pairs["labelled"].min()), int(pairs["labelled"].max())
        span = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        found["cooccurrence"] = f"Each pair is of the {span} training images that are labelled for both classes.{cut}"
    if len(tables["folds"]):
        found["folds"] = f"Of the {int(tables['folds']['images'].sum())} training images in the fold file.{cut}"
    return found
