"""The one lock: waits or refuses, names its holder, is free after a kill, and works on without locks."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from phalanx.errors import OutputError
from phalanx.runtime.locks import LockHeld, holder_of, is_held, lock

HOLD = """
import sys, time
from pathlib import Path
from phalanx.runtime.locks import lock
with lock(Path(sys.argv[1]), holder=Path(sys.argv[1]).with_name(".holder")):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """A process that holds the lock ``.lock``."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / ".lock"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_held_lock_is_refused_with_its_holder_and_free_after_a_kill(tmp_path, other):
    path, holder = tmp_path / ".lock", tmp_path / ".holder"
    text = rf"\.lock: another process \(process {other.pid} on .+\) holds"
    with pytest.raises(LockHeld, match=text) as found, lock(path, wait=False, holder=holder):
        pass
    assert found.value.holder == f"process {other.pid} on {socket.gethostname()}"
    with pytest.raises(LockHeld, match="another process holds this lock"), lock(path, wait=False):
        pass
    assert holder.exists()  # a refused process leaves the holder's note
    other.send_signal(signal.SIGKILL)
    other.wait()
    with lock(path, wait=False, holder=holder):
        assert holder_of(holder) == f"process {os.getpid()} on {socket.gethostname()}"
    assert not holder.exists()


def test_it_waits_until_the_other_ends(tmp_path, other):
    timer = threading.Timer(0.3, other.kill)
    timer.start()
    with lock(tmp_path / ".lock"):
        assert other.wait(0) == -signal.SIGKILL
    timer.join()


def test_an_error_inside_releases_it(tmp_path):
    with pytest.raises(ZeroDivisionError), lock(tmp_path / ".lock", holder=tmp_path / ".holder"):
        raise ZeroDivisionError
    with lock(tmp_path / ".lock", wait=False):
        assert not (tmp_path / ".holder").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_reported_once(tmp_path, monkeypatch, capsys, number):
    def refuse(descriptor, how):
        raise OSError(number, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    for _ in range(2):
        with lock(tmp_path / ".lock", wait=False, holder=tmp_path / ".holder"):
            assert (tmp_path / ".holder").exists()
    assert capsys.readouterr().out == (
        f"{tmp_path}: its file system has no locks (No locks available); start no second process here\n"
    )


def test_any_other_error_is_raised(tmp_path, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match="Read-only"), lock(tmp_path / ".lock"):
        pass


def test_a_pipe_in_the_place_of_the_lock_or_its_holder_does_not_wait_for_ever(tmp_path, other):
    holder = tmp_path / ".holder"
    holder.unlink()
    os.mkfifo(holder)
    with pytest.raises(LockHeld, match="holds this lock"), lock(tmp_path / ".lock", wait=False, holder=holder):
        pass
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="pipe: is in the way"), lock(tmp_path / "pipe"):
        pass


def test_whether_a_lock_is_held_is_found_without_taking_it(tmp_path, other):
    path, holder = tmp_path / ".lock", tmp_path / ".holder"
    assert is_held(path, holder)
    record = holder.read_text()
    other.kill()
    if sys.platform == "linux":  # it is not reaped yet, so its number exists
        while Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        assert not is_held(path, holder)
    other.wait()
    assert not is_held(path, holder)
    with lock(path, holder=holder):
        assert is_held(path, holder)
        own = holder.read_text()
    assert not is_held(path, holder)
    holder.write_text(own)  # as if this process had not been able to remove it
    assert not is_held(path, holder)
    if sys.platform == "linux":  # this machine's numbers of processes come round again
        number = f"process {os.getppid()} on "
        holder.write_text(record.replace(f"process {other.pid} on ", number))
        assert not is_held(path, holder)
    holder.write_text("process 1 on another-machine\n")
    assert is_held(path, holder)
    path.unlink()
    assert not is_held(path, holder)
