"""`phalanx check` on synthetic hands: planted faults found by kind, clean images flagged, time and memory.

Sets bear what `phalanx phantom` plants (wrong labels; in the pictures metal, collimator edges, bands of noise) and
faults planted here, one an image. Seeds are others than those that thresholds were chosen on. Memory is the growth of
the parent's peak; a worker holds one image at a time. There is no baseline: the usual way is not to look.

    python bench/check.py [--quick] [--keep DIR] [--json FILE]
"""

import json
import os
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from common import flags, keep, machine
from hands import hand_set
from phalanx.checks.findings import Report
from phalanx.checks.run import check
from phalanx.config import SegmentData
from phalanx.phantom.anatomy import HAND_CLASSES

Items = list[dict]
NOTES = {"ring": "metal", "implant": "metal", "nail_art": "metal", "collimation": "collimation"}
NOTES |= {"noise_band": "noise-band"}
CARPALS = (
    ("Trapezium", "Trapezoid"), ("Trapezoid", "Capitate"), ("Capitate", "Hamate"), ("Hamate", "Triquetrum"),
    ("Scaphoid", "Lunate"), ("Lunate", "Triquetrum"), ("Triquetrum", "Pisiform"), ("Trapezium", "Scaphoid"),
    ("Capitate", "Lunate"), ("Hamate", "Pisiform"),
)  # fmt: skip


def exchange(*cycles: Sequence[str]) -> Callable[[Items], None]:
    """Gives each bone of a cycle the label of the next."""
    table = {a: b for names in cycles for a, b in zip(names, [*names[1:], names[0]], strict=True)}

    def change(items: Items) -> None:
        for item in items:
            item["label"] = table.get(item["label"], item["label"])

    return change


def fingers(*numbers: int) -> list[str]:
    return [f"finger-{number}" for number in numbers]


def move(label: str, factor: float, by: tuple[float, float]) -> Callable[[Items], None]:
    """Scales a bone about its middle and moves it by shares of its own box."""

    def change(items: Items) -> None:
        item = next(item for item in items if item["label"] == label)
        points = np.array(item["points"], float)
        away = np.ptp(points, axis=0) * by
        item["points"] = ((points - points.mean(0)) * factor + points.mean(0) + away).clip(0).tolist()

    return change


DRAWN: dict[str, Callable[[Items], object]] = {
    **{f"{a} and {b} swapped": exchange((a, b)) for a, b in CARPALS},
    **{f"finger-{a} and {b} swapped": exchange(fingers(a, b)) for a, b in ((1, 3), (5, 6), (16, 17), (9, 13))},
    "index and middle finger swapped": exchange(*(fingers(a, a + 4) for a in (4, 5, 6, 7))),
    "ring and little finger swapped": exchange(*(fingers(a, a + 4) for a in (12, 13, 14, 15))),
    "four labels shifted": exchange(fingers(8, 9, 10, 11)),
    "Radius and Ulna swapped": exchange(("Radius", "Ulna")),
    "unknown label": lambda items: items[3].update(label="finger-20"),
    "two points": lambda items: items[3].update(points=items[3]["points"][:2]),
    "bone missing": lambda items: items.pop(12),
    "bone tiny": move("finger-7", 0.1, (0, 0)),
    "bone elsewhere": move("finger-9", 1.0, (-3, 2)),
    "bone next to its place": move("Lunate", 1.0, (1.2, 0.5)),
    "nothing annotated": lambda items: items.clear(),
    "same outline twice": lambda items: items.append(items[4] | {"label": "Ulna"}),
}


def rewrite(path: Path, content: bytes) -> None:
    """Replaces a file, which may be a link to a kept one."""
    path.unlink()
    path.write_bytes(content)


def plant(root: Path) -> tuple[dict[str, str], set[str]]:
    """Plants a fault into training images, one of each patient; returns image -> fault, and the clean names."""
    rows = [row for row in json.loads((root / "manifest.json").read_text())["images"] if row["split"] == "train"]
    planted = {f"{row['image']}.png": row["wrong_annotation"] for row in rows if row["wrong_annotation"]}
    places = [
        Path(row["group"]) / row["image"] for row in rows if not row["wrong_annotation"] and row["side"] == "left"
    ]
    places = places[:: max(1, len(places) // (len(DRAWN) + 6))]
    images = [(root / "train/DCM" / place).with_suffix(".png") for place in places]
    for place, (fault, change) in zip(places, DRAWN.items(), strict=False):
        path = (root / "train/outputs_json" / place).with_suffix(".json")
        value = json.loads(path.read_text())
        change(value["annotations"])
        rewrite(path, json.dumps(value).encode())
        planted[f"{place.name}.png"] = fault
    empty, cut, blank, leak, bare, copy = images[len(DRAWN) : len(DRAWN) + 6]
    rewrite(empty, b"")
    rewrite(cut, cut.read_bytes()[:5000])
    rewrite(blank, cv2.imencode(".png", np.zeros((64, 64), np.uint8))[1].tobytes())
    rewrite(leak, min((root / "test/DCM").rglob("*.png")).read_bytes())
    (root / "train/outputs_json" / bare.parent.name / f"{bare.stem}.json").unlink()
    rewrite(copy, images[0].read_bytes())
    planted |= {
        empty.name: "empty file",
        cut.name: "truncated file",
        blank.name: "blank",
        leak.name: "test image in train",
    }
    planted |= {bare.name: "no annotation", copy.name: "copy of another patient's image"}
    return planted, {f"{row['image']}.png" for row in rows} - planted.keys() - {images[0].name}


def planted_set(folder: Path, kept: Path | None, patients: int, size: int, seed: int) -> Path:
    """A set to plant faults into, made anew or linked from what an earlier run kept."""
    source = hand_set(kept or folder / "made", patients, size, seed)
    shutil.copytree(source, folder / source.name, copy_function=os.link)
    return folder / source.name


def look(root: Path) -> tuple[Report, dict[str, float]]:
    """The report, and what it took."""
    data = SegmentData(name="hand", root=root, classes=list(HAND_CLASSES), size=512)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    report = check(data, progress=False)
    return report, {
        f"time, {os.cpu_count()} cores": time.perf_counter() - start,
        "peak of the parent grew by": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "peak of a worker": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def share(claim: str, found: int, of: int) -> dict:
    return {"claim": claim, "ours": found / of if of else None, "unit": f"of {of}"}


def faults(sets: list[tuple[int, int, int]], folder: Path, kept: Path | None, costs: bool) -> list[dict]:
    """Faults found by kind, and clean images with errors, over several sets (patients, size, seed)."""
    there: Counter[str] = Counter()
    found: Counter[str] = Counter()
    images = clean_images = flagged = 0
    for patients, size, seed in sets:
        root = planted_set(folder, kept, patients, size, seed)
        planted, clean = plant(root)
        report, cost = look(root)
        bad = report.bad_images().keys()
        there.update(planted.values())
        found.update(fault for name, fault in planted.items() if name in bad)
        missed = {name: fault for name, fault in planted.items() if name not in bad}
        if missed or clean & bad:
            print(f"{root.name}: missed {missed}, flagged {sorted(clean & bad)}")
        images += sum(report.images.values())
        clean_images += len(clean)
        flagged += len(clean & bad)
        shutil.rmtree(root)
    what = f"{len(sets)} set{'s' * (len(sets) > 1)}, {images} images at {sets[0][1]}"
    rows = [share(f"{what}: planted faults found", found.total(), there.total())]
    rows += [share(f"{what}: {kind}", found[kind], count) for kind, count in there.items() if len(sets) > 1]
    rows += [share(f"{what}: clean images with errors", flagged, clean_images)]
    if costs:
        units = ("s", "MiB", "MiB")
        rows += [
            {"claim": f"{what}: {name}", "ours": value, "unit": unit}
            for (name, value), unit in zip(cost.items(), units, strict=True)
        ]
    return rows


def pictures(sets: list[tuple[int, int, int]], folder: Path, kept: Path | None) -> list[dict]:
    """What is noted of the pictures, by what was planted, and how often without."""
    there: Counter[str] = Counter()
    found: Counter[str] = Counter()
    free: Counter[str] = Counter()
    wrongly: Counter[str] = Counter()
    for patients, size, seed in sets:
        root = planted_set(folder, kept, patients, size, seed)
        rows = [row for row in json.loads((root / "manifest.json").read_text())["images"] if row["split"] == "train"]
        noted = {(Path(finding.file).stem, finding.kind) for finding in look(root)[0].findings}
        for row in rows:
            there.update(row["faults"])
            found.update(fault for fault in row["faults"] if (row["image"], NOTES.get(fault)) in noted)
            absent = set(NOTES.values()) - {NOTES.get(fault) for fault in row["faults"]}
            free.update(absent)
            wrongly.update(kind for kind in absent if (row["image"], kind) in noted)
        shutil.rmtree(root)
    what = f"{len(sets)} set{'s' * (len(sets) > 1)} at {sets[0][1]}"
    return [share(f"{what}: {fault} noted", found[fault], there[fault]) for fault in NOTES] + [
        share(f"{what}: {kind} noted where there is none", wrongly[kind], free[kind]) for kind in sorted(free)
    ]


def main() -> None:
    parser = flags(__doc__, quick="small images and few sets")
    parser.add_argument("--keep", type=Path, help="folder where the sets are kept between runs: making them takes long")
    args = parser.parse_args()
    quick = args.quick
    small = [(70, 256, seed) for seed in ((201, 202) if quick else range(201, 209))]
    seen = [[(20, 512, 211)]] if quick else [[(60, 512, s) for s in (211, 212)], [(40, 1024, 213)], [(80, 2048, 11)]]
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.keep) as name:  # on one file system: kept files are linked, not copied
        folder = Path(name)
        results = faults(small, folder, args.keep, costs=False)
        for sets in seen:
            results += pictures(sets, folder, args.keep)
        for big in [] if quick else [(80, 2048, 11), (320, 2048, 11)]:  # those of bench/eda.py
            results += faults([big], folder, args.keep, costs=True)
    width = max(len(row["claim"]) for row in results)
    for row in results:
        print(
            f"{row['claim']:<{width}}  {'none' if row['ours'] is None else format(row['ours'], '.4g'):>8} {row['unit']}"
        )
    print(machine())
    keep(results, args.json)


if __name__ == "__main__":
    main()
