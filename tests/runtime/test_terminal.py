"""Streams: a reader that leaves, a terminal of few characters, a full disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from phalanx.errors import PhalanxError, shown
from phalanx.runtime.terminal import PIPE_CLOSED

SRC = Path(__file__).parents[2] / "src"
MANY = """
import sys
from phalanx import cli
from phalanx.errors import DataError
from pathlib import Path

def many(words):
    for number in range(20_000):
        print("\\uc190", number, flush=bool(number % 7))
    print("x" * 100_000)
    Path(words[0]).write_text("done")
    if "fail" in words:
        raise DataError("\\ud55c\\uae00: wrong")

cli.COMMANDS["score"] = (many, "help " * 50_000)
sys.exit(cli.main())
"""


def call(words, stdout, **env):
    return subprocess.run(
        [sys.executable, "-c", MANY, "score", *words], stdout=stdout, stderr=subprocess.PIPE, check=False,
        env={**os.environ, "PYTHONPATH": str(SRC), **env},
    )  # fmt: skip


def closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("words", [[], ["fail"], ["--help"]])
def test_the_work_goes_on_when_nobody_reads(tmp_path, words):
    writer = closed_pipe()
    done = call([str(tmp_path / "out"), *words], writer)
    os.close(writer)
    if "--help" not in words:
        assert (tmp_path / "out").read_text() == "done"
    assert done.returncode == (2 if "fail" in words else PIPE_CLOSED)
    assert done.stderr.decode() == ("phalanx score: 한글: wrong\n" if "fail" in words else "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_output_that_cannot_be_printed_is_an_error_at_the_end(tmp_path):
    with open("/dev/full", "wb") as full:
        done = call([str(tmp_path / "out")], full)
    assert (tmp_path / "out").read_text() == "done"
    assert done.returncode == 2
    assert done.stderr.decode().startswith("phalanx: the output could not be printed (No space left on device)")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("env", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LANG": "POSIX"}])
def test_a_terminal_of_few_characters_gets_escapes(tmp_path, env):
    done = call([str(tmp_path / "out"), "fail"], subprocess.PIPE, **env)
    assert done.returncode == 2
    assert done.stdout.count(b"\n") == 20_001
    assert b"Traceback" not in done.stderr
    if "PYTHONIOENCODING" in env:
        assert done.stdout.startswith(b"\\uc190 0\n")
        assert done.stderr == b"phalanx score: \\ud55c\\uae00: wrong\n"


def test_without_a_standard_output_it_works(tmp_path):
    line = f'exec "{sys.executable}" -c "$0" score "{tmp_path}/out" >&-'
    done = subprocess.run(["bash", "-c", line, MANY], env={**os.environ, "PYTHONPATH": str(SRC)}, check=False)
    assert done.returncode == 0
    assert (tmp_path / "out").read_text() == "done"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb", r"a\nb"), ("\x1b[31m", r"\x1b[31m"), ("\udcbc\udcd5", r"\xbc\xd5"), ("\ud800", r"\ud800"),
        ("a\u2028b\x85", r"a\u2028b\x85"), ("\u202e", r"\u202e"), ("한글 é", "한글 é"),
    ],
)  # fmt: skip
def test_text_of_any_name_is_one_line(text, line):
    assert shown(text) == line
    assert str(PhalanxError(text)) == line
    line.encode()


def test_a_message_is_not_as_long_as_what_it_is_about():
    assert len(str(PhalanxError("a b " * 100_000 + ": wrong"))) < 2600
    text = str(PhalanxError(f"{'x' * 100_000}: wrong"))
    assert len(text) < 200
    assert text.endswith("xxx: wrong")
