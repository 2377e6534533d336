"""Memory grows with the records by far less than an object for each would take: 10 times as many, in a tar."""

import io
import tarfile
import tracemalloc

import cv2
import numpy as np
import pytest

from phalanx.checks.labels import ITEMS
from phalanx.config import ClassifyData, Table
from phalanx.data import folds
from phalanx.data.layouts import train_records
from phalanx.runtime.archive import rooted
from phalanx.submission.probabilities import Probabilities

FEW, MANY, CLASSES = 300, 3_000, ["a", "b", "c"]
BAR = 300  # bytes of a record


def make(path, count):
    """A tar of links to one image, and the CSV of their labels, with two images of each patient."""
    image = cv2.imencode(".png", np.arange(64, dtype=np.uint8).reshape(8, 8))[1].tobytes()
    names = [f"P{i // 2:06d}-{i % 2}.png" for i in range(count)]
    rows = [f"{name},P{i // 2:06d},{i % 2},{(i + 1) % 2},\n" for i, name in enumerate(names)]
    table = ("image_name,patient,a,b,c\n" + "".join(rows)).encode()
    with tarfile.open(path, "w") as tar:
        for name, content in (("train.csv", table), (f"train/images/{names[0]}", image)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name in names[1:]:
            info = tarfile.TarInfo(f"train/images/{name}")
            info.type, info.linkname = tarfile.LNKTYPE, f"train/images/{names[0]}"
            tar.addfile(info)
    return ClassifyData(name="t", root=rooted(path), classes=CLASSES, size=32, layout="table", table=Table(test=None))


def peak(work, *arguments):
    """Bytes that the work takes at most: the least of three times, as Python's own table of names grows by leaps."""
    found = []
    for _ in range(3):
        tracemalloc.start()
        work(*arguments)
        found.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return min(found)


def draw(data, out):
    records = train_records(data)
    folds.write(out, records, folds.draw_numbers(records, 5, 0))


@pytest.mark.parametrize("work", [draw, lambda data, out: ITEMS["table"](data)], ids=["folds", "items of a check"])
def test_records_take_less_than_the_bar(tmp_path, work):
    taken = []
    for count in (FEW, MANY):
        data = make(tmp_path / f"{count}.tar", count)
        taken.append(peak(work, data, tmp_path / f"{count}.csv"))
    assert (taken[1] - taken[0]) / (MANY - FEW) < BAR


def test_a_table_of_probabilities_takes_less_than_the_bar(tmp_path):
    taken = []
    for count in (FEW, MANY):
        path = tmp_path / f"{count}.csv"
        path.write_text("image_name,a,b,c\n" + "".join(f"image{i:06d}.png,0.1,0.25,0.5\n" for i in range(count)))
        taken.append(peak(Probabilities.read, path))
    assert (taken[1] - taken[0]) / (MANY - FEW) < BAR


def test_links_of_a_tar_are_images_of_their_own(tmp_path):
    records = train_records(make(tmp_path / "set.tar", 20))
    assert [record.group for record in records] == [f"P{i // 2:06d}" for i in range(20)]
    assert {record.image.read_bytes() for record in records} == {records[0].image.read_bytes()}
    assert len({record.image for record in records}) == 20
