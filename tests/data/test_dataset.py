"""Samples depend on (seed, epoch, index) and on nothing else; batches lose and double nothing."""

import json

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from phalanx.augment.device import WarpMaps
from phalanx.config import Augment, SegmentData, validate_as
from phalanx.data.cache import SampleCache
from phalanx.data.dataset import TrainingSet, Unwarped, collate
from phalanx.data.records import train_records
from phalanx.engine.order import BatchOrder
from phalanx.errors import DataError
from phalanx.masks.planes import unpack

CLASSES = [f"bone{c}" for c in range(10)]
LIVELY = {
    "flip": 0.5, "warp": 0.9, "shift": 0.1, "scale": 0.2, "rotate": 30, "elastic": {"p": 0.5},
    "pixel": [{"name": "GaussNoise", "p": 0.8}, {"name": "RandomBrightnessContrast", "p": 0.5}],
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Seven images of 40 x 56, with a bone of its own place in each."""
    root, rng = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for i in range(7):
        image = root / "train" / "DCM" / f"ID{i // 2}" / f"image{i}.png"
        labels = root / "train" / "outputs_json" / f"ID{i // 2}" / f"image{i}.json"
        for path in (image, labels):
            path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), rng.integers(0, 255, (40, 56), np.uint8))
        square = [[4 + 4 * i, 5], [14 + 4 * i, 5], [14 + 4 * i, 30], [4 + 4 * i, 30]]
        items = [{"label": CLASSES[i], "points": square}, {"label": CLASSES[9], "points": [square]}]
        labels.write_text(json.dumps({"annotations": items}))
    return root


def make(root, *, cache="ram", cache_gb=1.0, cache_dir="none", seed=0, crop=None, **augment):
    kept = {"cache": cache, "cache_gb": cache_gb, "cache_dir": cache_dir}
    data = SegmentData(name="t", root=root, classes=CLASSES, pairs=[("bone0", "bone1")], size=64, crop=crop, **kept)
    augment = validate_as(Augment, augment)
    return TrainingSet(train_records(root), data=data, augment=augment, seed=seed, cache=SampleCache(data))


def epoch_of(dataset, epoch, workers, batch=3, seed=0):
    batches = BatchOrder(len(dataset), batch, seed)
    batches.epoch = epoch
    loader = DataLoader(dataset, batch_sampler=batches, num_workers=workers, collate_fn=collate)
    return {int(i): (image, planes) for b in loader for image, planes, i in zip(*b, strict=True)}


def test_a_sample_without_augmentation_is_the_image_and_its_polygons(root):
    dataset = make(root)
    image, planes, index = dataset[5, 2]
    assert (image.shape, planes.shape, index) == ((1, 64, 64), (2, 64, 64), 2)
    assert image.dtype == planes.dtype == torch.uint8
    stack = unpack(planes.permute(1, 2, 0).numpy(), 10)
    scale = 64 / 56
    expected = np.zeros((64, 64), bool)
    expected[round(5 * scale) : round(30.5 * scale) + 1, round(12 * scale) : round(22.5 * scale) + 1] = True
    assert [c for c in range(10) if stack[c].any()] == [2, 9]
    assert (stack[2] ^ expected).sum() <= 80  # a pixel along the outline
    np.testing.assert_array_equal(stack[2], stack[9])
    assert not image[0, 46:].any()  # beside the image


@pytest.mark.parametrize("crop", [None, 32])
def test_samples_are_the_same_wherever_kept_and_whatever_the_workers(root, crop, tmp_path):
    reference = epoch_of(make(root, crop=crop, **LIVELY), 3, workers=0)
    assert sorted(reference) == list(range(7))
    disk = {"cache": "disk", "cache_dir": tmp_path}
    sample = 64 * 64 + 1000  # bytes, about
    for where, workers, batch in [
        ({"cache": "none"}, 0, 1),
        ({"cache": "none"}, 2, 2),
        ({}, 1, 3),
        ({"cache_gb": 3 * sample / 1e9}, 2, 3),  # only some of them fit
        (disk, 2, 2),  # made
        (disk, 0, 3),  # found
        (disk | {"cache_gb": 0, "cache_dir": tmp_path / "other"}, 1, 3),
    ]:
        for index, sample in epoch_of(make(root, crop=crop, **where, **LIVELY), 3, workers, batch).items():
            assert all(torch.equal(a, b) for a, b in zip(sample, reference[index], strict=True))


@pytest.mark.parametrize("crop", [None, 32])
def test_a_warp_left_to_the_device_is_the_warp_of_the_workers(root, crop):
    """The same draws; without pixel transforms, which then come before the warp, the same samples, too."""
    recipe = {key: value for key, value in LIVELY.items() if key != "pixel"}
    here, there = make(root, crop=crop, **recipe), make(root, crop=crop, device="cuda", **recipe)
    keys = [(2, i) for i in range(7)]
    expected, raw = collate([here[key] for key in keys]), collate([there[key] for key in keys])
    assert raw.images.shape[-1] == 64
    found = raw.warp(there.pairs)
    assert torch.equal(found.rows, expected.rows)
    assert (found.images.int() - expected.images.int()).abs().max() <= 1
    assert found.planes.shape == expected.planes.shape
    assert (found.planes != expected.planes).float().mean() < 1e-3
    assert expected.planes.any()


def test_unwarped_batches_are_the_same_whatever_the_workers_and_move_to_a_device_whole(root):
    batches = BatchOrder(7, 3, 0)
    dataset = make(root, device="cuda", **LIVELY)
    for one, two in zip(
        *(DataLoader(dataset, batch_sampler=batches, num_workers=n, collate_fn=collate) for n in (0, 2)), strict=True
    ):
        tensors = [(*batch[:3], *batch.maps) for batch in (one, two)]
        assert all(torch.equal(a, b) for a, b in zip(*tensors, strict=True))
        moved = one.to(torch.device("meta"))
        assert (type(moved), type(moved.maps)) == (Unwarped, WarpMaps)
        assert {tensor.device.type for tensor in (*moved[:2], *moved.maps)} == {"meta"}
        assert moved.rows is one.rows  # they name records, which are here


def test_pixel_transforms_come_before_a_warp_on_the_device(root):
    inverting = {"pixel": [{"name": "InvertImg", "p": 1.0}]}
    plain, inverted = (make(root, device="cuda", **extra)[0, 3][0] for extra in ({}, inverting))
    assert torch.equal(inverted, 255 - plain)


def test_a_crop_has_its_side_and_moves_with_the_epoch(root):
    dataset = make(root, crop=32)
    image, planes, _ = dataset[0, 3]
    assert (image.shape, planes.shape) == ((1, 32, 32), (2, 32, 32))
    assert len({dataset[epoch, 3][0].numpy().tobytes() for epoch in range(12)}) > 6


def test_epochs_seeds_and_images_are_warped_each_in_its_own_way(root):
    dataset, other = make(root, **LIVELY), make(root, seed=1, **LIVELY)
    first = dataset[0, 4]
    assert torch.equal(first[0], dataset[0, 4][0])  # asking again, in any order, draws nothing new
    assert not torch.equal(first[0], dataset[1, 4][0])
    assert not torch.equal(first[0], other[0, 4][0])


def test_augmenting_leaves_the_cache_as_it_was_read(root):
    dataset = make(root, **LIVELY)
    kept = dataset.cache.store.samples
    assert len(kept) == 7
    before = {key: [part.copy() for part in (one.image, one.runs.starts, one.runs.values)] for key, one in kept.items()}
    for epoch in range(4):
        collate([dataset[epoch, i] for i in range(7)]).images.fill_(7)
    for key, (image, starts, values) in before.items():
        np.testing.assert_array_equal(kept[key].image, image)
        np.testing.assert_array_equal(kept[key].runs.starts, starts)
        np.testing.assert_array_equal(kept[key].runs.values, values)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 7), st.integers(0, 3), st.integers(0, 3))
def test_batches_cover_every_image_once_and_resume_at_any_of_them(count, batch, seed, epoch):
    batches = BatchOrder(count, batch, seed)
    batches.epoch = epoch
    whole = list(batches)
    assert len(whole) == len(batches)
    assert sorted(index for b in whole for _, index in b) == list(range(count))
    assert {e for b in whole for e, _ in b} == {epoch}
    assert all(len(b) == batch for b in whole[:-1])
    for start in range(len(whole) + 1):
        batches.start = start
        assert list(batches) == whole[start:]


def test_the_order_changes_with_epoch_and_seed():
    one, two, three = BatchOrder(40, 40, 0), BatchOrder(40, 40, 0), BatchOrder(40, 40, 1)
    two.epoch = 1
    orders = [[index for _, index in next(iter(b))] for b in (one, two, three)]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_a_file_that_breaks_in_a_worker_arrives_as_our_error_naming_it(root, tmp_path):
    """As a value, since raised in a worker it would arrive as the text of a traceback."""
    records = train_records(root)
    bad = tmp_path / "image3.png"
    bad.write_bytes(records[3].image.read_bytes()[:200])
    dataset = make(root, cache="none")
    dataset.records[3] = records[3]._replace(image=bad)
    loader = DataLoader(dataset, batch_sampler=BatchOrder(7, 2, 0), num_workers=2, collate_fn=collate)
    found = [batch for batch in loader if isinstance(batch, DataError)]
    assert len(found) == 1
    assert str(found[0]).startswith(f"{bad}: the PNG is cut off")


def test_a_broken_file_stops_the_reading_into_the_cache(root, tmp_path):
    records = list(train_records(root))
    bad = tmp_path / "image3.json"
    bad.write_text("{")
    records[3] = records[3]._replace(labels=bad)
    data = SegmentData(name="t", root=root, classes=CLASSES, size=64)
    with pytest.raises(DataError, match=r"image3\.json: is not JSON"):
        TrainingSet(records, data=data, augment=Augment(), seed=0, cache=SampleCache(data))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([0.3, 1.0, 1.0, 1.34, 2.5, 10.0]), min_size=1, max_size=30), st.integers(1, 7))
def test_weighted_epochs_are_of_one_length_and_resume_at_any_batch(weights, batch):
    batches = BatchOrder(len(weights), batch, 0, np.array(weights))
    for epoch in range(3):
        batches.epoch, batches.start = epoch, 0
        whole = list(batches)
        keys = [key for b in whole for key in b]
        assert (len(whole), len(keys)) == (len(batches), batches.images)
        assert len(set(keys)) == len(keys)  # each time of an image is a sample of its own
        seen = np.bincount([key[1] for key in keys], minlength=len(weights))
        assert (seen >= np.floor(weights)).all()
        for index, times in enumerate(seen):
            own = sorted(key for key in keys if key[1] == index)
            assert own == [(epoch, index, *([t] if t else [])) for t in range(times)]
        for start in range(len(whole) + 1):
            batches.start = start
            assert list(batches) == whole[start:]


def test_images_come_as_often_as_their_weight_on_average():
    weights = np.array([1.0] * 20 + [1.34] * 20 + [10.0] * 3 + [0.5] * 4)
    batches, seen = BatchOrder(len(weights), 8, 0, weights), np.zeros(len(weights))
    for batches.epoch in range(400):
        seen += np.bincount([key[1] for b in batches for key in b], minlength=len(weights))
    np.testing.assert_allclose(seen / 400, weights * batches.images / weights.sum(), atol=0.1)


def test_weights_of_one_are_no_weights_but_for_the_order():
    batches = BatchOrder(9, 4, 0, np.ones(9))
    assert sorted(key for b in batches for key in b) == [(0, i) for i in range(9)]


def test_an_image_shown_again_is_warped_in_another_way(root):
    dataset = make(root, **LIVELY)
    first, second, third = dataset[0, 4], dataset[0, 4, 1], dataset[0, 4, 2]
    assert torch.equal(second[0], dataset[0, 4, 1][0])
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(second[0], third[0])
