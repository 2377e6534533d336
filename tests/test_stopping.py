"""Ctrl-C, ``kill`` and SIGKILL: one line and an exit code, and nothing goes on running."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from phalanx import cli
from phalanx.errors import PhalanxError
from phalanx.runtime import stopping
from phalanx.runtime.processes import process_map
from phalanx.runtime.stopping import Stopped, stoppable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SOON = 2  # seconds in which what a killed process has started must be gone; less than a tenth on a machine at rest
SLOW = pytest.mark.slow


def family(ancestor: int) -> list[int]:
    """Living processes below one, from the system's table."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = path.read_text().rsplit(")", 1)[1].split()[:2]
            if state not in "ZX":
                parents[int(path.parent.name)] = int(parent)
    found = [ancestor]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    return False


@pytest.fixture
def begin(tmp_path, hands, tiny, request):
    """Starts a command in a session of its own, and waits until it has the processes it is to have."""
    common = ["progress=false", "workers=2"]
    training = {"runs": tmp_path / "runs", "epochs": 5000, "checkpoint_minutes": 0.001}
    words = {
        "phantom": ["phantom", "hand", f"out={tmp_path / 'set'}", "patients=500", "size=512", "workers=2"],
        "check": ["check", f"data.root={hands}", f"json={tmp_path / 'check.json'}", *common],
        "train": ["train", *tiny("unet", workers=2, **training)],
        "ddp": ["train", *tiny("unet", ddp="true", devices="cpu,cpu", workers=1, **training)],
        "folds": ["train", *tiny("unet", fold="0,1", devices="cpu,cpu", workers=1, **training)],
    }  # fmt: skip
    begun = []
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}

    def call(command, least):
        if command == "infer":
            runs = request.getfixturevalue("runs")  # which takes a while to train
            words[command] = ["infer", "experiment=fpn", f"runs={runs}", f"data.root={hands}", "device=cpu", *common]
        process = subprocess.Popen(
            [sys.executable, "-m", "phalanx", *words[command]], start_new_session=True, cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
        )  # fmt: skip
        begun.append(process)
        until = time.monotonic() + 300
        while len(family(process.pid)) < least:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.01)
        return process

    yield call
    for process in begun:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


# a pool has two workers, and what multiprocessing starts beside them
COMMANDS = [
    ("phantom", 3),
    pytest.param("check", 3, marks=SLOW),
    pytest.param("train", 2, marks=SLOW),
    pytest.param("ddp", 5, marks=SLOW),
    pytest.param("folds", 4, marks=SLOW),
    pytest.param("infer", 1, marks=SLOW),
]


@pytest.mark.parametrize(("command", "least"), COMMANDS)
@pytest.mark.parametrize(
    ("number", "whole_group"),
    [
        (signal.SIGINT, True),
        pytest.param(signal.SIGINT, False, marks=SLOW),
        pytest.param(signal.SIGTERM, True, marks=SLOW),
        (signal.SIGTERM, False),
    ],
)
def test_a_command_that_is_stopped_prints_one_line(begin, command, least, number, whole_group):
    process = begin(command, least)
    started = family(process.pid)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in out + err
    lines = [line for line in re.split(r"[\r\n]", err) if line.strip() and not line.startswith("hands:")]
    assert len(lines) == 1, err
    assert re.fullmatch(r"phalanx \w+: stopped; the same command (continues|starts again)", lines[0])
    until = time.monotonic() + 2 * SOON  # what multiprocessing starts beside the workers ends by itself
    while any(map(is_alive, started)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not [pid for pid in started if is_alive(pid)]


@pytest.mark.parametrize(("command", "least"), COMMANDS)
def test_what_a_killed_command_has_started_ends_with_it(begin, command, least):
    process = begin(command, least)
    time.sleep(1)  # an interpreter that has just been started knows nothing yet
    started = [pid for pid in family(process.pid) if "resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_text()]
    assert started
    os.kill(process.pid, signal.SIGKILL)
    killed = time.monotonic()
    while any(map(is_alive, started)) and time.monotonic() < killed + 60:
        time.sleep(0.005)
    assert time.monotonic() - killed < SOON


def double(value):
    if value == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if value == "refused":
        raise PhalanxError("image7: is cut")
    if value == "odd":
        raise Odd(lambda: None)
    return 2 * value


class Odd(Exception):
    """Cannot be pickled."""


def test_a_pool_gives_the_results_in_their_order():
    assert process_map(double, list(range(23)), workers=3, name="x", unit="y", progress=False) == list(range(0, 46, 2))


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("killed", PhalanxError, "^x: a process was killed, probably out of memory"),
        ("refused", PhalanxError, "^image7: is cut$"),
        ("odd", RuntimeError, "Odd"),
    ],
)
def test_an_error_in_a_pool_is_raised_and_ends_it(value, error, text):
    before = set(family(os.getpid()))
    with pytest.raises(error, match=text):
        process_map(double, [1, 2, value, 3, 4, 5], workers=2, name="x", unit="y", progress=False)
    assert len(set(family(os.getpid())) - before) <= 1  # what multiprocessing starts beside them


@pytest.fixture
def stop():
    """Runs a function within a command that can be stopped, from outside pytest's own handler of Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield stoppable
    signal.signal(signal.SIGINT, before)


def end_self(number):
    os.kill(os.getpid(), number)
    time.sleep(1)


def test_the_handlers_are_put_back_and_an_inner_command_is_part_of_the_outer(stop):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    with stop("outer", at_exit=False) as outermost:
        assert outermost
        with stop("inner", at_exit=False) as outermost:
            assert not outermost
    with pytest.raises(Stopped) as found, stop("x", at_exit=False):
        end_self(signal.SIGTERM)
    assert found.value.code == 143
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)] == handlers
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def swallow(number):
    with suppress(BaseException):
        end_self(number)


def break_of_it(number):
    try:
        end_self(number)
    except KeyboardInterrupt:
        raise RuntimeError("DataLoader worker is killed by signal") from None


@pytest.mark.parametrize("reaction", [swallow, break_of_it])
def test_what_libraries_make_of_the_signal_is_still_a_stop(stop, reaction):
    with pytest.raises(Stopped), stop("x", at_exit=False):
        reaction(signal.SIGINT)


@pytest.mark.parametrize("how", ["again", "patience"])
def test_what_does_not_end_is_ended(how):
    program = f"""
import os, signal, sys, time
from phalanx.runtime import stopping
stopping.PATIENCE = 0.5
with stopping.stoppable("phalanx x: stopped", at_exit=True):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    finally:
        {"os.kill(os.getpid(), signal.SIGINT)" if how == "again" else ""}
        time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (143, "phalanx x: stopped\n")


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell
    try:
        with stoppable("x", at_exit=False):
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_stopped_step_of_the_demo_stops_the_demo(stop, monkeypatch, capsys):
    def stopped(_):
        end_self(signal.SIGINT)

    def demo(_):
        cli.main(["score"])
        raise AssertionError("the demo went on")

    monkeypatch.setitem(cli.COMMANDS, "score", (stopped, ""))
    monkeypatch.setitem(cli.COMMANDS, "demo", (demo, ""))
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err == "phalanx demo: stopped; the same command continues\n"
    assert stopping._Active.text is None
