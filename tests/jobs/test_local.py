"""Jobs and folds side by side: each on its device, a failure stops no other, a table, no orphans."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from itertools import product
from pathlib import Path

import pytest

import phalanx
from phalanx.cli import main
from phalanx.config.compose import compose, split_words
from phalanx.jobs import folds
from phalanx.jobs.job import Job
from phalanx.jobs.local import run_local
from phalanx.runtime.processes import cores

SAME = ("final/weights.safetensors", "oof.csv", "folds.csv")


@pytest.fixture
def words(tiny, tmp_path):
    common = {"runs": tmp_path / "runs", "epochs": 2, "folds": 3}
    return lambda fold, name, **changes: ["train", *tiny("unet", **(common | {"fold": fold, "name": name} | changes))]


def test_side_by_side_is_one_after_another_and_a_fold_that_fails_fails_alone(words, tmp_path, capsys):
    runs = tmp_path / "runs"
    for fold in (0, 2):
        assert main(words(fold, "alone")) == 0
    blocked = runs / "several" / "fold1"
    blocked.mkdir(parents=True)
    (blocked / "config.yaml").write_text("format: 2\nseed: 7\n")  # a fold of another recipe
    capsys.readouterr()
    assert main(words("0..2", "several", devices="cpu,cpu")) == 1
    said = capsys.readouterr()
    for fold, name in product((0, 2), SAME):
        several, alone = (runs / run / f"fold{fold}" / name for run in ("several", "alone"))
        assert several.read_bytes() == alone.read_bytes(), several
    head, *rows = said.out.splitlines()[-4:]
    assert head.split() == ["fold", "device", "seconds", "dice"]
    dice = r"[01]\.\d{4}$"
    for fold, (row, done) in enumerate(zip(rows, (dice, "failed: .*was started with", dice), strict=True)):
        assert re.match(rf"{fold}     cpu +\d+  {done}", row), row
    assert re.search(r"fold 1 on cpu: .*fold1: was started with", said.err)
    assert re.search(r"^fold 0 cpu \| .*fold0: finished, out of fold dice", said.out, re.MULTILINE)


def alive(group: int) -> bool:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            return True
    return False


def children(pid: int) -> set[int]:
    return {int(p) for t in Path(f"/proc/{pid}/task").glob("*/children") for p in t.read_text().split()}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_stopped_or_killed_it_leaves_no_process_behind(words, tmp_path, how, code):
    call = subprocess.Popen(
        [sys.executable, "-m", "phalanx",
         *words("0..2", "r", devices="cpu,cpu", workers=1, checkpoint_minutes=0.001, epochs=500)],
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    logs = [tmp_path / f"runs/r/fold{fold}/log.jsonl" for fold in (0, 1)]
    while not all(log.is_file() for log in logs):
        assert call.poll() is None, call.stdout.read()
        time.sleep(0.02)
    groups = children(call.pid)
    assert len(groups) >= 2
    os.kill(call.pid, how)
    assert call.wait(300) == code
    until = time.monotonic() + 120
    while any(map(alive, groups)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, groups))
    if how == signal.SIGINT:
        assert "phalanx train: stopped; the same command continues" in call.stdout.read()


def test_a_gpu_that_is_not_there_is_refused_at_once(words, tmp_path, capsys):
    assert main(words("0..2", "r", devices="0,99")) == 2
    assert re.search(r"device=cuda:\d+: this machine has", capsys.readouterr().err)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("visible", "device", "environment"),
    [
        (None, "cuda:1", {"CUDA_VISIBLE_DEVICES": "1", "PHALANX_CORES": "8"}),
        ("4, GPU-8a", "cuda:1", {"CUDA_VISIBLE_DEVICES": "GPU-8a", "PHALANX_CORES": "8"}),
        (None, "cpu", {"OMP_NUM_THREADS": "8", "PHALANX_CORES": "8"}),
    ],
)
def test_a_fold_sees_only_its_gpu_and_its_fraction_of_the_cores(tiny, monkeypatch, visible, device, environment):
    monkeypatch.setattr(folds, "cores", lambda: 16)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    pairs = split_words(tiny("unet", devices=f"cpu,{device}", max_hours=8))
    job = folds.fold_job(pairs, 3, compose(pairs)).on(device, hours=2.5)
    assert (job.name, job.resources.device, job.environment) == ("fold 3", device, environment)
    kind = device.partition(":")[0]
    command, *words = job.argv
    given = split_words(words)  # no key is given twice
    assert (command, given["fold"], given["device"], given["max_hours"]) == ("train", "3", kind, "2.5")
    assert not {"devices", "ddp"} & given.keys()
    assert given["data.root"] == pairs["data.root"]


def test_a_job_uses_the_cores_it_was_given(monkeypatch):
    monkeypatch.setenv("PHALANX_CORES", "3")
    assert cores() == 3
    monkeypatch.delenv("PHALANX_CORES")
    assert cores() == len(os.sched_getaffinity(0))


def job(name, *argv):
    return Job(name, argv, Path(name))


@pytest.fixture
def long_job(words):
    """A job of some minutes."""
    return job("long", *(word for word in words(0, "long", epochs=5000) if not word.startswith("device=")))


def test_each_outcome_has_the_cause_and_a_failure_stops_no_other(capsys):
    jobs = [job("wrong", "trian"), job("right", "--version"), job("key", "train", "optim.lrr=1")]
    outcomes = {outcome.job.name: outcome for outcome in run_local(jobs, ["cpu", "cpu"])}
    assert "trian: no such command; did you mean train?" in outcomes["wrong"].error
    assert outcomes["right"].error is None
    assert outcomes["key"].error == "optim.lrr: no such option; did you mean lr?"
    assert outcomes["right"].tail == (phalanx.__version__,)
    assert f"right cpu | {phalanx.__version__}\n" in capsys.readouterr().out


def test_a_killed_job_is_reported_as_killed(long_job):
    outcomes = run_local([long_job], ["cpu"], echo=False)
    before = children(os.getpid())
    threading.Timer(1, lambda: [os.kill(pid, signal.SIGKILL) for pid in children(os.getpid()) - before]).start()
    (outcome,) = outcomes
    assert outcome.error == "the process was killed (SIGKILL), probably out of memory; the same command continues"


def test_no_job_begins_after_the_deadline():
    outcomes = list(run_local([job("a", "--version"), job("b", "--version")], ["cpu"], deadline=time.monotonic()))
    assert [outcome.error for outcome in outcomes] == ["not begun: max_hours are over"] * 2
    assert [outcome.job.resources.device for outcome in outcomes] == [None, None]


def test_closing_the_iterator_kills_what_runs(long_job):
    others = children(os.getpid())  # of earlier tests, such as services of libraries
    outcomes = run_local([job("short", "--version"), long_job], ["cpu", "cpu"])
    assert next(outcomes).job.name == "short"
    groups = children(os.getpid()) - others
    assert any(map(alive, groups))
    outcomes.close()
    assert not any(map(alive, groups))
