"""Jobs as tasks of a Ray cluster: Ray places them by what they ask for, and begins those of a lost node elsewhere."""

import ipaddress
import logging
import os
import re
import socket
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..config.cluster import RayCluster
from ..errors import ConfigError, one_line
from ..runtime.terminal import say
from .attempt import CONTINUE, Runner, Task, task_of
from .job import Job
from .local import Outcome
from .records import write_submission

PROBE_SECONDS = 10  # for an address to answer
WAIT_SECONDS = 1.0  # for one look at the tasks; between two, signals reach this process
# Ray's services listen on all addresses unless a node is one of a desktop system, which this declares it to be
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def run_ray(jobs: Sequence[Job], cluster: RayCluster, records: Path) -> Generator[Outcome]:
    """Yields the outcome of each job, in the order in which they end. Closed early, it ends the tasks.

    Args:
        records: folder of the records, which all nodes see.

    Raises:
        ConfigError: no Ray, no cluster at the address, or no node that could ever run the jobs.
    """
    if not jobs:
        return
    with connected(cluster) as ray:
        check_resources(ray, cluster)
        first = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        names = [f"ray:{first}-{os.getpid()}-{number}" for number in range(len(jobs))]
        write_submission(records, jobs, names)
        yield from _run(ray, jobs, names, cluster, records)


def _run(ray: Any, jobs: Sequence[Job], names: Sequence[str], cluster: RayCluster, records: Path) -> Generator[Outcome]:
    remote = ray.remote(**options(cluster))(run_task)
    refs: dict[Path, Any] = {}  # by the folder of the job
    numbers: dict[Any, int] = {}
    began = time.monotonic()
    waiting = list(range(len(jobs)))
    while waiting:  # in an order in which those that others begin after come first
        unknown = {jobs[number].folder for number in waiting}
        ready = [number for number in waiting if unknown.isdisjoint(jobs[number].after)]
        if not ready:
            raise ConfigError(f"{jobs[waiting[0]].name}: begins after a job that begins after it")
        for number in ready:
            job = jobs[number]
            task = task_of(job, cluster.devices, max(1, int(cluster.cores)), records)
            before = [refs[folder] for folder in job.after if folder in refs]
            ref = remote.options(name=job.name).remote(task, names[number], *before)
            refs[job.folder], numbers[ref] = ref, number
        waiting = [number for number in waiting if number not in ready]
    try:
        while numbers:
            done, _ = ray.wait(list(numbers), timeout=WAIT_SECONDS)
            for ref in done:
                job = jobs[numbers.pop(ref)]
                yield Outcome(job, time.monotonic() - began, *_result(ray, ref))
    finally:
        for ref in numbers:
            ray.cancel(ref, force=False)


def _result(ray: Any, ref: Any) -> tuple[str | None, tuple[str, ...]]:
    try:
        error, tail = ray.get(ref)
    except ray.exceptions.RayError as error_of_ray:
        lines = [line for line in str(error_of_ray).splitlines() if line.strip()]
        return f"Ray gave it up: {one_line(lines[0] if lines else type(error_of_ray).__name__)}", ()
    return error, tail


def options(cluster: RayCluster) -> dict[str, Any]:
    """What each task asks Ray for."""
    found: dict[str, Any] = {
        "num_cpus": cluster.cores,
        "num_gpus": cluster.gpus,
        "resources": cluster.resources or None,
        "memory": int(cluster.memory_gb * 2**30) if cluster.memory_gb else None,
        "max_retries": cluster.retries,  # of lost nodes and processes; what a job itself reports is not retried
    }
    return {key: value for key, value in found.items() if value is not None}


def run_task(task: Task, name: str, *before: tuple[str | None, tuple[str, ...]]) -> tuple[str | None, tuple[str, ...]]:
    """Runs a job on a node, to its end; returns its error and the last lines of its output.

    Args:
        before: what jobs returned that it begins after.
    """
    if any(error for error, _ in before):
        return "not begun: a job that it begins after failed", ()
    while True:
        outcome = Runner(task, name).run()
        if outcome.error != CONTINUE:
            return outcome.error, outcome.tail


@contextmanager
def connected(cluster: RayCluster) -> Iterator[Any]:
    """Ray, connected to the cluster at the address; without one, to a cluster of this machine that ends with this.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at the address.
    """
    before = {name: os.environ.get(name) for name in (*LOOPBACK, *QUIET)}
    os.environ.update(QUIET)
    if cluster.address is None:
        os.environ.update(LOOPBACK)  # before Ray is imported, which reads it once
    try:
        import ray
    except ImportError:
        raise ConfigError("cluster=ray needs ray: pip install '.[ray]'") from None
    if cluster.address is not None and not is_loopback(cluster.address):
        say(
            f"note: cluster.address={cluster.address}: whoever reaches a Ray cluster runs programs on it as you; use "
            "one on a trusted network only, with RAY_AUTH_MODE=token"
        )
    if cluster.address is not None:
        check_address(cluster.address)
    ours = not ray.is_initialized()
    try:
        if ours:
            try:
                ray.init(address=cluster.address, log_to_driver=True, logging_level=logging.ERROR, **_local(cluster))
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise ConfigError(
                    f"cluster.address={cluster.address}: no Ray cluster answers there ({one_line(str(error), 160)}); "
                    "`ray start --head` starts one"
                ) from None
        yield ray
    finally:
        if ours:
            ray.shutdown()
        for variable, value in before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value


def check_address(address: str) -> None:
    """Raises ConfigError if nothing answers at an address, since Ray would end this process after a minute."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port):
        raise ConfigError(f"cluster.address={address}: expected HOST:PORT, as in 10.0.0.1:6379, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cluster.address={address}: no Ray cluster answers there ({one_line(str(error), 160)}); "
            "`ray start --head` starts one"
        ) from None


def _local(cluster: RayCluster) -> dict[str, Any]:
    return {} if cluster.address is not None else {"include_dashboard": False}


def check_resources(ray: Any, cluster: RayCluster) -> None:
    """Raises ConfigError if no node has what a job asks for, as it would wait for ever."""
    wanted = {"CPU": cluster.cores, "GPU": cluster.gpus, **cluster.resources}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(key, 0) >= value for key, value in wanted.items()) for node in nodes):
        asked = ", ".join(f"{value:g} {key}" for key, value in wanted.items() if value)
        most = ", ".join(f"{max(node.get(key, 0) for node in nodes):g} {key}" for key in wanted if wanted[key])
        raise ConfigError(
            f"cluster.cores, cluster.gpus: no node of the Ray cluster has {asked} (at most {most}); ask for less"
        )


def is_loopback(address: str) -> bool:
    """Whether an address is of this machine alone.

    >>> is_loopback("127.0.0.1:6379"), is_loopback("10.0.0.7:6379"), is_loopback("auto")
    (True, False, False)
    """
    host = address.removeprefix("ray://").rpartition(":")[0] or address
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
