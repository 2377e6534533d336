"""Are burnt-in marks found, and is what is no mark left alone?

On synthetic ultrasound sets whose `overlays/` has the true masks, at several sizes, with seeds that neither the network
nor its limits have seen: recall and precision by pixel and by image, recall of lines and of text apart, and the
fraction of pixels changed in images without marks. The same for coloured marks on the same images, and how near each
way of removal comes to the image as it was without marks.

    python bench/overlays.py [--quick] [--json FILE]
"""

import json
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common import flags, keep, machine
from phalanx.data.images import read_colour
from phalanx.data.overlays import find_overlays, remove_overlays
from phalanx.phantom.ultrasound import make_ultrasound

SIZES = (128, 192, 256, 384, 512, 768, 1024)
COLOURS = {"yellow": (1.0, 1.0, 0.1), "green": (0.2, 1.0, 0.3), "cyan": (0.1, 1.0, 1.0)}


def coloured(image: np.ndarray, mask: np.ndarray, colour: tuple[float, ...]) -> np.ndarray:
    """uint8[H, W, 3]: a grey image in RGB whose marks have a colour."""
    return np.where(mask[:, :, None], np.round(image * np.float32(colour)), image).astype(np.uint8)


def counted(image: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Pixels of an image: all, marked, found, right."""
    found = find_overlays(image).marks
    return {"pixels": truth.size, "marked": truth.sum(), "found": found.sum(), "right": (found & truth).sum()}


def measured(root: Path) -> dict[str, Any]:
    """Sums over the images of a set."""
    sums: dict[str, float] = defaultdict(float)
    recalls, by_machine = [], defaultdict(lambda: [0.0, 0.0])
    error: dict[str, list[float]] = defaultdict(list)
    began, count = time.process_time(), 0
    for row in json.loads((root / "manifest.json").read_text())["images"]:
        name = row["image"]
        image = read_colour(next(root.glob(f"*/images/*/{name}.png")))
        place = root / "overlays" / f"{name}.png"
        if not place.is_file():
            one = counted(image, np.zeros(image.shape[:2], bool))
            sums["plain_pixels"] += one["pixels"]
            sums["plain_found"] += one["found"]
            sums["plain_images"] += 1
            sums["plain_touched"] += one["found"] > 0
            by_machine[row["machine"]][1] += one["found"] / one["pixels"]
            continue
        truth = cv2.imread(str(place), cv2.IMREAD_GRAYSCALE) > 0
        one = counted(image, truth)
        for key, value in one.items():
            sums[key] += value
        kinds = {kind for mark in row["marks"] for kind in mark["kinds"]}
        for kind in ("calipers", "text"):
            if kinds == {kind}:
                sums[f"{kind}_marked"] += one["marked"]
                sums[f"{kind}_right"] += one["right"]
                sums[f"{kind}_found"] += one["found"]
        recalls.append(one["right"] / one["marked"])
        by_machine[row["machine"]][0] += 1
        for colour, factors in COLOURS.items():
            other = counted(coloured(image, truth, factors), truth)
            sums[f"{colour}_right"] += other["right"]
        clean = root / "clean" / f"{name}.png"
        if clean.is_file():
            target = cv2.imread(str(clean), cv2.IMREAD_GRAYSCALE).astype(float)
            error["keep"].append(np.abs(image[:, :, 0] - target)[truth].mean())
            for how in ("black", "fast_marching", "bilinear"):
                error[how].append(np.abs(remove_overlays(image, how)[:, :, 0] - target)[truth].mean())  # type: ignore[arg-type]
        count += 1
    return {"sums": dict(sums), "recalls": recalls, "error": error, "seconds": time.process_time() - began}


def rows_of(size: int, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table."""
    s, what = found["sums"], f"{size} px"
    recalls = np.array(found["recalls"])
    rows = [
        ("pixel recall of marks", s["right"] / s["marked"], ""),
        ("pixel precision", s["right"] / s["found"], ""),
        ("pixel recall, calipers and lines alone", s["calipers_right"] / s["calipers_marked"], ""),
        ("pixel precision, calipers and lines alone", s["calipers_right"] / s["calipers_found"], ""),
        ("pixel recall, text alone", s["text_right"] / s["text_marked"], ""),
        ("images with marks of which 90% are found", (recalls >= 0.9).mean(), ""),
        ("images with marks of which less than half is found", (recalls < 0.5).mean(), ""),
        ("pixels changed in images without marks", 100 * s["plain_found"] / s["plain_pixels"], "%"),
        ("images without marks in which any pixel changes", s["plain_touched"] / s["plain_images"], ""),
    ]
    rows += [(f"pixel recall, {colour} marks", s[f"{colour}_right"] / s["marked"], "") for colour in COLOURS]
    rows += [
        (f"mean error under the marks, {how}", float(np.mean(values)), "grey levels")
        for how, values in found["error"].items()
    ]
    return [{"claim": f"{what}: {claim}", "ours": float(v), "baseline": None, "unit": u} for claim, v, u in rows]


def main() -> None:
    parser = flags(__doc__, quick="one size, few patients")
    parser.add_argument("--seed", type=int, default=4200, help="of the sets")
    args = parser.parse_args()
    rows = []
    for size in (256,) if args.quick else SIZES:
        patients = 16 if args.quick else 24 if size <= 512 else 10
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary) / "set"
            make_ultrasound(root, patients=patients, size=size, seed=args.seed + size, marked=0.5, progress=False)
            rows += rows_of(size, measured(root))
    for row in rows:
        print(f"{row['claim']:<70}  {row['ours']:>8.4f} {row['unit']}")
    print(machine())
    keep(rows, args.json)


if __name__ == "__main__":
    sys.exit(main())
