"""Do the members of a vote lie on each other? Their agreement in pairs, and what would set a misaligned one right.

A weak member differs here and there. A misaligned one differs everywhere in the same way: all its masks lie some
pixels to a side, mirrored, under other classes or under other images' names. So a pair counts as misaligned where
one such exchange brings the centres of its masks together, and not because its Dice is low.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

from .sidecar import Size
from .stack import Stack, pitch_of
from .table import Submission, check_alike, known_sizes
from .vote import coverage

SAMPLE = 16  # images looked at, spread evenly over the sorted names
BLOCK = 300  # images searched for the right ones, where names seem exchanged
LIMIT = 0.001  # of the long side: masks that lie closer are aligned (2 pixels of 2048); a pixel at least
NEAR = 0.01  # of the long side: what an exchange must bring the masks to (two pixels at least), or to a third
FEWEST = 10  # masks that both members have, to judge a pair
CLEAR = 0.02  # difference in Dice with the others that tells which of two is wrong
UNITED = 0.9  # Dice that the others must have with each other, to say that a member agrees with nobody

Centres = np.ndarray  # float64[S, C, 2]: x, y of each image and class in shares of the long side; NaN for none


class Sample(NamedTuple):
    """One image as every member has it."""

    image: str
    stacks: Sequence[Stack]
    size: Size | None


def pair_dice(stacks: Sequence[Stack]) -> np.ndarray:
    """float64[M, M, C]: Dice of every pair of members and class of one image; NaN where both are empty."""
    pitch, classes = pitch_of(stacks), stacks[0].classes
    found = coverage([stack.laid(pitch) for stack in stacks])
    lengths = np.diff(found.positions, append=found.positions[-1:])
    held = (found.members[:, None] >> np.arange(len(stacks)) & 1).astype(float)  # (K, M)
    splits = np.searchsorted(found.positions, np.arange(classes + 1) * pitch)
    shared = np.stack([held[a:b].T @ (held[a:b] * lengths[a:b, None]) for a, b in pairwise(splits)], axis=2)
    areas = np.einsum("mmc->mc", shared)
    total = areas[:, None] + areas
    return np.divide(2 * shared, total, out=np.full(shared.shape, np.nan), where=total > 0)


def centres(stack: Stack, size: Size) -> np.ndarray:
    """float64[C, 2]: x and y of each class's centre of mass, in shares of the image's long side; NaN for none."""
    width = size[1]
    rows, columns = np.divmod(stack.runs, width)
    # Of a run, the sums over all pixels before its end, less those before its start: it may cross rows.
    x = rows * (width * (width - 1) // 2) + columns * (columns - 1) // 2
    y = width * (rows * (rows - 1) // 2) + rows * columns
    sums = [np.bincount(stack.labels, weights=v[:, 1] - v[:, 0], minlength=stack.classes) for v in (x, y)]
    areas = stack.areas[:, None]
    full = np.full((stack.classes, 2), np.nan)
    return np.divide(np.stack(sums, axis=1), areas * max(size), out=full, where=areas > 0)


class Agreement:
    """How members agree over some images, and which of them are misaligned.

    Args:
        names: of the members.
        samples: some images, one at a time.
        total: images there are in all.
        more: gives a member's centres in a block of images, the same for all members, to search exchanged names in;
            by default the sample is that block.

    Attributes:
        dice: float64[S, M, M, C]; NaN where neither of the pair has the class.
    """

    def __init__(
        self,
        names: Sequence[str],
        classes: Sequence[str],
        samples: Iterable[Sample],
        total: int,
        more: Callable[[int], tuple[Sequence[str], Centres]] | None = None,
    ):
        self.names, self.classes, self.total, self.images = list(names), tuple(classes), total, list[str]()
        tables, places, sizes = [], [], []
        for image, stacks, size in samples:
            self.images.append(image)
            tables.append(pair_dice(stacks))
            if size is not None:
                places.append([centres(stack, size) for stack in stacks])
                sizes.append(size)
        self.dice = np.stack(tables)
        self._centres = np.array(places).reshape(len(places), len(self.names), len(self.classes), 2).swapaxes(0, 1)
        self._sizes = np.array(sizes, float).reshape(-1, 2)
        self._more = more or (lambda member: (self.images, self._centres[member]))

    @property
    def pairs(self) -> np.ndarray:
        """float64[M, M, C]: mean Dice of each pair over the images where one of the two has the class; NaN for none."""
        return _mean(self.dice)

    @property
    def mean(self) -> np.ndarray:
        """float64[M, M]: mean of ``pairs`` over classes; 1 where nobody has any."""
        return np.nan_to_num(_mean(np.moveaxis(self.pairs, 2, 0)), nan=1.0)

    def to_text(self) -> str:
        """A table: a row a class, a column a pair; from five members on a column a member, against all others."""
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
            told = (f"{'-' if np.isnan(value) else format(value, '.4f'):>6}" for value in values)
            lines.append("  ".join([f"{label:<{width}}", *told]))
        return "\n".join(lines)

    def misaligned(self) -> list[str]:
        """What is wrong with which member, a text each; empty where all is well.

        A member with several misaligned pairs is at fault for them; of a single pair the one that agrees less with the
        others, where there are any. Without images' sizes only members that agree with nobody are found.
        """
        faults = {pair: why for pair in combinations(range(len(self.names)), 2) if (why := self._fault(*pair))}
        texts, wrong = [], set[int]()
        while faults:
            counts = np.bincount(np.array(list(faults)).ravel(), minlength=len(self.names))
            worst: int | None = int(counts.argmax())
            a, b = next(pair for pair in faults if worst in pair)
            if counts[worst] == 1:
                worst = self._apart(a, b)
            if worst is None:
                texts.append(f"{self.names[a]} or {self.names[b]} is misaligned: {faults[a, b]}")
                wrong |= {a, b}
            else:
                other = b if worst == a else a
                texts.append(f"{self.names[worst]} is misaligned: {self._fault(worst, other) or faults[a, b]}")
                wrong.add(worst)
            faults = {pair: why for pair, why in faults.items() if not wrong & set(pair)}
        mean = self.mean
        for member in sorted(set(range(len(self.names))) - wrong):
            rest = [other for other in range(len(self.names)) if other not in wrong | {member}]
            if len(rest) < 2:
                continue
            own, usual = (float(np.median(v)) for v in (mean[member, rest], [mean[p] for p in combinations(rest, 2)]))
            if own < usual / 2 and usual >= UNITED:
                texts.append(
                    f"{self.names[member]} is misaligned: it agrees with nobody (Dice {own:.3f} with the others, "
                    f"which have {usual:.3f} with each other)"
                )
        return texts

    def _apart(self, a: int, b: int) -> int | None:
        """Which of two members agrees clearly less with the others; None where that does not tell."""
        rest = [other for other in range(len(self.names)) if other not in (a, b)]
        if not rest:
            return None
        one, other = self.mean[[a, b]][:, rest].mean(axis=1)
        return None if abs(one - other) < CLEAR else (a if one < other else b)

    def _fault(self, a: int, b: int) -> str:
        """The exchange that brings member ``a``'s masks onto member ``b``'s, in words; empty where none does."""
        one, other = self._centres[a], self._centres[b]
        both = np.isfinite(one[..., 0]) & np.isfinite(other[..., 0])
        if both.sum() < FEWEST:
            return ""
        shortest = self._sizes.max(axis=1).min()
        near, away = max(NEAR, 2 / shortest), _distance(one[both] - other[both])
        moved, rest = self._moved(a, b, both, near) if away >= max(LIMIT, 1 / shortest) else ("", 0.0)
        if moved and rest <= near:
            return moved
        return (self._other_images(a, b, near) if away >= near else "") or self._other_classes(a, b, near) or moved

    def _moved(self, a: int, b: int, both: np.ndarray, near: float) -> tuple[str, float]:
        """Masks mirrored, turned, shifted or scaled as a whole, and how far from the other member's they are then.

        Args:
            both: bool[S, C], what both members have.
        """
        one, long = self._centres[a], self._sizes.max(axis=1)
        end = self._centres[b][both]
        away = _distance(one[both] - end)
        far = ((self._sizes[:, ::-1] - 1) / long[:, None])[:, None]  # the last column and row, (S, 1, 2)
        across, down = np.array([1, 0]), np.array([0, 1])
        turned = {
            "mirrored left to right of": one * (down - across) + far * across,
            "upside down of": one * (across - down) + far * down,
            "turned by 180 degrees from": far - one,
            "with rows and columns exchanged (an RLE along columns?) against": one[..., ::-1],
        }
        left = {how: _distance(places[both] - end) for how, places in turned.items()}
        found = {how: rest for how, rest in left.items() if rest <= away / 2}
        gaps = one[both] - end
        move = np.median(gaps, axis=0)
        rest = _distance(gaps - move)
        if np.hypot(*move) >= max(away / 2, LIMIT, 1 / long.min()):
            x, y = move * np.median(long)
            sides = (
                f"{abs(x):.1f} px {'right' if x > 0 else 'left'} of",
                f"{abs(y):.1f} px {'below' if y > 0 else 'above'}",
            )
            found[" and ".join(sides)] = rest
        # Scale: a line a coordinate, without the masks far off it. Weak members that shrink towards the middle are
        # no case of it.
        start = one[both]
        close = np.hypot(*(gaps - move).T) <= 3 * rest
        spread_out = close.sum() >= FEWEST and np.ptp(start[close], axis=0).min() > 0.1
        lines = [np.polyfit(start[close, i], end[close, i], 1) for i in range(2)] if spread_out else []
        if lines and all(0.9 < slope < 1.1 for slope, _ in lines):
            scaled = _distance(np.stack([np.polyval(line, start[:, i]) for i, line in enumerate(lines)], 1) - end)
            if scaled <= min(away / 2, 0.7 * rest):
                found[f"scaled by {' x '.join(f'{1 / slope:.3f}' for slope, _ in lines)} against"] = scaled
        how = min(found, key=found.__getitem__, default="")
        if not how or found[how] > max(near, away / 3):
            return "", 0.0
        return f"{self.names[a]} has its masks {how} those of {self.names[b]}", found[how]

    def _other_classes(self, a: int, b: int, near: float) -> str:
        """Classes whose masks lie where the other member has another class."""
        cost = _typical(self._centres[a][:, :, None], self._centres[b][:, None])
        own = cost.diagonal()
        away = (own < _NOWHERE) & (own >= near)
        if not away.any():
            return ""
        from scipy.optimize import linear_sum_assignment  # a quarter of a second, which few votes need

        best = linear_sum_assignment(cost)[1]
        wrong = np.flatnonzero(
            away & (cost[np.arange(len(best)), best] <= np.minimum(own / 2, np.maximum(own / 3, near)))
        )
        if len(wrong) < 2:
            return ""
        pairs = [f"{self.classes[c]} of {self.names[a]} is {self.classes[best[c]]} of {self.names[b]}" for c in wrong]
        return f"classes are exchanged: {', '.join(pairs[:3])}{f' and {len(pairs) - 3} more' if pairs[3:] else ''}"

    def _other_images(self, a: int, b: int, near: float) -> str:
        """Images that lie under other names."""
        (names, one), (_, other) = self._more(a), self._more(b)
        asked = np.unique(np.linspace(0, len(names) - 1, 24).round().astype(int))
        cost = _typical(one[asked].swapaxes(0, 1)[:, :, None], other.swapaxes(0, 1)[:, None])  # over classes
        best, own = cost.argmin(axis=1), cost[np.arange(len(asked)), asked]
        fits = cost.min(axis=1) <= np.minimum(own / 2, near)
        # A single image that fits all others is the typical one, and the member one that always predicts it.
        if fits.sum() * 2 <= len(asked) or len(set(best[fits].tolist())) * 3 < fits.sum() * 2:
            return ""
        first = int(fits.argmax())
        return (
            f"images lie under other names: {names[asked[first]]} of {self.names[a]} is {names[best[first]]} of "
            f"{self.names[b]}"
        )


_NOWHERE = 9.0  # farther than anything in a frame of side 1


def _typical(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """float64[P, Q]: median over the first axis of the distances between places [N, P, 1, 2] and [N, 1, Q, 2]."""
    gaps = np.hypot(*np.moveaxis(one - other, -1, 0))
    some = np.isfinite(gaps).sum(axis=0) * 4 > len(gaps)  # a fourth at least, or chance decides
    cost = np.full(gaps.shape[1:], _NOWHERE)
    cost[some] = np.nanmedian(gaps[:, some], axis=0)
    return cost


def look(members: Sequence[Submission]) -> Agreement:
    """The agreement of submissions over ``SAMPLE`` of their images.

    Raises:
        DataError: members that differ in images, classes or sizes, or a wrong row.
    """
    check_alike(members)
    first, sizes = members[0], known_sizes(members)
    ordered = [member.reorder(first.classes) for member in members]
    samples = (
        Sample(image, [member.stack(image, sizes.get(image)) for member in ordered], sizes.get(image))
        for image in spread(first.images)
    )
    begin = max(0, (len(first.images) - BLOCK) // 2)
    block = [image for image in first.images[begin : begin + BLOCK] if image in sizes]
    kept: dict[int, Centres] = {}

    def more(member: int) -> tuple[Sequence[str], Centres]:
        if member not in kept:
            stacks = ((ordered[member].stack(image, sizes[image]), sizes[image]) for image in block)
            kept[member] = np.stack([centres(*one) for one in stacks])
        return block, kept[member]

    return Agreement([member.name for member in members], first.classes, samples, len(first.images), more)


def spread(images: Sequence[str], count: int = SAMPLE) -> list[str]:
    """Some of the images, evenly spread.

    >>> spread(["a", "b", "c", "d", "e"], 3)
    ['a', 'c', 'e']
    """
    places = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)
    return [images[place] for place in places]


def _distance(gaps: np.ndarray) -> float:
    """Median length of vectors [N, 2]."""
    return float(np.median(np.hypot(gaps[:, 0], gaps[:, 1])))


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is no NaN; NaN where nothing is."""
    count = np.asarray((~np.isnan(values)).sum(axis=0))
    return np.divide(np.nansum(values, axis=0), count, out=np.full(count.shape, np.nan), where=count > 0)
