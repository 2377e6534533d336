"""Killed by SIGKILL, continued by the same command: the result is that of a run nobody killed, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.engine.stopping import MEASURED

SAME = ("final/weights.safetensors", "best/weights.safetensors", "oof.csv", "last/optimizer.safetensors")
STAGES = "[{weights:{bce:0.5,dice:0.5,point:0.5},until:{epochs:3}},{weights:{bce:0.5,lovasz:0.5,point:1.0}}]"
POLL = 0.002  # seconds


@pytest.fixture
def words(tiny, tmp_path):
    """Words of a run with everything that has state: point head, average, accumulation, stages, a loader process."""

    def make(name: str, **changes: object) -> list[str]:
        options = {"epochs": 16, "batch": 1, "accumulate": 2, "workers": 1, "augment": "affine", "validate_every": 5,
                   "checkpoint_minutes": 0.004, "optim__ema": 0.99, "loss__stages": STAGES}  # fmt: skip
        return ["train", *tiny("fpn", fold=0, name=name, runs=tmp_path / "runs", **(options | changes))]

    return make


class Training:
    """One call of the command, in a process group of its own."""

    def __init__(self, words: list[str], folder: Path):
        self.folder = folder
        self.starts = self._starts()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "phalanx", *words],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def until(self, condition) -> None:
        """Waits; a process that ends before is an error, so that no kill is counted that did not happen."""
        while not condition():
            if self.process.poll() is not None:
                pytest.fail(f"ended before it could be killed:\n{self.process.stdout.read()}")
            time.sleep(POLL)

    def until_training(self) -> None:
        """Waits until this call has begun to train: a line in the log that was not there before."""
        self.until(lambda: self._starts() > self.starts)

    def _starts(self) -> int:
        path = self.folder / "log.jsonl"
        return path.read_text().count('"event": "start"') if path.is_file() else 0

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL
        self.process.stdout.close()

    def finish(self) -> None:
        out, _ = self.process.communicate()
        assert self.process.returncode == 0, out


def step_of(folder: Path) -> int:
    """The last checkpoint's step; 0 where there is none, or it is being exchanged right now."""
    try:
        return json.loads((folder / "last" / "state.json").read_text())["step"]
    except OSError:
        return 0


def describe(folder: Path) -> str:
    left = sorted(p.name for p in folder.iterdir() if p.name.endswith((".new", ".part")))
    return f"step {step_of(folder)}" + (f" leaving {', '.join(left)}" if left else "")


def test_killed_once_while_training(words, tmp_path):
    """The quick one; only the killed call needs a process of its own."""
    import torch

    from phalanx.cli import main

    runs = tmp_path / "runs"
    changes = {"epochs": 12, "checkpoint_minutes": 0.0005}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert main(words("whole", **changes)) == 0
        killed = Training(words("killed", **changes), runs / "killed" / "fold0")
        killed.until(lambda: step_of(killed.folder) >= 5)
        killed.kill()
        assert not (killed.folder / "final").exists()
        assert main(words("killed", **changes)) == 0
    finally:
        torch.set_num_threads(before)
    for name in SAME:
        assert (killed.folder / name).read_bytes() == (runs / "whole" / "fold0" / name).read_bytes(), name


@pytest.mark.slow
def test_killed_at_ten_random_moments(words, tmp_path, capsys):
    """Early to late: six while training, three while a checkpoint is being written, one while predicting."""
    runs, rng = tmp_path / "runs", random.Random(0)
    folder = runs / "killed" / "fold0"
    whole = Training(words("whole"), runs / "whole" / "fold0")
    whole.finish()
    steps = step_of(whole.folder)
    told = []
    for number, target in enumerate(sorted(rng.sample(range(1, steps - 8), 9))):
        training = Training(words("killed"), folder)
        training.until_training()
        training.until(lambda target=target: step_of(folder) >= target)
        if number % 3 == 1:
            training.until(lambda: any(folder.glob("last*.new")))
            time.sleep(rng.uniform(0, 0.01))
        else:
            time.sleep(rng.uniform(0, 0.1))
        training.kill()
        told.append(describe(folder))
    training = Training(words("killed"), folder)
    training.until((folder / "final").is_dir)
    time.sleep(rng.uniform(0, 0.05))
    training.kill()
    told.append(describe(folder))
    assert not (folder / "done.json").exists()
    Training(words("killed"), folder).finish()
    with capsys.disabled():
        print("\nkilled at", "; ".join(told))
    for name in SAME:
        assert (folder / name).read_bytes() == (runs / "whole" / "fold0" / name).read_bytes(), name
    logs = [[json.loads(line) for line in (f / "log.jsonl").read_text().splitlines()] for f in (folder, whole.folder)]
    kept = [
        [{k: v for k, v in line.items() if k not in MEASURED} for line in log if line["event"] != "start"]
        for log in logs
    ]
    assert kept[0] == kept[1]
    assert not [p for p in folder.iterdir() if p.name.endswith((".new", ".part"))]
