"""The words of ``phalanx sweep``, checked before anything heavy is loaded."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..config import RUNTIME_KEYS, nearest
from ..errors import ConfigError
from .table import Table, read_table, scales, table_names

ALONE = ("devices", "ddp", "max_hours")  # a sweep trains on one device to the end


@dataclass(frozen=True)
class SweepOptions:
    """Which rows to train, how often, where."""

    tables: list[Table]
    rows: list[str]  # of the only table; empty: all that make sense at the scale
    scale: str
    seeds: list[int]
    folds: str
    runs: Path
    extra: dict[str, str]  # runtime keys of a training

    @classmethod
    def read(cls, places: list[str], pairs: dict[str, str]) -> "SweepOptions":
        """From the tables' names and ``key=value`` pairs.

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
        if not re.fullmatch(r"\d+(,\d+)*", seeds):
            raise ConfigError(f"seeds={seeds}: expected whole numbers, as in seeds=0,1")
        own = ("scale", "seeds", "rows", "fold", "runs")
        extra = {key: value for key, value in pairs.items() if key not in own}
        for key in extra:
            if key in ALONE:
                raise ConfigError(f"{key}: a sweep trains on one device to the end; give device=, one sweep on each")
            if key not in RUNTIME_KEYS:
                raise ConfigError(f"{key}: would make another recipe; write a row for it in configs/sweep/")
        tables = [read_table(name) for name in names]
        for name in rows:
            tables[0].row(name)
        numbers = [int(seed) for seed in dict.fromkeys(seeds.split(","))]
        runs = Path(pairs.get("runs", "runs/sweep"))
        return cls(tables, rows, scale, numbers, pairs.get("fold", "0"), runs, extra)
