"""Everything after the model's forward, against the usual loop, on one thread: masks from logits, maps, soft votes.

Logits are those of bench/losses.py: a synthetic hand's truth, bent by up to about 1% of the side and blurred, as log
odds within 9, with noise of 0.3; a member of a vote is bent in its own way. On 2048 as a run with PointRend at
data.size=2048 computes them, on 1024 as one at data.size=1024, the image having 2048 pixels. The usual loop is sigmoid,
interpolation to 2048, threshold, and the encoder of most notebooks, class by class; for a vote it averages float32
arrays from disk. CPU seconds are the best of some repeats; memory is the highest of a process of its own, all included.

    python bench/predict.py [--quick] [--json FILE]
"""

import json
import os
import subprocess
import sys
import tempfile
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

from common import flags, keep, machine, memory
from losses import CLASSES, trained_logits, truth
from phalanx.masks.rle import dice, encode_planes, parse
from phalanx.predict.map_file import read_map, write_map
from phalanx.predict.maps import MapsMean, ProbabilityMaps
from phalanx.predict.stored import write_about
from phalanx.predict.views import crop
from vote import notebook_encode

SIDE, THRESHOLD, MEMBERS = 2048, 0.5, 5
FULL = (SIDE, SIDE)


def usual_masks(probabilities: Tensor) -> list[str]:
    """Interpolated, thresholded, encoded class by class, from float32[C, n, n]."""
    large = F.interpolate(probabilities[None], FULL, mode="bilinear", align_corners=False)[0]
    masks = (large >= THRESHOLD).numpy()
    return [notebook_encode(mask.astype(np.uint8)) for mask in masks]


def our_masks(stack: list[ProbabilityMaps]) -> list[str]:
    mean = MapsMean(FULL)
    for maps in stack:
        mean.add(maps)
    return mean.stack(THRESHOLD).texts()


def best(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of the quickest of some repeats."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def mean_dice(one: list[str], other: list[str]) -> float:
    return float(np.mean([dice(parse(a), parse(b)) for a, b in zip(one, other, strict=True)]))


def measure_masks(side: int, logits: Tensor, repeats: int) -> list[dict[str, Any]]:
    """Masks of one image from its logits float32[C, side, side]."""
    ours, usual = our_masks([crop(logits)]), usual_masks(torch.sigmoid(logits))
    if side == SIDE and ours != usual:
        raise SystemExit("the masks do not agree")
    seconds = best(lambda: our_masks([crop(logits)]), 3 * repeats)
    slow = best(lambda: usual_masks(torch.sigmoid(logits)), repeats)
    what = f"29 masks of 2048x2048 from logits on {side}"
    rows = [{"claim": f"{what}, without the model's forward pass", "ours": seconds, "baseline": slow, "unit": "CPU s"}]
    if side != SIDE:
        rows.append({"claim": f"{what}: 1 - Dice to the usual loop's", "ours": 1 - mean_dice(ours, usual), "unit": ""})
    return rows


def measure_maps(side: int, stack: list[Tensor], folder: Path) -> list[dict[str, Any]]:
    """Size of one image's map, and what 8 bits change in a vote of the members' logits float32[C, side, side]."""
    told: dict[str, Any] = {"size": FULL, "classes": CLASSES, "run_hashes": {}, "threshold": THRESHOLD}
    read = []
    for number, logits in enumerate(stack):
        path = folder / f"{number}.npz"
        write_map(path, crop(logits), image=f"{number}", **told)
        read.append(read_map(path).maps)
    sizes = [(folder / f"{number}.npz").stat().st_size / 1e6 for number in range(len(stack))]
    answers = encode_planes(np.ascontiguousarray(truth(SIDE).transpose(1, 2, 0)), len(CLASSES))
    what = f"29 classes on {side}, image 2048"
    rows: list[dict[str, Any]] = [
        {"claim": f"probability map, {what}", "ours": max(sizes), "baseline": stack[0].numel() * 4e-6, "unit": "MB"}
    ]
    for count in sorted({1, 2, len(stack)}):  # two are the fewest whose mean may lie on the threshold itself
        masks = our_masks(read[:count])
        wanted = usual_masks(sum(map(torch.sigmoid, stack[1:count]), torch.sigmoid(stack[0])) / count)
        name = "one map" if count == 1 else f"soft vote of {count} maps"
        gap = abs(mean_dice(masks, answers) - mean_dice(wanted, answers))
        rows += [
            {"claim": f"{name}: difference of its Dice to float32's, {what}", "ours": gap, "unit": ""},
            {"claim": f"{name}: 1 - Dice to float32's masks, {what}", "ours": 1 - mean_dice(masks, wanted), "unit": ""},
        ]
    return rows


def store(folder: Path, stack: list[Tensor], images: int) -> None:
    """Members' maps, the same for every image, and the first one as a float32 array for the usual way."""
    for number, maps in enumerate(map(crop, stack)):
        for name in names_of(images):
            write_map(
                folder / f"{number}.maps" / f"{name}.npz", maps, image=name, size=FULL, classes=CLASSES,
                run_hashes={f"runs/{number}": str(number)}, threshold=THRESHOLD,
            )  # fmt: skip
    np.save(folder / "0.npy", torch.sigmoid(stack[0]).numpy())


def names_of(images: int) -> list[str]:
    return [f"image{i:03d}.png" for i in range(images)]


def vote(folder: Path, members: int, images: int, who: str) -> dict[str, float]:
    """A soft vote in this process: CPU seconds an image, and the highest memory in MB."""
    cv2.setNumThreads(1)
    began = time.process_time()
    if who == "ours":
        from phalanx.ensemble.options import EnsembleOptions
        from phalanx.ensemble.run import vote as soft_vote

        names = [str(folder / f"{number}.maps") for number in range(members)]
        for number, name in enumerate(names):
            sizes = dict.fromkeys(names_of(images), FULL)
            write_about(Path(name), CLASSES, {f"runs/{number}": str(number)}, sizes, "bench", 0.5)
        soft_vote(EnsembleOptions(mode="soft", members=names, out=folder / "soft.csv", device="cpu", progress=False))
    else:
        for _ in range(images):
            total = np.load(folder / "0.npy")
            for _ in range(1, members):  # one file stands for all: it takes as long, and less of the disk
                total += np.load(folder / "0.npy")
            usual_masks(torch.from_numpy(total).div_(members))
    return {"seconds": (time.process_time() - began) / images, "mb": memory("VmHWM")}


def fresh(*case: Any) -> dict[str, float]:
    """:func:`vote` in a new process."""
    words = [sys.executable, __file__, "--case", json.dumps([str(word) for word in case])]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_votes(folder: Path, stack: list[Tensor], images: int) -> list[dict[str, Any]]:
    """Soft votes of stored maps; the smaller ones show what memory depends on."""
    store(folder, [stack[number % len(stack)] for number in range(MEMBERS)], images)
    usual, found = fresh(folder, MEMBERS, 1, "usual"), {}
    for count in (max(1, images // 3), images):
        for members in (2, MEMBERS):
            found[members, count] = fresh(folder, members, count, "ours")
    rows = [
        {
            "claim": f"soft vote of {MEMBERS} maps of 29 classes at 2048, per image ({images} images)",
            "ours": found[MEMBERS, images]["seconds"], "baseline": usual["seconds"], "unit": "CPU s",
        }
    ]  # fmt: skip
    for (members, count), one in found.items():
        claim = f"soft vote of {members} maps at 2048, {count} images: peak memory of the process"
        baseline = usual["mb"] if (members, count) == (MEMBERS, images) else None
        rows.append({"claim": claim, "ours": one["mb"], "baseline": baseline, "unit": "MB"})
    return rows


def main() -> None:
    parser = flags(__doc__, "fewer repeats, images and different members")
    parser.add_argument("--case", help="one vote, in this process; for the script itself")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if args.case:
        folder, members, images, who = json.loads(args.case)
        print(json.dumps(vote(Path(folder), int(members), int(images), who)))
        return
    repeats, images = (1, 4) if args.quick else (5, 24)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for side in (1024, SIDE):
            count = (1 if side != SIDE else 2) if args.quick else MEMBERS
            stack = [trained_logits(truth(side), seed)[0] for seed in range(count)]
            rows += measure_masks(side, stack[0], repeats)
            if count > 1:
                rows += measure_maps(side, stack, Path(scratch))
        rows += measure_votes(Path(scratch), stack, images)
    for row in rows:
        baseline = row.get("baseline")
        ratio = f"{baseline:10.4g} {row['unit']:6} {baseline / row['ours']:.1f}x" if baseline else f" {row['unit']}"
        print(f"{row['claim']:<88} {row['ours']:10.4g}{ratio}")
    print(machine())
    keep(rows, args.json)


if __name__ == "__main__":
    main()
