"""What copies of images mean: for a score on the test set, and for the patients that folds are drawn by."""

from collections.abc import Iterator, Mapping, Sequence

from ..runtime.columns import repeated
from .findings import Finding
from .inspected import Inspected
from .inspection import Inspection

Pairs = Sequence[tuple[Inspection, Inspection, float]]  # of `compare.near_pairs`
APART = (
    "Train without the copies (quarantine=FILE lists the exact ones in train), or leave them out of the test set: "
    "until then a score is optimistic, because it partly measures memory"
)


def copies_in_test(inspections: Sequence[Inspection], pairs: Pairs) -> Iterator[Finding]:
    """Yields how many test images are copies of training images, if any are."""
    found = Inspected.of(inspections)
    several = [found[row] for row in repeated(found.pixels())]
    trained = {one.pixels for one in several if one.split == "train"}
    exact = {one.record.image for one in several if one.split == "test" and one.pixels in trained}
    sides = ((one, other) if one.split == "test" else (other, one) for one, other, _ in pairs)
    alike = {one.record.image for one, other in sides if (one.split, other.split) == ("test", "train")} - exact
    if exact or alike:
        tested = found.items.count("test") if found.items is not None else 0
        text = f"{len(exact)} of {tested} test images have the pixels of a training image"
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

    found = Inspected.of(inspections)
    same: dict[bytes, Inspection] = {}
    for one in (found[row] for row in repeated(found.pixels())):
        join(same.setdefault(one.pixels, one), one)
    for one, other, _ in pairs:
        join(one, other)
    items = found.items if found.items is not None else ()
    both = ((record, split) for part in ("test", "train") for record, split in items if split == part)
    return {record.name: first(record.group) if record.group in parent else record.group for record, _ in both}


class JoinedPatients(Mapping[str, str]):
    """:func:`joined_patients`, found when it is first asked for: few checks write it to a file."""

    def __init__(self, inspections: Sequence[Inspection], pairs: Pairs):
        self._given, self._found = (inspections, pairs), dict[str, str]()

    def _all(self) -> dict[str, str]:
        self._found = self._found or joined_patients(*self._given)
        return self._found

    def __getitem__(self, name: str) -> str:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())
