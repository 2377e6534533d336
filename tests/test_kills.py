"""Commands killed at random moments, by the benchmark that does so 300 times."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("commands", "kills"),
    [
        ("phantom", 4),
        pytest.param("train,infer,ensemble soft,ensemble hard,phantom,eda,check,sweep", 60, marks=pytest.mark.slow),
    ],
)
def test_killed_and_called_again_they_leave_what_an_undisturbed_call_does(commands, kills, tmp_path):
    file = tmp_path / "kills.json"
    words = ["--kills", f"{kills}", "--seed", "1", "--commands", commands, "--json", file]
    done = subprocess.run([sys.executable, ROOT / "bench" / "kills_all.py", *words], capture_output=True, text=True)
    assert file.is_file(), done.stdout + done.stderr
    assert done.stdout.count(f"'kills': {kills}") >= 1
    for line in done.stdout.splitlines():
        assert "left or missing" not in line
    assert "outputs bit-equal" in file.read_text()
