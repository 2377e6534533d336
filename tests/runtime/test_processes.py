"""Processes that end together, and whose first error is the one that is told."""

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest

from phalanx.errors import DataError, TrainingError
from phalanx.runtime.leftovers import temporary_folder
from phalanx.runtime.processes import Child, together


def fail(way, sign):
    """Ends badly, in the way asked for, leaving a sign."""
    sign.touch()
    if way == "refused":
        raise DataError("image7.png: the file is cut")
    if way == "full":
        raise OSError(28, "No space left on device", "last.new")
    if way == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "long":
        raise DataError("image7.png: " + "far too much " * 100_000)
    raise KeyError("a bug")


def fail_later(sign):
    """As one whose partner went away."""
    while not sign.exists():
        time.sleep(0.01)
    time.sleep(2)
    raise RuntimeError("connection closed by peer")


@pytest.mark.parametrize(
    ("way", "error", "message"),
    [
        ("refused", DataError, r"^image7\.png: the file is cut$"),
        ("full", OSError, "No space left on device: 'last.new'"),
        ("killed", TrainingError, r"^second: the process was killed \(SIGKILL\), perhaps out of memory"),
        ("long", DataError, r"^image7\.png: far too much"),
        ("broken", RuntimeError, "KeyError: 'a bug'"),
    ],
)
def test_the_first_error_is_told_and_ends_all(way, error, message, tmp_path):
    sign = tmp_path / "sign"
    children = [Child("first", fail_later, sign), Child("second", fail, way, sign), Child("third", time.sleep, 600)]
    with pytest.raises(error, match=message):
        together(children)
    assert not any(child.process.is_alive() for child in children)


def leave_a_file(said):
    """As libraries do that clean up at exit, which a process of ours does not come to."""
    descriptor, path = tempfile.mkstemp()
    os.close(descriptor)
    said.write_text(path)


def test_temporary_files_of_a_process_go_with_those_of_the_one_that_started_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said = tmp_path / "said"
    with temporary_folder() as place:
        together([Child("one", leave_a_file, said)])
        assert Path(said.read_text()).parent == place
    assert list(tmp_path.iterdir()) == [said]


@pytest.fixture
def interruptible():
    """Python's own answer to Ctrl-C, which a shell takes from what it starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_ends_all(interruptible):
    children = [Child("long", time.sleep, 600) for _ in range(2)]
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        together(children)
    assert not any(child.process.is_alive() for child in children)


def test_those_that_end_well_end_together(tmp_path):
    together([Child(name, os.mkdir, tmp_path / name) for name in "ab"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
