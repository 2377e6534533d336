"""Attempts of one run where the system's locks exclude nobody, by the benchmark that makes 1000 of them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(sys.platform != "linux", reason="finds ended processes in /proc")
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) to build the library that drops locks")
@pytest.mark.parametrize("tries", [16, pytest.param(1000, marks=pytest.mark.slow)])
def test_two_attempts_never_both_write_and_an_orphan_loses(tries, tmp_path):
    file = tmp_path / "locks.json"
    command = [sys.executable, ROOT / "bench" / "locks.py", "--tries", str(tries), "--json", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert file.is_file(), done.stdout + done.stderr
    found = [(row["ours"], row.get("baseline")) for row in json.loads(file.read_text())]
    made, kills, both, lost, taken, ended, late = found
    assert made == (tries, None)
    assert kills[0] > tries / 4
    assert (both[0], lost[0], late[0]) == (0, 0, 0), done.stdout + done.stderr
    assert taken[0] == taken[1] == ended[0] == ended[1] >= 10
