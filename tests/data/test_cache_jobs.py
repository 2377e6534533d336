"""Jobs that start at once on one `data.cache=disk` divide the work: none is done twice, and a kill blocks nobody."""

import os
import signal
import time
from multiprocessing import get_context
from threading import Thread

import cv2
import numpy as np
import pytest

from phalanx.config import ClassifyData
from phalanx.data import cache as module
from phalanx.data.cache import SampleCache
from phalanx.data.cache_folder import SHARES, USED, Folder
from phalanx.data.layouts import train_records
from phalanx.data.prepared import prepare
from phalanx.errors import DataError

IMAGES, JOBS = 40, 4


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        image = tmp_path / "set/train" / "ab"[i % 2] / f"image{i:02d}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), rng.integers(0, 255, (32, 32), np.uint8))
    (tmp_path / "log").mkdir()
    values = {"classes": ["a", "b"], "size": 32, "cache_dir": tmp_path / "cache"}
    return ClassifyData(name="t", root=tmp_path / "set", layout="folders", cache="disk", **values)


def job(data, log, number, start, dies_after):
    """Prepares what is missing, notes each preparation, and is killed in the middle of one if it is to die."""
    records, count = train_records(data), 0

    def noted(record, data):
        nonlocal count
        count += 1
        if count == dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
        made = prepare(record, data)
        with (log / str(number)).open("a") as file:
            file.write(f"{record.name}\n")
        return made

    module.prepare = noted
    start.wait()
    SampleCache(data).add(records, progress=False)


def run(data, log, dying=()):
    context = get_context("fork")
    start = context.Barrier(JOBS)
    jobs = [context.Process(target=job, args=(data, log, i, start, 3 if i in dying else 0)) for i in range(JOBS)]
    for one in jobs:
        one.start()
    for one in jobs:
        one.join(60)
    assert [one.exitcode for one in jobs] == [-signal.SIGKILL if i in dying else 0 for i in range(JOBS)]
    return {path.name: path.read_text().split() for path in log.iterdir()}


def test_jobs_that_start_at_once_prepare_each_sample_once_and_all_take_part(data, tmp_path):
    noted = run(data, tmp_path / "log")
    done = [name for names in noted.values() for name in names]
    assert sorted(done) == [record.name for record in train_records(data)]
    assert len(noted) == JOBS
    folder = tmp_path / "cache"
    assert int((folder / USED).read_text()) == sum(path.stat().st_size for path in folder.glob("*.sample"))


def test_a_killed_job_blocks_nobody_and_what_it_wrote_counts(data, tmp_path):
    noted = run(data, tmp_path / "log", dying=(0, 2))
    done = [name for names in noted.values() for name in names]
    cache, records = SampleCache(data), train_records(data)
    assert {record.name for record in records} == set(done)
    assert len(done) - IMAGES <= 2 * 8  # what threads of the killed ones had prepared and not yet written
    cache.add(records, progress=False)
    assert all(cache.store.get(cache.known[record][1]) is not None for record in records)


@pytest.fixture
def shares(data):
    """Share and key of each record."""
    cache = SampleCache(data)
    for record in train_records(data):
        cache._know(record)
    return {record: (int(key[:8], 16) % SHARES, key) for record, (_, key) in cache.known.items()}


def test_a_share_that_another_job_holds_is_put_off_and_then_found(data, shares, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(module, "prepare", lambda record, data: (made.append(record), prepare(record, data))[1])
    monkeypatch.setattr(module, "POLL", 0.01)
    records, other = train_records(data), Folder(data.cache_dir, 10**9)
    theirs = [record for record in records if shares[record][0] == shares[records[0]][0]]

    def finish():
        while len(made) < IMAGES - len(theirs):
            time.sleep(0.01)
        for record in theirs:
            other.put(shares[record][1], prepare(record, data), set())

    with other.claim(shares[records[0]][0]) as held:
        assert held
        thread = Thread(target=finish)
        thread.start()
        SampleCache(data).add(records, progress=False)
        thread.join()
    assert sorted(made) == [record for record in records if record not in theirs]
    assert "another job prepares what is missing; waiting for it" in capsys.readouterr().out


def test_an_error_ends_the_wait_for_other_jobs(data, shares):
    records = train_records(data)
    bad = next(record for record in records if shares[record][0] != shares[records[0]][0])
    bad.image.write_bytes(b"")
    other = Folder(data.cache_dir, 10**9)
    with other.claim(shares[records[0]][0]), pytest.raises(DataError, match=rf"{bad.name}: the file is empty"):
        SampleCache(data).add(records, progress=False)


@pytest.mark.parametrize("text", ["", "x", "1e9\n", "99999999999999999999\n", "12"])
def test_a_damaged_count_is_counted_anew(data, tmp_path, text):
    data.cache_dir.mkdir()
    (data.cache_dir / USED).write_text(text)
    SampleCache(data).add(train_records(data), progress=False)
    assert len(list(data.cache_dir.glob("*.sample"))) == IMAGES


def test_a_link_in_the_place_of_the_count_is_not_followed(data, tmp_path, capsys):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    data.cache_dir.mkdir()
    (data.cache_dir / USED).symlink_to(mine)
    SampleCache(data).add(train_records(data), progress=False)
    assert mine.read_text() == "mine"
    assert "is a link" in capsys.readouterr().out
