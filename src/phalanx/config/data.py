"""The data set: what is common to all tasks."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from ..runtime.spelling import nfc
from .base import Place, Positive, Seed, Side, Strict, nearest

PREPROCESSING = ("blackout", "background", "contrast")  # options that change every image, in training and prediction
Name = Annotated[str, AfterValidator(nfc)]  # in the form that labels are compared in


def _option(value: object) -> float | str:
    """An option of a phantom. Raises PydanticCustomError unless it is a number from 0 to a million, or a word."""
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except ValueError:
        if isinstance(value, str) and value.isascii() and value.isidentifier() and len(value) <= 20:
            return value
        number = None
    if number is None:
        raise PydanticCustomError("option", "must be a number or a word")
    if not 0 <= number <= 1_000_000:
        raise PydanticCustomError("option", "must be from 0 to 1000000")
    return number


Option = Annotated[Annotated[float, Field(ge=0, le=1_000_000)] | str, BeforeValidator(_option)]


class Phantom(Strict):
    """The synthetic data set that is used if ``data.root`` is null; see ``phalanx phantom KIND --help``."""

    kind: Literal["hand", "ultrasound", "brain", "pet"] = "hand"
    patients: Annotated[int, Field(ge=1, le=100_000)] = 80
    size: Annotated[int, Field(ge=128, le=2048)] = 512
    seed: Seed = 0
    # others of this kind, such as marked=0.5 of ultrasound, or disease=ch02 of pet
    options: dict[str, Option] = {}


def check_pattern(pattern: str | None) -> None:
    """Raises ValueError unless a ``group_pattern`` is a regular expression with one group."""
    if pattern is None:
        return
    try:
        groups = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"group_pattern: not a regular expression ({error})") from None
    if groups != 1:
        raise ValueError(f"group_pattern: needs one group in brackets that names the patient, has {groups}")


class Balanced(Strict):
    """How often an epoch shows the images of each class; held-out images are always used once."""

    # ratio in which an epoch shows the classes, 1 for those that are not named; null: as many as there are
    balance: dict[Name, Positive] | None = None
    # longer: images of rare classes are repeated; same: an epoch has as many images as before, with fewer of the
    # frequent classes; null: longer
    balance_epoch: Literal["longer", "same"] | None = None

    def check_balance(self, names: Sequence[str]) -> None:
        """Raises ValueError unless the ratio is of ``names``; fills in the default of ``balance_epoch``."""
        if self.balance is None:
            if self.balance_epoch is not None:
                raise ValueError("balance_epoch: only balance uses it; give a ratio, as in balance={diseased: 1}")
            return
        self.balance_epoch = self.balance_epoch or "longer"
        if not self.balance:
            raise ValueError("balance: names no class; give a number per class, as in {healthy: 8}, or null")
        for name in self.balance:
            if name not in names:
                raise ValueError(f"balance: {name!r} is not a class{nearest(name, names)}")


class Data(Strict):
    """What the data sets of all tasks have in common."""

    name: str
    root: Place | None = None  # the data set's folder, or a tar of it; null: the phantom below, generated once in data/
    phantom: Phantom | None = None
    classes: list[Name] = Field(min_length=1, max_length=1024)
    pairs: Annotated[list[tuple[Name, Name]], Field(max_length=512)] = []  # left-right partners, swapped by a flip
    size: Side  # input size: long side of the image in pixels
    folds_file: Path | None = None  # null: folds grouped by patient, drawn from the seed
    cache: Literal["ram", "disk", "none"] = "ram"  # where images and masks at the input size are cached
    cache_gb: Annotated[float, Field(ge=0, le=100_000)] = 4.0  # limit of the cache; other images are read each time
    # of cache=disk; shared by processes, runs and data sets. null: data/cache, or this machine's own disk if that is on
    # a network file system
    cache_dir: Path | None = None
    quarantine: Path | None = None  # training images to leave out, as written by `phalanx check quarantine=`
    skip_unlabelled: bool = False  # true: skip images without an annotation; false: they are an error
    layout: str  # of images and ground truth in root
    blackout: Annotated[int, Field(ge=0, le=512)] = 0  # rows and columns at the top and left set to 0, of 2048
    background: Literal["keep", "contour"] = "keep"  # contour: 0 outside the largest bright region
    # stretch: the grey levels of what is brighter than air fill the range; clahe: evened out within neighbourhoods
    contrast: Literal["keep", "stretch", "clahe"] = "keep"

    @model_validator(mode="after")
    def _distinct(self) -> "Data":
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: a name appears twice")
        paired = [name for pair in self.pairs for name in pair]
        for name in paired:
            if name not in self.classes:
                raise ValueError(f"pairs: {name!r} is not a class{nearest(name, self.classes)}")
            if paired.count(name) > 1:
                raise ValueError(f"pairs: {name!r} appears twice; a class has at most one partner")
        return self

    @property
    def pair_indices(self) -> list[tuple[int, int]]:
        """Indices of the classes that a flip swaps."""
        index = {name: i for i, name in enumerate(self.classes)}
        return [(index[a], index[b]) for a, b in self.pairs]
