"""The one lock and the hold of a folder: they wait or refuse, name their holder, and are free after a kill, also where
the system's locks exclude nobody."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import filelock
import pytest

from phalanx.errors import DataError, OutputError
from phalanx.runtime import locks, mounts, soft
from phalanx.runtime.fence import Superseded
from phalanx.runtime.files import write_text
from phalanx.runtime.locks import LockHeld, Record, hold, holder_of, is_held, lock
from phalanx.runtime.scheduler import Job, Process

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
HOLD = """
import sys, time, fcntl
from pathlib import Path
from phalanx.runtime.locks import hold, lock
if sys.argv[3] == "soft":
    fcntl.flock = lambda *_: None
place = Path(sys.argv[1])
with hold(place) if sys.argv[2] == "hold" else lock(place / "lock"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(mounts, "_probed", {})
    monkeypatch.setattr(locks, "_reported", set())
    for name in list(os.environ):
        if name.startswith(("SLURM_", "PHALANX_JOB", "PHALANX_ATTEMPT")):
            monkeypatch.delenv(name)


@pytest.fixture(params=["native", "soft"])
def kind(request, monkeypatch):
    """Locks of the system as they are, and such that are granted and exclude nobody."""
    if request.param == "soft":
        if sys.platform != "linux":
            pytest.skip("finds ended processes in /proc")
        monkeypatch.setattr("fcntl.flock", lambda *_: None)
    return request.param


@pytest.fixture
def start(tmp_path, kind):
    """Starts a process that holds the folder, or the lock ``lock`` in it, with more variables of the environment."""
    begun = []

    def call(what="hold", **environment):
        command = [sys.executable, "-c", HOLD, str(tmp_path), what, kind]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
        begun.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield call
    for process in begun:
        process.kill()
        process.wait()
        process.stdout.close()


def end(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_lock_is_refused_waited_for_and_free_after_a_kill(tmp_path, start, kind):
    other, path = start("lock"), tmp_path / "lock"
    by = rf" \(process {other.pid} on .+\)" if kind == "soft" else ""
    text = f"lock: another process{by} holds this lock; wait for it"
    with pytest.raises(LockHeld, match=text), lock(path, wait=False):
        pass
    timer = threading.Timer(0.3, other.kill)
    timer.start()
    with lock(path):
        assert other.wait(0.5) == -signal.SIGKILL
    timer.join()


def test_an_error_inside_releases_a_lock(tmp_path, kind):
    with pytest.raises(ZeroDivisionError), lock(tmp_path / "lock"):
        raise ZeroDivisionError
    with lock(tmp_path / "lock", wait=False):
        pass


def test_a_held_folder_is_refused_with_its_holder_and_free_after_a_kill(tmp_path, start):
    other = start()
    text = rf"\.lock: another process \(process {other.pid} on .+\) holds this lock; wait for it$"
    with pytest.raises(LockHeld, match=text) as found, hold(tmp_path):
        pass
    assert found.value.holder == holder_of(tmp_path) == f"process {other.pid} on {socket.gethostname()}"
    assert is_held(tmp_path)
    end(other)
    assert not is_held(tmp_path)
    with hold(tmp_path) as number:
        assert number == 2
        assert is_held(tmp_path)
        assert holder_of(tmp_path) == f"process {os.getpid()} on {socket.gethostname()}"
        with pytest.raises(LockHeld, match=f"process {os.getpid()} on"), hold(tmp_path):
            pass
    assert not is_held(tmp_path)
    assert holder_of(tmp_path) == ""
    with pytest.raises(ZeroDivisionError), hold(tmp_path):
        raise ZeroDivisionError
    with hold(tmp_path) as number:
        assert number == 4


@linux
def test_the_record_of_a_killed_process_whose_number_another_one_has(tmp_path, kind):
    old = Process.this()._replace(pid=os.getppid(), began="1")
    (tmp_path / ".holder").write_text(Record(6, True, True, old).text())
    assert not is_held(tmp_path)
    with hold(tmp_path) as number:
        assert number == 7


def test_one_of_another_machine_is_believed_and_the_way_out_is_named(tmp_path, kind):
    """Without the system's lock it is not known whether it has ended; with it, it has."""
    (tmp_path / ".holder").write_text(Record(6, True, True, Process("node7", "", "b", "", 12, "9")).text())
    assert is_held(tmp_path)
    assert holder_of(tmp_path) == "process 12 on node7"
    if kind == "native":
        with hold(tmp_path) as number:
            assert number == 7
        return
    text = r"\(process 12 on node7\) holds this lock; wait for it, or if it has ended for certain, delete .*\.holder$"
    with pytest.raises(LockHeld, match=text), hold(tmp_path):
        pass
    (tmp_path / ".holder").unlink()
    with hold(tmp_path):
        pass


def test_a_record_without_the_systems_lock_is_not_ended_by_it(tmp_path):
    """On a machine whose mount has locks, one is granted though a process on one without holds the folder."""
    (tmp_path / ".holder").write_text(Record(6, True, False, Process("node7", "", "b", "", 12, "9")).text())
    with pytest.raises(LockHeld, match="process 12 on node7"), hold(tmp_path):
        pass


@linux
@pytest.mark.parametrize("job", ["slurm", "ray"])
def test_a_later_attempt_takes_over_and_the_orphan_may_write_no_more(tmp_path, start, monkeypatch, job):
    def given(attempt):
        if job == "ray":
            return {"PHALANX_JOB": "ray:a", "PHALANX_ATTEMPT": str(attempt)}
        return {"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "c", "SLURM_RESTART_COUNT": str(attempt - 1)}

    orphan = start(**given(1))
    name = {"slurm": "slurm:7", "ray": "ray:a"}[job]
    assert holder_of(tmp_path) == f"process {orphan.pid} on {socket.gethostname()}, job {name}, attempt 1"
    monkeypatch.setenv("PATH", "")  # there is no squeue to ask
    with pytest.raises(LockHeld, match=rf"\(process .*, job {name}, attempt 1\)"), hold(tmp_path):
        pass
    for key, value in given(1).items():
        monkeypatch.setenv(key, value)
    with pytest.raises(LockHeld, match="attempt 1"), hold(tmp_path):  # a second process of the same attempt
        pass
    for key, value in given(2).items():
        monkeypatch.setenv(key, value)
    with hold(tmp_path) as number:
        assert (number, orphan.poll()) == (2, None)
        write_text(tmp_path / "x", "mine")
    with hold(tmp_path) as number:  # though the orphan has the system's lock until it ends
        assert (number, orphan.poll()) == (3, None)


def test_whoever_is_taken_over_ends_with_an_error_and_leaves_the_record(tmp_path, kind):
    later = Record(2, True, False, Process("node8", "m", "b", "", 45, "9", Job("slurm:12_0", 2, "c")))
    with hold(tmp_path):
        (tmp_path / ".holder").write_text(later.text())
        with pytest.raises(Superseded, match=r"process 45 on node8, job slurm:12_0, attempt 2 has taken it") as found:
            write_text(tmp_path / "x", "orphan's")
    assert "fencing number 2, so this process ends and changes nothing more there" in str(found.value)
    assert Record.read(tmp_path) == later
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".holder.lock")) in (
        [".holder"], [".holder", ".lock"])  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["process 12 on that\n", "[1]", "{}", '{"format": "phalanx-holder-1"}', "\x00", json.dumps({"number": 1}), ""],
)
def test_a_damaged_record_or_one_of_an_earlier_version(tmp_path, kind, text):
    (tmp_path / ".holder").write_text(text)
    assert (is_held(tmp_path), holder_of(tmp_path)) == (False, "")
    if kind == "soft":
        with pytest.raises(DataError, match=r"\.holder: .*on any machine, delete this file"), hold(tmp_path):
            pass
        return
    with hold(tmp_path) as number:  # the system says that nobody works here
        assert number == 1


@pytest.mark.parametrize("text", ["process 12 on that\n", None])
def test_an_earlier_version_that_holds_the_systems_lock_is_believed(tmp_path, text):
    if text is not None:
        (tmp_path / ".holder").write_text(text)
    text = r"\.lock: another process holds this lock"
    with filelock.FileLock(tmp_path / ".lock"), pytest.raises(LockHeld, match=text), hold(tmp_path):
        pass


@pytest.mark.parametrize("name", [".lock", ".holder", ".holder.lock"])
@pytest.mark.parametrize("made", ["pipe", "folder", "link"])
def test_anything_else_in_the_place_of_a_file_is_refused(tmp_path, kind, name, made):
    place = tmp_path / name
    {"pipe": lambda: os.mkfifo(place), "folder": place.mkdir, "link": lambda: place.symlink_to("x")}[made]()
    with pytest.raises(OutputError, match=f"{name}: is in the way"), hold(tmp_path):
        pass
    if name == ".holder.lock":
        with pytest.raises(OutputError, match="is in the way"), lock(place):
            pass


def test_once_soft_always_soft(tmp_path, start, kind, monkeypatch):
    if kind == "native":
        pytest.skip("of the other kind")
    other = start("lock")
    monkeypatch.undo()
    monkeypatch.setattr(mounts, "_probed", {})  # as on a machine whose mount has locks
    with pytest.raises(LockHeld, match=f"process {other.pid} on"), lock(tmp_path / "lock", wait=False):
        pass


@linux
def test_a_file_system_without_hard_links_too_is_reported_once(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError(errno.ENOTSUP, "Not supported")

    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    monkeypatch.setattr("os.link", refuse)
    for _ in range(2):
        with lock(tmp_path / "lock", wait=False):
            pass
    said = f"{tmp_path}: its file system has neither locks nor hard links; start no second process here\n"
    assert capsys.readouterr().out == said


@linux
def test_altered_files_of_a_soft_lock_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    (tmp_path / "lock.soft.filelock" / "claims").mkdir(parents=True)
    (tmp_path / "lock.soft.filelock" / "claims" / "mine").write_text("x")
    with pytest.raises(OutputError, match=r"lock\.soft: .*delete what has that name"), lock(tmp_path / "lock"):
        pass


@linux
def test_a_soft_lock_of_another_machine_is_waited_for_with_a_hint(tmp_path, monkeypatch, capsys, start, kind):
    if kind == "native":
        pytest.skip("of the other kind")
    other = start("lock")
    monkeypatch.setattr(soft, "state_of", lambda process, **_: "unknown")
    monkeypatch.setattr(soft, "REPORT_AFTER", 0.1)
    end(other)
    timer = threading.Timer(0.5, monkeypatch.setattr, (soft, "state_of", lambda process, **_: "ended"))
    timer.start()
    began = time.monotonic()
    with lock(tmp_path / "lock"):
        assert time.monotonic() - began > 0.3
    timer.join()
    assert f"waiting for process {other.pid} on {socket.gethostname()} to release" in capsys.readouterr().out


def test_any_other_error_is_raised(tmp_path, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match="Read-only"), lock(tmp_path / ".lock"):
        pass


@linux
def test_cards_of_killed_processes_go(tmp_path, start, kind):
    if kind == "native":
        pytest.skip("of the other kind")
    other = start("lock")
    cards = tmp_path / "lock.soft.cards"
    assert len(list(cards.iterdir())) == 1
    end(other)
    again = start("lock")
    assert [path.name.split("-")[5] for path in cards.iterdir()] == [str(again.pid)]
