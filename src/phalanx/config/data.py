"""The data set: where it lies, how it is read, which images count, how they are kept."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from .base import Count, Fraction, Positive, Strict, nearest
from .ranges import UNITS, parse_range

Ranges = Annotated[  # factor by range; YAML reads a lone 17 as a number, and the message should be about ranges
    dict[str, Positive],
    BeforeValidator(lambda told: {str(k): v for k, v in told.items()} if isinstance(told, dict) else told),
]


class Phantom(Strict):
    """The synthetic set that stands in where ``data.root`` is null."""

    kind: Literal["hand"] = "hand"
    patients: Count = 80
    size: Annotated[int, Field(ge=128, le=2048)] = 512
    seed: int = 0


class Oversample(Strict):
    """How often an epoch shows an image, by what is known of it; factors that apply together are multiplied."""

    rotated: Positive = 1.0  # hands turned at the wrist, as data/rotation.py measures it on the annotations
    sex: dict[Literal["male", "female"], Positive] = {}  # of the patient, by the metadata sheet, as all below
    age: Ranges | None = None  # factor by range of years, as {..17: 3, 65..: 2}, ends included
    height: Ranges | None = None  # by range of cm
    weight: Ranges | None = None  # by range of kg

    @model_validator(mode="after")
    def _ranges(self) -> "Oversample":
        for trait in UNITS:
            held = sorted((parse_range(text, trait), text) for text in getattr(self, trait) or {})
            for (one, text), (other, after) in pairwise(held):
                if one.high >= other.low:
                    raise ValueError(
                        f"{trait}: {text} and {after} both hold {other.low:g}; both ends belong to a range"
                    )
        return self

    def factors(self) -> dict[tuple[str, Any], float]:
        """Factor for each (trait, value or Range) that has another than 1."""
        told: dict[tuple[str, Any], float] = {("rotated", True): self.rotated}
        told |= {("sex", value): factor for value, factor in self.sex.items()}
        for trait in UNITS:
            told |= {(trait, parse_range(text, trait)): f for text, f in (getattr(self, trait) or {}).items()}
        return {key: factor for key, factor in told.items() if factor != 1}


class DropDice(Strict):
    """Images that an earlier run finds wrong, by the mean Dice of its out-of-fold predictions. One of the limits."""

    run: str = Field(min_length=1)  # its name; all its folds must be finished
    below: Fraction | None = None  # drop images under this Dice
    worst: Count | None = None  # drop so many, the lowest first

    @model_validator(mode="after")
    def _one(self) -> "DropDice":
        if (self.below is None) == (self.worst is None):
            raise ValueError("below: give either this or worst")
        return self


class Drop(Strict):
    """Training images to leave out by a rule; see data/drop.py."""

    bright: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None  # quartile distances above the upper one
    dice: DropDice | None = None

    @model_validator(mode="after")
    def _some(self) -> "Drop":
        if self.bright is None and self.dice is None:
            raise ValueError("bright: give this rule or dice, or data.drop=null for none")
        return self


class Coco(Strict):
    """Names of a data set in COCO JSON, all below ``data.root``."""

    train: str = "train.json"
    test: str | None = None  # images to predict; their annotations, if any, are not looked at
    images: str = "images"  # folder that file_name starts from
    group: str = "folder"  # patient: folder (of file_name), image (each its own), or a key of the image's entry


class Masks(Strict):
    """Names of a data set with masks as PNG, all below ``data.root``."""

    images: str = "train/images"
    masks: str = "train/masks"  # <image>.png (labels), <image>/<class>.png or <image>_<class>.png (classes)
    test: str | None = "test/images"
    kind: Literal["labels", "classes"] = "labels"
    values: dict[str, Annotated[int, Field(ge=1, le=65535)]] | None = None  # class to value; null: 1, 2, ... in order
    group: Literal["folder", "image"] = "folder"  # patient: the folder of an image, or each image its own

    @model_validator(mode="after")
    def _plain(self) -> "Masks":
        if self.values is not None and self.kind != "labels":
            raise ValueError("values: belong to kind=labels; a mask of one class has no values")
        if self.values is not None and len(set(self.values.values())) < len(self.values):
            raise ValueError("values: two classes have the same")
        return self


class Data(Strict):
    name: str
    root: Path | None = None  # the data set's folder; null: the phantom below, made once under data/
    phantom: Phantom | None = None
    classes: list[str] = Field(min_length=1)
    pairs: list[tuple[str, str]] = []  # left-right partners that a mirror exchanges
    size: Annotated[int, Field(ge=32, multiple_of=32)]  # long side of the working grid in pixels
    folds_file: Path | None = None  # null: grouped folds are drawn from the seed
    cache: Literal["ram", "disk", "none"] = "ram"  # where images and masks of the working grid are kept once made
    cache_gb: Annotated[float, Field(ge=0)] = 4.0  # up to this; the rest is read anew each time
    cache_dir: Path = Path("data/cache")  # of cache=disk, for any number of processes, runs and data sets
    quarantine: Path | None = None  # file of training images to leave out, as `phalanx check quarantine=` writes it
    drop: Drop | None = None  # by a rule, in training alone: held-out images stay
    skip_unlabelled: bool = False  # true: images without an annotation file are left out instead of refused
    oversample: Oversample | None = None  # in training alone; held-out images are always seen once
    layout: Literal["competition", "coco", "masks"] = "competition"  # how images and truth lie under root
    coco: Coco | None = None  # null: the defaults, where the layout is coco
    masks: Masks | None = None  # null: the defaults, where the layout is masks
    blackout: Annotated[int, Field(ge=0, le=512)] = 0  # rows and columns at the top and left set to 0, of 2048
    background: Literal["keep", "contour"] = "keep"  # contour: 0 outside the largest bright region
    crop: Annotated[int, Field(ge=32, multiple_of=32)] | None = None  # train on windows of this side of the grid
    crop_foreground: Fraction = 0.5  # share of the windows laid around a pixel of some class; the others lie anywhere

    @property
    def pair_indices(self) -> list[tuple[int, int]]:
        """Numbers of the classes that a mirror exchanges."""
        index = {name: i for i, name in enumerate(self.classes)}
        return [(index[a], index[b]) for a, b in self.pairs]

    @model_validator(mode="after")
    def _consistent(self) -> "Data":
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: a name stands twice")
        for name in [name for pair in self.pairs for name in pair]:
            if name not in self.classes:
                raise ValueError(f"pairs: {name!r} is no class{nearest(name, self.classes)}")
        paired = [name for pair in self.pairs for name in pair]
        for name in paired:
            if paired.count(name) > 1:
                raise ValueError(f"pairs: {name!r} stands there twice; a class has one partner at most")
        if self.root is None and (self.phantom is None or self.layout != "competition"):
            raise ValueError("root: name the data set's folder, as in data.root=/path/to/dataset")
        if self.crop is not None and self.crop > self.size:
            raise ValueError(f"crop: {self.crop} is more than the working grid has (data.size={self.size})")
        for name, kind in (("coco", Coco), ("masks", Masks)):
            if self.layout == name:
                setattr(self, name, getattr(self, name) or kind())
            elif getattr(self, name) is not None:
                raise ValueError(f"{name}: belongs to data.layout={name}, and the layout is {self.layout}")
        values = self.masks.values if self.masks else None
        for name in values or {}:
            if name not in self.classes:
                raise ValueError(f"masks.values: {name!r} is no class{nearest(name, self.classes)}")
        without = [name for name in self.classes if values is not None and name not in values]
        if without:
            raise ValueError(f"masks.values: gives no value for {without[0]!r}; name each class, or null for 1, 2, ...")
        return self
