"""Folds side by side: each on its device, one that fails alone, a table, no orphans."""

import os
import re
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest

from phalanx.cli import main
from phalanx.config.compose import compose, split_words
from phalanx.engine import loader as feed
from phalanx.jobs import local as fanout

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
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
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
    ("seen", "device", "environment"),
    [
        (None, "cuda:1", {"CUDA_VISIBLE_DEVICES": "1"}),
        ("4, GPU-8a", "cuda:1", {"CUDA_VISIBLE_DEVICES": "GPU-8a"}),
        (None, "cpu", {"OMP_NUM_THREADS": "8"}),
    ],
)
def test_each_sees_its_gpu_alone_or_its_share_of_the_cores(tiny, monkeypatch, seen, device, environment):
    started = {}

    class Noted:
        def __init__(self, name, function, train, words, out, environment):
            started.update(name=name, words=words, environment=environment)

    monkeypatch.setattr(fanout, "Child", Noted)
    monkeypatch.setattr(fanout, "cores", lambda: 16)
    monkeypatch.setattr(feed, "cores", lambda: 16)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    pairs = split_words([w for w in tiny("unet", devices=f"cpu,{device}") if not w.startswith("workers=")])
    fanout.start(print, pairs, 3, device, compose(pairs))
    assert started["name"] == f"fold 3 on {device}"
    assert started["environment"] == environment
    told = split_words(started["words"])
    kind = device.partition(":")[0]
    assert (told["fold"], told["device"], told["workers"]) == ("3", kind, "7" if kind == "cuda" else "1")
    assert "devices" not in told
    assert told["data.root"] == pairs["data.root"]
