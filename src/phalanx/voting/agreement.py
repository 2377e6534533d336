"""Agreement of the members of a vote in pairs, and the transform that would align a misaligned one.

A weak member differs in places. A misaligned one differs everywhere in the same way: all its masks are shifted,
mirrored, or have other class or image names. So a pair counts as misaligned if one such transform aligns the centres
of its masks, and not because its Dice is low.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np

from ..masks.dice import dice_from_counts
from ..masks.stack import Stack, class_offset
from ..runtime.sidecar import Size
from ..submission.matching import check_matching, known_sizes
from ..submission.table import Submission
from .guard import BLOCK_IMAGES, SAMPLE_IMAGES, Guard, Verdict
from .misalignment import Centres, centres
from .vote import coverage

MIN_OTHERS_DICE = 0.9  # Dice of the others with each other, to report that a member agrees with none
MIN_COMMON_CLASSES = 0.5  # fraction of the classes they must have for that: barely trained members find only a few


class Sample(NamedTuple):
    """One image as every member has it."""

    image: str
    stacks: Sequence[Stack]
    size: Size | None


def pair_dice(stacks: Sequence[Stack]) -> np.ndarray:
    """float64[M, M, C]: Dice of every pair of members and class of one image; NaN if both are empty."""
    offset, classes = class_offset(stacks), stacks[0].classes
    found = coverage([stack.flatten(offset) for stack in stacks])
    lengths = np.diff(found.positions, append=found.positions[-1:])
    held = (found.members[:, None] >> np.arange(len(stacks)) & 1).astype(float)  # (K, M)
    splits = np.searchsorted(found.positions, np.arange(classes + 1) * offset)
    shared = np.stack([held[a:b].T @ (held[a:b] * lengths[a:b, None]) for a, b in pairwise(splits)], axis=2)
    areas = np.einsum("mmc->mc", shared)
    return dice_from_counts(shared, areas[:, None] + areas, empty=np.nan)


class Agreement:
    """How members agree over some images, and which of them are misaligned: in these images, and then in all.

    Args:
        names: of the members.
        samples: some images, one at a time.
        total: images there are in all.
        block: returns a member's centres in a block of images, the same for all members, to search permuted names in;
            by default the sample is that block.
        rest: yields all images, for :attr:`misaligned` if they were not given one by one (:meth:`observe`).

    Attributes:
        dice: float64[S, M, M, C]; NaN if neither of the pair has the class.
    """

    def __init__(
        self,
        names: Sequence[str],
        classes: Sequence[str],
        samples: Iterable[Sample],
        total: int,
        block: Callable[[int], tuple[Sequence[str], Centres]] | None = None,
        rest: Callable[[], Iterator[Sample]] | None = None,
    ):
        self.names, self.classes, self.total, self.images = list(names), tuple(classes), total, list[str]()
        self._block, self._rest = block, rest
        self._sample = Guard(names, classes, min(total, SAMPLE_IMAGES))
        self._all = Guard(names, classes, total)
        tables = []
        for image, stacks, size in samples:
            self.images.append(image)
            tables.append(pair_dice(stacks))
            self._sample.add(image, size, stacks)
        self.dice = np.stack(tables)
        self._verdicts: dict[int, Verdict] = {}  # by the number of images

    def observe(self, image: str, size: Size | None, stacks: Sequence[Stack]) -> None:
        """Takes in an image of the vote, as every member has it; those of the sample again."""
        self._all.add(image, size, stacks)

    @property
    def pairs(self) -> np.ndarray:
        """float64[M, M, C]: mean Dice of each pair over images in which either has the class; NaN for none."""
        return _mean(self.dice)

    @property
    def mean(self) -> np.ndarray:
        """float64[M, M]: mean of ``pairs`` over classes; 1 if neither has any."""
        return np.nan_to_num(_mean(np.moveaxis(self.pairs, 2, 0)), nan=1.0)

    def to_json(self) -> dict[str, Any]:
        """Mean Dice of each pair, by class in their order; members by number, from 1; and which are misaligned."""
        return {
            "images": self.images,
            "of": self.total,
            "pairs": [
                {
                    "members": [a + 1, b + 1],
                    "dice": _number(_mean(dice := self.pairs[a, b])),
                    "classes": [*map(_number, dice)],
                }
                for a, b in combinations(range(len(self.names)), 2)
            ],
            "misaligned": self.misaligned,
        }

    def to_text(self) -> str:
        """A table with one row per class and one column per pair; for five members or more, one column per member."""
        count, pairs = len(self.names), self.pairs
        if count <= 4:
            columns = [(f"{a + 1}-{b + 1}", pairs[a, b]) for a, b in combinations(range(count), 2)]
        else:
            others = ~np.eye(count, dtype=bool)
            columns = [(f"{a + 1}-rest", _mean(pairs[a, others[a]])) for a in range(count)]
        width = max(map(len, ("class", *self.classes)))
        lines = [f"agreement (Dice) over {len(self.images)} of {self.total} images"]
        lines += [f"  {number}  {name}" for number, name in enumerate(self.names, 1)]
        lines.append("  ".join([f"{'class':<{width}}", *(f"{head:>6}" for head, _ in columns)]))
        rows = [(label, [v[c] for _, v in columns]) for c, label in enumerate(self.classes)]
        rows.append(("mean", [_mean(v) for _, v in columns]))
        for label, values in rows:
            cells = (f"{'-' if np.isnan(value) else format(value, '.4f'):>6}" for value in values)
            lines.append("  ".join([f"{label:<{width}}", *cells]))
        return "\n".join(lines)

    def identical(self) -> list[tuple[str, str]]:
        """Names of the pairs whose masks are all the same."""
        same = np.nanmin(np.nan_to_num(self.dice, nan=1.0), axis=(0, 3)) == 1
        return [(self.names[a], self.names[b]) for a, b in combinations(range(len(self.names)), 2) if same[a, b]]

    @property
    def misaligned_in_sample(self) -> list[str]:
        """:attr:`misaligned`, as the sample shows it."""
        return self._verdict(self._sample, self._block).faults

    @property
    def misaligned(self) -> list[str]:
        """One text per misaligned member: which it is, and how.

        A member with several misaligned pairs is at fault for them; of a single pair, the one that agrees less with the
        others, if there are any. Without image sizes, and if they cannot be inferred, only members that agree with no
        other are found.
        """
        return self._complete().faults

    @property
    def notes(self) -> list[str]:
        """What is odd in few images, and may be an honest mistake."""
        return self._complete().notes

    def _complete(self) -> Verdict:
        if not self._all.images and self._rest is not None:
            for sample in self._rest():
                self.observe(sample.image, sample.size, sample.stacks)
        return self._verdict(self._all) if self._all.images else self._verdict(self._sample, self._block)

    def _verdict(self, guard: Guard, block: Callable[[int], tuple[Sequence[str], Centres]] | None = None) -> Verdict:
        key = len(guard.images) + (0 if guard is self._sample else self.total)
        if key not in self._verdicts:
            found = guard.verdict(self.mean, block)
            self._verdicts[key] = found._replace(faults=found.faults + self._alone(found.wrong))
        return self._verdicts[key]

    def _alone(self, wrong: set[int]) -> list[str]:
        """Members that agree with no other, though these agree with each other."""
        texts, mean = [], self.mean
        for member in sorted(set(range(len(self.names))) - wrong):
            rest = [other for other in range(len(self.names)) if other not in wrong | {member}]
            if len(rest) < 2:
                continue
            own, usual = (float(np.median(v)) for v in (mean[member, rest], [mean[p] for p in combinations(rest, 2)]))
            seen = np.mean([np.isfinite(self.pairs[pair]).mean() for pair in combinations(rest, 2)])
            if own < usual / 2 and usual >= MIN_OTHERS_DICE and seen >= MIN_COMMON_CLASSES:
                texts.append(
                    f"{self.names[member]} is misaligned: it agrees with no other (Dice {own:.3f} with the others, "
                    f"which have {usual:.3f} with each other)"
                )
        return texts


class AgreementMonitor:
    """Compares the members of a soft vote over its first images, by the very masks each would submit.

    Args:
        names: of the members.
        total: images there will be.
        on_agreement: receives their agreement, once, after enough images; may raise to stop the vote.
    """

    def __init__(
        self, names: Sequence[str], classes: Sequence[str], total: int, on_agreement: Callable[[Agreement], None]
    ):
        self.names, self.classes, self.total, self.on_agreement = names, classes, total, on_agreement
        self.wanted = min(SAMPLE_IMAGES, total)
        self._seen: list[Sample] = []
        self.agreement: Agreement | None = None  # after `wanted` images

    @property
    def done(self) -> bool:
        """Enough images were seen."""
        return len(self._seen) == self.wanted

    def __call__(self, image: str, size: Size, stacks: Sequence[Stack]) -> None:
        """``stacks``: each member's masks of an image. More images than are wanted are passed over."""
        if self.done:
            return
        self._seen.append(Sample(image, stacks, size))
        if self.done:
            self.agreement = Agreement(self.names, self.classes, self._seen, self.total)
            self.on_agreement(self.agreement)


def measure_agreement(members: Sequence[Submission]) -> Agreement:
    """The agreement of submissions over ``SAMPLE_IMAGES`` of their images.

    Raises:
        DataError: members that differ in images, classes or sizes, or a wrong row.
    """
    check_matching(members)
    first, sizes = members[0], known_sizes(members)
    ordered = [member.reorder(first.classes) for member in members]

    def samples(images: Sequence[str]) -> Iterator[Sample]:
        for image in images:
            size = sizes.get(image)
            yield Sample(image, [member.stack(image, size) for member in ordered], size)

    begin = max(0, (len(first.images) - BLOCK_IMAGES) // 2)
    searched = [image for image in first.images[begin : begin + BLOCK_IMAGES] if image in sizes]
    found: dict[int, Centres] = {}

    def block(member: int) -> tuple[Sequence[str], Centres]:
        if member not in found:
            stacks = ((ordered[member].stack(image, sizes[image]), sizes[image]) for image in searched)
            found[member] = np.stack([centres(*one) for one in stacks])
        return searched, found[member]

    return Agreement(
        [member.name for member in members],
        first.classes,
        samples(spread(first.images)),
        len(first.images),
        block if searched else None,
        lambda: samples(first.images),
    )


def spread(images: Sequence[str], count: int = SAMPLE_IMAGES) -> list[str]:
    """Some of the images, evenly spread.

    >>> spread(["a", "b", "c", "d", "e"], 3)
    ['a', 'c', 'e']
    """
    places = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)
    return [images[place] for place in places]


def _number(value: Any) -> float | None:
    """To four digits; None for NaN."""
    return None if np.isnan(value) else round(float(value), 4)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis without NaN; NaN if all are."""
    count = np.asarray((~np.isnan(values)).sum(axis=0))
    return np.divide(np.nansum(values, axis=0), count, out=np.full(count.shape, np.nan), where=count > 0)
