"""Hard-negative rounds by the command: a chain of ordinary runs, continued after a kill, and the table at its end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.labelled import make_table, words

from phalanx.cli import main
from phalanx.data.selection import Selection
from phalanx.runs.reader import FoldRun

STAGES = ["tiny", "tiny_round1_hard", "tiny_round1_refined", "tiny_round2_hard", "tiny_round2_refined"]


def command(root: Path, runs: Path, **changes: object) -> list[str]:
    changes = {
        "name": "tiny",
        "runs": runs,
        "epochs": 1,
        "batch": 4,
        "validate_every": 0,
        "predict.threshold": 0.2,
        "model.norm": "group",  # however many images fail, and so are trained on, the last batch may have one
    } | changes
    return ["rounds", *(f"{key}={value}" for key, value in words(root, "table", **changes).items())]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["rounds=0"], "expected a whole number from 1 to 20"),
        (["fold=0"], "fold=0: failures are mined out of fold, so all folds are needed: fold=0..1"),
        (["data.hard.run=x"], "data.hard.run: the rounds set it"),
        (["hard.epohcs=3"], "epohcs: no such option"),
        (["hard.pairs=[[up,down]]"], "'down' is not a class"),
        (["refined.seed=3"], "refined.seed: is the same in all trainings"),
        (["truth=nowhere.csv"], "truth=nowhere.csv: no such file"),
        (["task=segment"], "segment"),
    ],
)
def test_impossible_rounds_are_one_line(tmp_path, capsys, more, message):
    key = more[0].split("=")[0]
    usual = [word for word in command(tmp_path, tmp_path / "runs") if not word.startswith(f"{key}=")]
    assert main([*usual, *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def digests(runs: Path) -> dict[str, str | None]:
    return {
        f"{name}/fold{fold}": FoldRun(runs / name / f"fold{fold}").weights_digest()
        for name in STAGES
        for fold in (0, 1)
    }


@pytest.mark.slow
def test_rounds_are_runs_that_begin_with_each_other_and_continue_after_kills(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root, runs = make_table(tmp_path / "set", train=32, test=12), tmp_path / "runs"
    more = [f"truth={root / 'answers.csv'}", "refined.weight=4"]
    assert main([*command(root, runs), *more]) == 0
    text = capsys.readouterr().out
    report = json.loads((runs / "tiny_rounds.json").read_text())
    trainings = report["trainings"]
    assert [one["run"] for one in trainings] == STAGES
    assert report["pairs"]
    for before, one in zip([None, *trainings], trainings, strict=False):
        assert one["run"] in text
        assert 0 <= one["test"]["pairs"] <= 1
        assert 0 <= one["out_of_fold"]["macro_f1"] <= 1
        if before is None:
            assert one["failures"] == 0
            continue
        fold = runs / one["run"] / "fold1"
        assert json.loads((fold / "start.json").read_text())["start"] == str(runs / before["run"] / "fold1")
        rows = Selection.read(fold / "selection.csv")
        failed = [
            row for row in rows.rows if f"out of fold by {before['run']}" in row.reason and "right" not in row.reason
        ]
        assert len(failed) == one["failures"] > 0
        assert one["mined_pairs"] == report["pairs"]
        hard = "hard" in one["run"]
        assert {row.weight for row in failed} == ({1.0} if hard else {4.0})
        assert (len(rows.trained_weights) < len(rows.rows)) == hard
    whole = digests(runs)

    again = tmp_path / "again"
    call = [sys.executable, "-m", "phalanx", *command(root, again), *more]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for reached in (STAGES[1], STAGES[2]):  # killed as soon as this training has begun
        process = subprocess.Popen(call, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (again / reached / "fold0/config.yaml").exists():
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it was killed"
        process.kill()
        process.wait()
    assert not (again / "tiny_rounds.json").exists()
    assert subprocess.run(call, env=environment, check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert digests(again) == whole
    times = {path: path.stat().st_mtime_ns for path in again.rglob("weights.safetensors")}
    assert subprocess.run(call, env=environment, check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert all(path.stat().st_mtime_ns == when for path, when in times.items())
