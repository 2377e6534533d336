"""Files of probability maps: what goes in comes out within a step, thresholds hold exactly, damage is noticed."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.data.records import Record
from phalanx.errors import DataError
from phalanx.predict.map_file import code_offset, dequantise, quantise, read_map, write_map
from phalanx.predict.maps import ProbabilityMaps, stack_of_parts
from phalanx.predict.stored import MapsFolder, write_about

CLASSES = ["a", "b", "c"]


@pytest.fixture
def dense():
    rng = np.random.default_rng(0)
    planes = np.zeros((3, 20, 20), np.float32)
    planes[0, 3:9, 4:15] = rng.random((6, 11), np.float32)
    planes[2, 10:, :7] = rng.random((10, 7), np.float32)
    return planes


def keep(path, dense, threshold=0.5, **change):
    told = {"image": path.stem, "size": (40, 36), "classes": CLASSES, "run_hashes": {"runs/x/fold0": "ab"}}
    write_map(path, ProbabilityMaps.of(dense), threshold=threshold, **(told | change))


@given(st.floats(0.001, 0.999), st.integers(0, 1000))
def test_a_code_tells_whether_its_probability_reaches_the_threshold(threshold, seed):
    t = np.float32(threshold)
    some = np.random.default_rng(seed).random(1000, np.float32)
    close = [t, np.nextafter(t, np.float32(0)), np.nextafter(t, np.float32(1))]
    p = np.concatenate([some, close, [0, 1]]).astype(np.float32)
    back = dequantise(quantise(p[None], code_offset(threshold)), code_offset(threshold))[0]
    np.testing.assert_array_equal(back >= t, p >= t)
    assert abs(back - p).max() <= 1 / 255 + 1e-6
    inner = (p > 1 / 255) & (p < 254 / 255)
    assert abs(back - p)[inner].max() <= 1 / 510 + 0.1 / 255 + 1e-6


def test_at_half_the_codes_are_what_rounding_gives():
    p = np.random.default_rng(1).random(10000, np.float32)
    np.testing.assert_array_equal(quantise(p, code_offset(0.5)), np.round(p.astype(float) * 255))


@pytest.mark.parametrize("threshold", [0.5, 0.3])
@pytest.mark.parametrize("count", [2, 4])
def test_a_mean_of_maps_is_foreground_as_often_as_it_was(threshold, count):
    """Means that end on the threshold itself, as one pixel in 128 does here, are neither all in nor all out."""
    rng = np.random.default_rng(0)
    p = rng.uniform(threshold - 0.25, threshold + 0.25, (count, 700, 700)).astype(np.float32)
    offset = code_offset(threshold)
    back = np.mean([dequantise(quantise(plane, offset), offset, 3) for plane in p], axis=0)
    assert abs((back >= threshold).mean() - (p.mean(axis=0) >= threshold).mean()) < 1e-3


@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.7311])
def test_what_is_read_is_what_was_written_and_masks_stay(dense, tmp_path, threshold):
    keep(tmp_path / "x.npz", dense, threshold)
    found = read_map(tmp_path / "x.npz")
    assert found[1:] == ("x", CLASSES, (40, 36), {"runs/x/fold0": "ab"})
    assert abs(found.maps.dense() - dense).max() <= 1 / 255
    for size in ((20, 20), (20, 18)):
        masks = [
            stack_of_parts([(maps, 1.0)], size, threshold).texts() for maps in (found.maps, ProbabilityMaps.of(dense))
        ]
        assert masks[0] == masks[1] != ["", "", ""]


def test_an_empty_image_is_kept_too(tmp_path):
    keep(tmp_path / "x.npz", np.zeros((3, 20, 20), np.float32))
    assert not read_map(tmp_path / "x.npz").maps.dense().any()


def test_a_cut_or_altered_file_is_refused_or_says_the_same(dense, tmp_path):
    """Every cut, and every byte changed; what zip does not use, such as times, may change unseen."""
    keep(tmp_path / "x.npz", dense)
    whole, good = (tmp_path / "x.npz").read_bytes(), read_map(tmp_path / "x.npz")
    bad, rng, refused = tmp_path / "bad.npz", np.random.default_rng(0), 0
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= int(rng.integers(1, 256))
        for data in (whole[:at], bytes(changed)):
            bad.write_bytes(data)
            try:
                found = read_map(bad)
            except DataError:
                refused += 1
            else:
                assert found[1:] == good[1:]
                np.testing.assert_array_equal(found.maps.dense(), good.maps.dense())
    assert refused > 1.5 * len(whole)


@pytest.mark.parametrize(
    "change",
    [
        {"side": 10}, {"side": 1 << 40}, {"side": "20"}, {"size": [0, 3]}, {"size": 7}, {"classes": ["a"]},
        {"format": "phalanx-map-0"}, {"offset": 2}, {"offset": None},
    ],
)  # fmt: skip
def test_a_file_that_contradicts_itself_is_refused(dense, tmp_path, change):
    keep(tmp_path / "x.npz", dense)
    with np.load(tmp_path / "x.npz") as stored:
        parts = dict(stored)
    about = json.loads(parts["about"].tobytes()) | change
    np.savez(tmp_path / "x.npz", **parts | {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)})
    with pytest.raises(DataError, match=r"x.npz: not a whole probability map"):
        read_map(tmp_path / "x.npz")


def folder_of(tmp_path, dense, **change):
    keep(tmp_path / "x.npz", dense, **change)
    write_about(tmp_path, CLASSES, {"runs/x/fold0": "ab"}, {"x": (40, 36)}, "key", 0.5)
    return MapsFolder(tmp_path)


def record(name):
    return Record(name, "", Path(f"{name}.png"), None)


def test_a_folder_gives_the_maps_of_its_images(dense, tmp_path):
    member = folder_of(tmp_path, dense)
    (found,) = member.maps([record("x")], [np.zeros((40, 36), np.uint8)])
    assert abs(found.dense() - dense).max() <= 1 / 255
    with pytest.raises(DataError, match=r"x.npz: made from an image of 40 x 36, x.png has 36 x 40"):
        member.maps([record("x")], [np.zeros((36, 40), np.uint8)])
    with pytest.raises(DataError, match="holds no map of y; members must cover the same images"):
        member.maps([record("y")], [])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"image": "y"}, "image"), ({"classes": ["b", "a", "c"]}, "classes"), ({"size": (36, 40)}, "size"),
        ({"run_hashes": {"runs/x/fold0": "cd"}}, "run hashes"),
    ],
)  # fmt: skip
def test_a_file_of_another_prediction_among_them_is_refused(dense, tmp_path, change, what):
    member = folder_of(tmp_path, dense, **change)
    with pytest.raises(DataError, match=f"x.npz: has another {what} than .*maps.json;"):
        member.maps([record("x")], [])


def test_a_folder_without_a_sound_maps_json_is_no_member(tmp_path):
    for text in ("", "[]", "{}", '{"format": "phalanx-map-1"}', '{"format": "other", "classes": []}'):
        (tmp_path / "maps.json").write_text(text)
        with pytest.raises(DataError, match=r"maps\.json.*; delete it and make it again"):
            MapsFolder(tmp_path)
    for threshold in (0, 1):
        write_about(tmp_path, CLASSES, {}, {}, "key", threshold)
        with pytest.raises(DataError, match=r"maps.json: threshold [01]\)"):
            MapsFolder(tmp_path)
