"""Jobs that sleep, all at once, and what a submission costs.

64 jobs of 30 s begin together; the claim is that they end within 30/.95 s, with what it takes to start them. A job is
an interpreter that sleeps: by the local backend with 64 places, and with --ray by Ray with a 64th of the cores for
each, where every job is a process more that has to load Ray. Then a job array is handed to Slurm: the time of our
submission, sbatch included, is divided by its jobs.

    python bench/cluster.py [--quick] [--ray] [--json FILE]
"""

import os
import resource
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.slurm_machine import Machine, why_not  # noqa: E402

from common import flags, keep, machine  # noqa: E402
from phalanx.config.cluster import RayCluster, SlurmCluster  # noqa: E402
from phalanx.jobs.backend import run_jobs  # noqa: E402
from phalanx.jobs.job import Job  # noqa: E402

SLEEPER = "import sys, time; time.sleep(float(sys.argv[1]))\n"


def sleepers(count: int, seconds: float, place: Path) -> list[Job]:
    """Jobs that sleep, whatever else a command of phalanx would do."""
    package = place / "sleeper" / "phalanx"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(SLEEPER)
    paths = os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")])
    return [Job(f"{i}", (f"{seconds}",), place / f"{i}", environment={"PYTHONPATH": paths}) for i in range(count)]


def all_at_once(jobs: list[Job], cluster: RayCluster | None, place: Path) -> tuple[float, float]:
    """Seconds until all have ended, and seconds of CPU time that this process and its own took."""
    began, before = time.monotonic(), cpu_seconds()
    with closing(run_jobs(jobs, cluster, ["cpu"] * len(jobs), place)) as ending:
        failed = [outcome.error for outcome in ending if outcome.error]
    if failed:
        raise SystemExit(f"a job failed: {failed[0]}")
    return time.monotonic() - began, cpu_seconds() - before


def cpu_seconds() -> float:
    """CPU time of this process and of those of its own that have ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def submission(count: int, place: Path) -> float:
    """Seconds until an array of jobs is in Slurm's queue."""
    from phalanx.jobs.slurm import submit

    (place / "slurm").mkdir()
    slurm = Machine(place / "slurm")
    os.environ["SLURM_CONF"] = str(slurm.conf)
    try:
        submit(sleepers(2, 0, place / "first"), SlurmCluster(cores=1), place / "first")  # loads submitit
        began = time.monotonic()
        submit(sleepers(count, 600, place / "array"), SlurmCluster(cores=1), place / "array")
        return time.monotonic() - began
    finally:
        slurm.close()
        del os.environ["SLURM_CONF"]


def main() -> None:
    parser = flags(__doc__, quick="eight jobs of two seconds; their numbers mean nothing")
    parser.add_argument("--ray", action="store_true", help="also as tasks of Ray")
    args = parser.parse_args()
    count, seconds = (8, 2.0) if args.quick else (64, 30.0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        found = {"processes of this machine": all_at_once(sleepers(count, seconds, place), None, place)}
        if args.ray:
            cluster = RayCluster(cores=os.cpu_count() / count)
            found["tasks of Ray, its start included"] = all_at_once(sleepers(count, seconds, place), cluster, place)
        for what, (spent, used) in found.items():
            claim = f"{count} sleeping jobs of {seconds:g} s, {what}; the machine's load was {os.getloadavg()[0]:.0f}"
            rows.append({"claim": claim, "ours": spent, "baseline": seconds, "unit": "s"})
            if what.startswith("processes"):  # those of Ray are not ours to count
                each = used / count * 1000
                rows.append({"claim": "CPU time of such a job, its start and end", "ours": each, "unit": "ms"})
        if (reason := why_not()) is None:
            each = submission(count, place) / count * 1000
            claim = f"submission of an array to Slurm, per job of {count}; at most 50 ms"
            rows.append({"claim": claim, "ours": each, "baseline": 50.0, "unit": "ms"})
        else:
            print(f"Slurm: {reason}")
    for row in rows:
        print(f"{row['claim']:70} {row['ours']:8.4g} {row.get('baseline', float('nan')):8.4g} {row['unit']}")
    print(f"{machine()}, load {os.getloadavg()[0]:.1f}")
    keep(rows, args.json)


if __name__ == "__main__":
    main()
