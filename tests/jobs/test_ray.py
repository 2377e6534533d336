"""Jobs as tasks of Ray: on this machine alone, and on a simulated cluster of three nodes of which one is lost."""

import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from phalanx.cli import main
from phalanx.config.cluster import RayCluster
from phalanx.jobs.listing import list_jobs
from phalanx.jobs.records import AttemptLog

pytestmark = pytest.mark.slow
SAME = ("final/weights.safetensors", "oof.csv", "folds.csv")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ray():
    os.environ.update(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_USAGE_STATS_ENABLED="0")
    return pytest.importorskip("ray", reason="needs ray, as by pip install '.[ray]'")


@pytest.fixture
def words(tiny, tmp_path):
    common = {"runs": tmp_path / "runs", "name": "r", "device": "auto"}
    return lambda fold, *more, cores=1, **changes: [
        "train", *tiny("unet", **(common | changes | {"fold": fold})), "cluster=ray", f"cluster.cores={cores}", *more,
    ]  # fmt: skip


def slow(tmp_path, monkeypatch):
    """Trainings of processes sleep in each step, so that a node can be lost meanwhile."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/sitecustomize.py").write_text(
        "import time\n\nimport phalanx.engine.time_limit as limit\n\nis_over = limit.is_over\n"
        "limit.is_over = lambda deadline: time.sleep(0.3) or is_over(deadline)\n"
    )
    paths = [str(tmp_path / "slow"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def same(one, other):
    for name in SAME:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def processes(job):
    """The processes of a job, by the variable that names it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"PHALANX_JOB={job}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def ancestors(process):
    found = []
    while process > 1:
        found.append(process)
        text = Path(f"/proc/{process}/stat").read_text()
        process = int(text.rpartition(")")[2].split()[1])
    return found


def wait(until, call, seconds=240):
    end = time.monotonic() + seconds
    while not until():
        assert call.poll() is None, call.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_lost_node_s_job_continues_on_another(ray, words, tiny, tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    changes = {"folds": 3, "epochs": 15, "validate_every": 0, "panels": 0, "checkpoint_minutes": 0.001}
    slow(tmp_path, monkeypatch)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        call = subprocess.Popen(
            [sys.executable, "-m", "phalanx", *words("0..2", f"cluster.address={cluster.address}", **changes)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        )  # fmt: skip
        folders = [tmp_path / f"runs/r/fold{fold}" for fold in range(3)]
        wait(lambda: all((folder / "last/state.json").is_file() for folder in folders), call)
        jobs = {row.id: row for row in list_jobs(tmp_path / "runs").rows}
        assert {row.state for row in jobs.values()} == {"running"}
        lost = None
        raylet = nodes[0].all_processes["raylet"][0].process.pid
        for number in jobs:
            if any(raylet in ancestors(process) for process in processes(f"ray:{number}")):
                lost = number
        assert lost is not None
        cluster.remove_node(nodes[0], allow_graceful=False)
        said = call.communicate(timeout=400)[0]
        assert call.returncode == 0, said
    finally:
        cluster.shutdown()
    place = tmp_path / "here"
    assert main(["train", *tiny("unet", runs=place, name="r", fold="0..2", **changes)]) == 0
    for folder in folders:
        same(folder, place / "r" / folder.name)
    for number, row in jobs.items():
        found = AttemptLog(tmp_path / "runs/.jobs", f"ray:{number}").attempts
        assert [one.number for one in found] == ([1, 2] if number == lost else [1]), row
    assert {row.state for row in list_jobs(tmp_path / "runs").rows} == {"finished"}
    assert re.search(r"^2     - +\d+  [01]\.\d{4}$", said, re.MULTILINE)


def test_without_an_address_ray_listens_on_this_machine_alone(ray, words, runs, tmp_path):
    call = subprocess.Popen(
        [sys.executable, "-m", "phalanx", *words("0")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd=ROOT, env={key: value for key, value in os.environ.items() if key != "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"},
    )  # fmt: skip
    folder = tmp_path / "runs/r/fold0"
    wait(folder.is_dir, call)
    seen = listening(call.pid)
    said = call.communicate(timeout=400)[0]
    assert call.returncode == 0, said
    assert seen
    assert all(address.startswith(("127.", "::ffff:127.", "::1")) for address in seen), seen
    same(folder, runs / "unet/fold0")
    assert main(["jobs", "cancel", "all", f"runs={tmp_path / 'runs'}"]) == 0


def listening(parent):
    """Addresses on which the descendants of a process listen, as the kernel lists them."""
    inodes = set()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            if parent in ancestors(int(path.name)):
                inodes |= {os.readlink(fd).removeprefix("socket:[").rstrip("]") for fd in (path / "fd").iterdir()}
    found = set()
    for table, width in (("tcp", 8), ("tcp6", 32)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                raw = fields[1].partition(":")[0]
                words = [bytes.fromhex(raw[i : i + 8])[::-1] for i in range(0, width, 8)]
                found.add(text_of(b"".join(words)))
    return found


def text_of(address):
    import ipaddress

    parsed = ipaddress.ip_address(address)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return f"::ffff:{mapped}" if mapped else str(parsed)


def test_what_no_node_has_is_refused_at_once(ray, words, capsys):
    assert main(words("0", cores=4000)) == 2
    assert "no node of the Ray cluster has 4000 CPU" in capsys.readouterr().err


def test_an_address_without_a_cluster_is_refused(ray, words, capsys):
    assert main(words("0", "cluster.address=127.0.0.1:1")) == 2
    assert "no Ray cluster answers there" in capsys.readouterr().err
    assert main(words("0", "cluster.address=somewhere")) == 2
    assert "expected HOST:PORT" in capsys.readouterr().err


def test_an_address_of_others_is_met_with_a_warning(ray, monkeypatch, capsys):
    from phalanx.jobs.ray_tasks import connected

    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr("phalanx.jobs.ray_tasks.check_address", lambda address: None)
    with connected(RayCluster(address="192.0.2.7:6379")):
        pass
    assert "whoever reaches a Ray cluster runs programs on it as you" in capsys.readouterr().out
