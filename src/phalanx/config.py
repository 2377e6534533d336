"""The typed configuration: every key of a training run, its type, its range and its meaning.

YAML files in ``configs/`` hold the values; this file holds the law. An unknown key or an impossible value is
refused before anything is loaded, by a message that names the key and the nearest valid one.
"""

import difflib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from .errors import ConfigError
from .measures import UNITS, parse_range

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Ranges = Annotated[  # factor by range; YAML reads a lone 17 as a number, and the message should be about ranges
    dict[str, Positive],
    BeforeValidator(lambda told: {str(k): v for k, v in told.items()} if isinstance(told, dict) else told),
]

# Keys that may differ between two calls of the same run: they change where and how fast it is computed, not what.
RUNTIME_KEYS = (
    "runs", "workers", "device", "checkpoint_minutes", "progress",
    "data.root", "data.cache", "data.cache_gb", "data.cache_dir", "predict.batch", "model.checkpointing",
)  # fmt: skip


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True)


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
    below: Share | None = None  # drop images under this Dice
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
    quarantine: Path | None = None  # file of training images to leave out, as `phalanx check --quarantine` writes it
    drop: Drop | None = None  # by a rule, in training alone: held-out images stay
    skip_unlabelled: bool = False  # true: images without an annotation file are left out instead of refused
    oversample: Oversample | None = None  # in training alone; held-out images are always seen once
    layout: Literal["competition", "coco", "masks"] = "competition"  # how images and truth lie under root
    coco: Coco | None = None  # null: the defaults, where the layout is coco
    masks: Masks | None = None  # null: the defaults, where the layout is masks
    blackout: Annotated[int, Field(ge=0, le=512)] = 0  # rows and columns at the top and left set to 0, of 2048
    background: Literal["keep", "contour"] = "keep"  # contour: 0 outside the largest bright region
    crop: Annotated[int, Field(ge=32, multiple_of=32)] | None = None  # train on windows of this side of the grid
    crop_foreground: Share = 0.5  # share of the windows laid around a pixel of some class; the others lie anywhere

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


class PointRend(Strict):
    """Sizes of the point head and its sampling, in the paper's letters where it has them."""

    points: Count = 1024  # N: training points an image
    oversample: Positive = 3.0  # k: candidates a point
    importance: Share = 0.75  # beta: share of points taken where the coarse logits are unsure
    hidden: Count = 128
    layers: Annotated[int, Field(ge=1, le=8)] = 3
    subdivision_points: Count = 4096  # points re-predicted at each doubling of the grid


class Model(Strict):
    arch: str  # a decoder of segmentation-models-pytorch, hrnet_ocr, lraspp, residual_unet or swin_unetr
    encoder: str  # of segmentation-models-pytorch, or timm's with tu- before the name
    weights: str = "imagenet"  # imagenet (or another name the encoder knows), none, or a local file
    norm: Literal["group", "batch", "instance", "layer"] = "group"  # what BatchNorm becomes; layer: over channels
    drop_path: Annotated[float, Field(ge=0, lt=1)] | None = None  # of the encoder's last block; null: as published
    start: str | None = None  # a finished run, or the folder of one of its folds, whose final weights to begin with
    start_head: Literal["keep", "new"] = "keep"  # new: heads begin anew, as other classes need
    checkpointing: bool = False  # blocks are computed again for backward: less memory, a third more time
    compile: bool = False  # torch.compile around the training step's forward
    channels_last: bool = False
    pointrend: PointRend | None = None
    metadata: list[Literal["sex", "age", "height", "weight"]] = []  # of the patient, told at the bottleneck (FiLM)
    options: dict[str, Any] = {}  # numbers of the architecture: smp's constructor, or build() of ours

    @field_validator("metadata")
    @classmethod
    def _told_once(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("a trait stands twice")
        return names

    @model_validator(mode="after")
    def _begun(self) -> "Model":
        if self.start_head == "new" and self.start is None:
            raise ValueError("start_head=new: belongs to model.start, which names the run to begin with")
        if self.drop_path is not None and "drop_path_rate" in self.options:
            raise ValueError("drop_path: stands in model.options.drop_path_rate too; give one of them")
        return self


class Until(Strict):
    """End of a loss stage: after so many epochs, or when the training Dice of an epoch reaches a value."""

    epochs: Count | None = None
    dice: Share | None = None

    @model_validator(mode="after")
    def _one(self) -> "Until":
        if (self.epochs is None) == (self.dice is None):
            raise ValueError("give either epochs or dice")
        return self


class Stage(Strict):
    weights: dict[str, Positive] = Field(min_length=1)
    until: Until | None = None  # null: to the end


# A number for each class by name; ``others`` stands for all that are not named, and a number alone for all.
PerClass = Annotated[
    dict[str, Positive],
    BeforeValidator(lambda value: {"others": value} if isinstance(value, int | float) else value),
]


class Bce(Strict):
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # labels become half of this, and 1 minus half of it
    pos_weight: PerClass = {}  # of pixels where the class is; 1 where nothing is said


class Focal(Strict):
    gamma: Annotated[float, Field(ge=0, le=10)] = 2.0
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None  # weight of true pixels, of the others 1 - alpha


class Tversky(Strict):
    alpha: PerClass = {}  # price of false positives; 0.3 where nothing is said
    beta: PerClass = {}  # of false negatives; 0.7
    gamma: Annotated[float, Field(ge=1, le=10)] = 1.0  # focal Tversky: (1 - index)^(1 / gamma)


class LossOptions(Strict):
    bce: Bce | None = None  # null: the defaults, where a stage weighs the term
    focal: Focal | None = None
    tversky: Tversky | None = None

    def per_class(self) -> dict[str, PerClass]:
        """Every option that names classes, by its key."""
        found = {"bce.pos_weight": self.bce.pos_weight} if self.bce else {}
        return found | (
            {"tversky.alpha": self.tversky.alpha, "tversky.beta": self.tversky.beta} if self.tversky else {}
        )


class Loss(Strict):
    stages: list[Stage] = Field(min_length=1)
    options: LossOptions = Field(default_factory=LossOptions)
    class_weights: PerClass = {}  # share of a class in every term's mean, which keeps its scale; 1 where not named

    @model_validator(mode="after")
    def _read(self) -> "Loss":
        weighed = {term for stage in self.stages for term in stage.weights}
        for name, kind in (("bce", Bce), ("focal", Focal), ("tversky", Tversky)):
            if name in weighed:
                setattr(self.options, name, getattr(self.options, name) or kind())
            elif getattr(self.options, name) is not None:
                raise ValueError(f"options.{name}: no stage weighs {name!r}, so nothing would read it")
        return self

    @model_validator(mode="after")
    def _ordered(self) -> "Loss":
        if any(stage.until is None for stage in self.stages[:-1]):
            raise ValueError("stages: every stage but the last needs 'until', or those behind it never start")
        if self.stages[-1].until is not None:
            raise ValueError("stages: the last stage runs to the end and has no 'until'")
        return self


class Elastic(Strict):
    p: Share = 0.0
    strength: Share = 0.02  # standard deviation of the displacement, as a share of the image side
    cell: Share = 0.125  # distance of the control points, as a share of the image side


class GridDistortion(Strict):
    p: Share = 0.0
    steps: Annotated[int, Field(ge=2, le=64)] = 5  # strips a side
    limit: Annotated[float, Field(ge=0, lt=1)] = 0.3  # a strip becomes 1 - limit .. 1 + limit times as wide


class Augment(Strict):
    flip: Share = 0.0  # probability; classes of data.pairs change places with it
    warp: Share = 0.0  # probability of shift, scale and rotation together
    shift: Share = 0.0  # at most this share of the side
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0  # factor within 1 - scale .. 1 + scale
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0  # degrees either way
    elastic: Elastic = Elastic()
    grid: GridDistortion = GridDistortion()
    pixel: list[dict[str, Any]] = []  # albumentations image-only transforms: {name: ..., p: ..., ...}
    # Where the warp is computed. cuda: on the training GPU, so that few cores feed it; then the pixel transforms,
    # which stay in the loader's processes, come before the warp instead of after it, and the recipe is another one.
    device: Literal["cpu", "cuda"] = "cpu"


class Freeze(Strict):
    """The encoder's first stages keep their weights, and their norms and drop paths rest."""

    stages: Count  # from the image; those a feature map of the encoder ends, five in most
    epochs: Count | None = None  # from then on all learn; null: to the end


class Optim(Strict):
    name: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Share = 0.1  # share of all steps
    min_lr: Share = 0.0  # end of the cosine, as a share of lr
    clip: Annotated[float, Field(ge=0)] = 1.0  # largest gradient norm; 0 for none
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999  # decay of the weight average; 0 for none
    freeze: Freeze | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # factor of the learning rate an encoder stage, from behind


class Predict(Strict):
    tta: list[Literal["hflip"]] = []
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    batch: Count = 4


class Config(Strict):
    """One training recipe, resolved. ``data`` and ``model`` and the like are the folders of ``configs/``."""

    name: str
    data: Data
    model: Model
    loss: Loss
    augment: Augment
    optim: Optim
    predict: Predict
    seed: Annotated[int, Field(ge=0)] = 0
    folds: Annotated[int, Field(ge=2)] = 5
    epochs: Count = 100
    batch: Count = 2
    accumulate: Count = 1  # micro-batches of `batch` images a step
    validate_every: Count = 5  # epochs
    precision: Literal["auto", "32", "bf16", "fp16"] = "auto"
    device: str = "auto"  # auto, cpu, cuda or cuda:1
    workers: Annotated[int, Field(ge=-1)] = -1  # loader processes; -1: chosen for the machine
    checkpoint_minutes: Positive = 5.0
    progress: bool = True
    runs: Path = Path("runs")

    @model_validator(mode="after")
    def _usable(self) -> "Config":
        if self.data.drop and self.data.drop.dice and self.data.drop.dice.run == self.name:
            raise ValueError(f"data.drop.dice.run: {self.name} is this very run; name an earlier one, or give name=")
        terms = {term for stage in self.loss.stages for term in stage.weights}
        if "point" in terms and self.model.pointrend is None:
            raise ValueError("loss: weighs 'point', which needs a head: set model.pointrend, or drop the term")
        named = {"class_weights": self.loss.class_weights}
        named |= {f"options.{key}": values for key, values in self.loss.options.per_class().items()}
        for key, values in named.items():
            for name in values:
                if name not in (*self.data.classes, "others"):
                    known = nearest(name, [*self.data.classes, "others"])
                    raise ValueError(f"loss.{key}: {name!r} is no class{known}")
        if self.model.pointrend is not None and "point" not in terms:
            raise ValueError("model.pointrend: no loss stage weighs 'point', so the head would never learn")
        freeze = self.optim.freeze
        if freeze is not None and freeze.epochs is not None and freeze.epochs > self.epochs:
            raise ValueError(
                f"optim.freeze.epochs: {freeze.epochs} of {self.epochs} epochs; leave it out to freeze to the end"
            )
        return self


def nearest(word: str, known: Any) -> str:
    """', did you mean ...?' for the closest known word, or the list where nothing is close.

    >>> nearest("epoch", ["epochs", "batch"])
    '; did you mean epochs?'
    """
    names = sorted(map(str, known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"


def validate(values: dict[str, Any], kind: type[BaseModel] = Config) -> Any:
    """A typed configuration from plain values.

    Raises:
        ConfigError: one line a problem, each with the key, the value and the nearest valid key.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = [_line(problem, kind) for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _line(problem: Any, kind: type[BaseModel]) -> str:
    where = "".join(f"[{part}]" if "." in str(part) else f".{part}" for part in problem["loc"])[1:]
    if problem["type"] == "extra_forbidden":
        parent, _, key = where.rpartition(".")
        return f"{where}: no such option{nearest(key, known_keys(kind, parent))}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{where}: missing; give it as {where}=..."
    if problem["type"] == "value_error":
        return f"{where}.{message}" if where else message
    return f"{where}={problem['input']!r}: {message[0].lower()}{message[1:]}"


def known_keys(kind: type[BaseModel], dotted: str) -> list[str]:
    """Names of the options of the section ``dotted`` ('' for the top level)."""
    for part in dotted.split(".") if dotted else []:
        annotation = kind.model_fields[part].annotation if part in kind.model_fields else None
        options = [annotation, *getattr(annotation, "__args__", ())]
        kind = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), kind)
    return list(kind.model_fields)
