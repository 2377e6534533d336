"""Planted misalignments are found and named; weak members are not called misaligned."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.masks import rle
from phalanx.masks.stack import Stack
from phalanx.submission.table import Submission
from phalanx.voting.agreement import SAMPLE_IMAGES, measure_agreement, pair_dice, spread
from phalanx.voting.misalignment import centres
from phalanx.voting.places import guess_width

SIDE, CLASSES, IMAGES = 256, 12, 20
NAMES = [f"bone-{c}" for c in range(CLASSES)]


def hand(image):
    """float64[12, 4]: x, y and half axes of an image's bones, which differ from image to image as a pose does."""
    rng = np.random.default_rng([7, image])
    grid = np.stack(np.meshgrid([60, 110, 160, 200], [70, 120, 190]), -1).reshape(-1, 2)
    turn = rng.normal(0, 0.25)
    turned = (grid - 128) @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) + 128
    return np.column_stack([turned + rng.normal(0, 4, 2), rng.uniform(8, 18, (CLASSES, 2))])


def painted(bones, rng, wave):
    """bool[C, H, W]; ``wave``: how far outlines and places vary from the true ones, in pixels."""
    y, x = np.mgrid[:SIDE, :SIDE]
    masks = np.empty((CLASSES, SIDE, SIDE), bool)
    for c, (cx, cy, a, b) in enumerate(bones):
        dx, dy, da, db = rng.normal(0, wave, 4)
        masks[c] = ((x - cx - dx) / max(a + da, 2)) ** 2 + ((y - cy - dy) / max(b + db, 2)) ** 2 <= 1
    return masks


def made(seed, wave=0.6):
    """A member's masks, bool[I, C, H, W]."""
    return np.stack([painted(hand(i), np.random.default_rng([seed, i]), wave) for i in range(IMAGES)])


def table(name, masks, sizes=True):
    names = [f"i{i:02d}" for i in range(len(masks))]
    rles = {image: [rle.encode(mask) for mask in of] for image, of in zip(names, masks, strict=True)}
    return Submission.of(rles, NAMES, dict.fromkeys(names, (SIDE, SIDE)) if sizes else None, name)


@pytest.fixture(scope="module")
def good():
    return [made(seed) for seed in range(3)]


def moved(masks, dx, dy):
    return np.roll(masks, (dy, dx), axis=(2, 3))


def scaled(masks, factor):
    pick = np.clip((np.arange(SIDE) / factor).round().astype(int), 0, SIDE - 1)
    return masks[:, :, pick][:, :, :, pick]


SPOILT = {
    "right": (lambda m: moved(m, 4, 0), r"C has its masks [34]\.. px right of and 0\.. px .* those of A"),
    "left and below": (lambda m: moved(m, -5, 3), r"[45]\.. px left of and [23]\.. px below those of"),
    "scaled": (lambda m: scaled(m, 1.04), r"scaled by 1\.0[34]. x 1\.0[34]. against"),
    "mirrored": (lambda m: m[..., ::-1], "mirrored left to right of"),
    "upside down": (lambda m: m[:, :, ::-1], "upside down of"),
    "turned": (lambda m: m[:, :, ::-1, ::-1], "turned by 180 degrees"),
    "transposed": (lambda m: m.swapaxes(2, 3), "rows and columns swapped"),
    "two classes": (lambda m: m[:, [0, 1, 3, 2, *range(4, CLASSES)]], "swapped: bone-2 of C is bone-3 of"),
    "all classes": (lambda m: np.roll(m, 1, axis=1), "classes are swapped: bone-0 of C is bone-11 of .* and 9 more"),
    "all classes, some missing": (
        lambda m: np.roll(m & (np.arange(CLASSES) > 1)[:, None, None], 1, axis=1),
        "classes are swapped: bone-0 of C is bone-11 of A, .* and 7 more",
    ),
    "images": (lambda m: np.roll(m, 1, axis=0), "images have other names: i00 of C is i19 of"),
    "other images": (lambda m: m[np.random.default_rng(0).permutation(IMAGES)], "images have other names"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_misaligned_member_is_named_with_its_cause(good, kind):
    spoil, says = SPOILT[kind]
    names = ["A", "B", "C"]
    for order in ([0, 1, 2], [2, 0, 1]):
        members = [table(names[i], spoil(good[i]) if i == 2 else good[i]) for i in order]
        texts = measure_agreement(members).misaligned
        assert len(texts) == 1, texts
        assert texts[0].startswith("C is misaligned: ")
    members = [table("A", good[0]), table("C", spoil(good[2]))]
    (text,) = measure_agreement(members).misaligned
    assert text.startswith("A or C is misaligned: ")
    (text,) = measure_agreement(members[::-1]).misaligned
    assert text.startswith("C or A is misaligned: ")
    assert re.search(says, text), text


def test_two_of_five_that_are_misaligned_each_in_its_way(good):
    five = [*good, moved(made(3), 6, 0), made(4)[..., ::-1]]
    texts = measure_agreement([table("ABCDE"[i], masks) for i, masks in enumerate(five)]).misaligned
    assert sorted(text[:15] for text in texts) == ["D is misaligned", "E is misaligned"]


def replaced(masks, others, classes):
    """``masks`` with others in the place of some classes."""
    masks[:, classes] = others
    return masks


def coarse():
    return made(8, wave=0.6)[:, :, 4::8, 4::8].repeat(8, 2).repeat(8, 3)


def half_missing():
    return made(10) & (np.random.default_rng(1).random((IMAGES, CLASSES, 1, 1)) < 0.5)


def shrunk():
    masks = made(11)
    for of in masks:
        of[:] = [np.logical_and.reduce([np.roll(m, d, axis) for d in (-3, 3) for axis in (0, 1)]) for m in of]
    return masks


def noisy():
    return made(12) ^ (np.random.default_rng(2).random((IMAGES, 1, SIDE, SIDE)) < 0.004)


WEAK = {
    "places vary by 3 px": lambda: made(5, wave=3),
    "places vary by 6 px": lambda: made(6, wave=6),
    "coarse": coarse,
    "half of it missing": half_missing,
    "too small": shrunk,
    "noise": noisy,
    "two classes never learned": lambda: np.where(
        np.isin(np.arange(CLASSES), [2, 3])[:, None, None], False, made(13, wave=2)
    ),
    "classes on the next one's place": lambda: replaced(made(15), made(16)[:, [2, 3]], [1, 2]),
    "one class on another's place": lambda: replaced(made(14), made(17)[:, [1]], [2]),
}


@pytest.mark.parametrize("kind", WEAK)
def test_a_weak_member_is_not_called_misaligned(good, kind):
    weak, others = table("weak", WEAK[kind]()), [table("AB"[i], good[i]) for i in range(2)]
    assert measure_agreement([*others[:1], weak]).misaligned == []
    assert measure_agreement([*others, weak]).misaligned == []


def test_a_member_that_knows_one_pose_agrees_with_no_other_but_is_not_permuted(good):
    """Its images are not under other names, though the most typical of the others' fits it better than its own."""
    typical = np.stack([painted(hand(99), np.random.default_rng([9, i]), 2) for i in range(IMAGES)])
    assert measure_agreement([table("A", good[0]), table("weak", typical)]).misaligned == []
    (text,) = measure_agreement([table("A", good[0]), table("B", good[1]), table("weak", typical)]).misaligned
    assert text.startswith("weak is misaligned: it agrees with no other")


def test_barely_trained_members_that_see_one_class_are_not_judged_by_it(good):
    """Two that hardly differ and see one bone in twelve, and one that sees it badly, as after a minute's training."""
    one = [masks & (np.arange(CLASSES) == 3)[:, None, None] for masks in (good[0], good[0], made(5, wave=9))]
    one[2][:, 3, ::3] = False
    one[2][:, 3, 1::3] = False
    members = [table("ABC"[i], masks) for i, masks in enumerate(one)]
    assert measure_agreement(members).mean[0, 2] < 0.45 < 0.9 < measure_agreement(members).mean[0, 1]
    assert measure_agreement(members).misaligned == []


def test_good_members_and_copies_are_aligned(good):
    assert measure_agreement([table("ABC"[i], masks) for i, masks in enumerate(good)]).misaligned == []
    assert measure_agreement([table("A", good[0]), table("B", good[0])]).misaligned == []
    assert measure_agreement([table("A", good[0])]).misaligned == []
    empty = np.zeros_like(good[0])
    assert measure_agreement([table("A", empty), table("B", empty)]).misaligned == []


def test_without_sizes_the_width_is_inferred_from_the_runs(good):
    for far in (moved(good[2], 30, 40), moved(good[2], 4, 0)):
        members = [good[0], good[1], far]
        known, inferred = (
            measure_agreement([table("ABC"[i], m, sizes) for i, m in enumerate(members)]).misaligned
            for sizes in (True, False)
        )
        assert known == inferred
        assert known[0].startswith("C is misaligned: C has its masks")
    assert guess_width([Stack.parse(["1 5", "", "9 2"])]) is None  # too few runs to infer it from


def test_the_table_tells_the_dice_of_painted_masks(good):
    members = [table("ABC"[i], masks) for i, masks in enumerate(good)]
    found = measure_agreement(members)
    picked = [int(image[1:]) for image in spread(members[0].images)]
    assert len(found.images) == SAMPLE_IMAGES == len(set(picked))
    a, b = good[0][picked], good[2][picked]
    dense = np.mean(2 * (a & b).sum((2, 3)) / (a.sum((2, 3)) + b.sum((2, 3))), axis=0)
    np.testing.assert_allclose(found.pairs[0, 2], dense)
    assert found.mean[0, 2] == pytest.approx(dense.mean())
    lines = found.to_text().splitlines()
    assert lines[0] == f"agreement (Dice) over {SAMPLE_IMAGES} of {IMAGES} images"
    assert lines[4].split() == ["class", "1-2", "1-3", "2-3"]
    assert lines[5].split()[0::2] == ["bone-0", f"{dense[0]:.4f}"]
    assert lines[-1].split()[2] == f"{dense.mean():.4f}"


def test_the_table_of_many_members_has_a_column_each(good):
    members = [table(str(i), made(i, 0.3)) for i in range(6)]
    lines = measure_agreement(members).to_text().splitlines()
    assert lines[7].split() == ["class", *(f"{i}-rest" for i in range(1, 7))]
    assert len(lines[8].split()) == 7


@given(st.integers(0, 10**6), st.integers(1, 14))
@settings(max_examples=30)
def test_pair_dice_and_centres_equal_those_from_pixels(seed, members):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 9, 2)
    masks = rng.random((members, 3, height, width)) < rng.choice([0, 0.2, 0.8], (members, 3, 1, 1))
    stacks = [Stack.parse([rle.encode(mask) for mask in of]) for of in masks]
    found = pair_dice(stacks)
    for i, a in enumerate(masks):
        place = centres(stacks[i], (height, width)) * max(height, width)
        for c in range(3):
            y, x = np.nonzero(a[c])
            np.testing.assert_allclose(place[c], [x.mean(), y.mean()] if len(x) else [np.nan] * 2)
            for j, b in enumerate(masks):
                total = a[c].sum() + b[c].sum()
                dense = 2 * (a[c] & b[c]).sum() / total if total else np.nan
                np.testing.assert_equal(found[i, j, c], dense)
