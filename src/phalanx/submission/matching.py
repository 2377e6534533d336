"""Whether several submissions are of the same images and classes, so that they can be compared or voted."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..errors import DataError
from ..runtime.sidecar import Size


class Table(Protocol):
    """A submission, whatever its rows contain."""

    @property
    def name(self) -> str: ...
    @property
    def images(self) -> Sequence[str]: ...
    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def sizes(self) -> Mapping[str, Size]: ...


def check_matching(members: Sequence[Table]) -> None:
    """Raises DataError unless all members have the images, classes and, if known, sizes of the first.

    The order of rows and of classes is free.
    """
    for other in members[1:]:
        first = members[0]
        faults = _difference("images", first.images, other.images) + _difference(
            "classes", first.classes, other.classes
        )
        clashing = [image for image, size in first.sizes.items() if image in other.sizes and other.sizes[image] != size]
        if clashing:
            image = clashing[0]
            faults.append(
                f"sizes of {len(clashing)} images, such as {image!r}: {_by(first.sizes[image])} in the "
                f"first, {_by(other.sizes[image])} in the second"
            )
        if faults:
            raise DataError(
                f"{first.name} and {other.name} differ in {'; in '.join(faults)}. "
                "Use tables of the same data set and class list, or predict the one that is wrong again"
            )


def known_sizes(members: Sequence[Table]) -> dict[str, Size]:
    """(height, width) of every image that any of the members knows."""
    return {image: size for member in members for image, size in member.sizes.items()}


def _difference(what: str, first: Sequence[str], other: Sequence[str]) -> list[str]:
    if first is other or first == other:
        return []
    only = [sorted(set(first) - set(other)), sorted(set(other) - set(first))]
    texts = [
        f"{len(names)} only in the {which} ({', '.join(map(repr, names[:3]))}{', …' * (len(names) > 3)})"
        for names, which in zip(only, ("first", "second"), strict=True)
        if names
    ]
    return [f"{what}: {' and '.join(texts)}"] if texts else []


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
