"""The warp of one hand on a CPU core against albumentations', and of a batch of two on a GPU against the CPU core.

On the CPU: flip, shift, scale, rotation and elastic deformation of an image and 29 overlapping classes. On the GPU:
grid distortion, too, and the batch is unpacked to classes, eight at a time, as the losses do. Without a CUDA device the
GPU's code is only compared with the CPU's, and not timed.

    python bench/warp.py [--quick] [--json FILE]
"""

import os
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch

from common import flags, keep, machine
from phalanx.augment.device import WarpMaps, warp_batch
from phalanx.augment.draw import draw
from phalanx.augment.warp import warp, warp_drawn
from phalanx.config import Augment, Elastic, GridDistortion
from phalanx.masks import planes as bits
from phalanx.masks.planes_torch import chunks, unpack

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

CLASSES, BATCH, PAIRS = 29, 2, [(0, 1), (2, 17)]
ALL = Augment(
    flip=0.5,
    warp=1,
    shift=0.05,
    scale=0.1,
    rotate=15,
    elastic=Elastic(p=1, strength=0.01),
    grid_distortion=GridDistortion(p=1, limit=0.2),
)


def hand(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8[S, S] and overlapping blobs as planes uint8[S, S, 4], both smooth and detailed."""
    image = cv2.resize(rng.integers(0, 256, (side // 4, side // 4), np.uint8), (side, side))
    planes = np.zeros((side, side, 4), np.uint8)
    for label in range(CLASSES):
        blob = np.zeros((side, side), np.uint8)
        centre, axes = rng.integers(side // 8, side * 7 // 8, 2), rng.integers(side // 40, side // 8, 2)
        cv2.ellipse(blob, centre.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, 1, -1)
        planes[:, :, label // 8] |= blob << label % 8
    return image, planes


def main() -> None:
    args = flags(__doc__, quick="fewer repeats, and without a GPU a smaller batch").parse_args()
    cv2.setNumThreads(1)
    repeats = 5 if args.quick else 30
    rows = [on_a_core(2048, repeats), *on_a_device(512 if args.quick else 2048, repeats)]
    for row in rows:
        against = f"  against {row['baseline']:.4g}" if "baseline" in row else ""
        print(f"{row['ours']:>10.4g} {row['unit']:<11}  {row['claim']}{against}")
    if not torch.cuda.is_available():
        print("No CUDA device here: the GPU's warp was compared with the CPU's, and not timed.")
    print(machine())
    keep(rows, args.json)


def on_a_core(side: int, repeats: int) -> dict[str, Any]:
    """Our warp of an image and its planes, and the usual one of the image and a channel a class."""
    import albumentations

    rng = np.random.default_rng(0)
    image, planes = hand(rng, side)
    recipe = ALL.model_copy(update={"flip": 1.0, "grid_distortion": GridDistortion()})
    usual = albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=1.0),
            albumentations.Affine(translate_percent=0.05, scale=(0.9, 1.1), rotate=(-15, 15), p=1.0),
            albumentations.ElasticTransform(p=1.0, approximate=True),  # the quicker of its two ways
        ],
        seed=0,
    )
    masks = np.ascontiguousarray(bits.unpack(planes, CLASSES).transpose(1, 2, 0)).view(np.uint8)
    ours, baseline = [], []
    for number in range(repeats):
        ours.append(spent(lambda: warp(image, planes, (side, side), rng, recipe, PAIRS)))
        if number < 5:
            baseline.append(spent(lambda: usual(image=image, mask=masks)))
    claim = f"flip, affine and elastic of an image and {CLASSES} classes at {side}, one core"
    return {"claim": claim, "ours": np.median(ours) * 1e3, "baseline": np.median(baseline) * 1e3, "unit": "ms"}


def spent(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    work()
    return time.process_time() - start


def on_a_device(side: int, repeats: int) -> list[dict[str, Any]]:
    """How far the batched warp is from the CPU's, and how long a GPU takes."""
    cuda = torch.cuda.is_available()
    side = 2048 if cuda else side
    rng = np.random.default_rng(0)
    hands = [hand(rng, side) for _ in range(BATCH)]
    draws = [draw(rng, ALL, (side, side), side, planes) for _, planes in hands]
    expected = [warp_drawn(drawn, *one, PAIRS) for drawn, one in zip(draws, hands, strict=True)]
    device = torch.device("cuda" if cuda else "cpu")
    images = torch.from_numpy(np.stack([image for image, _ in hands]))[:, None].to(device)
    planes = torch.from_numpy(np.stack([planes.transpose(2, 0, 1) for _, planes in hands])).to(device)
    maps = WarpMaps(*(part.to(device) for part in WarpMaps.of(draws)))
    found, warped = (part.cpu().numpy() for part in warp_batch(images, planes, maps, PAIRS))
    grey = max(np.abs(a[0].astype(int) - b).max() for a, (b, _) in zip(found, expected, strict=True))
    moved = np.mean([(a.transpose(1, 2, 0) != b).any(2).mean() for a, (_, b) in zip(warped, expected, strict=True)])
    what = f"{BATCH} images of {side}, all augmentations"
    rows: list[dict[str, Any]] = [
        {"claim": f"largest difference to the CPU's image, {what}", "ours": int(grey), "unit": "grey levels"},
        {"claim": f"pixels whose classes differ from the CPU's, {what}", "ours": float(moved), "unit": "fraction"},
    ]
    if grey > 2 or moved > 1e-4:
        raise SystemExit(f"the warps do not agree: {grey} grey levels, {moved:.2g} of the pixels")
    if cuda:
        for _ in range(3):
            gpu_ms(images, planes, maps)
        torch.cuda.reset_peak_memory_stats()
        ours = float(np.median([gpu_ms(images, planes, maps) for _ in range(repeats)]))
        pairs = list(zip(draws, hands, strict=True))
        times = [spent(lambda: [warp_drawn(d, *one, PAIRS) for d, one in pairs]) for _ in range(repeats)]
        cpu = float(np.median(times)) * 1e3
        claim = f"warp and unpack to {CLASSES} classes, {what} (baseline: the warp alone, one core)"
        memory = torch.cuda.max_memory_allocated() / 1e9
        gpu = f"{torch.cuda.get_device_name()}; {machine()}"
        rows += [
            {"claim": claim, "ours": ours, "baseline": cpu, "unit": "ms", "machine": gpu},
            {"claim": f"peak memory of it, batch included, {what}", "ours": memory, "unit": "GB", "machine": gpu},
        ]
    return rows


def gpu_ms(images: torch.Tensor, planes: torch.Tensor, maps: WarpMaps) -> float:
    """Milliseconds on the device from the batch as it arrives to the last class as a mask."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    _, warped = warp_batch(images, planes, maps, PAIRS)
    for part in chunks(CLASSES):
        unpack(warped, part)
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


if __name__ == "__main__":
    main()
