"""`phalanx check` on synthetic hands: planted faults found, clean images flagged, time and memory by set size.

The set bears what `phalanx phantom` plants (wrong labels, noise bands) and faults planted here, one kind an image.
Memory is the growth of the parent's peak; a worker holds one image at a time. There is no baseline: the usual way is
not to look.

    python bench/check.py [--quick] [--json FILE]
"""

import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from common import flags, keep, machine
from phalanx.config import Data
from phalanx.data.checks.run import check
from phalanx.phantom.anatomy import HAND_CLASSES
from phalanx.phantom.hand import make_hands

Items = list[dict]


def exchange(*names: str) -> Callable[[Items], None]:
    """Gives each bone the label of the next."""
    table = dict(zip(names, [*names[1:], names[0]], strict=True))

    def change(items: Items) -> None:
        for item in items:
            item["label"] = table.get(item["label"], item["label"])

    return change


def shrink(items: Items) -> None:
    points = np.array(items[6]["points"], float)
    items[6]["points"] = ((points - points.mean(0)) * 0.1 + points.mean(0)).tolist()


def away(items: Items) -> None:
    points = np.array(items[8]["points"], float)
    items[8]["points"] = (points + np.ptp(points, axis=0) * (-3, 2)).clip(0).tolist()


DRAWN: dict[str, Callable[[Items], object]] = {
    "carpals exchanged": exchange("Scaphoid", "Lunate"),
    "neighbours of a finger exchanged": exchange("finger-5", "finger-6"),
    "fingers exchanged": exchange("finger-9", "finger-13"),
    "four labels shifted": exchange("finger-8", "finger-9", "finger-10", "finger-11"),
    "Radius and Ulna exchanged": exchange("Radius", "Ulna"),
    "unknown label": lambda items: items[3].update(label="finger-20"),
    "two points": lambda items: items[3].update(points=items[3]["points"][:2]),
    "bone missing": lambda items: items.pop(12),
    "bone tiny": shrink,
    "bone elsewhere": away,
    "nothing annotated": lambda items: items.clear(),
    "same outline twice": lambda items: items.append(items[4] | {"label": "Ulna"}),
}


def plant(root: Path) -> tuple[dict[str, str], set[str]]:
    """Plants a fault into clean training images, one of each patient; returns image -> fault, and the clean names."""
    rows = [row for row in json.loads((root / "manifest.json").read_text())["images"] if row["split"] == "train"]
    planted = {f"{row['image']}.png": row["wrong_annotation"] for row in rows if row["wrong_annotation"]}
    free = [row for row in rows if not row["wrong_annotation"] and row["side"] == "left"]
    places = [Path(row["group"]) / row["image"] for row in free]
    places = places[:: max(1, len(places) // (len(DRAWN) + 6))]
    images = [(root / "train/DCM" / place).with_suffix(".png") for place in places]
    for place, (fault, change) in zip(places, DRAWN.items(), strict=False):
        path = (root / "train/outputs_json" / place).with_suffix(".json")
        value = json.loads(path.read_text())
        change(value["annotations"])
        path.write_text(json.dumps(value))
        planted[f"{place.name}.png"] = fault
    empty, cut, blank, leak, bare, copy = images[len(DRAWN) : len(DRAWN) + 6]
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:5000])
    cv2.imwrite(str(blank), np.zeros((64, 64), np.uint8))
    shutil.copy(min((root / "test/DCM").rglob("*.png")), leak)
    (root / "train/outputs_json" / bare.parent.name / f"{bare.stem}.json").unlink()
    shutil.copy(images[0], copy)
    planted |= {empty.name: "empty file", cut.name: "cut file", blank.name: "blank", leak.name: "test image in train"}
    planted |= {bare.name: "no annotation", copy.name: "copy of another patient's image"}
    return planted, {f"{row['image']}.png" for row in rows} - planted.keys() - {images[0].name}


def measure(folder: Path, patients: int, size: int) -> list[dict]:
    root = folder / f"hands-{patients}-{size}"
    make_hands(root, patients=patients, size=size, seed=1, progress=False)
    bands = sum("noise_band" in row["faults"] for row in json.loads((root / "manifest.json").read_text())["images"])
    planted, clean = plant(root)
    data = Data(name="hand", root=root, classes=list(HAND_CLASSES), size=512)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    report = check(data, progress=False)
    seconds = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    shutil.rmtree(root)
    bad, images = report.bad_images(), sum(report.images.values())
    missed = {name: fault for name, fault in planted.items() if name not in bad}
    if missed:
        print("missed:", missed)
    noted = sum(finding.kind == "noise-band" for finding in report.findings)
    what = f"check of {images} images at {size}"
    return [
        {
            "claim": f"{what}: planted faults found",
            "ours": 1 - len(missed) / len(planted),
            "unit": f"of {len(planted)}",
        },
        {"claim": f"{what}: clean images with errors", "ours": len(clean & bad.keys()) / len(clean), "unit": "share"},
        {
            "claim": f"{what}: noise bands noted (some images with one may be spoiled)",
            "ours": noted,
            "unit": f"of {bands}",
        },
        {"claim": f"{what}: time, {os.cpu_count()} cores", "ours": seconds, "unit": "s"},
        {"claim": f"{what}: peak of the parent grew by", "ours": grown, "unit": "MiB"},
        {"claim": f"{what}: peak of a worker", "ours": worker, "unit": "MiB"},
    ]


def main() -> None:
    args = flags(__doc__, quick="small images and sets").parse_args()
    sets = [(60, 256), (180, 256)] if args.quick else [(40, 2048), (160, 2048), (400, 1024)]
    with tempfile.TemporaryDirectory() as folder:
        results = [row for patients, size in sets for row in measure(Path(folder), patients, size)]
    width = max(len(row["claim"]) for row in results)
    for row in results:
        print(f"{row['claim']:<{width}}  {row['ours']:>8.4g} {row['unit']}")
    print(machine())
    keep(results, args.json)


if __name__ == "__main__":
    main()
