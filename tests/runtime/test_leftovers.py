"""What a killed process left is removed by the next one, and nothing else: not what a living process writes, on
whatever machine, nothing behind a link, and nothing of other programs."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial

import pytest

from phalanx.cli import main
from phalanx.data.root import resolve_root
from phalanx.errors import OutputError
from phalanx.phantom import hand, kinds
from phalanx.phantom.dataset import remove_set
from phalanx.runtime import leftovers, mounts
from phalanx.runtime.files import Replacement, write_text
from phalanx.runtime.leftovers import Held, clear, outlasting, temporary_folder
from phalanx.runtime.removal import remove_tree
from phalanx.runtime.work import work_folder

WRITE = """
import sys, time
from pathlib import Path
from phalanx.runtime.files import Replacement
with Replacement(Path(sys.argv[1])) as new:
    new.file.write(b"half")
    new.file.flush()
    print("begun", flush=True)
    time.sleep(600)
"""
MAKE = """
import sys, time
from pathlib import Path
from phalanx.runtime.work import work_folder
with work_folder(Path(sys.argv[1]), lambda folder: None) as work:
    (work / "train").mkdir()
    print("begun", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def start():
    """Starts a program, and waits until it has begun."""
    begun = []

    def call(program, *words):
        process = subprocess.Popen([sys.executable, "-c", program, *map(str, words)], stdout=subprocess.PIPE, text=True)
        begun.append(process)
        assert process.stdout.readline() == "begun\n"
        return process

    yield call
    for process in begun:
        process.kill()
        process.wait()
        process.stdout.close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_write_left_goes_with_the_next_one_and_a_living_one_keeps_its_file(tmp_path, start):
    target = tmp_path / "x.csv"
    dead, living = start(WRITE, target), start(WRITE, target)
    other = start(WRITE, tmp_path / "y.csv")
    for process in (dead, other):
        process.kill()
        process.wait()
    assert len(names(tmp_path)) == 2 + 1  # the second has removed nothing: the first lived
    write_text(target, "whole")
    assert names(tmp_path) == [f".x.csv.{living.pid}.part", f".y.csv.{other.pid}.part", "x.csv"]
    clear(tmp_path, lambda name: True)
    assert names(tmp_path) == [f".x.csv.{living.pid}.part", "x.csv"]


def test_a_number_that_another_process_has_by_now_protects_nothing(tmp_path):
    for number in (1, os.getpid(), os.getppid()):
        (tmp_path / f".x.{number}.part").write_text("half")
    write_text(tmp_path / "x", "whole")
    assert names(tmp_path) == ["x"]


def test_a_living_process_of_the_same_number_on_another_machine_keeps_its_file(tmp_path, start):
    living = start(WRITE, tmp_path / "x")
    mine = tmp_path / f".x.{os.getpid()}.part"
    (tmp_path / f".x.{living.pid}.part").rename(mine)
    write_text(tmp_path / "x", "whole")
    assert names(tmp_path) == [mine.name, "x"]
    assert mine.read_text() == "half"


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_nothing_else_is_taken_for_left_behind(tmp_path, kind):
    precious, place = tmp_path / "precious", tmp_path / "place"
    place.mkdir()
    precious.write_text("precious")
    planted = place / ".x.5.part"
    if kind == "link":
        planted.symlink_to(precious)
    elif kind == "folder":
        planted.mkdir()
    else:
        os.mkfifo(planted)
    for name in ("x.5.part", ".x.part", ".x.5.partial", ".x5.part", ".xx.5.part"):
        (place / name).write_text("mine")
    before = names(place)
    write_text(place / "x", "whole")
    assert names(place) == sorted([*before, "x"])
    assert precious.read_text() == "precious"


def test_without_locks_nothing_is_taken_for_left_behind(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(37, "No locks available")

    (tmp_path / ".x.5.part").write_text("half")
    (tmp_path / f".x.{os.getpid()}.part").write_text("half")
    monkeypatch.setattr(leftovers.fcntl, "flock", no_locks)
    monkeypatch.setattr(mounts, "_probed", {})
    write_text(tmp_path / "x", "whole")
    assert names(tmp_path) == sorted([f".x.{os.getpid()}.part", ".x.5.part", "x"])


def test_a_work_folder_is_one_processs_and_the_next_one_clears_it(tmp_path, start):
    out = tmp_path / "set"
    maker = start(MAKE, out)
    remove = partial(remove_set, files=hand.FILES)
    with pytest.raises(Held, match="another process is making it"), work_folder(out, remove):
        pass
    assert (tmp_path / ".set.part" / "train").is_dir()
    maker.kill()
    maker.wait()
    with work_folder(out, remove) as work:
        assert names(work) == []
        (work / "manifest.json").write_text("{}")
        work.rename(out)
    assert names(tmp_path) == ["set"]
    with suppress(ZeroDivisionError), work_folder(tmp_path / "other", remove) as work:
        (work / "meta_data.xlsx").write_text("")
        _ = 1 / 0
    assert names(tmp_path) == ["set"]


@pytest.mark.parametrize("plant", ["notes.txt", "train/DCM/ID001/link", "train/DCM/ID001/pipe.png"])
def test_a_killed_set_with_anything_else_in_it_stays_whole(tmp_path, plant):
    inside = tmp_path / ".set.part" / "train/DCM/ID001"
    inside.mkdir(parents=True)
    (inside / "image1_L.png").write_text("ours")
    planted = tmp_path / ".set.part" / plant
    if planted.name == "link":
        planted = planted.with_name("image2_L.png")
        planted.symlink_to(tmp_path)
    elif planted.suffix == ".png":
        os.mkfifo(planted)
    else:
        planted.write_text("mine")
    with pytest.raises(OutputError, match="was not written by this program"):
        hand.make_hands(tmp_path / "set", patients=1, size=128, seed=0, workers=1, progress=False)
    assert (inside / "image1_L.png").read_text() == "ours"
    assert names(tmp_path) == [".set.part"]


def test_a_lock_that_a_kill_left_after_the_last_step_goes_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["phantom", "hand", "out=set", "patients=1", "test_patients=1", "size=128", "workers=1"]
    assert main(words) == 0
    (tmp_path / ".set.part.lock").touch()
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert names(tmp_path) == ["set"]


def test_a_pipe_in_the_place_of_a_lock_is_one_line(tmp_path):
    os.mkfifo(tmp_path / ".set.part.lock")
    with pytest.raises(OutputError, match=r"\.set\.part\.lock: is in the way"), work_folder(tmp_path / "set", print):
        pass


def test_two_that_need_one_set_wait_for_each_other(tmp_path, monkeypatch, capsys):
    """A bare training makes its set; a second one that is begun meanwhile takes it."""
    from phalanx.config.compose import compose

    monkeypatch.chdir(tmp_path)
    data, made = compose({"name": "x"}).data, []

    def make(out, **_):
        made.append(out)
        if len(made) == 1:
            raise Held(out)
        out.mkdir(parents=True)

    monkeypatch.setitem(kinds.KINDS, "hand", kinds.KINDS["hand"]._replace(make=make))
    assert resolve_root(data).root == made[0]
    assert len(made) == 2
    assert capsys.readouterr().out.count("another process is making it; waiting") == 1


def test_what_is_to_last_is_made_outside_of_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with outlasting():
        assert tempfile.gettempdir() == str(tmp_path)
    with temporary_folder() as place:
        with outlasting():
            assert tempfile.gettempdir() == str(tmp_path)
        assert tempfile.gettempdir() == str(place)
        with pytest.raises(KeyError), outlasting():
            raise KeyError
        assert tempfile.gettempdir() == str(place)


def test_temporary_folders_of_killed_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers.tempfile, "tempdir", str(tmp_path))
    dead, fresh, empty, foreign = (tmp_path / f"phalanx-{name}" for name in ("aaaaaaa1", "aaaaaaa2", "aaaaaaa3", "x.y"))
    for folder in (dead, fresh, empty, foreign):
        folder.mkdir()
    for folder in (dead, foreign):
        (folder / ".lock").touch()
        (folder / "pymp-x").mkdir()
    os.utime(empty, (time.time() - 3600,) * 2)
    with temporary_folder() as place:
        with temporary_folder() as same:
            assert same == place
        assert leftovers.tempfile.gettempdir() == str(place)
        (place / "store").touch()
        assert set(tmp_path.iterdir()) == {place, fresh, foreign}
        pid = os.fork()
        if pid == 0:  # another process of this user sees that this one lives
            leftovers._temporary = None
            with temporary_folder():
                os._exit(not place.exists())
        assert os.waitpid(pid, 0)[1] == 0
    assert not place.exists()
    assert leftovers._temporary is None
    assert leftovers.tempfile.gettempdir() == str(tmp_path)


def test_a_tree_is_removed_without_following_links(tmp_path):
    folder = tmp_path / "tree"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "c").touch()
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(OutputError, match="is a link"):
        remove_tree(link, lambda path: True)
    remove_tree(folder, {"a", "a/b", "a/c"}.__contains__)
    assert not folder.exists()
    remove_tree(folder, lambda path: True)


def test_an_error_while_writing_leaves_nothing(tmp_path):
    with suppress(ZeroDivisionError), Replacement(tmp_path / "x") as new:
        new.file.write(b"half")
        _ = 1 / 0
    assert names(tmp_path) == []


def test_a_write_that_is_killed_by_its_own_signal_leaves_a_file_for_the_next(tmp_path, start):
    process = start(WRITE, tmp_path / "x")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert names(tmp_path) == [f".x.{process.pid}.part"]
    write_text(tmp_path / "x", "whole")
    assert names(tmp_path) == ["x"]
