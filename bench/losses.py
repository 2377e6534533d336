"""Our losses against segmentation-models-pytorch's on one thread: CPU time, memory, and Lovasz's gradient.

Every case runs in a process of its own, forward and backward, after a small warm-up: CPU seconds of the best run, and
the highest memory during the first one beyond what the logits and the truth take (theirs is a float32 target, which
is not counted either). Truth is a synthetic hand. With ``--run`` (such as bench/pointrend.py's), Lovasz is measured on
that run's logits of a test hand, enlarged to the side. Without, they are made: the truth, moved along a smooth random
field by up to about 1% of the side, blurred, as log odds within 9, with noise of 0.3.

    python bench/losses.py [--run FOLDER] [--quick] [--json FILE]
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common import flags, keep, machine, memory, smp_mixture
from phalanx.data.polygons import outlines_of, rasterise, read_annotations
from phalanx.losses.stages import StagedLoss
from phalanx.masks.planes_torch import unpack
from phalanx.phantom.anatomy import HAND_CLASSES, pose_hand
from phalanx.phantom.hand import annotate

CLASSES = list(HAND_CLASSES)
MIXTURE = {"bce": 0.3, "dice": 0.4, "focal": 0.3}


def truth(side: int) -> np.ndarray:
    """Bit-planes uint8[4, side, side] of one hand."""
    hand = pose_hand(np.random.SeedSequence(1), np.random.default_rng(1), rotated=False, right=True, size_z=0.0)
    index = {name: number for number, name in enumerate(CLASSES)}
    polygons = [outline for item in annotate(hand, side, {}) for outline in outlines_of(item, "hand", index)]
    return np.ascontiguousarray(rasterise(polygons, (side, side), len(CLASSES)).transpose(2, 0, 1))


def trained_logits(planes: np.ndarray, seed: int = 0) -> Tensor:
    """Logits float32[1, 29, side, side] as a trained model's might be."""
    side, rng = planes.shape[1], np.random.default_rng(seed)
    logits = torch.empty(1, len(CLASSES), side, side)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side))).astype(np.float32)
    for c in range(len(CLASSES)):
        mask = (planes[c // 8] >> (c % 8) & 1).astype(np.float32)
        bend = [cv2.resize(rng.normal(0, 0.005 * side, (9, 9)).astype(np.float32), (side, side)) for _ in range(2)]
        moved = cv2.remap(mask, grid[0] + bend[0], grid[1] + bend[1], cv2.INTER_LINEAR)
        odds = np.clip(cv2.GaussianBlur(moved, (0, 0), 3 * side / 1024), 1e-4, 1 - 1e-4)
        logits[0, c] = torch.from_numpy(
            np.log(odds / (1 - odds)) + rng.standard_normal(odds.shape, np.float32) * np.float32(0.3)
        )
    return logits


def of_run(folder: Path, side: int) -> tuple[np.ndarray, Tensor]:
    """Bit-planes of the first test hand of a run's data set at ``side``, and the run's logits of it, enlarged."""
    from phalanx.data.images import Grid, read_grey
    from phalanx.predict.members import FoldMember
    from phalanx.runtime.device import open_device

    fold = FoldMember(folder, weights="final", device=open_device("cpu", "32"), changes={})
    test = Path(fold.config.data.root) / "test"
    path = min((test / "DCM").rglob("*.png"))
    image = read_grey(path)
    answers = (test / "answers_json" / path.relative_to(test / "DCM")).with_suffix(".json")
    polygons = read_annotations(answers, CLASSES)
    planes = rasterise(polygons, (side, side), len(CLASSES), scale=side / image.shape[0]).transpose(2, 0, 1)
    placed = torch.from_numpy(Grid.of(image, fold.side).place(image))[None, None]
    with torch.no_grad():
        logits = fold.network(placed).logits
    return np.ascontiguousarray(planes), F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)


def ours(weights: dict[str, float]) -> Callable[[Tensor, Tensor], Tensor]:
    from phalanx.config import Loss, validate_as

    loss = StagedLoss(validate_as(Loss, {"stages": [{"weights": weights}]}), CLASSES)
    return lambda logits, planes: loss(0, logits, None, planes).total


def smp_lovasz() -> Callable[[Tensor, Tensor], Tensor]:
    from segmentation_models_pytorch import losses

    return losses.LovaszLoss("multilabel")


def full_boundary(logits: Tensor, target: Tensor) -> Tensor:
    """The published way: exact distances of every class at full size, one map of floats, plain PyTorch."""
    far = np.zeros(target.shape, np.float32)
    for c, mask in enumerate(target[0].byte().numpy()):
        outside, inside = (cv2.distanceTransform(m, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for m in (1 - mask, mask))
        far[0, c] = np.where(mask, 0.5 - inside, outside - 0.5) / mask.shape[0]
    return (torch.sigmoid(logits) * torch.from_numpy(far)).mean()


def measure(case: str, who: str, side: int, repeats: int, run: str) -> dict[str, float]:
    """CPU seconds and extra MB of one case, and for Lovasz the gradient's relative error."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    build = {
        ("mixture", "ours"): lambda: ours(MIXTURE),
        ("mixture", "baseline"): smp_mixture,
        ("lovasz", "ours"): lambda: ours({"lovasz": 1.0}),
        ("lovasz", "baseline"): smp_lovasz,
        ("boundary", "ours"): lambda: ours({"boundary": 1.0}),
        ("boundary", "baseline"): lambda: full_boundary,
    }
    loss = build[case.removesuffix("_untrained"), who]()
    if case == "lovasz" and run:
        planes, logits = of_run(Path(run), side)
    else:
        planes = truth(side)
        logits = trained_logits(planes)
    if case.endswith("_untrained"):
        logits = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    bits = torch.from_numpy(planes)[None]
    target = bits if who == "ours" else unpack(bits, slice(0, len(CLASSES))).float()
    logits.requires_grad_()
    small = logits[:, :, :64, :64].detach().requires_grad_()
    torch.autograd.grad(loss(small, target[:, :, :64, :64].contiguous()), small)
    best: dict[str, float] = {}
    for turn in range(repeats):
        if turn == 0:
            Path("/proc/self/clear_refs").write_text("5")  # from here on, the highest counts anew
        before, began = memory("VmRSS"), time.process_time()
        (gradient,) = torch.autograd.grad(loss(logits, target), logits)
        seconds = time.process_time() - began
        if turn == 0:
            best["mb"] = memory("VmHWM") - before
        best["seconds"] = min(best.get("seconds", seconds), seconds)
        if turn < repeats - 1:
            del gradient
    if case == "lovasz":
        best["error"] = gradient_error(logits.detach(), bits, gradient, one_vector=who != "ours")
    return best


def gradient_error(logits: Tensor, bits: Tensor, found: Tensor, *, one_vector: bool) -> float:
    """Norm of the difference from float64 steps along the same float32 order, relative to their norm.

    One vector: all classes sorted together, as smp does; else each class alone.
    """
    square, total = 0.0, 0.0
    y = unpack(bits, slice(0, logits.shape[1]))[0]
    stacks = [slice(None)] if one_vector else [slice(c, c + 1) for c in range(len(CLASSES))]
    for part in stacks:
        x, mask, got = logits[0, part].flatten(), y[part].flatten(), found[0, part].flatten()
        signs = mask.float() * 2 - 1
        errors, order = torch.sort(1 - x * signs, descending=True, stable=not one_vector)
        steps = mask[order].double()
        positives = steps.sum()
        right, union = positives - steps.cumsum(0), positives + (1 - steps).cumsum(0)
        jaccard = 1 - right / union
        jaccard[1:] -= jaccard[:-1].clone()
        jaccard *= errors > 0
        expected = jaccard / len(stacks)
        got = -got[order].double() * signs[order]
        square += float(((got - expected) ** 2).sum())
        total += float((expected**2).sum())
    return (square / total) ** 0.5


def fresh(case: str, who: str, side: int, repeats: int, run: str) -> dict[str, float]:
    """``measure`` in a new process."""
    words = [sys.executable, __file__, "--case", json.dumps([case, who, side, repeats, run])]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = flags(__doc__, "29x1024x1024 alone, and no boundary loss")
    parser.add_argument("--case", help="one case, in this process; for the script itself")
    parser.add_argument("--run", type=Path, help="a trained fold's folder, on whose logits Lovasz is measured")
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(*json.loads(args.case))))
        return
    names = {
        "mixture": "BCE 3 : Dice 4 : Focal 3",
        "lovasz": "Lovasz, logits of a trained model" if args.run else "Lovasz, logits like a trained model's",
        "lovasz_untrained": "Lovasz, logits around 0",
        "boundary": "Boundary, distances included",
    }
    plan = [("mixture", 1024, 1), ("lovasz", 1024, 1)]
    if not args.quick:
        plan = [("mixture", 1024, 3), ("mixture", 2048, 2), ("lovasz", 1024, 3), ("lovasz_untrained", 1024, 1)]
        plan += [("lovasz", 2048, 1), ("boundary", 2048, 2)]
    rows: list[dict[str, Any]] = []
    for case, side, repeats in plan:
        left, right = (fresh(case, who, side, repeats, str(args.run or "")) for who in ("ours", "baseline"))
        shape = f"29x{side}x{side}"
        for key, what, unit in (
            ("seconds", "forward and backward", "CPU s"),
            ("mb", "memory in addition to logits and ground truth", "MB"),
            ("error", "gradient against float64", "relative"),
        ):
            if key in left:
                claim = f"{names[case]}, {shape}: {what}"
                rows.append({"claim": claim, "ours": left[key], "baseline": right[key], "unit": unit})
                ratio = right[key] / left[key]
                print(f"{claim:78s} {left[key]:10.3g} {right[key]:10.3g} {unit:8s} x{ratio:.3g}", flush=True)
    print(machine())
    keep(rows, args.json)


if __name__ == "__main__":
    main()
