"""Whether a holder has ended: by its number and start on its machine, or by its scheduler, and never by age."""

import os
import subprocess
import sys

import pytest

from phalanx.runtime import scheduler
from phalanx.runtime.scheduler import Job, Process, job_of, state_of

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(autouse=True)
def no_job(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "PHALANX_JOB", "PHALANX_ATTEMPT")):
            monkeypatch.delenv(name)
    scheduler._cluster.cache_clear()
    yield
    scheduler._cluster.cache_clear()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Programs of Slurm that answer what is asked for."""

    def answer(text, code=0, cluster="c", seconds=0):
        for name, said in (("squeue", text), ("scontrol", f"ClusterName             = {cluster}\n")):
            path = tmp_path / name
            to = ">&2" if code else ""
            path.write_text(f"#!/bin/sh\nsleep {seconds}\nprintf '%s\\n' \"$*\" >> {tmp_path}/asked\n"
                            f"cat {to} <<'END'\n{said}\nEND\nexit {code}\n")  # fmt: skip
            path.chmod(0o755)
        scheduler._cluster.cache_clear()

    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return answer


def elsewhere(job=None):
    return Process("node7", "m", "b", "s", 12, "99", job)


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "12"}, Job("slurm:12", 1)),
        ({"SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": "2", "SLURM_CLUSTER_NAME": "c"}, Job("slurm:12", 3, "c")),
        ({"SLURM_JOB_ID": "14", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "0"}, Job("slurm:12_0", 1)),
        ({"SLURM_JOB_ID": "; rm"}, None),
        ({"PHALANX_JOB": "ray:a", "PHALANX_ATTEMPT": "4", "SLURM_JOB_ID": "12"}, Job("ray:a", 4)),
        ({"PHALANX_JOB": "ray:a"}, Job("ray:a", 1)),
        ({"PHALANX_JOB": "slurm:1_2", "PHALANX_ATTEMPT": "3", "SLURM_CLUSTER_NAME": "c"}, Job("slurm:1_2", 3, "c")),
        ({"PHALANX_JOB": "ray:a", "SLURM_CLUSTER_NAME": "c"}, Job("ray:a", 1)),  # Ray within a job of Slurm
    ],
)
def test_the_job_of_an_environment(environment, job):
    assert job_of(environment) == job


def test_a_process_survives_its_json_and_names_itself():
    process = elsewhere(Job("slurm:1234_0", 2, "c"))
    assert Process.of(process.to_json()) == process
    assert str(process) == "process 12 on node7, job slurm:1234_0, attempt 2"
    assert Process.of(elsewhere().to_json()) == elsewhere()
    for wrong in ({"pid": 0}, {"pid": "1"}, {"host": None}, {"job": 3}, {"attempt": -1}, {"boot": 1}):
        with pytest.raises(ValueError, match="has"):
            Process.of(process.to_json() | wrong)


@linux
def test_a_process_of_this_machine_is_found_by_its_start():
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = Process.this()._replace(pid=other.pid, began=scheduler._began(other.pid))
    assert state_of(found) == "running"
    assert state_of(found._replace(began="1")) == "ended"  # another process has its number by now
    other.kill()
    while scheduler._began(other.pid) is not None:  # not reaped, so its number exists
        pass
    assert os.path.exists(f"/proc/{other.pid}")
    assert state_of(found) == "ended"
    other.communicate()
    assert state_of(found) == "ended"
    assert Process.this().is_this
    assert not found.is_this


@linux
def test_another_machine_start_or_container_is_not_judged_by_numbers(monkeypatch):
    own = Process.this()._replace(machine="m")
    gone = own._replace(pid=2**22 + 5)
    monkeypatch.setattr(scheduler, "_machine", lambda: own[:4])
    assert state_of(gone) == "ended"
    assert state_of(gone._replace(host="other")) == "unknown"
    assert state_of(gone._replace(space="f0")) == "unknown"
    assert state_of(own._replace(boot="before")) == "ended"  # of this machine's last start
    assert state_of(own._replace(boot="before", machine="other")) == "unknown"
    monkeypatch.setattr(scheduler, "_machine", lambda: (own.host, "", *own[2:4]))
    assert state_of(own._replace(boot="before", machine="")) == "unknown"


@pytest.mark.parametrize("name", ["slurm:12_3", "ray:a"])
def test_a_later_attempt_is_the_schedulers_word_that_the_earlier_ended(monkeypatch, name):
    holder = Process.this()._replace(job=Job(name, 1))  # though it still runs
    words = {"SLURM_JOB_ID": "15", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}
    for attempt, expected in (("1", "running"), ("2", "ended")):
        given = {"PHALANX_JOB": name, "PHALANX_ATTEMPT": attempt}
        if name.startswith("slurm"):
            given = words | {"SLURM_RESTART_COUNT": str(int(attempt) - 1)}
        for key, value in given.items():
            monkeypatch.setenv(key, value)
        assert state_of(holder, ask=False) == expected
    later = holder._replace(job=Job(name, 3))
    assert state_of(later, ask=False) == "running"
    assert state_of(elsewhere(Job("ray:b", 1)), ask=False) == "unknown"
    assert state_of(elsewhere(Job(name, 1, "another cluster")), ask=False) == "unknown"


@pytest.mark.parametrize(
    ("said", "code", "state"),
    [
        ("RUNNING                       0           ", 0, "running"),
        ("COMPLETING                    0           ", 0, "running"),
        ("RUNNING                       1           ", 0, "ended"),  # a later attempt
        ("PENDING                       1           ", 0, "ended"),
        ("NODE_FAIL                     0           ", 0, "ended"),
        ("CANCELLED                     0           ", 0, "ended"),
        ("", 0, "ended"),
        ("slurm_load_jobs error: Invalid job id specified", 1, "ended"),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", 1, "unknown"),
        ("RUNNING", 0, "unknown"),
        ("RUNNING 0\nRUNNING 0", 0, "unknown"),
    ],
)
def test_slurm_is_asked_for_a_job_of_another_machine(slurm, tmp_path, said, code, state):
    slurm(said, code)
    assert state_of(elsewhere(Job("slurm:12_3", 1, "c" if code == 0 else ""))) == state
    assert "--jobs=12_3" in (tmp_path / "asked").read_text()


def test_slurm_of_another_cluster_one_that_is_silent_and_none_say_nothing(slurm, tmp_path, monkeypatch):
    slurm("CANCELLED 0", cluster="other")
    assert state_of(elsewhere(Job("slurm:12", 1, "c"))) == "unknown"
    slurm("CANCELLED 0", seconds=5)
    monkeypatch.setattr(scheduler, "TIMEOUT", 0.1)
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "c")
    assert state_of(elsewhere(Job("slurm:12", 1, "c"))) == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert state_of(elsewhere(Job("slurm:12", 1, "c"))) == "unknown"
    assert state_of(elsewhere(Job("slurm:12; rm", 1, "c"))) == "unknown"


def test_slurms_word_goes_before_a_process_that_still_runs(slurm, monkeypatch):
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "c")
    slurm("NODE_FAIL 0")
    holder = Process.this()._replace(job=Job("slurm:12", 1, "c"))
    assert state_of(holder) == "ended"
    assert state_of(holder, ask=False) == "running"
