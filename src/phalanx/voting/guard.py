"""Which members of a vote are misaligned, and how: every pair compared in all images, and the odd one named."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ..masks.stack import Stack
from ..runtime.sidecar import Size
from .class_faults import class_findings
from .image_faults import image_findings
from .lattice import edges, grid_of
from .misalignment import Block, Pair, find_misalignment
from .partial import Compared, Finding, Grids, offset_findings
from .places import guess_width, places

SAMPLE_IMAGES = 16  # in which a transform of all masks is looked for, spread evenly
BLOCK_IMAGES = 300  # images that are searched if names seem permuted
MIN_DICE_GAP = 0.02  # difference in Dice with the others, to name one of two as wrong
EDGE_IMAGES = 64  # whose edges are searched for the grid they were predicted on
ENOUGH_EDGES = (150_000, 50_000)  # across and down, to see a grid by
MAX_TEXTS = 4  # findings of a pair that are listed


class Verdict(NamedTuple):
    """Texts of the members that are misaligned, which those are, and what is odd but may be honest."""

    faults: list[str]
    wrong: set[int]
    notes: list[str]


class Guard:
    """Centres and areas of all members' masks, image by image: 12 bytes per mask.

    Args:
        names: of the members.
        total: images there may be.
    """

    def __init__(self, names: Sequence[str], classes: Sequence[str], total: int):
        self.names, self.classes, self.total = list(names), tuple(classes), total
        self.images = list[str]()
        self._places = np.empty((total, len(names), len(classes), 3), np.float32)
        self._sizes = np.empty((total, 2))
        self._edges: np.ndarray | None = None  # sums of some images, which have one size
        self._every = max(1, total // EDGE_IMAGES)

    def add(self, image: str, size: Size | None, stacks: Sequence[Stack]) -> None:
        """Every member's masks of an image. Without its size, its width is inferred from the runs, if they show it."""
        width = size[1] if size is not None else guess_width(stacks)
        if width is None:
            return
        if size is None:
            end = max(int(stack.runs[:, 1].max()) for stack in stacks if len(stack.runs))
            size = (-(-end // width), width)
        if len(self.images) % self._every == 0 and not self._enough_edges():
            found = edges(stacks, size)
            if self._edges is None:
                self._edges = found
            elif self._edges.shape == found.shape:
                self._edges += found
        self.add_places(image, size, places(stacks, width))

    def _enough_edges(self) -> bool:
        return self._edges is not None and bool((self._edges[:, :, 0].real.min(axis=0) >= ENOUGH_EDGES).all())

    def add_places(self, image: str, size: Size, found: np.ndarray) -> None:
        """The same from float[M, C, 3]."""
        row = len(self.images)
        self._places[row], self._sizes[row] = found, size
        self.images.append(image)

    def verdict(self, mean: np.ndarray, block: Callable[[int], tuple[Sequence[str], np.ndarray]] | None) -> Verdict:
        """Compares all pairs.

        Args:
            mean: float64[M, M], Dice of each pair.
            block: returns a member's centres in more images, to search permuted names in; by default those there are.
        """

        def compare(a: int, b: int) -> tuple[list[str], list[str]]:
            sure, maybe = list[str](), list[str]()
            for found in self._findings(a, b, block):
                (sure if found.stops else maybe).append(found.text)
            return sure, [f"{self.names[a]} and {self.names[b]} differ: {'; '.join(maybe)}"] if maybe else []

        return judge(self.names, mean, compare)

    def _findings(
        self, a: int, b: int, block: Callable[[int], tuple[Sequence[str], np.ndarray]] | None
    ) -> list[Finding]:
        """What is wrong between two members: the transform of all masks if there is one, or else of some."""
        count = len(self.images)
        if not count:
            return []
        names, sizes = (self.names[a], self.names[b]), self._sizes[:count]
        one, other = self._places[:count, a], self._places[:count, b]
        some = np.unique(np.linspace(0, count - 1, min(count, SAMPLE_IMAGES)).round().astype(int))

        def centres(which: np.ndarray, rows: np.ndarray) -> np.ndarray:
            return which[rows, :, :2].astype(float) / sizes[rows].max(axis=1)[:, None, None]

        def more() -> Block:
            if block is not None:
                (images, x), (_, y) = block(a), block(b)
                return images, x, y
            rows = np.unique(np.linspace(0, count - 1, min(count, BLOCK_IMAGES)).round().astype(int))
            return [self.images[row] for row in rows.tolist()], centres(one, rows), centres(other, rows)

        found = find_misalignment(
            Pair(names, centres(one, some), centres(other, some), sizes[some]), self.classes, more
        )
        if found:
            return [Finding(found, True)]
        pair = Compared(names, self.images, self.classes, one, other, sizes)
        findings = [*offset_findings(pair, self._grids(a, b)), *image_findings(pair), *class_findings(pair)]
        return [f for stops in (True, False) for f in [f for f in findings if f.stops is stops][:MAX_TEXTS]]

    def _grids(self, a: int, b: int) -> Grids | None:
        """The grids of two members' edges, if all images have one size."""
        if self._edges is None or np.ptp(self._sizes[: len(self.images)].max(axis=1)) > 0:
            return None
        long = int(self._sizes[0].max())
        one, other = ([grid_of(axis, long) for axis in self._edges[member]] for member in (a, b))
        return one, other


def judge(
    names: Sequence[str], mean: np.ndarray, compare: Callable[[int, int], tuple[list[str], list[str]]]
) -> Verdict:  # fmt: skip
    """Compares all pairs of members, and names those at fault.

    Args:
        mean: float64[M, M], how well each pair agrees.
        compare: what is surely wrong between two members, how the first one's content differs from the second's; and
            what is odd between them.
    """
    faults, odd = dict[tuple[int, int], str](), dict[tuple[int, int], str]()
    for pair in combinations(range(len(names)), 2):
        sure, maybe = compare(*pair)
        if sure:
            faults[pair] = "; ".join(sure)
        elif maybe:
            odd[pair] = "; ".join(maybe)
    wrong = set[int]()
    texts = _blame(names, faults, mean, wrong, lambda a, b: "; ".join(compare(a, b)[0]))
    return Verdict(texts, wrong, [text for pair, text in odd.items() if not wrong & set(pair)])


def _blame(
    names: Sequence[str],
    faults: dict[tuple[int, int], str],
    mean: np.ndarray,
    wrong: set[int],
    why: Callable[[int, int], str],
) -> list[str]:
    """Texts of the members at fault, which are added to ``wrong``.

    A member with more faulty pairs than others is at fault for them. Of a single pair, or if all have as many, it is
    the one that agrees less with the others, if there are any.

    Args:
        names: of the members.
        faults: what is wrong between two members, in words.
        mean: float64[M, M], how well each pair agrees.
        why: how the first member's content differs from the second's, in words.
    """
    texts = []
    while faults:
        counts = np.bincount(np.array(list(faults)).ravel(), minlength=len(names))
        worst: int | None = int(counts.argmax())
        a, b = next(pair for pair in faults if worst in pair)
        if (counts[counts > 0] == counts.max()).all():
            worst = _apart(a, b, mean)
        if worst is None:
            texts.append(f"{names[a]} or {names[b]} is misaligned: {faults[a, b]}")
            wrong |= {a, b}
        else:
            right = [pair for pair in faults if worst in pair]
            a, b = right[0]
            other = b if worst == a else a
            texts.append(f"{names[worst]} is misaligned: {why(worst, other) or faults[a, b]}")
            wrong.add(worst)
        faults = {pair: text for pair, text in faults.items() if not wrong & set(pair)}
    return texts


def _apart(a: int, b: int, mean: np.ndarray) -> int | None:
    """Which of two members agrees clearly less with the others; None if neither does."""
    rest = [other for other in range(len(mean)) if other not in (a, b)]
    if not rest:
        return None
    one, other = mean[[a, b]][:, rest].mean(axis=1)
    return None if abs(one - other) < MIN_DICE_GAP else (a if one < other else b)
