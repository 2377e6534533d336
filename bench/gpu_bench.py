"""What the sections of bench/gpu.py share: sizes, cases in processes of their own, rows."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from common import keep
from phalanx.phantom.hand import make_hands

HERE = Path(__file__).resolve().parent
Row = dict[str, Any]


class Sizes(NamedTuple):
    """What is measured, on a GPU or to see that the script runs."""

    model: str
    small: tuple[int, int]  # side and batch
    large: tuple[int, int]
    steps: int
    repeats: int
    norms: tuple[list[int], ...]
    race: float  # seconds


ON_GPU = Sizes("fpn_b3", (512, 8), (2048, 2), 20, 20, ([8, 48, 256, 256], [2, 144, 1024, 1024], [8, 256, 128, 128]), 75)
QUICK = Sizes("fpn_light", (64, 2), (96, 2), 2, 1, ([2, 16, 16, 16],), 3)


class Steps(NamedTuple):
    """Steps of a size: their name in a claim, the better kind of kernels, the case's options, and what was found."""

    where: str
    kind: str
    base: Row
    ours: Row
    plain: Row


class Bench:
    """The rows so far, and the time that is left."""

    def __init__(self, sizes: Sizes, seconds: float, file: Path | None, scratch: Path, root: Path | None, recipe: str):
        self.sizes, self.file, self.scratch, self.root, self.recipe = sizes, file, scratch, root, recipe
        self.end, self.rows, self.until = time.monotonic() + seconds, list[Row](), 0.0
        self.steps = dict[int, Steps]()  # by size

    @property
    def left(self) -> float:
        """Seconds of the section."""
        return min(self.until, self.end) - time.monotonic()

    def case(self, kind: str, kernels: str = "torch", **options: Any) -> dict[str, Any] | None:
        """A case of gpu_cases.py; None, with a line that says why, if it fails or the time is over."""
        words = [sys.executable, str(HERE / "gpu_cases.py"), json.dumps([kind, options])]
        if self.left < 3:
            return None
        environment = os.environ | {"PHALANX_KERNELS": kernels}
        try:
            done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=self.left)
        except subprocess.TimeoutExpired:
            print(f"{kind} {options}: cut off, its section's time is over", flush=True)
            return None
        if done.returncode:
            print(f"{kind} {options} {kernels}: {done.stderr.strip()[-600:]}", flush=True)
            return None
        return json.loads(done.stdout.splitlines()[-1])

    def add(self, claim: str, ours: float | None, baseline: float | None = None, unit: str = "ms") -> None:
        """A row, printed and kept; nothing of what was not measured."""
        if ours is None:
            return
        self.rows.append({"claim": claim, "ours": ours, "baseline": baseline, "unit": unit})
        ratio = f"  {baseline:9.4g}  x{baseline / ours:.3f}" if baseline is not None and ours else ""
        print(f"{claim:84} {ours:9.4g}{ratio} {unit}", flush=True)
        keep([row | {"gpu": gpu_name()} for row in self.rows], self.file)


def kernels() -> list[str]:
    """The kinds that can be tried here."""
    return ["torch", "triton"] if torch.cuda.is_available() and importlib.util.find_spec("triton") else ["torch"]


def gpu_name() -> str:
    """The GPU with the version of PyTorch."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "without a GPU"
    return f"{device}, torch {torch.__version__}"


def hands(bench: Bench, size: int) -> Path:
    """A few synthetic hands of a size, made once."""
    out = bench.scratch / f"hands{size}"
    if not out.exists():
        make_hands(out, patients=8, test_patients=1, size=max(size, 128), seed=3, progress=False)
    return out
