"""Who was superseded changes nothing more in the folder, in whatever way, nor does a process that it started."""

import errno
import os
import subprocess
import sys
from contextlib import suppress

import pytest
import torch

from phalanx.errors import TrainingError
from phalanx.runs import checkpoint
from phalanx.runtime import fence, files
from phalanx.runtime.fence import Superseded
from phalanx.runtime.files import Replacement, append_bytes, delete, move, write_json, write_text
from phalanx.runtime.leftovers import clear
from phalanx.runtime.locks import Record, hold
from phalanx.runtime.removal import remove_files, remove_tree
from phalanx.runtime.scheduler import Process

LATER = Record(9, True, True, Process("node8", "m", "b", "", 45, "9")).text()


@pytest.fixture
def folder(tmp_path):
    """A folder that this process holds, with some files."""
    place = tmp_path / "fold0"
    (place / "panels").mkdir(parents=True)
    with hold(place):
        write_text(place / "a", "a")
        write_text(place / "panels" / "b", "b")
        save(place)
        yield place


def save(place):
    checkpoint.save(place / "last", {"weights": {"w": torch.zeros(2)}}, {"step": 1})


def content(place):
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


WAYS = {
    "a new file": lambda place: write_text(place / "new", "x"),
    "another content": lambda place: write_json(place / "a", 1),
    "below a subfolder": lambda place: write_text(place / "panels" / "b", "x"),
    "an appended line": lambda place: append_bytes(place / "a", b"x"),
    "the first line": lambda place: append_bytes(place / "log.jsonl", b""),
    "a checkpoint": save,
    "the first checkpoint": lambda place: checkpoint.save(place / "best", {"weights": {"w": torch.zeros(2)}}, {}),
    "a checkpoint removed": lambda place: checkpoint.remove(place / "last"),
    "a rename": lambda place: move(place / "a", place / "c"),
    "a rename to elsewhere": lambda place: move(place / "a", place.parent / "c"),
    "a file removed": lambda place: delete(place / "a"),
    "files removed": lambda place: remove_files(place / "panels", lambda name: True),
    "a tree removed": lambda place: remove_tree(place / "panels", lambda name: True),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_writing_ends_with_an_error(folder, way):
    before = content(folder) | {".holder": LATER.encode()}
    (folder / ".holder").write_text(LATER)
    with pytest.raises(Superseded, match="process 45 on node8 has taken it over with the fencing number 9"):
        WAYS[way](folder)
    after = content(folder)
    assert {name: after[name] for name in before} == before
    assert not any(after[name] for name in after.keys() - before.keys())  # at most an empty log


def test_a_checkpoint_that_is_being_written_then_is_not_put_in_place(folder, monkeypatch):
    real = checkpoint._write

    def late(*arguments):
        real(*arguments)
        (folder / ".holder").write_text(LATER)

    monkeypatch.setattr(checkpoint, "_write", late)
    before = content(folder / "last")
    with pytest.raises(Superseded):
        save(folder)
    assert content(folder / "last") == before
    assert checkpoint.UNFINISHED.fullmatch("last.1.new")
    assert (folder / "last.1.new").is_dir()  # a name that no later holder uses


def test_a_file_that_passed_the_check_in_time_is_gone_once_the_next_one_cleared(folder, monkeypatch):
    """The check and the rename are two steps; between them the folder may be taken over."""
    real = os.replace

    def late(source, target):
        if str(target).endswith("done.json"):
            monkeypatch.setattr(os, "replace", real)
            (folder / ".holder").write_text(LATER)
            clear(folder, lambda name: True, held=True)
        real(source, target)

    monkeypatch.setattr(os, "replace", late)
    with pytest.raises(Superseded):
        write_text(folder / "done.json", "x")
    assert not (folder / "done.json").exists()


def test_a_record_that_is_gone_or_unreadable_ends_the_work_too(folder):
    (folder / ".holder").write_bytes(b"\xff")
    with pytest.raises(Superseded, match="not known who holds"):
        write_text(folder / "a", "x")
    (folder / ".holder").unlink()
    with pytest.raises(Superseded, match=r"its \.holder is gone"):
        write_text(folder / "a", "x")
    assert isinstance(Superseded(""), TrainingError)


def test_nothing_is_checked_elsewhere_or_afterwards(tmp_path):
    with hold(tmp_path):
        (tmp_path / ".holder").write_text(LATER)
        write_text(tmp_path.parent / "elsewhere", "x")
        assert fence.number_of(tmp_path / "panels" / "x") == 1
        assert fence.number_of(tmp_path.parent / "x") is None
    write_text(tmp_path / "a", "x")
    assert fence.VARIABLE not in os.environ


def test_a_process_that_is_started_meanwhile_is_checked_too(folder):
    code = "import sys; from pathlib import Path; from phalanx.runtime.files import write_text\n"
    code += "write_text(Path(sys.argv[1]) / 'a', sys.argv[2])"

    def write(text):
        return subprocess.run([sys.executable, "-c", code, folder, text], capture_output=True, text=True, check=False)

    done = write("child's")
    assert done.returncode == 0, done.stderr
    (folder / ".holder").write_text(LATER)
    assert "Superseded" in write("orphan's").stderr
    assert (folder / "a").read_text() == "child's"


def test_a_rename_that_is_sent_twice_has_succeeded(tmp_path, monkeypatch):
    real = os.replace

    def twice(source, target):
        real(source, target)
        real(source, target)

    monkeypatch.setattr(os, "replace", twice)
    write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").read_text() == "x"
    (tmp_path / "folder").mkdir()
    move(tmp_path / "folder", tmp_path / "moved")
    assert (tmp_path / "moved").is_dir()
    with pytest.raises(FileNotFoundError):
        move(tmp_path / "none", tmp_path / "a")
    assert (tmp_path / "a").read_text() == "x"


def test_what_closing_reports_keeps_the_old_file(tmp_path):
    write_text(tmp_path / "a", "old")

    class Failing:
        def __init__(self, file):
            self.file, self.failed = file, False

        def __getattr__(self, name):
            return getattr(self.file, name)

        def close(self):
            self.file.close()
            if not self.failed:
                self.failed = True
                raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with suppress(OSError), Replacement(tmp_path / "a") as new:
        new.file.write(b"new")
        new.file = Failing(new.file)
        with pytest.raises(OSError, match="quota"):
            new.finish()
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_stale_rename_is_repeated(tmp_path, monkeypatch):
    real, calls = os.replace, []

    def stale(source, target):
        calls.append(source)
        if len(calls) < 3:
            raise OSError(errno.ESTALE, "Stale file handle")
        real(source, target)

    monkeypatch.setattr(files.os, "replace", stale)
    write_text(tmp_path / "a", "x")
    assert len(calls) == 3
