"""A job: one ``phalanx`` command with what it needs. It is plain data, so that any backend can start it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class Resources:
    """What a job computes on.

    Attributes:
        device: cpu, cuda, cuda:1 or auto; None until a backend has placed the job.
        cores: CPU cores for this job; None: all that the machine allows.
    """

    device: str | None = None
    cores: int | None = None


@dataclass(frozen=True)
class Job:
    """One command to run.

    Attributes:
        name: a prefix of its lines of output and of its errors.
        argv: words of ``phalanx``: a command and its ``key=value`` options, without those that a backend adds.
        folder: the folder it writes to.
        environment: variables to set before the command starts.
        after: folders of other jobs, which must have ended before this one begins.
    """

    name: str
    argv: tuple[str, ...]
    folder: Path
    resources: Resources = Resources()
    environment: Mapping[str, str] = field(default_factory=dict)
    after: tuple[Path, ...] = ()

    def on(self, device: str, hours: float | None = None) -> "Job":
        """The job placed on a device of this machine: it sees only its GPU, or uses only its cores.

        Args:
            hours: time limit, for jobs that can stop in time (``max_hours``).
        """
        kind, _, number = device.partition(":")
        variables = dict(self.environment)
        if number:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
            variables["CUDA_VISIBLE_DEVICES"] = visible[int(number)].strip() if visible[0] else number
        if self.resources.cores is not None:
            variables["PHALANX_CORES"] = str(self.resources.cores)
            if kind == "cpu":
                variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or str(self.resources.cores)
        limit = () if hours is None else (f"max_hours={hours}",)
        return replace(
            self,
            argv=(*self.argv, f"device={kind}", *limit),
            environment=variables,
            resources=replace(self.resources, device=device),
        )

    def on_node(self, gpus: int, cores: int) -> "Job":
        """The job as a scheduler starts it on a node, where it sees only the GPUs and cores that it was given.

        Args:
            gpus: on several, a training divides the images of each step among them.
        """
        words: tuple[str, ...] = (f"device={'cuda' if gpus else 'cpu'}",)
        if gpus > 1:
            words = (f"devices={','.join(map(str, range(gpus)))}", "ddp=true")
        variables = {**self.environment, "PHALANX_CORES": str(cores)}
        if not gpus:
            variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or str(cores)
        return replace(
            self,
            argv=(*self.argv, *words),
            environment=variables,
            resources=Resources("cuda" if gpus else "cpu", cores),
        )
