"""The ratio of classes in an epoch, for masks and labels alike; patients of label maps; copies that are augmented."""

import json

import numpy as np
import pytest
from tests.label_maps import make, picture, words

from phalanx.config import Augment, SegmentData, validate_as
from phalanx.config.compose import compose
from phalanx.data.balance import NO_CLASS, balanced_masks, rarest_classes
from phalanx.data.cache import SampleCache
from phalanx.data.dataset import TrainingSet
from phalanx.data.layouts import LAYOUTS
from phalanx.data.quarantine import kept_records
from phalanx.data.rules import select
from phalanx.engine.order import BatchOrder
from phalanx.errors import ConfigError, DataError

PATTERN = {"masks__patients": "null", "masks__group_pattern": "x(..)"}


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return make(tmp_path_factory.mktemp("maps") / "set")


def data_of(maps, **changes):
    return compose(words(maps, **{f"data__{key}": value for key, value in changes.items()})).data


def shown(records, weights, data, epoch=0):
    """How often an epoch of the sampler shows each class."""
    counts = dict.fromkeys([*data.classes, "none"], 0)
    order = BatchOrder(len(records), 4, seed=1, weights=weights)
    order.epoch = epoch
    of_class = rarest_classes(records, data)
    for key in (key for batch in order for key in batch):
        c = of_class[key[1]]
        counts[[*data.classes, "none"][c if c >= 0 else len(data.classes)]] += 1
    return counts


@pytest.mark.parametrize(("ratio", "expected"), [("{diseased: 1}", 12), ("{diseased: 0.5}", 6), ("{diseased: 2}", 24)])
def test_an_epoch_shows_the_classes_in_the_ratio(maps, ratio, expected):
    data = data_of(maps, balance=ratio)
    records = kept_records(data)  # twelve normal ones and four diseased
    weights, reasons = balanced_masks(records, data)
    assert all(shown(records, weights, data, epoch)["diseased"] == expected for epoch in range(3))
    assert all(shown(records, weights, data, epoch)["normal"] == 12 for epoch in range(3))
    assert {text for text in reasons if text} == {f"balance: diseased x {expected / 4:g}"}


def test_a_balanced_sampler_keeps_the_length_of_an_epoch_and_shows_every_image_in_the_end(maps):
    data = data_of(maps, balance="{diseased: 1}", balance_epoch="same")
    records = kept_records(data)
    weights, _ = balanced_masks(records, data)
    assert weights.sum() == pytest.approx(16)
    seen, of_class = set(), rarest_classes(records, data)
    for epoch in range(12):
        order = BatchOrder(16, 4, seed=1, weights=weights)
        order.epoch = epoch
        keys = [key for batch in order for key in batch]
        assert len(keys) == 16
        assert sum(of_class[key[1]] == 1 for key in keys) == 8
        seen |= {key[1] for key in keys}
    assert seen == set(range(16))
    twice = [list(BatchOrder(16, 4, seed=1, weights=weights)) for _ in range(2)]
    assert twice[0] == twice[1]
    resumed = BatchOrder(16, 4, seed=1, weights=weights)
    resumed.start = 2
    assert next(iter(resumed.steps()))[1] == [(8, 12)]


def test_an_image_of_several_classes_counts_as_the_rarest_and_one_of_none_may_be_background(tmp_path):
    root = make(tmp_path / "set", train=12, test=1)
    import cv2

    both, empty = (root / "train" / "labels" / f"x{i:03d}.png" for i in (1, 2))  # normal ones
    _, labels = picture(False, 1)
    labels[:6, :6] = 2
    both.write_bytes(cv2.imencode(".png", labels)[1].tobytes())
    empty.write_bytes(cv2.imencode(".png", np.zeros_like(labels))[1].tobytes())
    data = data_of(root, balance="{diseased: 1}")
    records = kept_records(data)
    of_class = rarest_classes(records, data)
    assert (of_class[1], of_class[2]) == (1, NO_CLASS)
    weights, _ = balanced_masks(records, data)
    assert weights[2] == 1
    assert weights[of_class == 1].sum() == pytest.approx((of_class == 0).sum())
    named = data_of(root, balance="{diseased: 1, background: 0.5}")
    weights, reasons = balanced_masks(records, named)
    assert weights[2] / weights[of_class == 0].sum() == pytest.approx(0.5)
    assert any(reasons)


def test_what_cannot_be_balanced_is_refused(maps, hands):
    data = data_of(maps, balance="{diseased: 1}")
    healthy = [record for i, record in enumerate(kept_records(data)) if i % 4]
    with pytest.raises(ConfigError, match="all images count as normal, the rarest class that they show"):
        balanced_masks(healthy, data)
    with pytest.raises(ConfigError, match=r"data\.balance: no training image counts as background"):
        balanced_masks(kept_records(data), data_of(maps, balance="{background: 1}"))


def test_a_dropped_image_does_not_count_in_the_ratio(maps):
    data = data_of(maps, balance="{diseased: 1}", drop="{dice: {run: earlier, worst: 1}}")
    records = kept_records(data)
    scores = {record.name: 0.9 for record in records} | {"x000.png": 0.1}
    rows = select(records, data, scores).by_image
    assert (rows["x000.png"].weight, rows["x000.png"].rule) == (0.0, "drop")
    assert {rows[f"x{i:03d}.png"].weight for i in (4, 8, 12)} == {4.0}  # three are left for twelve normal ones
    assert rows["x004.png"].reason == "balance: diseased x 4"
    assert (rows["x001.png"].weight, rows["x001.png"].rule) == (1.0, "")


def test_only_copies_are_augmented(maps):
    data = data_of(maps)
    augment = Augment(flip=1.0, pixel=[{"name": "InvertImg", "p": 1.0}], copies_only=True)
    common = {"data": data, "seed": 0, "cache": SampleCache(data)}
    one = TrainingSet(kept_records(data)[:2], augment=augment, **common)
    plain = TrainingSet(kept_records(data)[:2], augment=Augment(), **common)
    assert all((a == b).all() for a, b in zip(one[0, 1][:2], plain[0, 1][:2], strict=True))
    copy = one[0, 1, 1]
    flipped = np.zeros((32, 32), np.uint8)
    flipped[:, :27] = plain[0, 1][1][0][:, :27].numpy()[:, ::-1]
    assert np.array_equal(copy[1][0].numpy(), flipped)
    assert not (copy[0] == plain[0, 1][0]).all()


def test_patients_come_from_tables_or_a_pattern(maps, tmp_path):
    found = {record.name: record.group for record in kept_records(data_of(maps))}
    assert found == {f"x{i:03d}.png": f"A{i // 2}" for i in range(16)}
    by_name = data_of(maps, **PATTERN)
    assert {record.group for record in kept_records(by_name)} == {"00", "01"}
    place = maps / "test" / "answers"
    several = data_of(maps, masks__patients="[train.csv, test/answers.csv]")
    truth = LAYOUTS["masks"].ground_truth(place, several, [f"x{i:03d}.png" for i in range(16, 20)])
    animals = {f"x{i:03d}.png": f"A{i // 2}" for i in range(16, 20)}
    assert {name: record.group for name, record in truth.items()} == animals
    unlisted = LAYOUTS["masks"].ground_truth(place, data_of(maps), ["x016.png"])
    assert unlisted["x016.png"].group == "x016"  # train.csv does not list it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file; data.masks.patients="),
        ("image_name,animal\nx000.png,A0\n", "has 0 columns 'patient'"),
        ("image_name,patient\nx000.png,A0\n", "has no row of x001.png, whose patient it should name"),
        ("image_name,patient\nx000.png,A0\nx000.png,A1\n", "row 3: .x000.png. has another patient in a row above"),
        ("image_name,patient\nx000.png,\n", "row 2 is .x000.png,., without an image or a patient"),
    ],
)
def test_tables_of_patients_that_cannot_be_used(tmp_path, text, message):
    root = make(tmp_path / "set", train=4, test=1)
    (root / "train.csv").unlink()
    if text is not None:
        (root / "train.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        kept_records(data_of(root))


def test_a_pattern_that_finds_no_patient_is_refused(maps):
    with pytest.raises(DataError, match=r"group_pattern=y\(\.\.\) finds no patient in its name"):
        kept_records(data_of(maps, masks__patients="null", masks__group_pattern="y(..)"))


def test_the_last_of_overlapping_polygons_is_the_class_of_a_pixel(hands):
    from phalanx.data.images import Grid, image_size
    from phalanx.data.layouts import truth
    from phalanx.data.records import train_records
    from phalanx.masks.planes import unpack

    given = {"name": "hand", "root": hands, "classes": json.loads((hands / "manifest.json").read_text())["classes"]}
    both, last = (validate_as(SegmentData, given | {"size": 128, "overlap": overlap}) for overlap in ("allow", "last"))
    record = train_records(hands)[0]
    grid = Grid(*image_size(record.image), 128)
    many, one = (unpack(truth(record, data, grid), len(data.classes)) for data in (both, last))
    assert many.sum(0).max() > 1  # bones of a hand overlap
    assert one.sum(0).max() == 1
    numbers = np.arange(len(many))[:, None, None]
    assert np.array_equal((one * numbers).max(0), (many * numbers).max(0))
    assert np.array_equal(one.any(0), many.any(0))
