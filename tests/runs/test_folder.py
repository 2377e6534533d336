"""The run's folder: one process at a time, one recipe for ever, a log without undone work."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import yaml

from phalanx.errors import TrainingError
from phalanx.runs.folder import changed_keys, check_recipe, claim, fold_folder, locked
from phalanx.runtime import mounts
from phalanx.runtime.locks import holder_of

HOLD = """
import sys, time, filelock
with filelock.FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_in_use_is_refused_and_a_kill_releases_it(tmp_path):
    folder = tmp_path / "run" / "fold0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, folder / ".lock"], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        for _ in range(2):
            said = re.escape("fold0: another process is training here; wait for it, or give another name=")
            with pytest.raises(TrainingError, match=said), locked(folder):
                pass
            (folder / ".holder").write_text("process 12 on that")  # of an earlier version
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with locked(folder):
        assert holder_of(folder) == f"process {os.getpid()} on {socket.gethostname()}"
    assert holder_of(folder) == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_lock_is_free_at_once_though_a_loader_process_outlives_the_killed_run(tmp_path):
    reader, writer = os.pipe()
    holder = os.fork()
    if holder == 0:
        with locked(tmp_path / "fold0"):
            os.fork()
            os.write(writer, b"%d\n" % os.getpid())
            time.sleep(60)
            os._exit(0)
    said = b""
    while said.count(b"\n") < 2:
        said += os.read(reader, 50)
    with pytest.raises(TrainingError, match=f"process {holder} on"), locked(tmp_path / "fold0"):
        pass
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with locked(tmp_path / "fold0"):
        pass
    os.kill(next(pid for pid in map(int, said.split()) if pid != holder), signal.SIGKILL)


def test_the_second_of_two_same_commands_says_who_trains_and_exits_2(tiny, tmp_path, capsys):
    from phalanx.cli import main

    with locked(tmp_path / "runs" / "r" / "fold0"):
        assert main(["train", *tiny("unet", fold=0, name="r", runs=tmp_path / "runs")]) == 2
    assert f"another process is training here (process {os.getpid()} on " in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="finds ended processes in /proc")
def test_without_locks_of_the_system_it_excludes_and_clears_all_the_same(tmp_path, monkeypatch):
    def none(fd, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    monkeypatch.setattr(mounts, "_probed", {})
    folder = tmp_path / "fold0"
    with locked(folder):
        (folder / "config.yaml").write_text("")
        (folder / "panels").mkdir()
        for name in (".done.json.5.part", "panels/.epoch0001.jpg.7.part", "..holder.lock.soft.private-v1-ab.tmp"):
            (folder / name).write_text("half")
        with pytest.raises(TrainingError, match=f"training here \\(process {os.getpid()} on"), locked(folder):
            pass
        assert (folder / ".done.json.5.part").exists()
    with locked(folder):
        assert not list(folder.rglob("*.part"))
    with locked(tmp_path / "unused"):
        pass
    assert not (tmp_path / "unused").exists()


def test_a_folder_in_which_nothing_was_written_is_removed(tmp_path):
    folder = tmp_path / "runs" / "run" / "fold0"
    with pytest.raises(KeyError), locked(folder):
        raise KeyError
    assert not list(tmp_path.iterdir())
    with locked(folder):
        (folder / "config.yaml").write_text("kept")
    assert (folder / "config.yaml").read_text() == "kept"


def test_the_recipe_may_not_change_but_runtime_keys_may(recipe):
    first = recipe()
    folder = fold_folder(first, 0)
    claim(folder, first)
    runtime = recipe(workers=3, progress="true", checkpoint_minutes=9, predict__batch=7, data__cache_gb=1)
    check_recipe(folder, runtime)
    claim(folder, runtime)
    assert yaml.safe_load((folder / "config.yaml").read_text())["workers"] == 3
    with pytest.raises(TrainingError, match=r"was started with optim\.lr=0\.01, now it is 0\.5\. Give .*name="):
        check_recipe(folder, recipe(optim__lr=0.5))
    with pytest.raises(TrainingError, match=r"seed=0, now it is 4 \(and 1 more: epochs\)"):
        check_recipe(folder, recipe(seed=4, epochs=9))


def test_a_run_from_before_an_option_existed_continues_with_the_default_alone(recipe):
    config = recipe()
    folder = fold_folder(config, 0)
    claim(folder, config)
    values = yaml.safe_load((folder / "config.yaml").read_text())
    del values["augment"]["device"], values["data"]["drop"]
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    check_recipe(folder, config)
    changed = config.model_copy(update={"augment": config.augment.model_copy(update={"device": "cuda"})})
    with pytest.raises(TrainingError, match=r"augment\.device=cpu, now it is cuda"):
        check_recipe(folder, changed)
    (folder / "config.yaml").write_text(yaml.safe_dump(values | {"gone": 1}))
    with pytest.raises(TrainingError, match=r"gone=1, now it is None"):
        check_recipe(folder, config)


def test_keys_that_came_or_went_count_as_changes():
    assert changed_keys({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}) == ["a.c"]
    assert changed_keys({"model": {"pointrend": {"points": 1}}}, {"model": {"pointrend": None}}) == [
        "model.pointrend.points"
    ]
    assert changed_keys({"data": {"phantom": {"seed": 1}}, "runs": "a"}, {"data": {"phantom": None}, "runs": "b"}) == []


def test_the_environment_is_noted_once(recipe):
    config = recipe()
    folder = fold_folder(config, None)
    assert folder.name == "all"
    claim(folder, config)
    about = json.loads((folder / "environment.json").read_text())
    assert {"torch", "timm", "numpy"} <= about["packages"].keys()
    assert about["threads"] >= 1
    (folder / "environment.json").write_text("{}")
    claim(folder, config)
    assert (folder / "environment.json").read_text() == "{}"
