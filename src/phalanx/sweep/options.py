"""The words of ``phalanx sweep``, checked before anything heavy is loaded."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..config import RUNTIME_KEYS, nearest
from ..config.cluster import Cluster, LocalCluster
from ..errors import ConfigError
from .table import Table, read_table, scales, table_names

UNFIT = ("ddp", "max_hours")  # a sweep trains each row on one device, to the end


@dataclass(frozen=True)
class SweepOptions:
    """Which rows to train, with which seeds and folds, on which devices."""

    tables: list[Table]
    rows: list[str]  # of the only table; empty: all that make sense at the scale
    scale: str
    seeds: list[int]
    folds: str
    runs: Path
    devices: list[str]  # one training runs on each at a time
    extra: dict[str, str]  # runtime keys of a training
    cluster: Cluster | None = None  # where the trainings run; None: here

    @classmethod
    def read(cls, places: list[str], pairs: dict[str, str], cluster: Cluster | None = None) -> "SweepOptions":
        """From the tables' names and ``key=value`` pairs, without those of the cluster.

        Raises:
            ConfigError: something that no sweep has, or a key that would make another recipe.
        """
        known = table_names()
        names = known if places == ["all"] else list(dict.fromkeys(places))
        rows = [name for name in pairs.get("rows", "").split(",") if name]
        scale, seeds = pairs.get("scale", "small"), pairs.get("seeds", "0,1")
        if not names or (rows and len(names) > 1):
            raise ConfigError(f"expected one table, several, or all: {', '.join(known)} (rows= goes with one)")
        if scale not in scales():
            raise ConfigError(f"scale={scale}: no configs/experiment/claims_{scale}.yaml{nearest(scale, scales())}")
        if not re.fullmatch(r"[0-9]{1,18}(,[0-9]{1,18}){0,99}", seeds):
            raise ConfigError(
                f"seeds={seeds}: expected at most 100 whole numbers of at most 18 digits, as in seeds=0,1"
            )
        own = ("scale", "seeds", "rows", "fold", "runs", "devices")
        extra = {key: value for key, value in pairs.items() if key not in own}
        for key in extra:
            if key in UNFIT:
                raise ConfigError(f"{key}: a sweep trains each row on one device, to the end; leave it out")
            if key not in RUNTIME_KEYS:
                raise ConfigError(f"{key}: would make another recipe; write a row for it in configs/sweep/")
        if "devices" in pairs and "device" in pairs:
            raise ConfigError("devices: for several devices; device= is for one. Give one of the two")
        if "devices" in pairs and not isinstance(cluster, LocalCluster | None):
            raise ConfigError(
                "devices: are those of this machine, and with cluster= each job has its own; leave it out"
            )
        devices = [
            device_name(name.strip()) for name in pairs.get("devices", "").strip("[]").split(",") if name.strip()
        ]
        if devices:
            extra["device"] = devices[0]  # predicts and scores
        tables = [read_table(name) for name in names]
        for name in rows:
            tables[0].row(name)
        numbers = [int(seed) for seed in dict.fromkeys(seeds.split(","))]
        runs = Path(pairs.get("runs", "runs/sweep"))
        devices = devices or [extra.get("device", "auto")]
        return cls(tables, rows, scale, numbers, pairs.get("fold", "0"), runs, devices, extra, cluster)


def device_name(text: str) -> str:
    """cpu or cuda:1 of ``cpu``, ``1`` or ``cuda:1``."""
    name = f"cuda:{text}" if re.fullmatch("[0-9]+", text) else text
    if not re.fullmatch(r"cpu|cuda:[0-9]{1,4}", name):
        raise ConfigError(f"devices: {text}: expected numbers of GPUs, as in 0,1, or cpu,cpu")
    return name
