"""What copies of images mean: for a score on the test set, and for the patients that folds are drawn by."""

from collections.abc import Iterator, Sequence

from .findings import Finding
from .inspection import Inspection

Pairs = Sequence[tuple[Inspection, Inspection, float]]  # of `compare.near_pairs`
APART = (
    "Train without the copies (quarantine=FILE lists the exact ones in train), or leave them out of the test set: "
    "until then a score is optimistic, because it partly measures memory"
)


def copies_in_test(inspections: Sequence[Inspection], pairs: Pairs) -> Iterator[Finding]:
    """Yields how many test images are copies of training images, if any are."""
    trained = {one.pixels for one in inspections if one.split == "train" and one.pixels}
    tested = [one for one in inspections if one.split == "test"]
    exact = {id(one) for one in tested if one.pixels in trained}
    sides = ((one, other) if one.split == "test" else (other, one) for one, other, _ in pairs)
    alike = {id(one) for one, other in sides if (one.split, other.split) == ("test", "train")} - exact
    if exact or alike:
        text = f"{len(exact)} of {len(tested)} test images have the pixels of a training image"
        text += f", {len(alike)} more look like one"
        yield Finding("", "warning", "copies-in-test", text, APART)


def joined_patients(inspections: Sequence[Inspection], pairs: Pairs) -> dict[str, str]:
    """Patient by image name, where patients who share an image, exactly or nearly, are one: that of the first name.

    A name that is in both splits has the patient of its training image.
    """
    parent: dict[str, str] = {}

    def first(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = name = parent[parent[name]]
        return name

    def join(one: Inspection, other: Inspection) -> None:
        low, high = sorted((first(one.record.group), first(other.record.group)))
        parent[high] = low

    same: dict[bytes, Inspection] = {}
    for one in inspections:
        if one.pixels:
            join(same.setdefault(one.pixels, one), one)
    for one, other, _ in pairs:
        join(one, other)
    ordered = sorted(inspections, key=lambda one: one.split == "train")
    return {one.record.name: first(one.record.group) for one in ordered}
