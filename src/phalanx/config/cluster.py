"""Where the jobs of a call run: ``cluster=NAME`` is a file of ``configs/cluster/``, ``cluster.KEY`` changes a value.

This is no part of a recipe: it does not change what is trained, and an experiment cannot choose it.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..errors import ConfigError
from .base import Count, Positive, Strict, nearest, validate_as
from .compose import config_folder
from .overrides import file_values
from .words import parsed

Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,500}$")]
Value = str | int | float | bool
MAX_GPUS = 64


class LocalCluster(Strict):
    """This machine; ``devices=`` lists what jobs compute on."""

    backend: Literal["local"] = "local"


class SlurmCluster(Strict):
    """What each job asks Slurm for."""

    backend: Literal["slurm"] = "slurm"
    partition: Text | None = None  # null: the cluster's own default
    gpus: Annotated[str, Field(pattern=r"^([\w.-]+:)?[0-9]{1,2}$", coerce_numbers_to_str=True)] = "0"  # 1, or a100:1
    cores: Count = 4
    memory_gb: Positive | None = None  # null: the cluster's own default
    hours: Annotated[float, Field(gt=0, le=10_000)] = 24.0  # of an attempt; a job that needs more continues in another
    margin_minutes: Annotated[float, Field(gt=0, le=600)] = 5.0  # before that limit, in which an attempt ends whole
    account: Text | None = None
    qos: Text | None = None
    constraint: Text | None = None  # features of nodes
    exclude: Text | None = None  # nodes that jobs may not run on
    parallel: Count | None = None  # jobs of an array that run at the same time; null: as many as the cluster lets
    setup: Annotated[list[Text], Field(max_length=100)] = []  # shell lines before each attempt, as `module load cuda`
    options: dict[str, Value] = {}  # any other option of sbatch by its long name
    wait: bool | None = None  # until the jobs have ended; null: a sweep does, train and infer do not

    @model_validator(mode="after")
    def _usable(self) -> "SlurmCluster":
        if self.margin_minutes >= self.hours * 60:
            raise ValueError(
                f"margin_minutes: {self.margin_minutes:g} leave nothing of hours={self.hours:g}, which are "
                f"{self.hours * 60:g} minutes"
            )
        for key in self.options:
            if not re.fullmatch(r"[a-z][a-z-]*", key):
                raise ValueError(
                    f"options.{key}: expected the long name of an option of sbatch, as in gres or mail-type"
                )
            if key in OWN:
                raise ValueError(f"options.{key}: is set by {OWN[key]}")
        return self

    @property
    def devices(self) -> int:
        """GPUs of a job."""
        return int(self.gpus.rpartition(":")[2])


OWN = {  # options of sbatch that others set
    "partition": "cluster.partition", "gpus-per-node": "cluster.gpus", "cpus-per-task": "cluster.cores",
    "mem": "cluster.memory_gb", "time": "cluster.hours", "signal": "cluster.margin_minutes",
    "account": "cluster.account", "qos": "cluster.qos", "constraint": "cluster.constraint",
    "exclude": "cluster.exclude", "array": "the jobs of a call", "dependency": "jobs that begin after others",
    "requeue": "every job", "no-requeue": "every job, which has to be requeued", "output": "the folder of records",
    "error": "the folder of records", "open-mode": "the folder of records",
}  # fmt: skip


class RayCluster(Strict):
    """What each task asks Ray for, and of which cluster."""

    backend: Literal["ray"] = "ray"
    # HOST:PORT of a running cluster, or auto for the one that this machine is a node of; null: one on this machine
    # alone, begun and ended by the command
    address: Text | None = None
    gpus: Annotated[float, Field(ge=0, le=MAX_GPUS)] = 0.0  # 0.5: two jobs share a GPU
    cores: Annotated[float, Field(gt=0, le=4096)] = 4.0
    memory_gb: Positive | None = None
    resources: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = {}  # of nodes, by the names they were started with
    retries: Annotated[int, Field(ge=0, le=1000)] = 20  # of a job whose node or process is lost

    @model_validator(mode="after")
    def _usable(self) -> "RayCluster":
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus={self.gpus:g}: expected a fraction of one GPU, or whole ones")
        return self

    @property
    def devices(self) -> int:
        """GPUs that a job sees."""
        return -(-self.gpus // 1).__trunc__()


Cluster = LocalCluster | SlurmCluster | RayCluster
KINDS: dict[str, type[Strict]] = {"local": LocalCluster, "slurm": SlurmCluster, "ray": RayCluster}
NESTED = ("options", "resources")  # sections with keys of their own


def take_cluster(pairs: dict[str, str]) -> Cluster | None:
    """The cluster of ``cluster=NAME`` and ``cluster.KEY=value``, taken out of the pairs; None if none is named.

    Raises:
        ConfigError: there is no such file, or a key or value that its backend does not have.
    """
    given = {key.removeprefix("cluster."): pairs.pop(key) for key in list(pairs) if key.startswith("cluster.")}
    name = pairs.pop("cluster", None)
    if name is None:
        if given:
            raise ConfigError(f"cluster.{min(given)}: names no cluster; give cluster=slurm or cluster=ray, too")
        return None
    folder = config_folder()
    known = [path.stem for path in (folder / "cluster").glob("*.yaml")]
    if name not in known:
        raise ConfigError(f"cluster={name}: no configs/cluster/{name}.yaml{nearest(name, known)}")
    values: dict[str, Any] = file_values(folder / "cluster" / f"{name}.yaml")
    backend = given.get("backend", values.get("backend"))
    if not isinstance(backend, str) or backend not in KINDS:
        raise ConfigError(f"configs/cluster/{name}.yaml: backend={backend}: no such backend; known: {', '.join(KINDS)}")
    kind = KINDS[backend]
    for key in [key for key in given if key.partition(".")[0] in NESTED and "." in key]:
        section, _, inner = key.partition(".")
        if section in kind.model_fields:
            values[section] = {**(values.get(section) or {}), inner: plain(given.pop(key))}
    return validate_as(kind, values | parsed(kind, given, "cluster"), "cluster")


def plain(text: str) -> Value:
    """A number or truth value if the text is one, else the text, in which colons and brackets are as they are.

    >>> plain("gpu:a100:1"), plain("2"), plain("true")
    ('gpu:a100:1', 2, True)
    """
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    return float(text) if re.fullmatch(r"[0-9]{0,18}\.[0-9]{1,18}", text) else text
