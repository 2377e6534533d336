"""What every bench shares: its flags, and how its rows are shown and kept."""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def flags(text: str | None, quick: str) -> argparse.ArgumentParser:
    """A parser with ``--quick`` (under 50 s on two cores) and ``--json FILE``."""
    parser = argparse.ArgumentParser(description=(text or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, help="write the rows there")
    return parser


def machine() -> str:
    """Processor and cores."""
    model = platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores"


def keep(rows: Sequence[dict[str, Any]], path: Path | None) -> None:
    """Writes rows of {claim, ours, baseline, unit}, with their ratio and the machine, as JSON."""
    if path is None:
        return
    full = []
    for row in rows:
        ratio = row["baseline"] / row["ours"] if row.get("baseline") is not None and row["ours"] else None
        full.append({"ratio": ratio, "machine": machine()} | row)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(full, indent=1) + "\n", encoding="utf-8")


def row(claim: str, ours: float, baseline: float | None = None, unit: str = "") -> dict[str, Any]:
    """A row for :func:`keep`."""
    return {"claim": claim, "ours": ours, "baseline": baseline, "unit": unit}


def ends(claim: str, found: tuple[float, float] | None) -> list[dict[str, Any]]:
    """Rows of the two ends of an interval, if there is one."""
    named = zip(("lower", "upper"), found or (), strict=False)
    return [row(f"{claim}, {end} end of the 95% interval", value) for end, value in named]


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """Prints rows, each with its baseline, if it has one."""
    for one in rows:
        against = "" if one["baseline"] is None else f" against {one['baseline']:.4f}"
        print(f"{one['claim']}: {one['ours']:.4f}{against}")


def smp_mixture() -> Callable[[Any, Any], Any]:
    """BCE 3 : Dice 4 : Focal 3 of logits and a float target, by segmentation-models-pytorch."""
    from segmentation_models_pytorch import losses

    terms = [
        (0.3, losses.SoftBCEWithLogitsLoss()),
        (0.4, losses.DiceLoss("multilabel")),
        (0.3, losses.FocalLoss("multilabel")),
    ]
    return lambda logits, target: sum(weight * term(logits, target) for weight, term in terms)


def memory(field: str) -> float:
    """VmRSS (now) or VmHWM (highest) of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def phalanx(*words: str) -> float:
    """Runs a command on one thread; its CPU seconds. Ends the bench if it fails."""
    return run([sys.executable, "-m", "phalanx", *words], f"phalanx {words[0]}")


def run(words: Sequence[str], name: str) -> float:
    """As :func:`phalanx`, for any program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if subprocess.run([*words], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False).returncode:
        raise SystemExit(f"{name} failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def train_once(run: Path, *words: str) -> float | None:
    """Trains a fold, whose folder is ``run``, at most once; its CPU seconds, which are noted in the folder of runs.
    None if it was begun, or finished, before anybody measured it."""
    note = run.parent.parent / f"{run.parent.name}.train.json"
    if not note.is_file():
        measured = not run.exists()  # a training that is continued has spent time before
        spent = phalanx("train", *words, f"name={run.parent.name}", f"runs={run.parent.parent}")
        note.write_text(json.dumps({"seconds": spent if measured else None}), encoding="utf-8")
    found: float | None = json.loads(note.read_text(encoding="utf-8"))["seconds"]
    return found
