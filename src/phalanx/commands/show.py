"""The command that shows a data set and what happens to its images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .args import split_places

if TYPE_CHECKING:
    from ..config import Augment

SHOW = """\
phalanx show [WHAT ...] data=NAME data.root=DIR out=DIR [images=4] [image=NAME] [key=value ...]

Pictures of a data set and of what a recipe does to its images; nothing is trained. Takes the keys of phalanx train, as
experiment=, augment= and seed=. Writes WHAT_1.png, ... and show.json, which lists each with its images, panels and
numbers. WHAT is any of these; without one, all that apply, and what does not apply is named with the reason:

  annotations            images beside their annotation: masks and boxes with numbers and a legend, labels in words
  rotation               rotated beside upright hands, with the line whose angle counts
  outliers               what phalanx check and the brightness find odd, with the reasons
  background             noise bands and background before and after data.blackout=, data.background=, data.contrast=
  marks                  burnt-in marks of images with labels before and after data.overlays=
  augment                each part of the recipe's augmentation alone, and each of configs/augment, beside the original
  mix                    mixup and CutMix of images with labels
  warp                   a regular grid drawn through the warp that moves image and annotation
  batch                  a batch as the network sees it: augmented, cropped, normalised
  distance               the distance map by which the boundary loss weighs pixels
  selection              images that data.* leaves out or repeats, with the reasons
  noise                  levels of noise of a denoiser (task=restore)

  out=DIR                the folder to write
  images=4               of each kind of picture; outliers: three times as many
  image=NAME             this image instead
  size=768               pixels of a panel's long side, 128 to 4096; of pages with many panels half of that
  seed=0                 of the draws
  workers=N              processes (default: all cores)      progress=false   no progress bar
"""
NONE = "none"  # the augmentation without options, an empty file
OWN = ("out", "images", "image", "size")


def show(words: Sequence[str]) -> None:
    """``phalanx show``."""
    what, pairs = split_places(words)
    if not pairs.get("out"):
        raise ConfigError("out=DIR: missing; name the folder for the pictures, as in out=runs/show")

    from ..config import nearest
    from ..config.compose import compose
    from ..config.words import typed
    from ..show.options import SECTIONS, ShowOptions

    for name in what:
        if name not in SECTIONS:
            raise ConfigError(f"{name}: not something to show{nearest(name, SECTIONS)}")
    options = typed(ShowOptions, {key: pairs.pop(key) for key in OWN if key in pairs})
    # a recipe that names an earlier run's failures may have any name but that run's
    config = compose({"name": "show"} | pairs)

    from ..data.root import resolve_root
    from ..show.run import show as draw
    from .tasks import TASKS

    config.data = resolve_root(config.data)
    written, left_out = draw(TASKS[config.task].show(config), what, options, augmentations())
    for name, why in left_out.items():
        print(f"not shown: {name}: {why}")
    print(f"{options.out}: {len(written)} picture(s), {', '.join(written)}, and show.json")


def augmentations() -> "dict[str, Augment]":
    """The augmentations of ``configs/augment`` by name."""
    from ..config import Augment, validate_as
    from ..config.compose import config_folder
    from ..config.plain import read_plain

    files = sorted((config_folder() / "augment").glob("*.yaml"))
    filled = [path for path in files if path.stem != NONE]
    return {NONE: Augment(), **{path.stem: validate_as(Augment, read_plain(path), "augment") for path in filled}}
