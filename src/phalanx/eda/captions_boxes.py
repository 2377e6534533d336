"""What is said below each figure of an exploration of images with objects: of which it is, and what it lacks."""

from collections.abc import Mapping, Sequence

import pandas as pd

from .box_plots import MAX_CLASSES


def captions(tables: Mapping[str, pd.DataFrame], classes: Sequence[str], tested: int) -> dict[str, str]:
    """The caption of each plot by its name.

    Args:
        tables: of the exploration.
        tested: images of the test set.
    """
    images, objects = tables["images"], tables["objects"]
    empty = int((images["objects"] == 0).sum())
    cut = f" Only the first {MAX_CLASSES} of {len(classes)} classes are drawn; the table has all." if len(
        classes) > MAX_CLASSES else ""  # fmt: skip
    left = f"The {tested} test images are left out: their objects are for scores alone." if tested else (
        "There are no test images.")  # fmt: skip
    lack = f"; the {empty} images without one are left out" if empty else ", each of which has one"
    of_objects = f"Of the {len(objects)} objects in {len(images)} training images{lack}."
    none = [name for name in classes if name not in set(objects["class"])]
    absent = f" Without any object: {', '.join(none[:MAX_CLASSES])}." if none else ""
    found = {
        "classes": f"{of_objects}{absent} {left}{cut}",
        "objects_per_image": f"Of {len(images)} training images, {empty} without an object among them. {left}",
        "sizes": f"{of_objects} Sides are those of the box in pixels of the input.",
        "aspect": f"{of_objects}{absent}{cut}",
        "places": f"{of_objects} Centres are fractions of the image's width and height.",
    }
    if len(tables["anchors"]):
        found["anchors"] = f"Of the {len(objects)} training objects.{absent}"
    return found
