"""A Slurm of its own on this machine: a controller and two nodes, in a folder that is removed with them."""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
NODES = ("n1", "n2")
CONF = """\
ClusterName=phalanx-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmctldParameters=preempt_send_user_signal
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool.%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.%n.log
SlurmdTimeout=6
KillWait=2
ReturnToService=2
MpiDefault=none
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cores} State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cores} State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Why there can be no Slurm here; None if there can."""
    missing = [name for name in PROGRAMS if found(name) is None]
    if missing:
        return f"needs Slurm, as by apt-get install slurm-wlm: there is no {missing[0]}"
    if os.geteuid() != 0:
        return "needs root, as which the daemons of Slurm run"
    try:
        import submitit  # noqa: F401
    except ImportError:
        return "needs submitit, as by pip install '.[slurm]'"
    return None


def found(program: str) -> str | None:
    """The path of a program of Slurm; daemons are in a folder that not every PATH has."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Machine:
    """The controller and the nodes, once they are ready.

    Attributes:
        conf: the file for SLURM_CONF.
    """

    def __init__(self, place: Path):
        self.place, self.conf = place, place / "slurm.conf"
        for folder in ("state", *(f"spool.{name}" for name in NODES)):
            (place / folder).mkdir()
        self.conf.write_text(CONF.format(
            host=socket.gethostname().partition(".")[0], user="root", place=place, ports=free_ports(3),
            cores=max(2, len(os.sched_getaffinity(0))),
        ))  # fmt: skip
        self.environment = os.environ | {"SLURM_CONF": str(self.conf)}
        self.daemons = {"slurmctld": self._start("slurmctld", "-D", "-i", "-f", str(self.conf))}
        for name in NODES:
            self.start_node(name)

    def _start(self, program: str, *words: str) -> subprocess.Popen:
        path = found(program)
        assert path is not None
        with (self.place / f"{program}.out").open("ab") as out:
            return subprocess.Popen([path, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                    start_new_session=True, preexec_fn=end_with_us, env=self.environment)  # fmt: skip

    def start_node(self, name: str) -> None:
        """Starts the daemon of a node, and waits until it takes jobs."""
        self.daemons[name] = self._start("slurmd", "-D", "-N", name, "-f", str(self.conf))
        self.wait(lambda: re.search(rf"{name} +(idle|mixed|alloc)", self("sinfo", "-N", "-h", "-o", "%N %T")), name)

    def kill_node(self, name: str, *, daemon_alone: bool = False) -> None:
        """What a power cut does to a node: its daemon and all that it started are gone at once.

        Args:
            daemon_alone: what it started goes on.
        """
        jobs = [] if daemon_alone else self.processes_of(name)
        keepers = {parent for process in jobs if (parent := parent_of(process)) and comm_of(parent) == "slurmstepd"}
        for process in (*keepers, self.daemons[name].pid, *jobs):  # those first that would report the end of a job
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.daemons[name].wait()

    def processes_of(self, name: str) -> list[int]:
        """The processes of jobs on a node: all have the node's name in their environment."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if {f"SLURMD_NODENAME={name}".encode(), f"SLURM_CONF={self.conf}".encode()} <= {
                    *path.read_bytes().split(b"\0")
                }:
                    found.append(int(path.parent.name))
        return found

    def __call__(self, *words: str) -> str:
        """What a program of Slurm prints."""
        path = found(words[0])
        assert path is not None or words[0] == "sinfo"
        done = subprocess.run([path or words[0], *words[1:]], env=self.environment, capture_output=True, text=True,
                              timeout=60)  # fmt: skip
        return done.stdout + done.stderr

    def at_once(self, number: str) -> None:
        """Lets a requeued job begin, which Slurm would hold back for two minutes."""
        self.wait(lambda: "PENDING" in self("squeue", "-h", "-j", number, "-o", "%T"), f"requeue of {number}")
        self("scontrol", "update", f"jobid={number}", "starttime=now")

    def wait(self, until, what: str, seconds: float = 120) -> None:
        """Waits until something is true."""
        end = time.monotonic() + seconds
        while not until():
            if time.monotonic() > end:
                logs = [path.read_text(errors="replace")[-2000:] for path in sorted(self.place.glob("*.log"))]
                raise AssertionError("\n".join([f"waited {seconds:g} s for {what}", self("squeue"), *logs]))
            time.sleep(0.2)

    def close(self) -> None:
        """Ends all jobs and daemons."""
        self("scancel", "--user=root")
        with suppress(AssertionError):
            self.wait(lambda: not self("squeue", "-h").strip(), "the end of all jobs", 30)
        for daemon in self.daemons.values():
            daemon.terminate()
        for daemon in self.daemons.values():
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()
        for name in NODES:
            for process in self.processes_of(name):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def parent_of(process: int) -> int:
    """Number of the process that started another; 0 if that is gone."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def comm_of(process: int) -> str:
    """Name of a process."""
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


def end_with_us() -> None:
    """Has the system kill this process if the tests are killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def free_ports(count: int) -> list[int]:
    """Ports that no process listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
