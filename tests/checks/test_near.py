"""Like images are found as by comparing each with each."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from phalanx.checks import near
from phalanx.checks.compare import MAX_HASH_BITS, MIN_CORRELATION, near_pairs
from phalanx.checks.inspected import Inspected
from phalanx.checks.inspection import Inspection
from phalanx.checks.pixels import perceptual_hash
from phalanx.data.records import Record


def inspections(count, seed):
    """Images of which every fifth is a brightened or noisy copy of an earlier one, some of the same patient."""
    rng, found, images = np.random.default_rng(seed), [], []
    for i in range(count):
        if i % 5 == 4:
            image = images[int(rng.integers(len(images)))] * 0.9 + rng.normal(0, 1.5, (64, 64))
        else:
            image = cv2.resize(rng.uniform(0, 255, (6, 6)), (64, 64), interpolation=cv2.INTER_CUBIC)
        images.append(image)
        one = Inspection(
            Record(f"{i}.png", f"P{i // 3}", Path(f"/set/{i}.png"), None), "test" if i % 7 == 0 else "train",
            np.zeros((0, 6)), (64, 64),
        )  # fmt: skip
        one.hash, one.thumb = perceptual_hash(image.clip(0, 255).astype(np.uint8))
        one.pixels = one.thumb.tobytes()[:32]
        found.append(one)
    return found


def plainly(found):
    pairs = []
    for i, one in enumerate(found):
        for j in range(i + 1, len(found)):
            other = found[j]
            same = one.record.group == other.record.group and one.split == other.split
            if same or one.pixels == other.pixels or (one.hash ^ other.hash).bit_count() > MAX_HASH_BITS:
                continue
            a, b = (side.thumb.ravel().astype(float) for side in (one, other))
            if np.corrcoef(a, b)[0, 1] >= MIN_CORRELATION:
                pairs.append((i, j))
    return pairs


@pytest.mark.parametrize("box", [512, 16])  # all in one box, and in many
def test_pairs_are_those_of_comparing_each_with_each(monkeypatch, box):
    monkeypatch.setattr(near, "BOX", box)
    monkeypatch.setattr(near, "COLUMNS", 100)
    found = inspections(240, 3)
    pairs = [(int(a.record.image.stem), int(b.record.image.stem)) for a, b, _ in near_pairs(found)]
    assert pairs == plainly(found)
    assert len(pairs) > 20


def test_boxes_hold_every_point_once_and_are_small(monkeypatch):
    monkeypatch.setattr(near, "BOX", 10)
    order, boxes = near.split(np.random.default_rng(0).normal(size=(137, 4)).astype(np.float32))
    assert sorted(order.tolist()) == list(range(137))
    assert [a for a, _ in boxes[1:]] == [b for _, b in boxes[:-1]]
    assert max(b - a for a, b in boxes) <= 10


def test_columns_return_the_inspections_they_were_given():
    given = inspections(12, 0)
    given[3].shape, given[3].thumb, given[3].pixels = None, None, b""
    given[4].add(Path("x"), "error", "blank", "", "")
    found = Inspected()
    for one in given:
        found.add(one)
    assert [one.record for one in found] == [one.record for one in given]
    assert [one.split for one in found] == [one.split for one in given]
    assert [one.shape for one in found] == [one.shape for one in given]
    assert found.comparable().tolist() == [0, 1, 2, *range(5, 12)]
    assert np.array_equal(found.thumbs([5])[0], given[5].thumb.ravel())
    assert found[3].pixels == b""
    assert found.kinds() == ({"": 11}, {"64 x 64": 11})
