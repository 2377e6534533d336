"""Records of jobs and their attempts, and what `phalanx jobs` makes of them without a scheduler."""

import os
import sys

import pytest

from phalanx.cli import main
from phalanx.errors import DataError
from phalanx.jobs import attempt, listing, slurm_queue
from phalanx.jobs.attempt import CONTINUE, Runner, task_of, with_time
from phalanx.jobs.job import Job
from phalanx.jobs.progress import Progress
from phalanx.jobs.records import Attempt, AttemptLog, read_submissions, write_submission
from phalanx.jobs.slurm_queue import NoSlurm, Queued


def job(folder, *argv):
    return Job(folder.name, argv or ("train", "fold=0"), folder)


@pytest.fixture
def records(tmp_path):
    return tmp_path / "runs" / ".jobs"


def test_a_submission_is_read_as_it_was_written(tmp_path, records):
    jobs = [job(tmp_path / "runs/r/fold0"), job(tmp_path / "runs/r/fold1", "infer", "experiment=a b")]
    written = write_submission(records, jobs, ["slurm:12_0", "slurm:12_1"])
    assert read_submissions(records) == written
    assert [(one.number, one.backend, one.argv, one.folder) for one in written] == [
        (number, "slurm", job.argv, job.folder) for number, job in zip(("12_0", "12_1"), jobs, strict=True)
    ]


@pytest.mark.parametrize("text", ["", "{", '{"format": "phalanx-jobs-1"}', '{"format": "phalanx-jobs-1", "jobs": [3]}',
                                  '{"format": "phalanx-jobs-1", "jobs": [{"id": "../x"}]}'])  # fmt: skip
def test_a_damaged_record_is_named(records, text, capsys):
    records.mkdir(parents=True)
    path = records / "slurm-3.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"slurm-3\.json"):
        read_submissions(records)
    assert main(["jobs", f"runs={records.parent}"]) == 2
    assert "slurm-3.json" in capsys.readouterr().err


def test_attempts_without_a_step_stop_a_job_unless_they_were_preempted(records):
    def log(*steps, preempted=()):
        found = AttemptLog(records, "slurm:1")
        found.attempts = [
            Attempt(number, "n1", 0.0, Progress(step=step), ended=1.0, preempted=number in preempted)
            for number, step in enumerate(steps, 1)
        ]
        return found

    assert log().stuck(Progress()) is None
    assert log(0).stuck(Progress()) is None  # one attempt says nothing
    assert "made no step in two attempts (1 and 2, on n1): it is at its beginning" in log(0, 0).stuck(Progress())
    assert log(0, 0).stuck(Progress(step=1)) is None
    assert log(0, 5).stuck(Progress(step=5)) is None  # the first of the two came on
    assert "(2 and 3" in log(0, 5, 5).stuck(Progress(step=5))
    assert log(0, 5, 5).stuck(Progress(step=5, predicted=1)) is None
    assert log(0, 0, 0, preempted=(2, 3)).stuck(Progress()) is None


def test_attempts_are_numbered_on_and_survive_on_disk(tmp_path, records):
    log = AttemptLog(records, "ray:a-0")
    log.begin(Attempt(1, "n1", 5.0, Progress(step=3)))
    log.end(continues=True)
    task = task_of(job(tmp_path / "f", "models"), 0, 1, records)
    assert Runner(task, "ray:a-0").number == 2
    assert Runner(task, "ray:a-0", restarts=6).number == 7  # the scheduler counts more: records were lost
    (found,) = AttemptLog(records, "ray:a-0").attempts
    assert (found.progress, found.continues, found.ended is None) == (Progress(step=3), True, False)
    late = AttemptLog(records, "ray:a-0")  # the first attempt was held for lost, and ends after the second has begun
    AttemptLog(records, "ray:a-0").begin(Attempt(2, "n2", 6.0))
    late.end()
    assert [one.number for one in AttemptLog(records, "ray:a-0").attempts] == [1, 2]
    (records / "ray-b-0.attempt1.json").write_text("not ours")
    with pytest.raises(DataError, match=r"ray-b-0\.attempt1\.json"):
        Runner(task, "ray:b-0")


def shim(tmp_path, monkeypatch, code):
    """Stands in for phalanx in the processes of jobs."""
    (tmp_path / "shim/phalanx").mkdir(parents=True)
    (tmp_path / "shim/phalanx/__init__.py").touch()
    (tmp_path / "shim/phalanx/__main__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "shim"))


def test_a_job_s_process_knows_its_job_and_attempt(tmp_path, records, monkeypatch):
    shim(
        tmp_path, monkeypatch, "import os; print(os.environ['PHALANX_JOB'], os.environ['PHALANX_ATTEMPT'], os.getcwd())"
    )
    monkeypatch.chdir(tmp_path)
    outcome = Runner(task_of(job(tmp_path / "f", "train"), 0, 1, records), "slurm:7_1", 2).run()
    assert (outcome.error, outcome.tail) == (None, (f"slurm:7_1 3 {tmp_path}",))


@pytest.mark.parametrize(
    ("code", "again"),
    [
        ("import sys; print('phalanx train: f: unfinished: max_hours=1 are over'); sys.exit(2)", True),
        ("import os; os.kill(os.getpid(), 9)", True),
        ("import sys; print('phalanx train: stopped; the same command continues'); sys.exit(143)", True),
        ("import sys; print('phalanx train: lr: no such option'); sys.exit(2)", False),
        ("raise KeyError('a bug')", False),
    ],
)
def test_what_was_stopped_continues_and_what_failed_does_not(tmp_path, records, monkeypatch, code, again):
    shim(tmp_path, monkeypatch, code)
    outcome = Runner(task_of(job(tmp_path / "f"), 0, 1, records), "slurm:7").run()
    assert (outcome.error == CONTINUE) == again, outcome
    (found,) = AttemptLog(records, "slurm:7").attempts
    assert found.continues == again
    assert (found.error is None) == again


def test_a_later_attempt_waits_for_what_is_left_of_an_earlier_one(tmp_path, records, monkeypatch):
    held = "phalanx train: f: another process is training here; wait for it"
    shim(tmp_path, monkeypatch, f"""
import pathlib, sys
tries = pathlib.Path({str(tmp_path / "tries")!r})
tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
if tries.read_text() == "x": print({held!r}); sys.exit(2)
""")  # fmt: skip
    monkeypatch.setattr(attempt.time, "sleep", lambda seconds: None)
    task = task_of(job(tmp_path / "f"), 0, 1, records)
    assert "another process is training here" in Runner(task, "slurm:8").run().error  # the first does not
    (tmp_path / "tries").unlink()
    assert Runner(task, "slurm:8").run().error is None
    assert (tmp_path / "tries").read_text() == "xx"


def test_only_trainings_get_a_limit_and_jobs_see_their_devices(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    one = job(tmp_path / "f")
    assert with_time(one, 7200.0).argv[-1] == "max_hours=2.000000"
    assert with_time(one, -5.0).argv[-1] == "max_hours=0.000278"
    assert with_time(job(tmp_path / "f", "infer"), 60.0).argv == ("infer",)
    assert with_time(one, None) is one
    assert one.on_node(0, 3).argv[-1] == "device=cpu"
    assert one.on_node(0, 3).environment == {"PHALANX_CORES": "3", "OMP_NUM_THREADS": "3"}
    assert one.on_node(1, 3).argv[-1] == "device=cuda"
    assert one.on_node(2, 3).argv[-2:] == ("devices=0,1", "ddp=true")


def test_the_table_tells_running_ended_and_lost_jobs_apart(tmp_path, records, monkeypatch, capsys):
    folders = {name: tmp_path / "runs" / "r" / name for name in ("fold0", "fold1", "fold2", "fold3", "fold4")}
    write_submission(records, [job(folder) for folder in folders.values()], [f"slurm:9_{i}" for i in range(5)])
    for number, changes in ((1, {}), (2, {"error": "lr: no such option"}), (3, {"continues": True})):
        log = AttemptLog(records, f"slurm:9_{number}")
        log.begin(Attempt(1, "n2", 5.0))
        if changes:
            log.end(**changes)
    queue = {
        "9_0": Queued("9_0", "PENDING", "", "Resources", "0:00"),
        "9_3": Queued("9_3", "PENDING", "", "BeginTime", "0"),
    }
    monkeypatch.setattr(slurm_queue, "queue", lambda: queue)
    found = listing.list_jobs(tmp_path / "runs")
    assert [row.state for row in found.rows] == ["pending", "lost", "failed", "pending", "stopped"]
    assert [row.reason for row in found.rows] == [
        "Resources", "attempt 1 did not end", "lr: no such option", "BeginTime",
        "never began, and is in no queue any more",
    ]  # fmt: skip
    assert [row.fold for row in found.rows] == ["0", "1", "2", "3", "4"]
    place = f"runs={tmp_path / 'runs'}"
    assert main(["jobs", place, "state=failed", f"json={tmp_path / 'j.json'}"]) == 1
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["9_2", "fold2"]
    assert '"state": "failed"' in (tmp_path / "j.json").read_text()
    assert main(["jobs", place, "9_3", "fold0"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    cancelled = []
    monkeypatch.setattr(slurm_queue, "cancel", cancelled.extend)
    assert main(["jobs", "cancel", "9", place]) == 0
    assert cancelled == ["9_0", "9_3"]


def test_a_job_of_ray_runs_as_long_as_the_command_that_started_it(tmp_path, records, monkeypatch, capsys):
    write_submission(records, [job(tmp_path / "runs/r/fold0"), job(tmp_path / "runs/r/fold1")], ["ray:a-0", "ray:a-1"])
    AttemptLog(records, "ray:a-0").begin(Attempt(1, "n2", 5.0))
    place = f"runs={tmp_path / 'runs'}"
    assert [row.state for row in listing.list_jobs(tmp_path / "runs").rows] == ["running", "pending"]
    assert main(["jobs", "cancel", "a-0", place]) == 1
    assert "a-0: fold0 is a job of Ray; Ctrl-C in the command that started it ends it" in capsys.readouterr().out
    monkeypatch.setattr(listing.os, "kill", lambda process, signal: (_ for _ in ()).throw(ProcessLookupError))
    assert [row.state for row in listing.list_jobs(tmp_path / "runs").rows] == ["lost", "stopped"]


def test_without_squeue_the_table_says_so(tmp_path, records, monkeypatch, capsys):
    write_submission(records, [job(tmp_path / "runs/r/fold0")], ["slurm:9"])
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
    with pytest.raises(NoSlurm):
        slurm_queue.queue()
    assert main(["jobs", f"runs={tmp_path / 'runs'}"]) == 0
    said = capsys.readouterr().out
    assert "unknown" in said
    assert "squeue: not found here" in said
    assert main(["jobs", "cancel", "9", f"runs={tmp_path / 'runs'}"]) == 2


def test_an_array_that_slurm_reports_is_parsed_whatever_the_reason():
    found = slurm_queue.parse("12_1|PENDING||a|b|0:00\n\nnoise\n3|RUNNING|n[1-2]|None|1-02:03:04\n")
    assert found["12_1"].reason == "a|b"
    assert (found["3"].node, found["3"].time) == ("n[1-2]", "1-02:03:04")
    assert len(found) == 2
