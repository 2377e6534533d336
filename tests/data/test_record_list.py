"""A list of records in columns is the list of records."""

from pathlib import Path

import pytest

from phalanx.data.record_list import PathList, RecordList
from phalanx.data.records import Record, list_images, records_of

ROOT = Path("/set")
RECORDS = [
    Record("b.png", "P1", ROOT / "train/P1/b.png", None),
    Record("a.png", "P2", ROOT / "train/P1/a.png", ROOT / "labels.csv"),
    Record("other name", "P3", ROOT / "train/c.png", ROOT / "labels.csv"),
    Record("d.png", "d.png", ROOT / "d.png", ROOT / "d.json"),
    Record("e.png", "가", Path("/elsewhere/가/e.png"), Path("/elsewhere/e.json")),
]


def test_it_has_the_records_that_it_was_given():
    found = RecordList(ROOT, RECORDS)
    assert list(found) == RECORDS == [found[i] for i in range(5)]
    assert found == RECORDS
    assert found[1:3] == RECORDS[1:3]
    assert found[-1] == RECORDS[-1]
    assert found + RECORDS[:1] == RECORDS + RECORDS[:1]
    assert RECORDS[:1] + found == RECORDS[:1] + RECORDS
    assert found * 2 == RECORDS * 2
    assert found != RECORDS[:4]
    assert list(found.sorted()) == sorted(RECORDS, key=lambda one: (one.name, one.group))
    assert list(found.names()) == [one.name for one in RECORDS]
    assert list(found.groups()) == [one.group for one in RECORDS]
    with pytest.raises(IndexError):
        found[5]


def test_more_places_of_labels_than_are_held_as_paths(monkeypatch):
    monkeypatch.setattr("phalanx.data.record_list.MAX_PLACES", 2)
    given = [Record(f"{i}.png", "g", ROOT / f"{i}.png", ROOT / f"{i}.json") for i in range(6)]
    assert list(RecordList(ROOT, given)) == given


def test_paths_are_sorted_as_paths_are():
    names = ["a/b.png", "a.png", "a-b/c.png", "a/a/c.png", "Ä.png", "z"]
    found = PathList(ROOT, (ROOT / name for name in names))
    assert list(found.sorted()) == sorted(ROOT / name for name in names)
    assert found == [ROOT / name for name in names]


def test_records_of_a_folder_are_sorted_by_name(tmp_path):
    for name in ("P2/a.png", "P1/b.png", "P1/c.png", "a.png/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = records_of(list_images(tmp_path))
    assert list(found) == sorted(found)
    assert [(one.name, one.group) for one in found] == [
        ("a.png", "P2"), ("a.png", "a.png"), ("b.png", "P1"), ("c.png", "P1"),
    ]  # fmt: skip
