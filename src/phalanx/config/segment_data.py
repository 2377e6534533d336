"""The data set of a segmentation: layout of its masks or polygons, rules for its training images, crops."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from .base import Count, Fraction, Side, Strict, nearest
from .data import Balanced, Data, Name, check_pattern
from .loss import BACKGROUND
from .ranges import UNITS, parse_range

Factor = Annotated[float, Field(gt=0, le=1000)]  # an epoch becomes as much longer
Ranges = Annotated[  # factor by range; YAML reads a plain 17 as a number, which the message about ranges should name
    dict[str, Factor],
    BeforeValidator(lambda value: {str(k): v for k, v in value.items()} if isinstance(value, dict) else value),
]


class Oversample(Strict):
    """How often an epoch shows an image, by its attributes; factors that apply together are multiplied."""

    rotated: Factor = 1.0  # hands rotated at the wrist, as measured on the annotations by data/rotation.py
    sex: dict[Literal["male", "female"], Factor] = {}  # of the patient, from the metadata sheet, as all below
    age: Ranges | None = None  # factor by range of years, as {..17: 3, 65..: 2}, both ends included
    height: Ranges | None = None  # by range of cm
    weight: Ranges | None = None  # by range of kg

    @model_validator(mode="after")
    def _ranges(self) -> "Oversample":
        for attribute in UNITS:
            ranges = sorted((parse_range(text, attribute), text) for text in getattr(self, attribute) or {})
            for (one, text), (other, after) in pairwise(ranges):
                if one.high >= other.low:
                    raise ValueError(
                        f"{attribute}: {text} and {after} both contain {other.low:g}; ranges include both ends"
                    )
        return self

    def factors(self) -> dict[tuple[str, Any], float]:
        """Factor other than 1 for each (attribute, value or Range)."""
        factors: dict[tuple[str, Any], float] = {("rotated", True): self.rotated}
        factors |= {("sex", value): factor for value, factor in self.sex.items()}
        for attribute in UNITS:
            factors |= {
                (attribute, parse_range(text, attribute)): f for text, f in (getattr(self, attribute) or {}).items()
            }
        return {key: factor for key, factor in factors.items() if factor != 1}


class DropDice(Strict):
    """Images with a low mean Dice of the out-of-fold predictions of an earlier run. Give one of the two limits."""

    run: str = Field(min_length=1)  # name of the run; all its folds must be finished
    below: Fraction | None = None  # drop images with a Dice below this
    worst: Count | None = None  # drop this many, the lowest first

    @model_validator(mode="after")
    def _one(self) -> "DropDice":
        if (self.below is None) == (self.worst is None):
            raise ValueError("below: give either below or worst")
        return self


class Drop(Strict):
    """Rules for training images to leave out; see data/drop.py."""

    bright: Annotated[float, Field(ge=0, le=1e6)] | None = None  # interquartile ranges above the upper quartile
    dice: DropDice | None = None

    @model_validator(mode="after")
    def _some(self) -> "Drop":
        if self.bright is None and self.dice is None:
            raise ValueError("bright: give bright or dice, or data.drop=null for no rule")
        return self


class Coco(Strict):
    """Files of a data set in COCO JSON, relative to ``data.root``."""

    train: str = "train.json"
    test: str | None = None  # images to predict: such a file, whose annotations are ignored, or a folder of images
    images: str = "images"  # folder that file_name is relative to
    group: str = "folder"  # patient: folder (of file_name), image (one each), or a key of the image's entry


Paths = Annotated[
    list[str],
    Field(min_length=1, max_length=64),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
]


class Masks(Strict):
    """Folders of a data set with masks as PNG, relative to ``data.root``."""

    images: str = "train/images"
    masks: str = "train/masks"  # <image>.png (labels), <image>/<class>.png or <image>_<class>.png (classes)
    test: str | None = "test/images"
    kind: Literal["labels", "classes"] = "labels"
    values: dict[Name, Annotated[int, Field(ge=1, le=65535)]] | None = None  # value by class; null: 1, 2, ... in order
    group: Literal["folder", "image"] = "folder"  # patient: the folder of an image, or each image; instead of it:
    group_pattern: str | None = None  # a regular expression whose first group names the patient in an image's name
    patients: Paths | None = None  # a CSV with a row per image, or several
    image_column: str = "image_name"  # of it: names of images, with or without their ending
    patient_column: str = "patient"

    @model_validator(mode="after")
    def _plain(self) -> "Masks":
        if self.values is not None and self.kind != "labels":
            raise ValueError("values: only for kind=labels; a mask of one class has no values")
        check_pattern(self.group_pattern)
        given = [key for key in ("group_pattern", "patients") if getattr(self, key) is not None]
        if len(given) > 1 or (given and self.group != "folder"):
            raise ValueError(f"{given[-1]}: names the patients, as another option does; leave one of the two out")
        if self.values is not None and len(set(self.values.values())) < len(self.values):
            raise ValueError("values: two classes have the same value")
        return self


class SegmentData(Data, Balanced):
    """Images with masks or polygons of overlapping classes."""

    drop: Drop | None = None  # by a rule, only in training; held-out images stay
    oversample: Oversample | None = None  # only in training; held-out images are always used once
    layout: Literal["competition", "coco", "masks"] = "competition"
    overlap: Literal["allow", "last"] = "allow"  # last: a pixel of several classes has the last of them alone
    coco: Coco | None = None  # null: the defaults, if the layout is coco
    masks: Masks | None = None  # null: the defaults, if the layout is masks
    crop: Side | None = None  # train on square crops of this side
    crop_foreground: Fraction = 0.5  # fraction of crops around a pixel of some class; the others are anywhere

    @property
    def may_overlap(self) -> bool:
        """Whether a pixel may have several classes; label maps give it one."""
        maps = self.layout == "masks" and (self.masks is None or self.masks.kind == "labels")
        return self.overlap == "allow" and not maps

    @model_validator(mode="after")
    def _consistent(self) -> "SegmentData":
        made = "masks" if self.phantom and self.phantom.kind == "pet" else "competition"
        if self.root is None and (self.phantom is None or self.layout != made):
            raise ValueError("root: name the data set's folder, as in data.root=/path/to/dataset")
        if self.crop is not None and self.crop > self.size:
            raise ValueError(f"crop: {self.crop} is larger than the image (data.size={self.size})")
        for name, kind in (("coco", Coco), ("masks", Masks)):
            if self.layout == name:
                setattr(self, name, getattr(self, name) or kind())
            elif getattr(self, name) is not None:
                raise ValueError(f"{name}: only for data.layout={name}; the layout is {self.layout}")
        self.check_balance([*self.classes, BACKGROUND])
        values = self.masks.values if self.masks else None
        for name in values or {}:
            if name not in self.classes:
                raise ValueError(f"masks.values: {name!r} is not a class{nearest(name, self.classes)}")
        without = [name for name in self.classes if values is not None and name not in values]
        if without:
            raise ValueError(f"masks.values: no value for {without[0]!r}; list each class, or null for 1, 2, ...")
        return self
