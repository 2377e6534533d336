"""Jobs on a real Slurm: arrays, time limits, lost nodes, cancelled and requeued jobs; the weights are those of here.

All are slow, since a Slurm is started for them; CI runs them after the others.
"""

import json
import math
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tests import boxed, labelled
from tests.sweep.conftest import make_place

from phalanx.cli import main
from phalanx.jobs import slurm as backend
from phalanx.jobs.listing import list_jobs
from phalanx.jobs.records import AttemptLog
from phalanx.sweep.results import read_results

SAME = ("final/weights.safetensors", "oof.csv", "folds.csv")
CLUSTER = ("cluster=slurm", "cluster.cores=1")


@pytest.fixture
def words(tiny, tmp_path, slurm):
    """Words of a training on Slurm: words("0,1", epochs=3)."""
    common = {"runs": tmp_path / "runs", "name": "r", "device": "auto"}
    return lambda fold, *more, **changes: [
        "train", *tiny("unet", **(common | changes | {"fold": fold})), *CLUSTER, *more,
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
    with suppress(FileNotFoundError):  # nor is it there for the moment in which a checkpoint takes its place
        return json.loads(path.read_text())["step"]
    return 0


@pytest.mark.slow
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


SLEEPING = """
import time

import phalanx.engine.time_limit as limit

is_over = limit.is_over
limit.is_over = lambda deadline: time.sleep({seconds}) or is_over(deadline)
"""


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """Trainings of processes sleep in each step, as many seconds as named: time passes, and the cores are free."""

    def sleep(seconds):
        (tmp_path / "slow").mkdir(exist_ok=True)
        (tmp_path / "slow/sitecustomize.py").write_text(SLEEPING.format(seconds=seconds))
        paths = [str(tmp_path / "slow"), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))

    return sleep


LONG = {"epochs": 20, "validate_every": 0, "panels": 0}  # 60 steps, so that something can happen meanwhile
SAVING = {"checkpoint_minutes": 0.001}


@pytest.fixture(scope="module")
def here(tiny, tmp_path_factory):
    """Two folds that were trained on this machine, without an interruption."""
    place = tmp_path_factory.mktemp("here")
    assert main(["train", *tiny("unet", runs=place, name="r", fold="0,1", **LONG)]) == 0
    return place / "r"


@pytest.mark.slow
def test_an_attempt_ends_whole_before_its_time_limit_and_the_next_continues(words, here, slow, slurm, tmp_path, tiny):
    """Slurm's limits are whole minutes; the margin leaves an attempt the time to begin and ten seconds more."""
    slow(0.5)
    began = time.monotonic()
    first = tiny("unet", runs=tmp_path / "first", name="r", fold="0", max_hours=1e-4, **LONG)
    subprocess.run([sys.executable, "-m", "phalanx", "train", *first], stderr=subprocess.DEVNULL, check=False)
    window = 1.2 * (time.monotonic() - began) + 10
    limit = 60 * math.ceil((window + 40) / 60)
    limits = f"cluster.hours={limit / 3600}", f"cluster.margin_minutes={(limit - window) / 60}"
    assert main(words("0", *limits, **LONG)) == 0
    number, began = rows(tmp_path)["fold0"].id, time.monotonic()
    while rows(tmp_path)["fold0"].state not in ("finished", "failed"):
        assert time.monotonic() < began + 900
        if rows(tmp_path)["fold0"].state == "pending":
            slurm.at_once(number)
            slurm.wait(lambda: rows(tmp_path)["fold0"].state != "pending", "the next attempt")
        time.sleep(0.5)
    found = attempts(tmp_path, rows(tmp_path)["fold0"])
    same(tmp_path / "runs/r/fold0", here / "fold0")
    assert len(found) >= 2
    assert [one.number for one in found] == [*range(1, len(found) + 1)]
    assert [one.continues for one in found] == [True] * (len(found) - 1) + [False]
    assert all(one.error is None and not one.preempted for one in found)
    progress = [one.progress.step for one in found]
    assert progress == sorted(progress)
    assert progress[-1] > 0  # the last took up what those before had saved
    text = (tmp_path / f"runs/.jobs/slurm/{number}_0_log.out").read_text()
    assert "unfinished: max_hours=" in text
    assert "Caught signal" not in text  # none was needed


@pytest.mark.slow
@pytest.mark.parametrize("daemon_alone", [False, True], ids=["with all its processes", "the daemon alone"])
def test_a_lost_node_s_job_continues_on_another(words, here, slow, slurm, tmp_path, daemon_alone):
    """A daemon that is killed leaves the processes of its jobs, which still train: the later attempt waits, or takes
    over."""
    slow(1.0 if daemon_alone else 0.2)  # longer than Slurm takes to miss a daemon whose processes go on
    changes = LONG | SAVING
    assert main(words("0,1", **changes)) == 0
    folders = {fold: tmp_path / "runs/r" / fold for fold in ("fold0", "fold1")}
    slurm.wait(lambda: all(steps(folder) > 3 for folder in folders.values()), "steps of both")
    lost = attempts(tmp_path, rows(tmp_path)["fold0"])[0].node
    slurm.kill_node(lost, daemon_alone=daemon_alone)
    numbers = {fold: row.id for fold, row in rows(tmp_path).items() if attempts(tmp_path, row)[0].node == lost}
    assert numbers
    try:
        for number in numbers.values():
            slurm.at_once(number)
        wait_for(slurm, tmp_path, "finished", "fold0", "fold1")
    finally:
        slurm.start_node(lost)
    for fold, folder in folders.items():
        same(folder, here / fold)
        found = attempts(tmp_path, rows(tmp_path)[fold])
        if fold in numbers:
            first, second = found
            assert (second.number, second.error, second.node != lost) == (2, None, True)
            assert first.ended is None or daemon_alone
            assert second.progress.step > 0
        else:
            assert len(found) == 1


@pytest.mark.slow
def test_requeued_and_preempted_jobs_continue(words, here, slow, slurm, tmp_path):
    """First by an operator, then as Slurm takes its place for another job: SIGTERM, and the user's signal."""
    slow(0.2)
    changes = LONG | SAVING
    assert main(words("0", **changes)) == 0
    number, folder = rows(tmp_path)["fold0"].id, tmp_path / "runs/r/fold0"
    slurm.wait(lambda: steps(folder) > 3, "steps")
    slurm("scontrol", "requeue", number)
    slurm.at_once(number)
    slurm.wait(lambda: len(attempts(tmp_path, rows(tmp_path)["fold0"])) == 2, "the second attempt")
    before = steps(folder)
    slurm.wait(lambda: steps(folder) > before, "more steps")
    for name in ("TERM", "CONT", "USR2"):
        slurm("scancel", f"--signal={name}", number)
    slurm.at_once(number)
    wait_for(slurm, tmp_path, "finished", "fold0")
    same(folder, here / "fold0")
    first, second, third = attempts(tmp_path, rows(tmp_path)["fold0"])
    assert (first.ended, first.preempted) == (None, False)  # Slurm killed it
    assert (second.continues, second.preempted) == (True, True)
    assert (third.number, third.error, third.continues) == (3, None, False)
    assert third.progress.step >= before


@pytest.mark.slow
def test_cancelled_jobs_stop_and_the_same_command_continues(words, here, slow, slurm, tmp_path, capsys):
    slow(0.2)
    changes = LONG | SAVING
    place = f"runs={tmp_path / 'runs'}"
    assert main(words("0,1", "cluster.parallel=1", **changes)) == 0
    folder = tmp_path / "runs/r/fold0"
    slurm.wait(lambda: steps(folder) > 3, "steps")
    states = {fold: row.state for fold, row in rows(tmp_path).items()}
    assert states == {"fold0": "running", "fold1": "pending"}
    capsys.readouterr()
    assert main(["jobs", "cancel", "no_such", place]) == 2
    assert "no such job" in capsys.readouterr().err
    assert main(["jobs", "cancel", "r fold 1", place]) == 0
    assert main(["jobs", "cancel", "all", place]) == 0
    assert capsys.readouterr().out.count("cancelled") == 2
    slurm.wait(lambda: not slurm("squeue", "-h").strip(), "the end of both")
    found = rows(tmp_path)
    assert (found["fold0"].state, found["fold1"].state) == ("lost", "stopped")
    assert main(["jobs", place]) == 1
    assert main(["jobs", "cancel", "all", place]) == 0
    assert "no job of these is pending or running" in capsys.readouterr().out
    before = steps(folder)
    assert main(words("0", "cluster.wait=true", **changes)) == 0  # prints its table once it has ended
    assert re.search(r"^0     -  +\d+  [01]\.\d{4}$", capsys.readouterr().out, re.MULTILINE)
    same(folder, here / "fold0")
    assert attempts(tmp_path, rows(tmp_path)["fold0"])[0].progress.step >= before > 0


@pytest.mark.slow
def test_a_job_that_makes_no_step_in_two_attempts_stops_with_a_reason(words, slurm, tmp_path, capsys):
    """An attempt has a second, in which no training begins."""
    assert main(words("0", f"cluster.hours={1 / 60}", f"cluster.margin_minutes={59 / 60}")) == 0
    number = rows(tmp_path)["fold0"].id
    slurm.at_once(number)
    wait_for(slurm, tmp_path, "failed", "fold0")
    found = attempts(tmp_path, rows(tmp_path)["fold0"])
    assert len(found) == 2
    assert "made no step in two attempts (1 and 2" in found[-1].error
    capsys.readouterr()
    assert main(["jobs", f"runs={tmp_path / 'runs'}"]) == 1
    assert "made no step in two attempts" in capsys.readouterr().out


@pytest.mark.slow
def test_parts_of_a_prediction_come_before_the_job_that_writes_the_csv(runs, slurm, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(Path(__file__).parents[2] / "configs")
    plain = [f"runs={runs}", "experiment=unet", "progress=false"]
    assert main(["infer", *plain, "out=here.csv"]) == 0
    words = ["infer", *plain, "out=there.csv", *CLUSTER, "workers=2"]
    records = runs / ".jobs"
    try:
        assert main(words) == 0
        numbers = re.findall(r"^(\d+(?:_\d)?)  (unet(?: part \d)?)  ", capsys.readouterr().out, re.MULTILINE)
        assert [name for _, name in numbers] == ["unet part 1", "unet part 2", "unet"]
        assert "afterok" in slurm("scontrol", "show", "job", numbers[2][0])
        assert main([*words, "cluster.wait=true"]) == 0  # waits for those in the queue
        assert capsys.readouterr().out.count("is in the queue already") == 3
        assert Path("there.csv").read_bytes() == Path("here.csv").read_bytes()
        assert not Path(".there.csv.part").exists()
        assert {row.state for row in list_jobs(runs).rows} == {"finished"}
        assert main([*words, "cluster.wait=true"]) == 0  # finds the CSV finished
    finally:
        for path in sorted(records.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        records.rmdir()


@pytest.mark.slow
def test_a_job_that_begins_after_one_that_failed_does_not_begin(slurm, tmp_path, monkeypatch):
    from phalanx.config.cluster import SlurmCluster
    from phalanx.jobs.job import Job

    monkeypatch.setattr(backend, "POLLS", (0.5, 2))
    jobs = [
        Job("wrong", ("trian",), tmp_path / "wrong"),
        Job("right", ("config", "name=x"), tmp_path / "right"),
        Job("after wrong", ("config", "name=x"), tmp_path / "a", after=(tmp_path / "wrong",)),
        Job("after right", ("config", "name=x"), tmp_path / "b", after=(tmp_path / "right",)),
    ]
    cluster = SlurmCluster(cores=1, hours=1)
    submitted = backend.submit(jobs, cluster, tmp_path / ".jobs")
    errors = {o.job.name: o.error for o in backend.wait_for(submitted, jobs, tmp_path / ".jobs")}
    assert (errors["right"], errors["after right"]) == (None, None)
    assert "trian: no such command; did you mean train?" in errors["wrong"]
    assert errors["after wrong"].startswith("never began")


@pytest.mark.slow
def test_what_slurm_refuses_is_one_line(words, slurm, tmp_path, capsys):
    assert main(words("0", "cluster.partition=nosuch")) == 2
    assert re.search(r"phalanx train: sbatch refuses the jobs: .*partition", capsys.readouterr().err)
    assert not list((tmp_path / "runs").rglob("*.json"))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classify", "detect"])
def test_labels_and_boxes_are_trained_and_predicted_to_the_bits_of_this_machine(task, slurm, tmp_path, monkeypatch):
    kind, layout = {"classify": (labelled, "table"), "detect": (boxed, "boxes")}[task]
    root = kind.make_table(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(Path(__file__).parents[2] / "configs")
    for place, cluster in (("here", ()), ("there", (*CLUSTER, "cluster.wait=true"))):
        pairs = kind.words(root, layout, name="r", runs=place, device="auto")
        assert main(["train", *(f"{key}={value}" for key, value in pairs.items()), "fold=0,1", *cluster]) == 0
        infer = ["infer", "experiment=r", f"runs={place}", f"data.root={root}", f"out={place}.csv", "progress=false"]
        assert main([*infer, *cluster]) == 0
    for fold in ("fold0", "fold1"):
        same(Path("there/r") / fold, Path("here/r") / fold)
    assert Path("there.csv").read_bytes() == Path("here.csv").read_bytes()
    assert [row.state for row in list_jobs(Path("there")).rows] == ["finished"] * 3


@pytest.mark.slow
def test_a_sweep_trains_there_and_is_scored_here(slurm, tiny, hands, tmp_path, monkeypatch, capsys):
    found = {}
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        make_place(tmp_path / place, tiny)
    for place, cluster in (("here", ()), ("there", CLUSTER)):
        monkeypatch.chdir(tmp_path / place)
        words = ["sweep", "one", "rows=plain,same,faster", "seeds=0", "scale=tiny", f"data.root={hands}", *cluster]
        assert main(words) == 0
        found[place] = {result.row: (result.value, result.patients) for result in read_results()}
    assert found["there"] == found["here"]
    assert set(found["there"]) == {"plain", "same", "faster"}
    rows = list_jobs(tmp_path / "there/runs/sweep").rows
    assert [row.state for row in rows] == ["finished"] * 2  # plain is same
