"""Writes the pictures of a data set, and the index that lists them."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..config import Augment, nearest
from ..data.records import Record
from ..errors import ConfigError
from ..runtime.files import check_report_folder, write_report
from ..runtime.reading import LIST, read_mapping
from ..visualize.png import refuse_others, write_png
from . import annotated, augmented, pixels
from .options import SECTIONS, ShowOptions
from .subject import NotApplicable, Picture, Subject

INDEX = "show.json"
FILE = re.compile(rf"({'|'.join(SECTIONS)})_[0-9]+\.png")
Section = Callable[[Subject, ShowOptions, Sequence[Record]], Iterator[Picture]]
DRAWN: dict[str, Section] = {
    "annotations": annotated.annotations,
    "rotation": annotated.rotation,
    "outliers": annotated.outliers,
    "background": pixels.background,
    "marks": pixels.marks,
    "mix": augmented.mixes,
    "warp": augmented.warps,
    "batch": augmented.batches,
    "distance": augmented.distances,
    "selection": annotated.selection,
    "noise": pixels.noise,
}


def show(
    subject: Subject, what: Sequence[str], options: ShowOptions, augmentations: Mapping[str, Augment]
) -> tuple[list[str], dict[str, str]]:
    """Writes ``<what>_<number>.png`` and ``show.json``, which lists them with their images, into ``options.out``.

    Args:
        what: of SECTIONS; empty: all that apply.
        augmentations: those of ``configs/augment`` by name.

    Returns:
        Names of the files, and why other sections are not shown.

    Raises:
        ConfigError: none of ``what`` applies, or an image that is not in the data set.
        DataError: an image or annotation cannot be used.
        OutputError: ``options.out`` contains files of other programs.
    """
    sections = DRAWN | {"augment": partial(augmented.augmentations, named=augmentations)}
    out = options.out
    there = [path.name for path in sorted(out.iterdir()) if FILE.fullmatch(path.name)] if out.is_dir() else []
    check_report_folder(out, INDEX, "show", there)
    chosen = _chosen(subject, options)
    earlier = _earlier(out)
    listed, left_out = list[dict[str, Any]](), dict[str, str]()
    for name in [name for name in SECTIONS if not what or name in what]:
        try:
            if name in subject.lacks:
                raise NotApplicable(subject.lacks[name])
            for number, picture in enumerate(sections[name](subject, options, chosen), 1):
                file = f"{picture.name}_{number}.png"
                if not listed:  # first: a later call may write into a folder that has it
                    _index(out, subject, [], {})
                write_png(out / file, picture.drawn.pixels)
                panels = [{"caption": caption, "box": list(box)} for caption, box in picture.drawn.panels]
                listed.append({
                    "file": file, "what": name, "title": picture.title, "images": picture.images, "panels": panels,
                    "facts": picture.facts,
                })  # fmt: skip
        except NotApplicable as error:
            left_out[name] = str(error)
    if not listed:
        raise ConfigError("; ".join(f"{name}: {why}" for name, why in left_out.items()))
    _index(out, subject, listed, left_out)
    written = [one["file"] for one in listed]
    for file in sorted(earlier - set(written)):  # of an earlier call with more pictures
        refuse_others(out / file)
        (out / file).unlink(missing_ok=True)
    return written, left_out


def _chosen(subject: Subject, options: ShowOptions) -> list[Record]:
    if options.image is None:
        return subject.picked(options.images)
    found = [record for record in subject.records if record.name == options.image]
    if not found:
        names = [record.name for record in subject.records]
        raise ConfigError(
            f"image={options.image}: not an annotated image of the data set{nearest(options.image, names)}"
        )
    return found


def _index(out: Path, subject: Subject, pictures: list[dict[str, Any]], left_out: dict[str, str]) -> None:
    about = {"task": subject.config.task, "data": subject.data.name, "seed": subject.config.seed}
    write_report(out / INDEX, "show", {**about, "classes": subject.classes, "left_out": left_out, "pictures": pictures})


def _earlier(out: Path) -> set[str]:
    """Files that the index of an earlier call lists."""
    if not (out / INDEX).is_file():
        return set()
    listed = read_mapping(out / INDEX, LIST, "delete it").get("pictures")
    names = [one.get("file") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return {name for name in names if isinstance(name, str) and FILE.fullmatch(name)}
