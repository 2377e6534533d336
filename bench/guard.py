"""Does the guard of votes find members that are misaligned in part, and let honest ones pass?

Takes groups of submissions of the same images, as trained models of one data set predicted them (bash infer.sh). All
pairs of a group are honest. Each kind of misalignment is then made of some members, and voted with a member of another
network, and with two. The first group are synthetic hands at 2048 pixels, whose outlines differ as good networks' do.

    python bench/guard.py [--members A.csv,B.csv,C.csv] [--members D.csv,E.csv ...] [--quick] [--json FILE]
"""

import itertools
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common import flags, keep
from phalanx.data.polygons import rasterise, read_annotations
from phalanx.masks.stack import Stack
from phalanx.phantom.anatomy import HAND_CLASSES
from phalanx.phantom.hand import make_hands
from phalanx.submission.table import Submission
from phalanx.voting.agreement import measure_agreement

SIDE, SCALE = 2048, 8.0


class Table(NamedTuple):
    """A member in memory."""

    name: str
    classes: tuple[str, ...]
    sizes: dict[str, tuple[int, int]]
    stacks: dict[str, Stack]

    def submission(self) -> Submission:
        return Submission.of(self.stacks, self.classes, self.sizes, self.name)


Change = Callable[[Table, np.random.Generator], dict[str, Stack]]


def read(path: Path) -> Table:
    found = Submission.read(path)
    return Table(path.stem, found.classes, found.sizes, {image: found.stack(image) for image in found.images})


def some(table: Table, rng: np.random.Generator, fraction: float) -> list[str]:
    """That fraction of the images, at least two."""
    count = max(2, round(len(table.stacks) * fraction))
    return sorted(rng.choice(sorted(table.stacks), count, replace=False).tolist())


def repainted(change: Callable[[np.ndarray], np.ndarray], fraction: float = 1.0) -> Change:
    """Each mask bool[H, W] of some images changed."""

    def changed(table: Table, rng: np.random.Generator) -> dict[str, Stack]:
        chosen = set(some(table, rng, fraction))
        return {
            image: Stack.of_masks([change(mask) for mask in stack.masks(table.sizes[image])])
            if image in chosen
            else stack
            for image, stack in table.stacks.items()
        }

    return changed


def moved(right: int, down: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(mask: np.ndarray) -> np.ndarray:
        out, (h, w) = np.zeros_like(mask), mask.shape
        out[max(down, 0) : h + min(down, 0), max(right, 0) : w + min(right, 0)] = mask[
            max(-down, 0) : h + min(-down, 0), max(-right, 0) : w + min(-right, 0)
        ]
        return out

    return change


def scaled(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(mask: np.ndarray) -> np.ndarray:
        rows, columns = (
            np.clip((((np.arange(n) + 0.5 - n / 2) / factor) + n / 2 - 0.5).round().astype(int), 0, n - 1)
            for n in mask.shape
        )
        return mask[rows][:, columns]

    return change


def turned(mask: np.ndarray) -> np.ndarray:
    """A quarter turn in the same frame; of an image that is not square, what fits."""
    n = min(mask.shape)
    out = np.zeros_like(mask)
    out[:n, :n] = np.rot90(mask[:n, :n])
    return out


def transposed(mask: np.ndarray) -> np.ndarray:
    """An RLE along columns, read along rows."""
    return mask.T.reshape(mask.shape)


def from_zero(table: Table, rng: np.random.Generator) -> dict[str, Stack]:
    """Starts counted from 0."""
    return {image: Stack(np.maximum(stack.runs - 1, [[0, 1]]), stack.splits) for image, stack in table.stacks.items()}


def neighbours(table: Table, rng: np.random.Generator) -> tuple[int, int]:
    """A class that is there in most images, and the one whose masks are nearest."""
    from phalanx.voting.places import places

    found = np.stack([places([stack], table.sizes[image][1])[0] for image, stack in table.stacks.items()])
    there = np.isfinite(found[..., 0]).mean(axis=0)
    one = int(rng.choice(np.flatnonzero(there >= np.quantile(there, 0.5))))
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of classes that no image has
        gaps = np.nanmedian(np.hypot(*np.moveaxis(found[:, one, None, :2] - found[..., :2], -1, 0)), axis=0)
    gaps[[one, *np.flatnonzero(there < 0.5)]] = np.inf
    return one, int(gaps.argmin())


def any_two(table: Table, rng: np.random.Generator) -> tuple[int, int]:
    """Two classes that are there in most images."""
    there = np.mean([np.diff(stack.splits) > 0 for stack in table.stacks.values()], axis=0)
    one, other = rng.choice(np.flatnonzero(there >= np.quantile(there, 0.4)), 2, replace=False)
    return int(one), int(other)


def reordered(order_of: Callable[[Table, np.random.Generator], list[int]], fraction: float = 1.0) -> Change:
    """Some images with the classes in another order."""

    def changed(table: Table, rng: np.random.Generator) -> dict[str, Stack]:
        order, chosen = order_of(table, rng), set(some(table, rng, fraction))
        return {image: stack.chosen(order) if image in chosen else stack for image, stack in table.stacks.items()}

    return changed


def exchanged(two: Callable[[Table, np.random.Generator], tuple[int, int]]) -> Callable:
    def order_of(table: Table, rng: np.random.Generator) -> list[int]:
        order, (one, other) = list(range(len(table.classes))), two(table, rng)
        order[one], order[other] = other, one
        return order

    return order_of


def rolled(table: Table, rng: np.random.Generator) -> list[int]:
    return [*range(1, len(table.classes)), 0]


def copied(table: Table, rng: np.random.Generator) -> list[int]:
    order, (one, other) = list(range(len(table.classes))), any_two(table, rng)
    order[one] = other
    return order


def emptied(table: Table, rng: np.random.Generator) -> dict[str, Stack]:
    """One class without any mask."""
    one, _ = any_two(table, rng)
    nothing = Stack.parse([""])
    return {
        image: Stack.of_runs([
            nothing.runs if c == one else stack.chosen([c]).runs for c in range(len(table.classes))
        ])
        for image, stack in table.stacks.items()
    }  # fmt: skip


def renamed(fraction: float, *, in_order: bool = False) -> Change:
    """Names rotated among some images, which follow each other or are anywhere."""

    def changed(table: Table, rng: np.random.Generator) -> dict[str, Stack]:
        chosen = some(table, rng, fraction)
        if in_order:
            first = int(rng.integers(len(table.stacks) - len(chosen) + 1))
            chosen = sorted(table.stacks)[first : first + len(chosen)]
        given = dict(zip(chosen, [*chosen[1:], chosen[0]], strict=True))
        return {image: table.stacks[given.get(image, image)] for image in table.stacks}

    return changed


def one_for_all(fraction: float) -> Change:
    def changed(table: Table, rng: np.random.Generator) -> dict[str, Stack]:
        chosen = some(table, rng, fraction)
        return {image: table.stacks[chosen[0] if image in chosen else image] for image in table.stacks}

    return changed


def no_masks(fraction: float) -> Change:
    def changed(table: Table, rng: np.random.Generator) -> dict[str, Stack]:
        chosen, nothing = set(some(table, rng, fraction)), Stack.parse([""] * len(table.classes))
        return {image: nothing if image in chosen else stack for image, stack in table.stacks.items()}

    return changed


KINDS: dict[str, Change] = {
    "one pixel right": repainted(moved(1, 0)),
    "one pixel left": repainted(moved(-1, 0)),
    "one pixel down": repainted(moved(0, 1)),
    "one pixel up": repainted(moved(0, -1)),
    "starts counted from 0": from_zero,
    "four pixels right in a quarter of the images": repainted(moved(4, 0), 0.25),
    "neighbouring classes exchanged": reordered(exchanged(neighbours)),
    "neighbouring classes exchanged in half of the images": reordered(exchanged(neighbours), 0.5),
    "two classes exchanged": reordered(exchanged(any_two)),
    "two classes exchanged in half of the images": reordered(exchanged(any_two), 0.5),
    "two classes exchanged in a quarter of the images": reordered(exchanged(any_two), 0.25),
    "class list moved by one in a quarter of the images": reordered(rolled, 0.25),
    "one class empty": emptied,
    "one class is a copy of another": reordered(copied),
    "names rotated in a tenth of the images": renamed(0.1),
    "names rotated in a quarter of the images": renamed(0.25),
    "names rotated in half of the images": renamed(0.5),
    "names moved by one in a tenth of the images": renamed(0.1, in_order=True),
    "two images exchanged": renamed(0),
    "masks of one image for all": one_for_all(1),
    "masks of one image for a tenth": one_for_all(0.1),
    "no masks in a tenth of the images": no_masks(0.1),
    "mirrored in a tenth of the images": repainted(lambda mask: mask[:, ::-1], 0.1),
    "upside down in a tenth of the images": repainted(lambda mask: mask[::-1], 0.1),
    "half a turn in a tenth of the images": repainted(lambda mask: mask[::-1, ::-1], 0.1),
    "a quarter turn in a tenth of the images": repainted(turned, 0.1),
    "rows for columns in a tenth of the images": repainted(transposed, 0.1),
    "larger by 5% in a quarter of the images": repainted(scaled(1.05), 0.25),
}


def synthetic_hands(patients: int, members: int) -> list[Table]:
    """Members that agree about as those of real hands: masks are off by a pixel or two, images by a fifth of one."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "hands"
        make_hands(root, patients=4, test_patients=patients, size=256, seed=5, workers=1, progress=False)
        outlines = {
            path.stem: read_annotations(path, HAND_CLASSES)
            for path in sorted((root / "test" / "answers_json").rglob("*.json"))
        }
    tables = []
    for member in range(members):
        rng = np.random.default_rng([member, 11])
        usual = rng.normal(0, 0.3, (len(HAND_CLASSES), 2)) + np.array([0.03, 0.14]) * (member % 3 - 1)
        stacks = {}
        for image, polygons in outlines.items():
            shift, drawn = rng.normal(0, 0.1, 2), []
            for label, points in polygons:
                angle = np.arctan2(*(points - points.mean(0)).T)
                waves = sum(rng.normal(0, 1.5 / n) * np.sin(n * angle + rng.uniform(0, 6.3)) for n in range(2, 7))
                away = points - points.mean(0)
                away /= np.maximum(np.hypot(*away.T), 1e-6)[:, None]
                moved_by = shift + usual[label] + rng.normal(0, 0.5, 2) + waves[:, None] * away
                drawn.append((label, points + moved_by / SCALE))
            planes = rasterise(drawn, (SIDE, SIDE), len(HAND_CLASSES), SCALE)
            stacks[image] = Stack.of_planes(planes, len(HAND_CLASSES))
        sizes = dict.fromkeys(stacks, (SIDE, SIDE))
        tables.append(Table(f"hands{member}", tuple(HAND_CLASSES), sizes, stacks))
    return tables


class Outcome(NamedTuple):
    """Of one kind: votes tried, stopped, and stopped with the right member named; and those that were not stopped."""

    tried: int
    found: int
    named: int
    missed: list[str]


def faults(tables: Sequence[Table]) -> list[str]:
    return measure_agreement([table.submission() for table in tables]).misaligned


def try_kind(change: Change, groups: Sequence[Sequence[Table]], trials: int) -> tuple[Outcome, Outcome]:
    """Votes of two members, and of three, one of which is changed."""
    counts = np.zeros((2, 3), int)
    missed: tuple[list[str], list[str]] = ([], [])
    for group in groups:
        for number, table in enumerate(group[:trials]):
            rng = np.random.default_rng(number)
            spoilt = table._replace(name="spoilt", stacks=change(table, rng))
            others = [other for other in group if other is not table and family(other) != family(table)]
            for row, count in enumerate((1, 2)):
                if len(others) < count:
                    continue
                texts = faults([*others[:count], spoilt])
                right = [
                    t
                    for t in texts
                    if t.startswith("spoilt is misaligned" if count > 1 else f"{others[0].name} or spoilt")
                ]
                counts[row] += 1, bool(texts), len(right) == len(texts) == 1
                if not texts:
                    missed[row].append(f"{table.name} with {', '.join(other.name for other in others[:count])}")
    return Outcome(*counts[0].tolist(), missed[0]), Outcome(*counts[1].tolist(), missed[1])


def family(table: Table) -> str:
    """Of one network: fpn0_t3 and fpn0_256 are of fpn0."""
    return table.name.split("_")[0]


def main() -> None:
    parser = flags(__doc__, quick="one member of each group is changed")
    parser.add_argument("--members", action="append", default=[], help="CSVs of the same images, by commas")
    parser.add_argument("--kinds", default="", help="only the kinds with these words, by commas")
    args = parser.parse_args()
    groups = [synthetic_hands(10 if args.quick else 24, 3)]
    if not args.members:
        print("synthetic hands only: no submissions of trained models at --members A.csv,B.csv,C.csv")
    groups += [[read(Path(name)) for name in names.split(",")] for names in args.members]
    alarms, pairs = [], [pair for group in groups for pair in itertools.combinations(group, 2)]
    for pair in pairs:
        alarms += [(pair[0].name, pair[1].name, text) for text in faults(pair)]
    for one, other, text in alarms:
        print(f"false alarm: {one}, {other}: {text}")
    print(f"{len(pairs)} honest pairs, {len(alarms)} false alarms", flush=True)
    rows = [
        {"claim": "false alarms on honest pairs", "ours": len(alarms), "baseline": None, "unit": f"of {len(pairs)}"}
    ]
    wanted = [word for word in args.kinds.split(",") if word]
    for kind, change in KINDS.items():
        if wanted and not any(word in kind for word in wanted):
            continue
        two, three = try_kind(change, groups, 1 if args.quick else 3)
        print(
            f"{kind:<55} two: {two.found}/{two.tried}  three: {three.found}/{three.tried}, named {three.named}"
            + (f"  missed: {'; '.join(two.missed + three.missed)}" if two.missed or three.missed else ""),
            flush=True,
        )
        for claim, outcome, ours in (
            ("found in votes of two", two, two.found),
            ("found and named in votes of three", three, three.named),
        ):
            rows.append({"claim": f"{kind}: {claim}", "ours": ours, "baseline": outcome.tried, "unit": "votes",
                         "missed": outcome.missed})  # fmt: skip
    keep(rows, args.json)
    if alarms:
        sys.exit(1)


if __name__ == "__main__":
    main()
