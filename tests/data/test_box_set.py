"""Samples of a detection: boxes and masks lie where the warped image shows the objects."""

import numpy as np
import pytest
import torch
from tests.boxed import make_coco, make_polygons, make_table, words

from phalanx.config import Augment
from phalanx.config.compose import compose
from phalanx.data.box_set import BoxSet, edge_points, filled
from phalanx.data.cache import SampleCache
from phalanx.data.objects import shapes_of
from phalanx.data.quarantine import kept_records
from phalanx.errors import DataError


def set_of(root, augment, layout="polygons", masks=False, **changes):
    data = compose(words(root, layout, **changes)).data
    records = kept_records(data)
    shapes = [shapes_of(record, data) for record in records]
    return BoxSet(records, shapes=shapes, data=data, augment=augment, masks=masks, seed=0, cache=SampleCache(data))


WARPED = Augment(flip=0.5, warp=1.0, shift=0.05, scale=0.1, rotate=15)


@pytest.mark.parametrize("augment", [Augment(), WARPED])
def test_objects_are_bright_where_their_masks_and_boxes_are(tmp_path, augment):
    found = set_of(make_polygons(tmp_path, train=8, empty=0), augment, masks=True)
    for epoch in range(3):
        for i in range(8):
            image, target, row = found[(epoch, i)]
            assert row == i
            for box, mask in zip(target.boxes, target.masks, strict=True):
                inside = image[0][mask.bool()].float()
                assert inside.mean() > 110  # objects have 150 and 220, the rest less than 40
                ys, xs = torch.nonzero(mask, as_tuple=True)
                bounds = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
                assert (box - bounds).abs().max() <= 1.01


def test_a_flip_swaps_the_classes_of_pairs(tmp_path):
    root = make_polygons(tmp_path, train=4, empty=0)
    plain = set_of(root, Augment())
    paired = set_of(root, Augment(flip=1.0), data__pairs="[[block,disc]]")
    for i in range(4):
        (_, one, _), (_, other, _) = plain[(0, i)], paired[(0, i)]
        assert (other.labels == 1 - one.labels).all()
        assert torch.allclose(
            other.boxes[:, [2, 1, 0, 3]], torch.tensor([64.0, 0, 64, 0]) - one.boxes * torch.tensor([1, -1, 1, -1])
        )


def test_a_box_alone_is_that_of_its_warped_edges(tmp_path):
    """A rotated box without an outline contains the warped object, and a flipped one is exact."""
    table = set_of(make_table(tmp_path / "b", train=4, empty=0), Augment(flip=1.0), "boxes")
    drawn = set_of(make_polygons(tmp_path / "a", train=4, empty=0), Augment(flip=1.0))
    for i in range(4):
        (_, one, _), (_, other, _) = table[(0, i)], drawn[(0, i)]
        order, same = one.boxes[:, 1].argsort(), other.boxes[:, 1].argsort()
        assert torch.allclose(one.boxes[order], other.boxes[same], atol=1e-3)
    table.augment = drawn.augment = WARPED
    larger = 0
    for i in range(4):
        (_, one, _), (_, other, _) = table[(1, i)], drawn[(1, i)]
        if len(one.boxes) == len(other.boxes):
            order, same = one.boxes[:, 1].argsort(), other.boxes[:, 1].argsort()
            larger += int(
                (one.boxes[order][:, 2:] - one.boxes[order][:, :2]).prod(1).sum()
                >= (other.boxes[same][:, 2:] - other.boxes[same][:, :2]).prod(1).sum() - 1
            )
    assert larger >= 3


def test_objects_that_leave_the_frame_are_dropped(tmp_path):
    found = set_of(make_polygons(tmp_path, train=6, empty=0), Augment(warp=1.0, shift=0.9), masks=True)
    counts = []
    for epoch in range(6):
        for i in range(6):
            _, target, _ = found[(epoch, i)]
            counts.append(len(target.boxes))
            assert len(target.labels) == len(target.masks) == len(target.boxes)
            if len(target.boxes):
                sides = target.boxes[:, 2:] - target.boxes[:, :2]
                assert (sides >= 1).all()
                assert target.boxes.min() >= 0
                assert target.boxes.max() <= 64
    assert min(counts) == 0
    assert max(counts) > 0


def test_a_batch_moves_and_splits(tmp_path):
    found = set_of(make_polygons(tmp_path, train=4, empty=2), Augment(), masks=True)
    batch = found.collate([found[(0, i)] for i in range(4)])
    assert batch.images.shape == (4, 1, 64, 64)
    assert [len(one.labels) for one in batch.targets] == [0, 0, 3, 3]
    parts = list(batch.to(torch.device("cpu")).split(3))
    assert [part.rows.tolist() for part in parts] == [[0, 1, 2], [3]]
    assert len(parts[1].targets) == 1
    assert isinstance(found.collate([found[(0, 0)], DataError("gone")]), DataError)


def test_masks_need_outlines(tmp_path):
    with pytest.raises(DataError, match="has a box and no outline"):
        set_of(make_coco(tmp_path, drawn=False), Augment(), "coco_boxes", masks=True)


def test_edges_and_fillings():
    points = edge_points(np.array([2.0, 4.0, 10.0, 8.0]))
    assert points.min(0).tolist() == [2, 4]
    assert points.max(0).tolist() == [10, 8]
    assert filled([np.array([[2.5, 2.5], [5.5, 2.5], [5.5, 5.5], [2.5, 5.5]])], 8).sum() == 16
