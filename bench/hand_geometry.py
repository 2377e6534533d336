"""Do the synthetic hands have the geometry of real ones?

Makes a synthetic set (or takes one: --data), measures every bone's mask and prints it beside the statistics of
real hands: per bone and pose group the mean and spread of area, place, axes and tilt; each overlap of two bones;
the rotation histogram. `baseline` in the JSON is the real statistic.

    python bench/hand_geometry.py [--quick] [--data DIR] [--json FILE]
"""

import itertools
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from common import flags, keep
from phalanx.data.polygons import read_annotations
from phalanx.phantom.anatomy import CANVAS, HAND_CLASSES, geometry
from phalanx.phantom.hand import make_hands

MEASURES = ("area", "dx", "dy", "major_axis", "minor_axis", "tilt_deg")
GROUPS = ("upright", "rotated")
CLOSE = 0.05  # an overlap may differ by this much


def measure_image(path: Path, size: int, mirrored: bool) -> tuple[np.ndarray, dict[tuple[str, str], float], float]:
    """One annotation file: float[29, 6] measures (NaN where absent), overlap fractions, rotation in degrees.

    As in the source: area, centroid and second moments of the pixels of the mask, at 2048; places relative to the
    Capitate with x to the ulnar side; tilt of the major axis from vertical, in (-90, 90].
    """
    scale = CANVAS / size
    masks: dict[str, tuple[int, int, np.ndarray]] = {}
    for label, points in read_annotations(path, HAND_CLASSES):
        points = (points + 0.5) * scale - 0.5
        if mirrored:
            points[:, 0] = CANVAS - 1 - points[:, 0]
        x, y = np.maximum(np.floor(points.min(0)).astype(int) - 1, 0)
        w, h = np.minimum(np.ceil(points.max(0)).astype(int) + 2, CANVAS) - (x, y)
        mask = np.zeros((h, w), np.uint8)
        cv2.fillPoly(mask, [np.round((points - (x, y)) * 16).astype(np.int32)], 1, shift=4)
        masks[HAND_CLASSES[label]] = int(x), int(y), mask
    table = np.full((len(HAND_CLASSES), len(MEASURES)), np.nan)
    for name, (x, y, mask) in masks.items():
        m = cv2.moments(mask, binaryImage=True)
        xx, yy, xy = m["mu20"] / m["m00"], m["mu02"] / m["m00"], m["mu11"] / m["m00"]
        middle, half = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
        tilt = -math.degrees(0.5 * math.atan2(2 * xy, yy - xx))
        place = m["m10"] / m["m00"] + x, m["m01"] / m["m00"] + y
        axes = 4 * math.sqrt(middle + half), 4 * math.sqrt(max(middle - half, 0))
        table[HAND_CLASSES.index(name)] = m["m00"], *place, *axes, tilt
    ulna, tip = (table[HAND_CLASSES.index(name), 1:3] for name in ("Ulna", "finger-16"))
    rotation = math.degrees(math.atan2(tip[0] - ulna[0], ulna[1] - tip[1]))
    table[:, 1:3] -= table[HAND_CLASSES.index("Capitate"), 1:3]
    overlaps = {}
    for a, b in itertools.combinations(masks, 2):
        overlaps[a, b] = _overlap(masks[a], masks[b])
    return table, overlaps, rotation


def _overlap(a: tuple[int, int, np.ndarray], b: tuple[int, int, np.ndarray]) -> float:
    """Common area of two placed masks over the smaller area."""
    x0, y0 = max(a[0], b[0]), max(a[1], b[1])
    x1 = min(a[0] + a[2].shape[1], b[0] + b[2].shape[1])
    y1 = min(a[1] + a[2].shape[0], b[1] + b[2].shape[0])
    if x0 >= x1 or y0 >= y1:
        return 0.0
    cut_a, cut_b = (m[y0 - y : y1 - y, x0 - x : x1 - x] for x, y, m in (a, b))
    return float((cut_a & cut_b).sum()) / min(int(a[2].sum()), int(b[2].sum()))


def measure_set(root: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Bones (one row per image and bone), overlaps (one row per image and pair), images (with the metadata sheet)."""
    manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    bones, pairs, images = [], [], []
    for row in manifest["images"]:
        if row["wrong_annotation"]:
            continue
        folder = root / row["split"] / ("outputs_json" if row["split"] == "train" else "answers_json")
        path = folder / row["group"] / f"{row['image']}.json"
        table, overlaps, rotation = measure_image(path, manifest["size"], row["side"] == "left")
        group = GROUPS[row["rotated"]]
        bones += [(group, n, *values) for n, values in zip(HAND_CLASSES, table, strict=True)]
        pairs += [(group, a, b, value) for (a, b), value in overlaps.items()]
        images.append((row["group"], group, rotation, float(np.nansum(table[:, 0]))))
    frame = pd.DataFrame(images, columns=["ID", "group", "rotation", "area"])
    return (
        pd.DataFrame(bones, columns=["group", "bone", *MEASURES]),
        pd.DataFrame(pairs, columns=["group", "a", "b", "overlap"]),
        frame.merge(pd.read_excel(root / "meta_data.xlsx"), on="ID"),
    )


def compare(bones: pd.DataFrame, pairs: pd.DataFrame, images: pd.DataFrame) -> list[dict[str, Any]]:
    """Prints the tables; returns the rows for the JSON file: overlaps, rotation and the middle of all deviations."""
    real = geometry()
    rows: list[dict[str, Any]] = []

    def note(claim: str, ours: float, baseline: float, unit: str) -> None:
        ratio = round(ours / baseline, 3) if baseline else None
        rows.append({"claim": claim, "ours": round(ours, 4), "baseline": baseline, "ratio": ratio, "unit": unit})

    stats = bones.groupby(["group", "bone"])[list(MEASURES)].agg(["mean", "std"])
    for group in GROUPS:
        if group not in stats.index.get_level_values(0):
            continue
        print(f"\n{group}: ours | real, mean (spread); * mean further off than 0.5 real spreads")
        print(f"{'bone':11}" + "".join(f"{m:>35}" for m in MEASURES))
        ratios: dict[str, list[tuple[float, float]]] = {m: [] for m in MEASURES}
        for bone in HAND_CLASSES:
            line = f"{bone:11}"
            for m in MEASURES:
                mean, spread = stats.loc[(group, bone), m]
                goal, goal_spread = real["measured"][bone][group][m]
                cell = f"{mean:.0f} ({spread:.0f})"
                if goal is None:
                    line += f"{cell + ' | not measured':>35}"
                    continue
                off = abs(mean - goal) / goal_spread if goal_spread else 0.0
                line += f"{cell + f' | {goal:.0f} ({goal_spread:.0f})' + ('*' if off > 0.5 else ' '):>35}"
                if goal_spread:
                    ratios[m].append((off, spread / goal_spread))
            print(line)
        for m, values in ratios.items():
            off, spread_ratio = np.array(values).T
            note(f"{group}: {m}, mean off by, median bone", float(np.median(off)), 0.0, "real spreads")
            note(
                f"{group}: {m}, spread, median bone",
                float(np.median(spread_ratio)),
                1.0,
                "of the real spread",
            )

    print(f"\noverlap over the smaller bone; * further off than {CLOSE}")
    mean_overlap = pairs.groupby(["a", "b"])["overlap"].mean()
    by_group = pairs.groupby(["group", "a", "b"])["overlap"].mean()
    listed = set()
    for a, b, goal in real["overlaps"]:
        key = (a, b) if (a, b) in mean_overlap.index else (b, a)
        listed.add(key)
        ours = float(mean_overlap[key])
        parts = "  ".join(f"{g} {by_group[(g, *key)]:.3f}" for g in GROUPS if (g, *key) in by_group.index)
        print(f"{a:11}{b:11}{ours:7.3f} | {goal:.3f}{' *' if abs(ours - goal) > CLOSE else '  '}  {parts}")
        note(f"overlap {a} / {b}", ours, goal, "share of the smaller bone")
    rest = mean_overlap[[k not in listed for k in mean_overlap.index]].sort_values(ascending=False)
    print("greatest unlisted:", ", ".join(f"{a}/{b} {v:.3f}" for (a, b), v in rest.head(6).items()))
    note(
        f"greatest overlap not listed ({rest.index[0][0]} / {rest.index[0][1]})",
        float(rest.iloc[0]),
        0.04,
        "fraction",
    )

    print("\nrotation: degrees, ours | real, share of images")
    edges, counts = real["rotation"]["histogram"]["edges"], real["rotation"]["histogram"]["counts"]
    ours_counts = np.histogram(images["rotation"], edges)[0]
    for low, high, n, goal in zip(edges, edges[1:], ours_counts, counts, strict=False):
        print(f"{low:3}-{high:3} {n / len(images):7.3f} | {goal / sum(counts):.3f}")
    between = images["rotation"].between(30, 33.999).mean()
    note("images from 30 to 34 degrees", float(between), 0.0, "share of images")
    note(
        "images of 33 degrees or more",
        float((images["rotation"] >= 33).mean()),
        round(real["rotation"]["share_ge_33"], 4),
        "share of images",
    )

    print("\nmask area against the patient, correlation: ours | published")
    for column, goal in (("height", 0.794), ("weight", 0.649), ("age", 0.127)):
        ours = float(images["area"].corr(images[column]))
        print(f"{column:7}{ours:6.3f} | {goal}")
        note(f"correlation of mask area with {column}", ours, goal, "Pearson r")
    return rows


def main() -> None:
    parser = flags(__doc__, quick="fewer patients")
    parser.add_argument("--data", type=Path, help="an existing synthetic set, instead of a new one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = args.data or Path(folder) / "hands"
        if not args.data:
            # the real statistics come from a test set with this share of rotated hands
            make_hands(
                root,
                patients=4,
                test_patients=120 if args.quick else 500,
                size=256,
                seed=1,
                rotated_test=0.58,
            )
        rows = compare(*measure_set(root))
    keep(rows, args.json)


if __name__ == "__main__":
    main()
