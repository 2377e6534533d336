"""The data set of a detection: images with boxes, or with outlines that boxes are made from."""

from typing import Literal

from pydantic import model_validator

from .base import Strict, nearest
from .data import Balanced, Data, Name, check_pattern
from .loss import BACKGROUND
from .segment_data import Coco


class BoxTable(Strict):
    """A data set whose boxes are in a CSV, relative to ``data.root``: one row per box, in pixels of the stored image.

    Its columns are image_name, class, x_min, y_min, x_max and y_max, and perhaps patient; an image without objects has
    one row, whose other columns are empty.
    """

    train: str = "train.csv"
    images: str = "train/images"  # folder of the training images, searched recursively
    test: str | None = "test/images"  # images to predict
    # a regular expression whose first group names the patient in an image's name, if no column does; null: each image
    # is its own patient
    group_pattern: str | None = None

    @model_validator(mode="after")
    def _one_group(self) -> "BoxTable":
        check_pattern(self.group_pattern)
        return self


class DetectData(Data, Balanced):
    """Images with objects."""

    # polygons: the competition's files, an object per annotation; coco_boxes: COCO JSON; boxes: a CSV
    layout: Literal["polygons", "coco_boxes", "boxes"]
    coco: Coco | None = None  # null: the defaults, if the layout is coco_boxes
    boxes: BoxTable | None = None  # null: the defaults, if the layout is boxes
    # the names in the files by class, with * and ? as wildcards, as in {tooth: ["tooth-*"]}; null: the class's own
    labels: dict[Name, list[Name]] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "DetectData":
        made = ("boxes", "coco_boxes") if self.phantom and self.phantom.kind == "pet" else ("polygons",)
        if self.root is None and (self.phantom is None or self.layout not in made):
            raise ValueError("root: name the data set's folder, as in data.root=/path/to/dataset")
        for name, layout, kind in (("coco", "coco_boxes", Coco), ("boxes", "boxes", BoxTable)):
            if self.layout == layout:
                setattr(self, name, getattr(self, name) or kind())
            elif getattr(self, name) is not None:
                raise ValueError(f"{name}: only for data.layout={layout}; the layout is {self.layout}")
        self.check_balance([*self.classes, BACKGROUND])  # the latter of images without objects
        if self.labels is None:
            return self
        for name in self.labels:
            if name not in self.classes:
                raise ValueError(f"labels: {name!r} is not a class{nearest(name, self.classes)}")
        if lacking := next((name for name in self.classes if not self.labels.get(name)), None):
            raise ValueError(f"labels: name those of {lacking!r} in the files, or null if they are the classes' own")
        return self
