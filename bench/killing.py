"""Commands to be killed: forks of one process that has imported everything, since imports would take most of the time,
and processes that a command starts are forks of that, where else they would be new."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PATIENCE = 300  # seconds for which nothing may happen


def warm_up() -> None:
    """Imports all that the commands need, with one thread for each of their processes."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}  # before torch

    import albumentations  # noqa: F401 - so that no fork imports it
    import matplotlib.pyplot  # noqa: F401
    import segmentation_models_pytorch  # noqa: F401

    import phalanx.checks.run
    import phalanx.eda.report
    import phalanx.engine.fit
    import phalanx.ensemble.hard
    import phalanx.predict.run
    import phalanx.sweep.run
    import phalanx.tasks.segment  # noqa: F401


def make_set(home: Path) -> None:
    """Twelve images to train on and four to predict, of 128 pixels, in ``home``/hands."""
    pid = os.fork()  # whatever threads this starts stay there
    if pid == 0:
        from phalanx.phantom.hand import make_hands

        make_hands(home / "hands", patients=6, test_patients=2, size=128, seed=5, workers=1, progress=False)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


class Call:
    """A command in a fork, with a process group of its own.

    Args:
        words: of ``phalanx``.
        out: file for what it prints.
        place: the folder it works in.
    """

    def __init__(self, words: list[str], out: Path, place: Path | None = None):
        self.pid, self.code = os.fork(), None
        if self.pid == 0:
            os.setsid()
            handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            if place is not None:
                os.chdir(place)
            os._exit(_main(words))

    def over(self) -> bool:
        """Whether it has ended by itself; ``code`` is its exit status then."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is not None

    def until(self, condition: Callable[[], bool]) -> bool:
        """Waits; False where it ended before."""
        limit = time.monotonic() + PATIENCE
        while not condition():
            if self.over():
                return False
            if time.monotonic() > limit:
                self.kill()
                raise SystemExit("nothing happened for too long")
            time.sleep(0.002)
        return True

    def kill_alone(self) -> tuple[bool, float]:
        """Kills this process alone; whether it had not ended before, and the seconds until all that it had started
        were gone, too."""
        if self.over():
            return False, 0.0
        family, began = descendants(self.pid), time.monotonic()
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)
        while any(map(is_alive, family)) and time.monotonic() < began + PATIENCE:
            time.sleep(0.002)
        return self.code == -signal.SIGKILL, time.monotonic() - began

    def kill(self) -> bool:
        """Kills it and all its descendants, which may have groups of their own; False where it had ended before."""
        if self.over():
            return False
        family = descendants(self.pid)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)
        while any(Path(f"/proc/{pid}").exists() for pid in family):
            time.sleep(0.002)
        return self.code == -signal.SIGKILL


class ForkedJob:
    """Takes the place of `subprocess.Popen` for the jobs of a command: a fork, with all imported."""

    def __init__(self, command: list[str], *, env: dict[str, str], **_: object):
        theirs, ours = os.pipe()
        self.pid, self.returncode = os.fork(), None
        if self.pid == 0:
            from phalanx.runtime.lifeline import end_with_starter

            os.setpgid(0, 0)
            os.environ.update(env)
            # as after a start by the system: it holds no descriptor but its own, and above all no other job's lifeline
            keep = {0, 1, 2, ours, int(env["PHALANX_LIFELINE"])}
            for name in os.listdir("/proc/self/fd"):
                with suppress(OSError):
                    if int(name) not in keep:
                        os.close(int(name))
            end_with_starter()
            os.dup2(ours, 1)
            os.dup2(ours, 2)
            os._exit(_main(command[3:]))
        os.close(ours)
        self.stdout = os.fdopen(theirs, "rb", buffering=0)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


def _main(words: list[str]) -> int:
    import multiprocessing
    from types import SimpleNamespace

    from phalanx.cli import main
    from phalanx.jobs import local

    context = multiprocessing.get_context
    multiprocessing.get_context = lambda kind=None: context("fork" if kind == "spawn" else kind)
    local.subprocess = SimpleNamespace(Popen=ForkedJob, DEVNULL=None, PIPE=None, STDOUT=None)
    try:
        code = main(words)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    for child in multiprocessing.active_children():  # loader processes, which else would notice in seconds only
        child.kill()
    return code


def descendants(ancestor: int) -> list[int]:
    """Processes below one, from the system's table."""
    parents = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError, IndexError):
                parents[int(path.name)] = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
    found = [ancestor]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False
