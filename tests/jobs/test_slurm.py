"""Jobs on a real Slurm: arrays, time limits, lost nodes, cancelled and requeued jobs; the weights are those of here."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from phalanx.cli import main
from phalanx.jobs import slurm as backend
from phalanx.jobs.listing import list_jobs
from phalanx.jobs.records import AttemptLog

SAME = ("final/weights.safetensors", "oof.csv", "folds.csv")
CLUSTER = ("cluster=slurm", "cluster.cores=1")
LONG = 4000  # epochs of some minutes


@pytest.fixture
def words(tiny, tmp_path, slurm):
    """Words of a training on Slurm: words("0,1", epochs=3)."""
    return lambda fold, *more, **changes: [
        "train", *tiny("unet", **({"runs": tmp_path / "runs", "name": "r", "device": "auto"} | changes | {"fold": fold})),
        *CLUSTER, *more,
    ]  # fmt: skip


def rows(tmp_path):
    return {Path(row.folder).name: row for row in list_jobs(tmp_path / "runs").rows}


def attempts(tmp_path, row):
    return AttemptLog(tmp_path / "runs" / ".jobs", f"slurm:{row.id}").attempts


def wait_for(slurm, tmp_path, state, *folds):
    slurm.wait(lambda: all(rows(tmp_path)[fold].state == state for fold in folds), f"{state} {folds}", 240)


def same(one, other):
    for name in SAME:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def steps(folder):
    path = folder / "last" / "state.json"
    return json.loads(path.read_text())["step"] if path.is_file() else 0


def test_an_array_of_folds_is_trained_to_the_bits_of_this_machine(words, runs, slurm, tmp_path, capsys):
    assert main(words("0,1")) == 0
    said = capsys.readouterr().out
    found = dict(re.findall(r"^(\d+_\d)  r fold (\d)  ", said, re.MULTILINE))
    assert sorted(found.values()) == ["0", "1"]
    assert len({number.partition("_")[0] for number in found}) == 1  # one array
    assert main(words("0,1")) == 0  # the same command again
    assert capsys.readouterr().out.count("is in the queue already") == 2
    wait_for(slurm, tmp_path, "finished", "fold0", "fold1")
    for fold in ("fold0", "fold1"):
        same(tmp_path / "runs/r" / fold, runs / "unet" / fold)
        (attempt,) = attempts(tmp_path, rows(tmp_path)[fold])
        assert (attempt.number, attempt.error, attempt.node) == (1, None, attempt.node)
        assert attempt.node in ("n1", "n2")
    assert main(["jobs", f"runs={tmp_path / 'runs'}"]) == 0
    assert re.search(r"\d+_0 +r fold 0 +0 +finished +1 +n\d ", capsys.readouterr().out)
    assert main(words("0,1")) == 0
    assert capsys.readouterr().out.count("finished, out of fold dice") == 2
