"""Members misaligned in part: which member, images and classes are named; honest members pass."""

import re

import numpy as np
import pytest

from phalanx.masks.stack import Stack
from phalanx.submission.table import Submission
from phalanx.voting.agreement import measure_agreement
from phalanx.voting.guard import Guard
from phalanx.voting.lattice import Grid, edges, grid_of, pixels_off
from phalanx.voting.maps_guard import MapsGuard
from phalanx.voting.places import median, places

SIDE, IMAGES = 256, 40
NAMES = [f"bone-{c}" for c in range(12)]
SIZE = (SIDE, SIDE)


def hand(image):
    """float64[12, 4]: x, y and half axes; poses differ by a turn, a shift and the bones' sizes."""
    rng = np.random.default_rng([3, image])
    grid = np.stack(np.meshgrid([60, 105, 150, 195], [70, 120, 180]), -1).reshape(-1, 2)
    turn = rng.normal(0, 0.15)
    turned = (grid - 128) @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) + 128
    return np.column_stack([turned + rng.normal(0, 5, 2) + rng.normal(0, 3, (12, 2)), rng.uniform(6, 15, (12, 2))])


def ellipse(x, y, a, b):
    """Runs of an ellipse."""
    rows = np.arange(max(int(y - b), 0), min(int(y + b) + 2, SIDE))
    root = 1 - ((rows - y) / b) ** 2
    rows, half = rows[root > 0], a * np.sqrt(root[root > 0])
    ends = np.clip(np.ceil(np.stack([x - half, x + half], axis=1)), 0, SIDE).astype(int)
    runs = ends + (rows * SIDE)[:, None]
    return runs[runs[:, 1] > runs[:, 0]]


def made(seed, noise=0.5):
    """A member: one stack per image, places and axes off by ``noise`` pixels."""
    rng = np.random.default_rng(seed)
    return [Stack.of_runs([ellipse(*bone) for bone in hand(i) + rng.normal(0, noise, (12, 4))]) for i in range(IMAGES)]


def table(name, stacks):
    images = {f"i{i:02d}": stack for i, stack in enumerate(stacks)}
    return Submission.of(images, NAMES, dict.fromkeys(images, SIZE), name)


def judged(*members):
    return measure_agreement([table(name, stacks) for name, stacks in zip("ABCDE", members, strict=False)])


@pytest.fixture(scope="module")
def good():
    return [made(seed) for seed in range(3)]


def where(change, images):
    """A change of some images' stacks."""
    return lambda stacks: [change(stack) if i in images else stack for i, stack in enumerate(stacks)]


def painted(change):
    return lambda stack: Stack.of_masks([np.ascontiguousarray(change(mask)) for mask in stack.masks(SIZE)])


def exchanged(one, other):
    order = list(range(12))
    order[one], order[other] = other, one
    return lambda stack: stack.chosen(order)


def renamed(*images):
    def change(stacks):
        given = dict(zip(images, [*images[1:], images[0]], strict=True))
        return [stacks[given.get(i, i)] for i in range(IMAGES)]

    return change


def emptied(c):
    return lambda stack: Stack.of_runs([
        np.empty((0, 2), np.int64) if k == c else stack.chosen([k]).runs for k in range(12)
    ])  # fmt: skip


ALL, HALF, FEW = set(range(IMAGES)), set(range(0, IMAGES, 2)), {3, 17, 18, 30}
KINDS = {
    "one pixel right": (
        where(painted(lambda m: np.roll(m, 1, 1)), ALL), r"C has its masks (1\.\d|0\.[89]) px right of and 0\.\d px"
    ),
    "one pixel down": (
        where(painted(lambda m: np.roll(m, 1, 0)), ALL), r"0\.\d px (left|right) of and (1\.\d|0\.[89]) px below"
    ),
    "starts from 0": (
        lambda stacks: [Stack(s.runs - 1, s.splits) for s in stacks], r"(1\.\d|0\.[89]) px left of and 0\.\d px"
    ),
    "exchanged in all": (where(exchanged(4, 5), ALL), r"bone-4 (of C is|and) bone-5"),
    "exchanged in half": (
        where(exchanged(4, 5), HALF), r"bone-4 and bone-5 are exchanged in 20 of 40 images \(i00, i02, i04 and 17 more"
    ),
    "exchanged in a few": (
        where(exchanged(2, 9), FEW), r"bone-2 and bone-9 are exchanged in 4 of 40 images \(i03, i17, i18 and 1 more\)"
    ),
    "three classes in a cycle": (
        where(lambda s: s.chosen([1, 2, 0, *range(3, 12)]), HALF),
        r"bone-0, bone-\d, bone-\d are exchanged in \d+ of 40 images",
    ),
    "class list moved": (
        where(lambda s: s.chosen([*range(1, 12), 0]), FEW),
        r"most classes are in the places of others in 4 of 40 images \(i03, i17, i18",
    ),
    "one class empty": (
        where(emptied(7), ALL), r"C has no bone-7 in any image, [AB] has it in 40 of 40"
    ),
    "copy of a class": (
        where(lambda s: s.chosen([0, 1, 1, *range(3, 12)]), ALL), r"bone-1 and bone-2 of C are the same mask in 40 "
    ),
    "names rotated in a part": (
        renamed(*sorted(FEW)), r"4 of 40 images have other names: i03 of C is i17 of [AB], i17 of C is i18"
    ),
    "two images exchanged": (
        renamed(11, 25), r"2 of 40 images have other names: i11 of C is i25 of [AB], i25 of C is i11 of"
    ),
    "one image for all": (
        lambda stacks: [stacks[5]] * IMAGES, r"C has the masks of another image in 40 of 40 images"
    ),
    "no masks in some": (
        where(lambda s: Stack.parse([""] * 12), FEW), r"C has no masks in 4 of 40 images \(i03, i17, i18 and 1 more\)"
    ),
    "mirrored in some": (
        where(painted(lambda m: m[:, ::-1]), FEW),
        r"masks of 4 of 40 images \(i03, i17, i18 and 1 more\) are mirrored left to right",
    ),
    "upside down in some": (where(painted(lambda m: m[::-1]), FEW), r"4 of 40 images \(i03.*\) are upside down"),
    "half a turn in some": (where(painted(lambda m: m[::-1, ::-1]), FEW), r"4 of 40.* are turned by 180 degrees"),
    "a quarter turn in some": (where(painted(np.rot90), FEW), r"4 of 40.* are turned by (90|270) degrees"),
    "transposed in some": (where(painted(np.transpose), FEW), r"4 of 40.* are with rows and columns swapped"),
    "moved in some": (
        where(painted(lambda m: np.roll(m, (6, -9), (0, 1))), FEW), r"4 of 40.* [89]\.\d px left of and [56]\.\d px b"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_misaligned_in_part_is_named_with_images_and_classes(good, kind):
    spoil, says = KINDS[kind]
    spoilt = spoil(good[2])
    (text,) = judged(good[0], good[1], spoilt).misaligned
    assert text.startswith("C is misaligned: ")
    assert re.search(says, text), text
    (first,) = measure_agreement([table("C", spoilt), table("A", good[0]), table("B", good[1])]).misaligned
    assert first.startswith("C is misaligned: ")
    assert re.search(says, first), first
    (alone,) = measure_agreement([table("C", spoilt), table("A", good[0])]).misaligned
    assert alone.startswith("C or A is misaligned: ")


def weak_members():
    rng = np.random.default_rng(5)
    few = made(20, 2.5)
    missing = [Stack.of_runs([s.chosen([c]).runs[: None if rng.random() < 0.6 else 0] for c in range(12)]) for s in few]
    unlearned = [emptied(3)(emptied(7)(emptied(8)(stack))) for stack in made(21, 2.5)]
    confused = where(exchanged(4, 5), {9, 30})(made(22))
    return {
        "off by 3 px": made(23, 3.0),
        "off by 6 px": made(24, 6.0),
        "often without a class": missing,
        "three classes not learned": unlearned,
        "classes confused in two images": confused,
        "no masks in two hard images": where(lambda s: Stack.parse([""] * 12), {4, 8})(made(25)),
        "chain of neighbours in some images": where(lambda s: s.chosen([1, 2, 3, 3, *range(4, 12)]), FEW)(made(26)),
    }


WEAK = weak_members()


@pytest.mark.parametrize("kind", WEAK)
def test_an_honest_member_passes(good, kind):
    assert judged(good[0], WEAK[kind]).misaligned == []
    three = judged(good[0], good[1], WEAK[kind]).misaligned
    assert [text for text in three if "agrees with no other" not in text] == []
    assert judged(WEAK["off by 3 px"], WEAK[kind]).misaligned == []


def test_what_may_be_honest_is_noted(good):
    found = judged(good[0], WEAK["classes confused in two images"])
    assert found.misaligned == []
    assert found.notes == ["A and B differ: bone-4 and bone-5 are exchanged in 2 of 40 images (i09, i30)"]
    assert judged(*good).notes == []


def test_a_fault_outside_the_sample_is_found_in_all_images(good):
    spoilt = where(exchanged(4, 5), {1, 4, 7, 9})(good[2])
    found = measure_agreement([table("A", good[0]), table("B", good[1]), table("C", spoilt)])
    assert not {"i01", "i04", "i07", "i09"} & set(found.images)
    assert found.misaligned_in_sample == []
    assert "bone-4 and bone-5 are exchanged in 4 of 40 images (i01, i04, i07 and 1 more)" in found.misaligned[0]


def test_two_against_two_are_not_told_apart(good):
    off = [painted(lambda m: np.roll(m, 5, 1))(stack) for stack in made(7)]
    more = [painted(lambda m: np.roll(m, 5, 1))(stack) for stack in made(8)]
    texts = judged(good[0], good[1], off, more).misaligned
    assert texts
    assert all(re.match(r"[AB] or [CD] is misaligned", text) for text in texts)


def upsampled(seed, cells=160, side=512, images=16, noise=6.0):
    """Stacks of a weak network's masks: sharp discs on a grid of ``cells``, upsampled bilinearly."""
    import cv2

    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:cells, :cells]
    found = []
    for image in range(images):
        centres = np.random.default_rng([1, image]).uniform(25, 135, (12, 2)) + rng.normal(
            0, noise * cells / side, (12, 2)
        )
        soft = [1 / (1 + np.exp((np.hypot((x - a) / 0.7, y - b) - 12) * 3)) for a, b in centres]
        found.append(Stack.of_masks([cv2.resize(m, (side, side), interpolation=cv2.INTER_LINEAR) >= 0.5 for m in soft]))
    return found


def test_the_grid_of_a_network_shows_a_pixel_that_weak_members_hide():
    one, other = upsampled(1), upsampled(2)
    sums = sum(edges([stack], (512, 512))[0] for stack in one)
    across, down = grid_of(sums[0], 512), grid_of(sums[1], 512)
    assert (across.cells, down.cells) == (160, 160)
    assert max(abs(across.offset), abs(down.offset)) < 0.15

    def found(stacks):
        guard = Guard(["A", "B"], NAMES, 16)
        for number, (a, b) in enumerate(zip(one, stacks, strict=True)):
            guard.add(f"i{number:02d}", (512, 512), [a, b])
        return guard.verdict(np.ones((2, 2)), None).faults

    assert found(other) == []
    (text,) = found([Stack(stack.runs - 1, stack.splits) for stack in other])
    assert "A has its masks 1.0 px right of" in text
    assert "by the grid that they were predicted on" in text


def test_grids_of_no_clear_place_are_in_no_disagreement():
    assert pixels_off(None, None, 512) == 0
    assert pixels_off(Grid(192, 1.02), None, 512) == 1
    assert pixels_off(Grid(192, 0.5), None, 512) == 0  # half a pixel is another way to resize
    assert pixels_off(Grid(192, 0.98), Grid(160, 1.05), 512) == 0
    assert grid_of(edges([Stack.parse([""])], (512, 512))[0, 0], 512) is None


def test_places_equal_those_of_painted_masks():
    rng = np.random.default_rng(0)
    masks = rng.random((2, 3, 9, 7)) < [[[[0.0]], [[0.3]], [[1.0]]]]
    found = places([Stack.of_masks(list(of)) for of in masks], 7)
    for member in range(2):
        for c in range(3):
            y, x = np.nonzero(masks[member, c])
            np.testing.assert_allclose(
                found[member, c], [x.mean(), y.mean(), len(x)] if len(x) else [np.nan, np.nan, 0]
            )
    values = rng.random((5, 6))
    values[0], values[1, :3] = np.nan, np.nan
    np.testing.assert_allclose(median(values)[1:], np.nanmedian(values[1:], axis=1))
    assert np.isnan(median(values)[0])


def test_a_soft_vote_stops_when_the_images_have_doubled_and_checks_all_at_the_end(good):
    rows = []
    for number, (a, b) in enumerate(zip(good[0], where(exchanged(4, 5), set(range(17, 40)))(good[1]), strict=True)):
        rows.append((f"i{number:02d}", SIZE, places([a, b], SIDE)))
    heard = []
    guard = MapsGuard(["A", "B"], NAMES, IMAGES, lambda verdict, final: heard.append((final, verdict.faults)))
    for row in rows:
        guard.see(*row)
    assert [final for final, _ in heard] == [False]  # at 32 of 40
    assert "bone-4 and bone-5 are exchanged in 15 of 32 images" in heard[0][1][0]
    (text,) = guard.finish(rows)
    assert "bone-4 of A is bone-5 of B" in text  # in most
    assert heard[-1] == (True, [text])
