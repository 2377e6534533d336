"""Progress on a terminal and without one: numbers that fit, and no long silence."""

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from phalanx.runtime import progress, terminal
from phalanx.runtime.progress import Progress, fitted, tracked

SRC = Path(__file__).parents[2] / "src"
FIGURES = ["epoch 12/100", "loss 0.231", "dice 0.931", "14.2 images/s", "12% waiting", "768/6400 steps", "1:02:05 left"]


@pytest.mark.parametrize("width", [20, 40, 79, 80, 200])
@pytest.mark.parametrize("name", ["fold0", "a name that is much longer than a terminal of eighty columns is wide " * 2])
def test_a_line_keeps_the_first_numbers_whole_at_any_width(width, name):
    line = fitted(name, FIGURES, width, 0.25)
    assert len(line) <= width
    shown = [part for part in line.split("  ") if part in FIGURES]
    assert shown == FIGURES[: len(shown)]
    if width >= 40 and name == "fold0":
        assert shown[:2] == FIGURES[:2]
    if width >= 79 and name == "fold0":
        assert shown[:4] == FIGURES[:4]


@pytest.fixture
def quick(monkeypatch):
    """Ticks, patience and quiet of hundredths of a second; this process has no terminal."""
    for name, value in {"TICK": 0.02, "PATIENCE": 0.1, "QUIET": 0.3}.items():
        monkeypatch.setattr(progress, name, value)


def test_without_a_terminal_long_work_is_named_and_repeated_at_intervals(quick, capsys):
    with Progress("building"):
        time.sleep(0.75)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 4
    assert all(line.startswith("building  0:0") for line in lines)


def test_without_a_terminal_short_work_and_work_that_prints_are_silent(quick, capsys):
    with Progress("quick"):
        time.sleep(0.05)
    for _ in tracked(range(30), "images", 30, unit="image"):
        time.sleep(0.03)
        terminal.say("a line of its own")
    assert capsys.readouterr().err == ""


def test_only_the_innermost_work_speaks(quick, capsys):
    with Progress("outer"), Progress("inner", 4, unit="image") as inner:
        inner.update(3)
        time.sleep(0.5)
        lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("inner") and "3/4 images" in line for line in lines)


def test_nothing_is_shown_if_it_is_not_wanted(quick, capsys):
    with Progress("building", enabled=False) as shown:
        shown.update()
        time.sleep(0.5)
    assert capsys.readouterr() == ("", "")
    assert shown.thread is None


TERMINAL = """
import sys, time
from phalanx.runtime.progress import Progress
with Progress("fold0", 100, unit="step", figures=lambda: ["epoch 1/9", "loss 0.231", "dice 0.931"]) as bar:
    for _ in range(3):
        bar.update()
        time.sleep(1.4)  # a long step
with Progress("compiling"):
    time.sleep(2.5)
"""


def on_terminal(code, columns, **env):
    """(seconds, text) of each piece that a Python program writes to a terminal of that width."""
    import fcntl
    import struct
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    words = [sys.executable, *(["-c", code] if isinstance(code, str) else ["-m", "phalanx", *code])]
    child = subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "PYTHONPATH": str(SRC), **env}
    )
    os.close(theirs)
    began, pieces = time.monotonic(), []
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        pieces.append((time.monotonic() - began, piece.decode(errors="replace")))
    os.close(ours)
    assert child.wait() == 0, "".join(text for _, text in pieces)
    return pieces


def longest_silence(pieces, since=0.0):
    moments = [since, *(moment for moment, _ in pieces if moment >= since)]
    return max(after - before for before, after in pairwise(moments))


def drawn(pieces):
    """Lines as they were drawn over each other."""
    text = "".join(text for _, text in pieces)
    lines = [line.replace("\x1b[A", "").rstrip() for part in text.split("\n") for line in part.split("\r")]
    return [line for line in lines if line.strip()]


@pytest.mark.parametrize("columns", [pytest.param(80, marks=pytest.mark.slow), 40])
def test_on_a_terminal_the_numbers_fit_and_it_is_never_silent(columns):
    pieces = on_terminal(TERMINAL, columns)
    lines = drawn(pieces)
    assert max(map(len, lines)) < columns
    steps = [line for line in lines if line.startswith("fold0")]
    assert len(steps) > 5
    wanted = ["epoch 1/9", "loss 0.231", *(["dice 0.931", "3/100 steps"] if columns == 80 else [])]
    assert all(any(text in line for line in steps) for text in wanted)
    assert any(line.startswith("compiling  0:02") for line in lines)
    assert longest_silence(pieces, pieces[0][0]) < 2
