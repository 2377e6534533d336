"""The fuzzer itself finds what it looks for."""

import json
import os
import time

import pytest
from tests.fuzz.harness import Format, case, fuzz

from phalanx.errors import DataError

GOOD = {"a.json": b'{"a": [1, 2, 3], "b": "text"}', "sub/b.json": b"[4]"}


def reader(fault):
    def read(folder):
        for name in GOOD:
            if (folder / name).read_bytes() != GOOD[name]:
                return fault(folder / name)
        return 0

    return read


def traceback(path):
    raise KeyError(path)


def nameless(path):
    raise DataError("a file is wrong")


def crash(path):
    os.abort()


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (traceback, "KeyError"),
        (nameless, "without the file's name"),
        (crash, "ended with -6"),
        (lambda path: 1, "accepted with another content"),
    ],
)
def test_a_fault_is_found(tmp_path, fault, found):
    report = fuzz(Format("x", GOOD, reader(fault), sealed=True), tmp_path, seconds=0.5)
    assert report.findings
    assert found in report.findings[0]
    number = report.findings[0].split(":")[0]
    assert (tmp_path / f"x.0.{number}").is_dir(), "the file of a finding stays"


def test_what_hangs_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.fuzz.harness.SLOW", 0.5)
    report = fuzz(Format("x", GOOD, reader(lambda path: time.sleep(60))), tmp_path, seconds=2.0)
    assert "hangs" in report.findings[0]


def test_a_good_reader_has_no_findings_and_both_kinds_are_counted(tmp_path):
    def refuse(path):
        if b"text" in path.read_bytes():
            return 1
        raise DataError(f"{path}: wrong")

    report = fuzz(Format("x", GOOD, reader(refuse)), tmp_path, seconds=1.0)
    assert not report.findings
    assert report.cases == report.accepted + report.refused > 100
    assert min(report.accepted, report.refused) > 10


def test_a_case_is_always_the_same(tmp_path):
    form = Format("x", GOOD, reader(traceback), text=True)
    for number in range(50):
        for name in ("one", "other"):
            (tmp_path / f"{name}{number}").mkdir()
            case(form, 7, number, tmp_path / f"{name}{number}")
        for name in GOOD:
            assert (tmp_path / f"one{number}" / name).read_bytes() == (tmp_path / f"other{number}" / name).read_bytes()


def test_json_of_the_readers(tmp_path):
    """The shared reader of JSON, by the harness that the formats use."""
    from phalanx.runtime.reading import read_mapping

    value = {"a": [1, 2.5, None], "b": {"c": "환자"}}
    form = Format("json", {"a.json": json.dumps(value).encode()}, lambda f: read_mapping(f / "a.json"), text=True)
    report = fuzz(form, tmp_path, seconds=1.5)
    assert not report.findings
    assert report.refused > 100
