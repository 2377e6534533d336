"""A training step's time and memory with our losses and with segmentation-models-pytorch's, and ONNX's logits.

Steps: forward, BCE 3 : Dice 4 : Focal 3 of the 29 classes, backward, AdamW; GroupNorm; mixed precision on a GPU. The
baseline gets a float target, unpacked from the same bit-planes on the device. Where there is a GPU: 2048 pixels in
batches of two, for three large networks. On a CPU the demo's small network at 512 pixels on one thread: CPU time. Each
case runs in a process of its own.

With ``--onnx`` (half an hour on a core) every model of configs/model is also exported, as built: the largest
difference of its coarse logits in onnxruntime. This needs onnx, onnxscript and onnxruntime.

    python bench/models.py [--onnx] [--quick] [--json FILE]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import torch
import yaml
from torch import Tensor

from common import flags, keep, machine, memory, smp_mixture
from phalanx.config import SegmentModel, validate_as
from phalanx.config.compose import compose
from phalanx.engine.optim import build_optimizer
from phalanx.errors import ConfigError
from phalanx.losses.stages import StagedLoss
from phalanx.masks.planes_torch import downsample, unpack
from phalanx.models.build import Output, build
from phalanx.predict.export import compare, random_picture, write_onnx
from phalanx.predict.exported import open_session
from phalanx.runtime.device import open_device
from phalanx.tasks.segment import loss_of

LARGE = {
    "fpn_b3": "FPN, EfficientNet-b3",
    "convnextv2_base_upernet": "UPerNet, ConvNeXtV2-base",
    "hrnet_w48_ocr": "HRNet-w48, OCR",
}
SMALL = {"fpn_light": "FPN, MobileNetV2"}
MODELS = Path(__file__).resolve().parents[1] / "configs" / "model"


def recipe(model: str, size: int, batch: int) -> Any:
    """A model's recipe with the mixture, its point head left out: there the losses are the same."""
    return compose({
        "model": model, "model.weights": "none", "model.pointrend": "null", "model.norm": "group",
        "loss": "bce3_dice4_focal3", "loss.stages": "[{weights:{bce:0.3,dice:0.4,focal:0.3}}]",
        "data.size": str(size), "batch": str(batch),
    })  # fmt: skip


def step_cost(model: str, who: str, size: int, batch: int, repeats: int) -> dict[str, float]:
    """Milliseconds of the median step and the highest memory in MB; on a CPU beyond the process's own."""
    config = recipe(model, size, batch)
    device = open_device("auto", "auto")
    gpu = device.torch.type == "cuda"
    torch.manual_seed(0)
    network = build(config.model, classes=len(config.data.classes), size=size, pretrained=False).to(device.torch)
    optimizer = build_optimizer(network, config.optim)
    loss, usual = StagedLoss(config.loss, config.data.classes), smp_mixture()
    images = torch.randint(0, 256, (batch, 1, size, size), dtype=torch.uint8, device=device.torch)
    planes = torch.randint(0, 256, (batch, 4, size // 64, size // 64), dtype=torch.uint8, device=device.torch)
    planes = planes.repeat_interleave(64, 2).repeat_interleave(64, 3).contiguous()

    def smp_loss(output: Output) -> Tensor:
        total = usual(output.logits, target(planes))
        for weight, logits in output.auxiliary:
            total = total + weight * usual(logits, target(downsample(planes, (logits.shape[-2], logits.shape[-1]))))
        return total

    def target(bits: Tensor) -> Tensor:
        return unpack(bits, slice(0, len(config.data.classes))).float()

    spent = []
    before = 0.0 if gpu else memory("VmRSS")
    for turn in range(repeats + 2):
        if turn == 2:  # after the optimizer's state and the libraries' plans were made
            if gpu:
                torch.cuda.reset_peak_memory_stats()
            else:
                Path("/proc/self/clear_refs").write_text("5")
        began = clock(gpu)
        with device.autocast():
            output = network(images)
            total = loss_of(loss, 0, output, planes).total if who == "ours" else smp_loss(output)
        total.backward()
        del output, total
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if turn >= 2:
            spent.append(clock(gpu) - began)
    peak = torch.cuda.max_memory_allocated() / 2**20 if gpu else memory("VmHWM") - before
    return {"ms": sorted(spent)[len(spent) // 2] * 1e3, "mb": peak}


def clock(gpu: bool) -> float:
    """Seconds: of the wall, all GPU work done, or of the processor."""
    if gpu:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def onnx_difference(model: str) -> dict[str, Any]:
    """Largest difference of a model's coarse logits in onnxruntime, or why it cannot be exported."""
    values = yaml.safe_load((MODELS / f"{model}.yaml").read_text(encoding="utf-8"))
    config = validate_as(SegmentModel, values | {"weights": "none"})
    size = 256 if config.arch == "pan" else 64  # PAN pools the map at stride 16 three times
    torch.manual_seed(0)
    try:
        network = build(config, classes=3, size=size, pretrained=False).eval()
    except ConfigError as error:
        return {"why": str(error)}
    picture = random_picture(size)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        try:
            write_onnx(network, size, file)
        except ConfigError as error:
            return {"why": str(error)}
        found = compare(network, open_session(file), picture)
    return {"difference": found.coarse}


def fresh(*case: Any) -> dict[str, Any]:
    """A case in a new process."""
    words = [sys.executable, __file__, "--case", json.dumps(case)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{case}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare_steps(quick: bool) -> list[dict[str, Any]]:
    gpu = torch.cuda.is_available()
    models, size, repeats = (LARGE, 2048, 10) if gpu else (SMALL, 512, 3)
    if quick:
        models, size, repeats = SMALL, 256, 1
    where = "GPU" if gpu else "CPU, one thread"
    if not gpu:
        print("No CUDA device here: the rows of the three large networks at 2048 are not measured.", flush=True)
    rows = []
    for model, name in models.items():
        ours, theirs = (fresh("step", model, who, size, 2, repeats) for who in ("ours", "smp"))
        for key, what, unit in (("ms", "time of a step", "ms" if gpu else "CPU ms"), ("mb", "peak memory", "MB")):
            claim = f"{name}, {size} px, batch 2, {where}: {what}"
            rows.append({"claim": claim, "ours": ours[key], "baseline": theirs[key], "unit": unit})
            print(f"{claim:78} {ours[key]:9.4g} {theirs[key]:9.4g} {unit} x{theirs[key] / ours[key]:.3g}", flush=True)
    return rows


def compare_onnx(quick: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    names = sorted(path.stem for path in MODELS.glob("*.yaml"))
    for name in names[:1] if quick else names:
        found = fresh("onnx", name)
        if "why" in found:
            rows.append({"claim": f"ONNX, {name}: not compared, {found['why']}", "ours": None, "unit": ""})
        else:
            claim = f"ONNX, {name}: largest difference of coarse logits"
            rows.append({"claim": claim, "ours": found["difference"], "unit": "logits"})
        print(rows[-1]["claim"], rows[-1]["ours"], flush=True)
    return rows


def main() -> None:
    parser = flags(__doc__, "the small network at 256 pixels, one step; one model as ONNX")
    parser.add_argument("--onnx", action="store_true", help="also export every model of configs/model")
    parser.add_argument("--case", help="one case, in this process; for the script itself")
    args = parser.parse_args()
    if args.case:
        kind, *rest = json.loads(args.case)
        print(json.dumps(step_cost(*rest) if kind == "step" else onnx_difference(*rest)))
        return
    rows = compare_steps(args.quick)
    if args.onnx:
        rows += compare_onnx(args.quick)
    print(machine())
    keep(rows, args.json)


if __name__ == "__main__":
    main()
