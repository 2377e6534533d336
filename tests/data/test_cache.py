"""Prepared samples are what `prepare` makes now, however they were kept, and the budget holds."""

import json
import os
import pickle
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cv2
import numpy as np
import pytest

from phalanx.config import SegmentData
from phalanx.data import cache as module
from phalanx.data.cache import SampleCache
from phalanx.data.cache_folder import Folder
from phalanx.data.images import Grid
from phalanx.data.layouts import train_records
from phalanx.data.prepared import CODE, Prepared, prepare
from phalanx.errors import DataError
from phalanx.masks.planes import PlaneRuns


@pytest.fixture
def make(tmp_path):
    """A set of six images of 64 pixels, and caches over it."""
    rng = np.random.default_rng(0)
    for i in range(6):
        image = tmp_path / "set/train/DCM" / f"ID{i}" / f"image{i}.png"
        labels = tmp_path / "set/train/outputs_json" / f"ID{i}" / f"image{i}.json"
        image.parent.mkdir(parents=True)
        labels.parent.mkdir(parents=True)
        cv2.imwrite(str(image), rng.integers(0, 255, (64, 64), np.uint8))
        labels.write_text(json.dumps({"annotations": [{"label": "a", "points": [[3, 3], [30 + i, 3], [9, 40]]}]}))

    def make(cache="disk", add=True, **changes):
        values = {"classes": ["a", "b"], "size": 64, "cache_dir": tmp_path / "cache"} | changes
        data = SegmentData(name="t", root=tmp_path / "set", cache=cache, **values)
        made, records = SampleCache(data), train_records(data)
        if add:
            made.add(records, progress=False)
        return made, records, data

    return make


def same(one, other):
    assert one.grid == other.grid
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.runs.planes(), other.runs.planes())


@pytest.fixture
def counted(monkeypatch):
    """Names of the records that were prepared."""
    seen = []
    monkeypatch.setattr(module, "prepare", lambda record, data: (seen.append(record.name), prepare(record, data))[1])
    return seen


@pytest.mark.parametrize("kind", ["ram", "disk", "none"])
def test_a_spawned_worker_can_be_sent_it(make, counted, kind):
    cache, records, data = make(kind)
    sent = pickle.loads(pickle.dumps(cache))
    counted.clear()
    for record in records:
        same(sent(record), prepare(record, data))
    assert len(counted) == (6 if kind == "none" else 0)


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_each_is_made_once(make, counted, kind):
    cache, records, data = make(kind)
    assert sorted(counted) == [record.name for record in records]
    for record in records * 2:
        same(cache(record), prepare(record, data))
    assert len(counted) == 6


def test_the_next_run_finds_what_the_first_made(make, counted):
    make()
    counted.clear()
    cache, records, data = make()
    same(cache(records[2]), prepare(records[2], data))
    assert counted == []


@pytest.mark.parametrize(
    "changes",
    [{"size": 96}, {"blackout": 400}, {"background": "contour"}, {"contrast": "clahe"}, {"classes": ["b", "a"]}],
)
def test_other_options_make_other_samples(make, changes):
    make()
    cache, records, data = make(**changes)
    for record in records:
        same(cache(record), prepare(record, data))


@pytest.mark.parametrize("kind", ["ram", "disk"])
@pytest.mark.parametrize("part", ["image", "labels"])
def test_a_changed_file_is_made_anew_by_the_next_run_and_refused_by_this_one(make, kind, part):
    cache, records, _ = make(kind)
    path = getattr(records[3], part)
    old = path.stat()
    if part == "image":
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), 255 - picture)
    else:
        path.write_text(path.read_text().replace("40", "41"))
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))  # of the same length, and with its old time
    with pytest.raises(DataError, match=r"image3\.png: the image or its annotation changed while training"):
        cache(records[3])
    cache, records, data = make(kind)
    same(cache(records[3]), prepare(records[3], data))


def test_a_file_only_touched_is_the_same(make, counted):
    cache, records, _ = make()
    counted.clear()
    os.utime(records[1].image)
    records[2].labels.write_bytes(records[2].labels.read_bytes())
    for record in records:
        cache(record)
    assert counted == []


def test_a_file_that_is_gone_is_named(make):
    cache, records, _ = make()
    records[1].image.unlink()
    with pytest.raises(DataError, match=r"image1\.png: cannot be read \(No such file"):
        cache(records[1])


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:2000] + b"\1" + b[2001:]])
def test_a_damaged_entry_is_made_anew(make, counted, tmp_path, damage):
    cache, records, data = make()
    for path in (tmp_path / "cache").glob("*.sample"):
        path.write_bytes(damage(path.read_bytes()))
    counted.clear()
    for record in records:
        same(cache(record), prepare(record, data))
    assert len(counted) == 6
    assert list((tmp_path / "cache").glob("*.sample")) == []
    make()
    assert len(list((tmp_path / "cache").glob("*.sample"))) == 6


def used(folder):
    return sum(path.stat().st_size for path in folder.glob("*"))


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_the_budget_holds_and_what_it_leaves_out_is_made_each_time(make, counted, tmp_path, kind):
    cache, records, data = make(kind, cache_gb=15e-6)
    kept = len(cache.store.samples) if kind == "ram" else len(list((tmp_path / "cache").glob("*.sample")))
    assert kept == 3
    assert kind == "ram" or used(tmp_path / "cache") <= 15000
    counted.clear()
    for record in records:
        same(cache(record), prepare(record, data))
    assert len(counted) == 6 - kept


def test_a_full_cache_still_checks_what_it_does_not_keep(make, tmp_path):
    (tmp_path / "set/train/outputs_json/ID5/image5.json").write_text("{")
    for kind in ("ram", "disk", "none"):
        with pytest.raises(DataError, match=r"image5\.json: is not JSON"):
            make(kind, cache_gb=8e-6)


def test_what_rested_longest_makes_room_and_what_others_use_does_not(make, tmp_path):
    folder = tmp_path / "cache"
    make(size=32)
    old = sorted(folder.glob("*.sample"))
    for age, path in enumerate(old):  # all but one rest for hours
        os.utime(path, times=(0, time.time() - (3600 * (age + 2) if age else 60)))
    room = used(folder) + 4 * 6000
    cache, records, _ = make(cache_gb=room / 1e9)
    left = [path for path in old if path.exists()]
    assert old[0] in left  # in use
    assert used(folder) <= room
    assert left == old[: len(left)]  # the longest unused went first
    assert all(cache.store.get(cache.known[record][1]) for record in records)


def test_room_is_made_of_samples_alone(make, tmp_path):
    """`data.cache_dir` may name a folder in which a user has other things, however long they rested."""
    folder = tmp_path / "cache"
    make(size=32)
    mine = [folder / "notes.txt", folder / "scan.npz", tmp_path / "elsewhere.npz"]
    for path in mine:
        path.write_bytes(b"x" * 100_000)
    (folder / f"{'a' * 64}.sample").symlink_to(mine[2])
    for path in (*folder.glob("*"), mine[2]):
        os.utime(path, times=(0, 0), follow_symlinks=False)
    make(cache_gb=1e-9)
    assert all(path.stat().st_size == 100_000 and path.stat().st_mtime == 0 for path in mine)
    assert (folder / f"{'a' * 64}.sample").is_symlink()


def test_a_folder_that_cannot_be_written_is_said_once_and_costs_only_time(make, tmp_path, capsys):
    (tmp_path / "cache").write_text("in the way")
    cache, records, data = make()
    assert capsys.readouterr().out.count("data.cache_dir=") == 1
    for record in records:
        same(cache(record), prepare(record, data))


def race(place, number):
    """Puts and gets the same few keys as every other process does, in its own order."""
    folder, rng = Folder(place, 10**8), np.random.default_rng(number)
    for key in rng.integers(0, 5, 60).tolist():
        found = folder.get(f"{key:064d}")
        if found is not None and not (found.image == key).all():
            return f"process {number} got another sample than {key}"
        if found is None or rng.random() < 0.2:
            image = np.full((64, 64), key, np.uint8)
            folder.put(f"{key:064d}", Prepared(image, PlaneRuns.of(image[:, :, None]), Grid(64, 64, 64)), set())
    return ""


def test_processes_that_write_and_read_at_once_see_whole_samples(tmp_path):
    with ProcessPoolExecutor(4, get_context("fork")) as pool:
        assert list(pool.map(race, [tmp_path] * 4, range(4))) == [""] * 4
    assert len(list(tmp_path.glob("*.sample"))) == 5
    assert list(tmp_path.glob(".*.part")) == []


def test_the_modules_that_prepare_a_sample_are_listed():
    """An edit of one of them invalidates all cached samples; of what is passed over here, only types are used,
    and what finds a file, or reads it right or refuses it. Boxes of objects are no part of a sample."""
    from tests.test_layers import MODULES, imports

    seen, left = set(), ["data.prepared"]
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            left += imports(name) if name != "data.objects" else []
    passed_over = {name for name in seen if name.split(".")[0] in ("config", "errors", "runtime")}
    passed_over |= {"data.records", "data.record_list", "data.listing", "data.objects"}
    assert {name.replace(".", "/") for name in seen - passed_over} == set(CODE)
    assert all(name in MODULES for name in seen)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "another's", "zip"])
def test_what_stands_in_an_entrys_place_is_never_taken_for_it(make, tmp_path, kind):
    cache, records, data = make()
    one, other = (tmp_path / "cache" / f"{cache.known[record][1]}.sample" for record in records[:2])
    content = one.read_bytes()
    one.unlink()
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        one.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(one)
    elif kind == "folder":
        one.mkdir()
    elif kind == "zip":
        np.savez(tmp_path / "x.npz", image=np.zeros((9, 9), np.uint8))
        one.write_bytes((tmp_path / "x.npz").read_bytes())
    else:
        one.write_bytes(other.read_bytes())
    same(cache(records[0]), prepare(records[0], data))
    cache, records, data = make()
    same(cache(records[0]), prepare(records[0], data))
    assert kind != "link" or (tmp_path / "elsewhere").read_bytes() == content
