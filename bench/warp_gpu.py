"""The warp on a GPU against the warp on a CPU core: a batch of two hands at 2048, warped and unpacked to classes.

Flip, shift, scale, rotation, elastic and grid distortion all come to every image; 29 classes are unpacked eight at a
time, as the losses do. Without a CUDA device nothing is timed, and the two warps are only compared.

    python bench/warp_gpu.py [--quick] [--json FILE]
"""

import time

import cv2
import numpy as np
import torch

from common import flags, keep, machine
from phalanx.augment.device import Maps, warp_batch
from phalanx.augment.draw import draw
from phalanx.augment.warp import warp_drawn
from phalanx.config import Augment, Elastic, GridDistortion
from phalanx.losses.bits import chunks, unpack

CLASSES, BATCH, PAIRS = 29, 2, [(0, 1), (2, 17)]
ALL = Augment(
    flip=0.5,
    warp=1,
    shift=0.05,
    scale=0.1,
    rotate=15,
    elastic=Elastic(p=1, strength=0.01),
    grid=GridDistortion(p=1, limit=0.2),
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
    args = flags(__doc__, quick="512 pixels where there is no GPU, and fewer repeats").parse_args()
    cuda = torch.cuda.is_available()
    side = 2048 if cuda or not args.quick else 512
    repeats = 5 if args.quick else 30
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    hands = [hand(rng, side) for _ in range(BATCH)]
    draws = [draw(rng, ALL, (side, side), side, planes) for _, planes in hands]
    expected, seconds = [], []
    for _ in range(max(3, repeats // 3)):
        start = time.process_time()
        expected = [warp_drawn(d, *one, PAIRS) for d, one in zip(draws, hands, strict=True)]
        seconds.append(time.process_time() - start)

    device = torch.device("cuda" if cuda else "cpu")
    images = torch.from_numpy(np.stack([image for image, _ in hands]))[:, None].to(device)
    planes = torch.from_numpy(np.stack([planes.transpose(2, 0, 1) for _, planes in hands])).to(device)
    maps = Maps(*(part.to(device) for part in Maps.of(draws)))
    found, warped = (part.cpu().numpy() for part in warp_batch(images, planes, maps, PAIRS))
    grey = max(np.abs(a[0].astype(int) - b).max() for a, (b, _) in zip(found, expected, strict=True))
    moved = np.mean([(a.transpose(1, 2, 0) != b).any(2).mean() for a, (_, b) in zip(warped, expected, strict=True)])
    what = f"{BATCH} images of {side}, all augmentations"
    rows = [
        {"claim": f"largest difference to the CPU's image, {what}", "ours": int(grey), "unit": "grey levels"},
        {"claim": f"pixels whose classes differ from the CPU's, {what}", "ours": float(moved), "unit": "share"},
    ]
    if grey > 2 or moved > 1e-4:
        raise SystemExit(f"the warps do not agree: {grey} grey levels, {moved:.2g} of the pixels")
    if cuda:
        for _ in range(3):
            gpu_ms(images, planes, maps)
        torch.cuda.reset_peak_memory_stats()
        ours = float(np.median([gpu_ms(images, planes, maps) for _ in range(repeats)]))
        cpu = float(np.median(seconds)) * 1e3
        claim = f"warp and unpack to {CLASSES} classes, {what} (baseline: the warp alone, one CPU core)"
        memory = torch.cuda.max_memory_allocated() / 1e9
        gpu = f"{torch.cuda.get_device_name()}; {machine()}"
        rows += [
            {"claim": claim, "ours": ours, "baseline": cpu, "unit": "ms", "machine": gpu},
            {"claim": f"peak memory of it, batch included, {what}", "ours": memory, "unit": "GB", "machine": gpu},
        ]
    for row in rows:
        against = f"  against {row['baseline']:.4g}" if "baseline" in row else ""
        print(f"{row['ours']:>10.4g} {row['unit']:<11}  {row['claim']}{against}")
    if not cuda:
        print("No CUDA device here: the warps were compared on the CPU, and nothing was timed.")
    print(machine())
    keep(rows, args.json)


def gpu_ms(images: torch.Tensor, planes: torch.Tensor, maps: Maps) -> float:
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
