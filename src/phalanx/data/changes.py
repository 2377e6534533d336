"""What changed from one version of a data set to another."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .snapshot import Version
from .versions import ImageRow

SHOWN = 8  # names of each kind, as text; the report has all


class Moved(NamedTuple):
    """An image with another patient, split, fold or name."""

    image: str
    before: str
    after: str


@dataclass
class Changes:
    """Images by what happened to them, each list sorted by name.

    Attributes:
        image_changed: its pixels differ.
        image_rewritten: its file differs, its pixels do not.
        relabelled: its labels differ.
        annotation_rewritten: its annotation's file differs, its labels do not.
        unknown: a file differs, and one of the versions knows no pixels or labels.
        renamed: the same pixels under another name.
    """

    before: str
    after: str
    same: int = 0
    classes_added: list[str] = field(default_factory=list)
    classes_removed: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    renamed: list[Moved] = field(default_factory=list)
    image_changed: list[str] = field(default_factory=list)
    image_rewritten: list[str] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    annotation_rewritten: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    patients: list[Moved] = field(default_factory=list)
    splits: list[Moved] = field(default_factory=list)
    folds: list[Moved] = field(default_factory=list)

    @property
    def any(self) -> bool:
        """Whether anything changed."""
        return any(value for key, value in vars(self).items() if key in WORDS)

    def to_json(self) -> dict[str, Any]:
        """All of them, moves as lists of image, before, after."""
        found = dict[str, Any](vars(self))
        for key, value in found.items():
            if isinstance(value, list):
                found[key] = [list(one) if isinstance(one, Moved) else one for one in value]
        return found

    def to_text(self) -> str:
        """Counts, with the first names of each kind."""
        lines = [f"{self.before} -> {self.after}: {self.same} images are the same"]
        for key, words in WORDS.items():
            found = getattr(self, key)
            if not found:
                continue
            lines.append(f"{len(found)} {words}")
            for one in found[:SHOWN]:
                lines.append(f"  {one.image}: {one.before} -> {one.after}" if isinstance(one, Moved) else f"  {one}")
            lines += [f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        return "\n".join(lines)


WORDS = {
    "classes_added": "class(es) added", "classes_removed": "class(es) removed",
    "added": "image(s) added", "removed": "image(s) removed", "renamed": "image(s) renamed",
    "image_changed": "image(s) with other pixels", "image_rewritten": "image file(s) rewritten, with the same pixels",
    "relabelled": "image(s) relabelled", "annotation_rewritten": "annotation(s) rewritten, with the same labels",
    "unknown": "image(s) with another file, of which one version knows no pixels or labels",
    "patients": "image(s) of another patient", "splits": "image(s) in another split",
    "folds": "image(s) in another fold",
}  # fmt: skip


def compare(before: Version, after: Version) -> Changes:
    """What changed. Only splits that both versions know are compared: a run knows training images alone."""
    splits = set(before.splits) & set(after.splits)
    one, other = (
        {name: row for name, row in version.rows.items() if row.split in splits} for version in (before, after)
    )
    found = Changes(before.name, after.name)
    found.classes_added = [name for name in after.classes if name not in before.classes]
    found.classes_removed = [name for name in before.classes if name not in after.classes]
    added, removed = sorted(other.keys() - one.keys()), sorted(one.keys() - other.keys())
    by_pixels = {one[name].pixels: name for name in removed if one[name].pixels}
    for name in added:
        if (former := by_pixels.pop(other[name].pixels, None)) is not None:
            found.renamed.append(Moved(name, former, name))
    new, gone = {move.after for move in found.renamed}, {move.before for move in found.renamed}
    found.added = [name for name in added if name not in new]
    found.removed = [name for name in removed if name not in gone]
    pairs = [(name, one[name], other[name]) for name in sorted(one.keys() & other.keys())]
    pairs += [(move.after, one[move.before], other[move.after]) for move in found.renamed]
    shared = {annotation for rows in (one, other) for annotation, count in _counts(rows).items() if count > 1}
    for name, old, now in pairs:
        changed = _content(found, name, old, now, shared)
        moves: list[tuple[list[Moved], Callable[[ImageRow], str]]] = [
            (found.patients, lambda row: row.patient), (found.splits, lambda row: row.split)
        ]  # fmt: skip
        for moved, what in moves:
            if what(old) != what(now):
                moved.append(Moved(name, what(old), what(now)))
                changed = True
        if before.folds is not None and after.folds is not None:
            was, is_now = before.folds.get(old.name), after.folds.get(now.name)
            if was != is_now:
                found.folds.append(Moved(name, str(was), str(is_now)))
                changed = True
        found.same += not changed and name not in new
    return found


def _counts(rows: Mapping[str, ImageRow]) -> Counter[str]:
    return Counter(row.annotation for row in rows.values())


def _content(found: Changes, name: str, old: ImageRow, now: ImageRow, shared: set[str]) -> bool:
    """Enters a change of an image's content; whether there is one.

    Args:
        shared: digests of files that annotate several images; such a file changes with any of them.
    """
    image = old.image != now.image
    # test images have no annotation: one that came or went shows by the split
    annotation = bool(old.annotation and now.annotation) and old.annotation != now.annotation
    pixels, labels = bool(old.pixels and now.pixels), bool(old.labels and now.labels)
    if image and pixels:
        (found.image_rewritten if old.pixels == now.pixels else found.image_changed).append(name)
    if labels and old.labels != now.labels:
        found.relabelled.append(name)
    elif labels and annotation and {old.annotation, now.annotation}.isdisjoint(shared):
        found.annotation_rewritten.append(name)
    elif labels:
        annotation = False
    if (image and not pixels) or (annotation and not labels):
        found.unknown.append(name)
    return image or annotation or (labels and old.labels != now.labels)
