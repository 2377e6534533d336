"""Regions of images: how a PNG becomes bit-planes on the grid, and what is cached by which key."""

import cv2
import numpy as np
import pytest
from tests.labelled import CLASSES, make_table, words

from phalanx.config.compose import compose
from phalanx.data import layouts
from phalanx.data.images import Grid
from phalanx.data.prepared import prepare, prepared_key
from phalanx.data.quarantine import kept_records
from phalanx.data.regions import region_planes
from phalanx.errors import DataError
from phalanx.masks.planes import unpack


@pytest.fixture
def root(tmp_path):
    make_table(tmp_path, train=8, test=2)
    (tmp_path / "regions").mkdir()
    return tmp_path


def data_of(root, **changes):
    more = {"loss__marker": "{kind:heatmap}", "data__table__regions": "regions", "data__size": 96}
    return compose(words(root, "table", **(more | changes))).data


def planes(root, values, **changes):
    data = data_of(root, **changes)
    cv2.imwrite(str(root / "regions/000.png"), values.astype(np.uint8))
    record = kept_records(data)[0]
    return region_planes(record, data, Grid(*values.shape, 96))


def test_bits_are_the_classes_and_one_more_says_that_there_is_a_file(root):
    values = np.zeros((48, 48), int)
    values[:24] = 1
    values[12:36, :24] += 4
    found = unpack(planes(root, values, data__table__region_kind="bits"), 4)
    for bit in range(3):
        assert (found[bit] == np.repeat(np.repeat(values >> bit & 1, 2, 0), 2, 1)).all()
    assert found[3].all()
    found = unpack(planes(root, values), 2)
    assert (found[0] == np.repeat(np.repeat(values > 0, 2, 0), 2, 1)).all()
    assert found[1].all()


def test_the_padding_of_an_image_that_is_not_square_has_no_region(root):
    found = unpack(planes(root, np.full((24, 48), 255)), 2)
    assert found[:, :48].all()
    assert not found[:, 48:].any()


def test_an_image_without_a_file_is_known_from_one_with_an_empty_region(root):
    data = data_of(root)
    record = kept_records(data)[1]
    assert not region_planes(record, data, Grid(48, 48, 96)).any()
    assert layouts.files(record, data) == [record.image, record.labels]
    cv2.imwrite(str(root / "regions/001.png"), np.zeros((48, 48), np.uint8))
    assert unpack(region_planes(record, data, Grid(48, 48, 96)), 2).all(axis=(1, 2)).tolist() == [False, True]
    assert layouts.files(record, data)[-1] == root / "regions/001.png"
    assert prepare(record, data).runs.planes().any()


def test_a_cached_sample_is_of_its_regions(root):
    data = data_of(root)
    record = kept_records(data)[0]
    keys = {
        prepared_key(record, ["x", "y"], one)
        for one in (data, data_of(root, data__table__region_kind="bits"),
                    data.model_copy(update={"table": data.table.model_copy(update={"regions": None})}))
    }  # fmt: skip
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda p: p.write_bytes(b"no picture"), "000.png"),
        (lambda p: cv2.imwrite(str(p), np.dstack([np.eye(48, dtype=np.uint8) * k for k in (1, 2, 3)])), "colours"),
        (lambda p: cv2.imwrite(str(p), np.full((48, 48), 8, np.uint8)), f"{len(CLASSES)} classes have 3 bits"),
        (lambda p: cv2.imwrite(str(p), np.full((47, 48), 1, np.uint8)), "is 47 x 48, and its image is 48 x 48"),
    ],
)
def test_files_that_cannot_be_used_are_refused_in_a_line(root, make, fault):
    data = data_of(root, data__table__region_kind="bits")
    make(root / "regions/000.png")
    with pytest.raises(DataError, match=fault) as caught:
        prepare(kept_records(data)[0], data)
    assert "\n" not in str(caught.value)
