"""Runs against painted pixels, and against a reader that is not ours."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from phalanx.errors import DataError
from phalanx.masks import rle
from phalanx.masks.planes import pack

shapes = st.tuples(st.integers(1, 30), st.integers(1, 30))


@st.composite
def masks(draw, shape=None):
    """Mostly boxes, which touch borders and wrap rows, and some noise."""
    shape = shape or draw(shapes)
    if draw(st.booleans()):
        return draw(hnp.arrays(bool, shape))
    mask = np.zeros(shape, bool)
    for _ in range(draw(st.integers(0, 3))):
        top, bottom = sorted(draw(st.tuples(*[st.integers(0, shape[0])] * 2)))
        left, right = sorted(draw(st.tuples(*[st.integers(0, shape[1])] * 2)))
        mask[top:bottom, left:right] = draw(st.integers(0, 3)) > 0
    return mask


def slow_encode(mask):
    """Pixel by pixel, from the definition."""
    pairs, length = [], 0
    for place, pixel in enumerate([*mask.reshape(-1).tolist(), False], 1):
        if pixel:
            length += 1
        elif length:
            pairs += [place - length, length]
            length = 0
    return " ".join(map(str, pairs))


@given(masks())
def test_encode_equals_the_definition(mask):
    assert rle.encode(mask) == slow_encode(mask)


@given(masks())
def test_decode_inverts_encode(mask):
    np.testing.assert_array_equal(rle.decode(rle.encode(mask), mask.shape), mask)


def test_corners_are_kept_and_nothing_is_empty():
    assert rle.encode(np.ones((3, 5), bool)) == "1 15"
    assert rle.encode(np.zeros((3, 5), bool)) == ""
    corners = np.zeros((3, 5), bool)
    corners[[0, 0, 2, 2], [0, 4, 0, 4]] = True
    assert rle.encode(corners) == "1 1 5 1 11 1 15 1"
    assert not rle.decode("", (3, 5)).any()


@pytest.mark.parametrize(("top", "bottom"), [(0, 1), (3, 700), (255, 257), (699, 700), (443, 445), (0, 700)])
def test_a_mask_taller_than_the_search_block(top, bottom):
    mask = np.zeros((700, 9), bool)
    mask[top, 2] = mask[bottom - 1, 6] = True
    assert rle.encode(mask) == slow_encode(mask)


@given(masks())
def test_orientation_by_an_independent_reader(mask):
    """COCO counts down the columns, background first: our row-major runs are those of the transpose."""
    counts, position = [], 0
    for start, end in rle.parse(rle.encode(mask)).tolist():
        counts += [start - position, end - start]
        position = end
    height, width = mask.shape
    packed = coco.frPyObjects({"size": [width, height], "counts": [*counts, mask.size - position]}, width, height)
    np.testing.assert_array_equal(coco.decode(packed).T.astype(bool), mask)


@given(st.data(), shapes, st.integers(1, 70))
def test_encode_planes_equals_encoding_each_class(data, shape, classes):
    few = data.draw(st.lists(masks(shape), min_size=1, max_size=3))
    stack = np.stack([few[(c * c + c // 8) % len(few)] for c in range(classes)])
    assert rle.encode_planes(pack(stack), classes) == [slow_encode(mask) for mask in stack]


def test_encode_planes_ignores_bits_beyond_the_classes():
    assert rle.encode_planes(np.full((2, 2, 1), 255, np.uint8), 3) == ["1 4"] * 3
    assert rle.encode_planes(np.zeros((0, 4, 1), np.uint8), 2) == ["", ""]


@pytest.mark.parametrize("wrong", [np.zeros((2, 2), np.uint8), np.zeros(4, bool)])
def test_encode_refuses_what_is_no_mask(wrong):
    with pytest.raises(ValueError, match=r"bool\[H, W\]"):
        rle.encode(wrong)


def test_encode_planes_refuses_too_many_classes():
    with pytest.raises(ValueError, match="9 classes"):
        rle.encode_planes(np.zeros((2, 2, 1), np.uint8), 9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "1 numbers"),
        ("1 5 9", "3 numbers"),
        ("1 a", "number 2 is 'a'"),
        ("nan", "'nan', which is not a whole number; nothing is the empty string"),
        ("1.0 5", "'1.0'"),
        ("-1 5", "'-1'"),
        ("+1 5", "'\\+1'"),
        ("1\t5", "not a whole number"),
        ("1\u00a05", "not a whole number"),
        ("١ 5", "not a whole number"),
        (" ", "spaces only"),
        ("0 5", "below 1"),
        ("1 0", "no length"),
        ("5 2 1 2", "run 2 '1 2' is not sorted"),
        ("1 5 5 1", "run 2 '5 1' overlaps the run before, which is '1 5'"),
        ("1 5 1 5", "overlaps"),
        ("10 7", "run 1 '10 7' ends outside the image, which has 15 pixels"),
        ("16 1", "outside"),
        ("9" * 5000 + " 1", "5000 digits"),
    ],
)
def test_a_wrong_rle_is_refused_saying_why(text, message):
    with pytest.raises(DataError, match=message):
        rle.parse(text, 15)
    with pytest.raises(DataError, match=message):  # the same among good ones
        rle.parse_many(["1 15", "", text, "3 1"], 15)


def test_without_a_frame_only_absurd_numbers_are_refused():
    assert rle.parse("999999999999 1").tolist() == [[999999999998, 999999999999]]
    with pytest.raises(DataError, match="any image"):
        rle.parse("999999999999 999999999999")


def test_extra_spaces_and_touching_runs_are_accepted():
    assert rle.parse(" 1  5 6 2 ", 15).tolist() == [[0, 5], [5, 7]]


numbers = st.lists(st.one_of(st.integers(0, 20), st.integers(0, 10**13)), max_size=6)
plausible = st.one_of(
    st.text("0123456789 -.xé٣\t", max_size=12), numbers.map(lambda n: " ".join(map(str, n))), st.just("")
)


@given(st.lists(plausible, max_size=5), st.sampled_from([None, 15, 400]))
def test_many_at_once_accept_and_return_what_one_by_one_does(texts, pixels):
    each, fault = [], None
    try:
        each = [rle._parse_slowly(text, pixels) for text in texts]
    except DataError as error:
        fault = str(error)
    if fault is not None:
        with pytest.raises(DataError) as found:
            rle.parse_many(texts, pixels)
        assert str(found.value) == fault
        return
    runs, splits = rle.parse_many(texts, pixels)
    assert len(splits) == len(texts) + 1
    for i, one in enumerate(each):
        assert runs[splits[i] : splits[i + 1]].tolist() == one.tolist()


@given(st.lists(masks(), min_size=1, max_size=6))
def test_many_right_texts_take_the_fast_way(several):
    """Or else the fast way could refuse everything and no other test would notice."""
    texts = [rle.encode(mask) for mask in several]
    parsed = rle._parse_fast(texts, 900)
    assert parsed is not None
    runs, splits = parsed
    assert [rle.format_runs(runs[a:b]) for a, b in pairwise(splits)] == texts


@given(st.data(), shapes)
def test_area_intersection_union_and_dice_equal_dense_ones(data, shape):
    a, b = data.draw(masks(shape)), data.draw(masks(shape))
    runs_a, runs_b = rle.parse(rle.encode(a)), rle.parse(rle.encode(b))
    both = rle.intersection(runs_a, runs_b)
    assert rle.area(runs_a) == a.sum()
    assert rle.format_runs(both) == slow_encode(a & b)
    assert rle.format_runs(rle.union(runs_a, runs_b)) == slow_encode(a | b)
    total = a.sum() + b.sum()
    assert rle.dice(runs_a, runs_b) == (2 * (a & b).sum() / total if total else 1.0)
