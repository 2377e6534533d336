"""What the engine adds to a bare training step, and whether the device is fed.

A step of `Trainer.train_epoch` (guards, clipping, weight average, seeds, log) against forward, loss, backward, clipping
and optimizer of the same network on the same prepared batches, without and with torch's own weight average. All take
turns in one process; medians of rounds, ratios within rounds. On a CPU one thread, CPU time.

Feeding: epochs as in training, from files through loader processes. Where there is a GPU: 2048 pixels, batch 2, eight
loader processes, three large networks; on a CPU only with ``--quick``, to show that it runs, and not kept.

    python bench/train.py [--quick] [--json FILE]
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from common import flags, keep, machine
from phalanx.config.compose import compose
from phalanx.data.dataset import collate
from phalanx.data.records import train_records
from phalanx.engine.loader import ahead
from phalanx.engine.loop import Trainer
from phalanx.engine.optim import build_optimizer
from phalanx.phantom.hand import make_hands
from phalanx.runtime.device import open_device
from phalanx.tasks.segment import Segment

LARGE = ("fpn_b3", "convnextv2_base_upernet", "hrnet_w48_ocr")
SMALL = ("fpn_light",)
GPU = torch.cuda.is_available()


def trainer_of(root: Path, model: str, size: int, workers: int) -> Trainer:
    """A trainer of the hands in ``root``, as `phalanx train` would make it."""
    words = {"model": model, "model.weights": "none", "data.root": str(root), "data.size": str(size)}
    words |= {
        "batch": "2",
        "workers": str(workers),
        "epochs": "1000",
        "progress": "false",
        "checkpoint_minutes": "100000",
    }
    config = compose(words)
    torch.manual_seed(0)
    task = Segment(config, train_records(root), [])
    trainer = Trainer(config, root / "unused", task)
    trainer.began = trainer.saved = time.monotonic()
    return trainer


def clock() -> float:
    """Seconds: of the wall, all GPU work done, or of the processor."""
    if GPU:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def overhead(root: Path, model: str, size: int, rounds: int, steps: int) -> dict[str, Any]:
    """Milliseconds of a step: the engine's, a bare one's, and that of a bare one with torch's average."""
    trainer = trainer_of(root, model, size, workers=0)
    task, config = trainer.task, trainer.config
    device = open_device(config.device, config.precision)
    samples = task.training_set
    made = [collate([samples[0, 2 * i], samples[0, 2 * i + 1]]) for i in range(steps)]
    batches = list(ahead(iter(made), device.torch))

    def ours() -> None:
        trainer.state.epoch = trainer.state.batch = 0
        trainer.loader.steps = lambda epoch, batch: ((2, iter([b])) for b in batches)  # type: ignore[method-assign]
        trainer.train_epoch()

    def plain(averaged: bool) -> Callable[[], None]:
        torch.manual_seed(0)
        network = Segment(config, samples.records, []).network.to(device.torch).train()
        optimizer = build_optimizer(network, config.optim)
        scaler = torch.amp.GradScaler(device.torch.type, enabled=device.precision == "fp16")
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.optim.ema)) if averaged else None

        def run() -> None:
            for batch in batches:
                with device.autocast():
                    total = task.step(network, batch).loss
                scaler.scale(total).backward()
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(network.parameters(), config.optim.clip)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                if average is not None:
                    average.update_parameters(network)

        return run

    runs = {"ours": ours, "bare": plain(averaged=False), "averaged": plain(averaged=True)}
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):  # the first fills caches and makes the optimizer's state
        for name in (*runs,) if turn % 2 else reversed([*runs]):
            began = clock()
            runs[name]()
            if turn:
                spent[name].append((clock() - began) / len(batches) * 1e3)
    found = {name: statistics.median(values) for name, values in spent.items()}
    for name in ("bare", "averaged"):  # of the same round, so that what else the machine does falls on both
        pairs = zip(spent[name], spent["ours"], strict=True)
        found[f"ratio {name}"] = statistics.median(theirs / own for theirs, own in pairs)
    return found


def feeding(root: Path, model: str, size: int, epochs: int, workers: int) -> dict[str, Any]:
    """Images a second, share of the time without data, and the GPU's mean utilisation in %, of whole epochs."""
    trainer = trainer_of(root, model, size, workers)
    trainer.train_epoch()  # loader processes start, cuDNN chooses
    done, waiting, watch = 0, [], Utilisation()
    began = time.perf_counter()
    with watch:
        for _ in range(epochs):
            trainer.state.epoch, trainer.state.batch = trainer.state.epoch + 1, 0
            trainer.train_epoch()
            done += trainer.loader.order.images
            waiting.append(trainer.waiting)
        if GPU:
            torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated() / 2**30 if GPU else None
    return {"speed": done / seconds, "waiting": statistics.mean(waiting), "used": watch.mean(), "peak": peak}


class Utilisation:
    """The share of time in which the GPU computed, in %, as nvidia-smi samples it twice a second."""

    def __enter__(self) -> None:
        self.seen: list[float] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()

    def mean(self) -> float | None:
        return statistics.mean(self.seen) if self.seen else None

    def _watch(self) -> None:
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
        words = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", f"--id={first}"]
        while GPU and not self.over.wait(0.5):
            done = subprocess.run(words, check=False, capture_output=True, text=True)
            if done.returncode == 0 and done.stdout.strip().isdigit():
                self.seen.append(float(done.stdout))


def fresh(kind: str, *case: Any) -> dict[str, Any]:
    """A case in a new process."""
    words = [sys.executable, __file__, "--case", json.dumps([kind, *case])]
    done = subprocess.run(words, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{kind} {case}: failed")
    return json.loads(done.stdout.splitlines()[-1])


def measure(root: str, model: str, size: int, quick: bool) -> list[dict[str, Any]]:
    """The rows of one network."""
    where = f"{model}, {size} px, batch 2, {'GPU' if GPU else 'CPU, one thread'}"
    unit = "ms" if GPU else "CPU ms"
    spent = fresh("overhead", root, model, size, 4 if quick else 6, 2)
    rows: list[dict[str, Any]] = [
        {
            "claim": f"{where}: {what}",
            "ours": spent["ours"],
            "baseline": spent[baseline],
            "ratio": spent[f"ratio {baseline}"],
            "unit": unit,
        }
        for what, baseline in (("engine, bare step", "bare"), ("engine, bare step and torch's average", "averaged"))
    ]
    for row in rows:
        show(row)
    if not GPU and not quick:
        return rows
    fed = fresh("feeding", root, model, size, 3 if GPU else 1, 8 if GPU else 1)
    more: list[dict[str, Any]] = [
        {"claim": f"{where}: training from files", "ours": fed["speed"], "unit": "images/s"},
        {"claim": f"{where}: waiting for data", "ours": 100 * fed["waiting"], "unit": "% of the time"},
    ]
    if GPU:
        more.append({"claim": f"{where}: utilisation of the GPU", "ours": fed["used"], "unit": "%"})
        more.append({"claim": f"{where}: peak memory", "ours": fed["peak"], "unit": "GiB"})
    for row in more:
        show(row)
    return rows + more if GPU else rows


def show(row: dict[str, Any]) -> None:
    """Prints a row."""
    ratio = f"{row['baseline']:9.4g} x{row['ratio']:.3f}" if "baseline" in row else ""
    print(f"{row['claim']:88} {row['ours'] or float('nan'):9.4g} {ratio} {row['unit']}", flush=True)


def main() -> None:
    parser = flags(__doc__, "the small network at 256 pixels, few rounds")
    parser.add_argument("--case", help="one case, in this process; for the script itself")
    args = parser.parse_args()
    if args.case:
        kind, root, *rest = json.loads(args.case)
        print(json.dumps((overhead if kind == "overhead" else feeding)(Path(root), *rest)))
        return
    models, size, patients = (LARGE, 2048, 32) if GPU else (SMALL, 512, 4)
    if args.quick:
        models, size, patients = SMALL, 256, 4
    if not GPU:
        print("No CUDA device here: the three large networks at 2048 and the GPU's use are not measured.", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "hands"
        make_hands(root, patients=patients, test_patients=1, size=size, seed=3, progress=False)
        rows = [row for model in models for row in measure(str(root), model, size, args.quick)]
    print(machine())
    keep(rows, args.json)


if __name__ == "__main__":
    main()
