"""Does the rotation measurement separate upright from rotated hands, and what does looking at a data set cost?

On a synthetic set whose manifest says who is rotated: the 33-degree rule on annotations and on a submission CSV of
the test set (the answers as a table), found bands of noise against planted ones, and seconds and memory of the whole
command. The usual way for the cost is a dense mask a class (np.uint8, fillPoly), from which areas, the two centres
and all overlaps are taken in numpy, image by image, in one process like ours.

    python bench/eda.py [--quick] [--json FILE]
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from common import flags, keep, machine
from phalanx.config import Data
from phalanx.data.polygons import read_annotations
from phalanx.data.records import Record, test_records, train_records
from phalanx.data.rotation import BASE, LIMIT, TIP, tilt
from phalanx.data.truth import truth_of
from phalanx.explain.eda import explore
from phalanx.explain.eda_measure import BRIGHT, measure
from phalanx.phantom.anatomy import HAND_CLASSES
from phalanx.phantom.hand import make_hands
from phalanx.submit.table import write

CLASSES = list(HAND_CLASSES)


def dense(record: Record) -> tuple[np.ndarray, np.ndarray, float]:
    """Areas int64[29], shared pixels int64[29, 29] and tilt of an image, from a dense mask a class."""
    image = cv2.imread(str(record.image), cv2.IMREAD_GRAYSCALE)
    _ = int((image >= BRIGHT).sum())
    masks = np.zeros((len(CLASSES), *image.shape), np.uint8)
    for label, points in read_annotations(record.labels, CLASSES):
        cv2.fillPoly(masks[label], [np.round(points).astype(np.int32)], 1)
    shared = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for a in range(len(CLASSES)):
        for b in range(a, len(CLASSES)):
            shared[a, b] = np.count_nonzero(masks[a] & masks[b])
    centres = []
    for name in (BASE, TIP):
        y, x = np.nonzero(masks[CLASSES.index(name)])
        centres.append(np.array([x.mean(), y.mean()]))
    return np.diag(shared), shared, tilt(*centres)


def answers_csv(root: Path, path: Path) -> None:
    """The test set's answers as a submission."""
    answers = root / "test" / "answers_json"
    records = [r._replace(labels=answers / r.group / f"{r.image.stem}.json") for r in test_records(root)]
    truth = truth_of(records, Data(name="hand", root=root, classes=CLASSES, size=256))
    write(path, ((name, truth.rles(name)) for name in truth.images), CLASSES, truth.sizes)


def measure_set(folder: Path, *, patients: int, size: int, slow: int) -> list[dict[str, Any]]:
    root, out, csv = folder / "hands", folder / "out", folder / "test.csv"
    made = make_hands(root, patients=patients, test_patients=patients // 3, size=size, seed=11, progress=False)
    answers_csv(root, csv)
    data = Data(name="hand", root=root, classes=CLASSES, size=256)
    began = time.perf_counter()
    explore(data, out, csv=csv, workers=-1, progress=False)
    seconds = time.perf_counter() - began
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    planted = pd.DataFrame(made["images"]).set_index("image")
    table = pd.read_csv(out / "images.csv")
    planted = planted.loc[[name.rsplit(".", 1)[0] for name in table["image_name"]]]
    rotated, band = planted["rotated"].to_numpy(), [("noise_band" in faults) for faults in planted["faults"]]
    degrees = table["degrees"].fillna(table["degrees_csv"]).to_numpy()
    wrong = int(((degrees >= LIMIT) != rotated).sum())
    gap = degrees[rotated].min() - degrees[~rotated].max()
    missed = int((table["noise_band"].to_numpy() != np.array(band)).sum())
    shift = pd.read_csv(out / "shift.csv", index_col="trait").loc["rotated"]
    planted_ratio = rotated[planted["split"] == "test"].mean() / max(1e-9, rotated[planted["split"] == "train"].mean())

    records = train_records(root)[:slow]
    began = time.perf_counter()
    ours = [measure(record, split="train", data=data) for record in records]
    quick = (time.perf_counter() - began) / slow
    began = time.perf_counter()
    usual = [dense(record) for record in records]
    baseline = (time.perf_counter() - began) / slow
    for one, (areas, shared, degrees_dense) in zip(ours, usual, strict=True):
        agree = np.allclose(np.array(one.areas) * size * size, areas, rtol=0.03, atol=0.02 * size)
        if (
            not agree
            or abs(one.degrees - degrees_dense) > 0.2
            or len(one.overlaps) < 0.8 * (np.triu(shared, 1) > 0).sum()
        ):
            raise SystemExit(f"{one.name}: the two ways do not agree")
    what = f"{len(table)} images of {size}x{size}"
    return [
        {"claim": f"hands in the wrong rotation group, of {what}", "ours": wrong, "baseline": 0, "unit": "images"},
        {"claim": "gap between the groups (the limit is 33)", "ours": gap, "baseline": None, "unit": "degrees"},
        {"claim": "rotated patients, test over train", "ours": shift["ratio"], "baseline": planted_ratio, "unit": "x"},
        {"claim": f"wrong about a band of noise, of {what}", "ours": missed, "baseline": 0, "unit": "images"},
        {"claim": f"measuring an image of {size}x{size}, one core", "ours": quick * 1e3, "baseline": baseline * 1e3,
         "unit": "ms"},
        {"claim": f"phalanx eda on {what}, all cores", "ours": seconds, "baseline": None, "unit": "s"},
        {"claim": f"memory of the largest process, {what}", "ours": peak / (1e6 if sys.platform == "darwin" else 1e3),
         "baseline": None, "unit": "MB"},
    ]  # fmt: skip


def main() -> None:
    args = flags(__doc__, quick="fewer and smaller images").parse_args()
    patients, size, slow = (12, 1024, 4) if args.quick else (60, 2048, 6)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_set(Path(folder), patients=patients, size=size, slow=slow)
    width = max(len(row["claim"]) for row in rows)
    print(f"{'':<{width}}  {'ours':>12}  {'planted or usual':>16}")
    for row in rows:
        told = "" if row["baseline"] is None else f"{row['baseline']:.4g} {row['unit']}"
        print(f"{row['claim']:<{width}}  {row['ours']:>7.4g} {row['unit']:<6}{told:>16}")
    print(machine())
    keep(json.loads(json.dumps(rows, default=float)), args.json)


if __name__ == "__main__":
    main()
