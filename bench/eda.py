"""Does the rotation measurement separate upright from rotated hands, and what does looking at a data set cost?

On a synthetic set whose manifest says who is rotated: the 33-degree rule on annotations (train) and on a submission
CSV (test; the answers as a table), found bands of noise against planted ones, seconds of the whole command, and its
peak memory on the set and on one a quarter as large. The usual way for the cost of an image is a dense mask a class
(np.uint8, fillPoly), from which areas, the two centres and all overlaps are taken in numpy, in the same process.

    python bench/eda.py [--quick] [--keep DIR] [--json FILE]
"""

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from common import flags, keep, machine
from hands import hand_set
from phalanx.config import SegmentData
from phalanx.data.brightness import BRIGHT
from phalanx.data.images import read_grey
from phalanx.data.polygons import read_annotations
from phalanx.data.records import Record, test_records, train_records
from phalanx.data.rotation import BASE, LIMIT, TIP, tilt
from phalanx.data.truth import truth_of
from phalanx.eda.measure import measure
from phalanx.eda.report import explore
from phalanx.phantom.anatomy import HAND_CLASSES
from phalanx.submission.table import write

CLASSES = list(HAND_CLASSES)
MB = 1e6 if sys.platform == "darwin" else 1e3  # of the units that the system counts memory in


def data_of(root: Path) -> SegmentData:
    return SegmentData(name="hand", root=root, classes=CLASSES, size=256)


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
    truth = truth_of(records, data_of(root))
    write(path, ((name, truth.rles(name)) for name in truth.images), CLASSES, truth.sizes)


def look(root: Path, out: Path, csv: Path) -> tuple[float, float, float]:
    """Seconds of `phalanx eda`, and the peak memory of this process and of its largest worker in MB."""
    began = time.perf_counter()
    explore(data_of(root), out, csv=csv, workers=-1, progress=False)
    seconds = time.perf_counter() - began
    peaks = [resource.getrusage(who).ru_maxrss / MB for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return seconds, peaks[0], peaks[1]


def looked(root: Path, folder: Path) -> tuple[pd.DataFrame, tuple[float, float, float]]:
    """The images' table of `phalanx eda`, and its cost, in a process of its own so that the peaks are its own."""
    out, csv = folder / f"{root.name}-eda", folder / f"{root.name}.csv"
    answers_csv(root, csv)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        cost = pool.submit(look, root, out, csv).result()
    return pd.read_csv(out / "images.csv"), cost


def per_image(do: Callable[[Record], Any], records: list[Record]) -> tuple[list[Any], float]:
    """What ``do`` gives for each record, and milliseconds of one core an image (median)."""
    found, spent = [], []
    for record in records:
        began = time.process_time()
        found.append(do(record))
        spent.append(time.process_time() - began)
    return found, 1e3 * float(np.median(spent))


def found_against_planted(table: pd.DataFrame, root: Path) -> list[dict[str, Any]]:
    planted = pd.DataFrame(json.loads((root / "manifest.json").read_text())["images"]).set_index("image")
    planted = planted.loc[[name.rsplit(".", 1)[0] for name in table["image_name"]]]
    rotated, split = planted["rotated"].to_numpy(), planted["split"].to_numpy()
    degrees = table["degrees"].fillna(table["degrees_csv"]).to_numpy()
    band = np.array([("noise_band" in faults) for faults in planted["faults"]])
    told = degrees >= LIMIT
    gap = degrees[rotated].min() - degrees[~rotated].max()
    ratio, planted_ratio = (
        side[split == "test"].mean() / max(1e-9, side[split == "train"].mean()) for side in (told, rotated)
    )
    rows = []
    for own, source in (("train", "annotations"), ("test", "a submission CSV")):
        wrong, count = int((told != rotated)[split == own].sum()), int((split == own).sum())
        claim = f"hands in the wrong rotation group, of {count} ({rotated[split == own].sum()} rotated), by {source}"
        rows.append({"claim": claim, "ours": wrong, "baseline": None, "unit": "images"})
    missed = int((table["noise_band"].to_numpy() != band).sum())
    claim = f"wrong about a band of noise, of {len(table)} images ({band.sum()} with one)"
    return [
        *rows,
        {"claim": "gap between the groups (the limit is 33)", "ours": gap, "baseline": None, "unit": "degrees"},
        {"claim": "rotated hands, test over train", "ours": ratio, "baseline": planted_ratio, "unit": "x"},
        {"claim": claim, "ours": missed, "baseline": None, "unit": "images"},
    ]


def image_costs(root: Path, size: int, count: int) -> list[dict[str, Any]]:
    cv2.setNumThreads(1)
    records, data = train_records(root)[:count], data_of(root)
    measure(records[0], split="train", data=data)  # loads what is loaded late
    _, reading = per_image(lambda record: read_grey(record.image), records)
    ours, quick = per_image(lambda record: measure(record, split="train", data=data), records)
    usual, slow = per_image(dense, records)
    for one, (areas, shared, degrees) in zip(ours, usual, strict=True):
        agree = np.allclose(np.array(one.areas) * size * size, areas, rtol=0.03, atol=0.02 * size)
        agree = agree and abs(one.degrees - degrees) <= 0.2
        if not agree or len(one.overlaps) < 0.8 * (np.triu(shared, 1) > 0).sum():
            raise SystemExit(f"{one.name}: the two ways do not agree")
    what = f"an image of {size}x{size}, one core"
    return [
        {"claim": f"measuring {what}", "ours": quick, "baseline": slow, "unit": "ms"},
        {"claim": f"of that, decoding {what}", "ours": reading, "baseline": None, "unit": "ms"},
    ]


def main() -> None:
    parser = flags(__doc__, quick="fewer and smaller images")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make the sets there, and use those that are there")
    args = parser.parse_args()
    patients, size, count = (40, 512, 8) if args.quick else (320, 2048, 16)
    with tempfile.TemporaryDirectory() as temporary:
        place = args.keep or Path(temporary)
        large, small = (hand_set(place, number, size, 11) for number in (patients, patients // 4))
        _, few = looked(small, Path(temporary))
        table, all_costs = looked(large, Path(temporary))
        rows = [*found_against_planted(table, large), *image_costs(large, size, count)]
    what = f"phalanx eda on {len(table)} images of {size}x{size}"
    rows += [
        {"claim": f"{what}, all cores", "ours": all_costs[0], "baseline": None, "unit": "s"},
        {"claim": f"{what}: peak memory (baseline: a quarter)", "ours": all_costs[1], "baseline": few[1], "unit": "MB"},
        {"claim": f"{what}: of its largest worker", "ours": all_costs[2], "baseline": few[2], "unit": "MB"},
    ]
    width = max(len(row["claim"]) for row in rows)
    print(f"{'':<{width}}  {'ours':>14}  {'baseline':>14}")
    for row in rows:
        told = "" if row["baseline"] is None else f"{row['baseline']:.4g} {row['unit']}"
        print(f"{row['claim']:<{width}}  {row['ours']:>6.4g} {row['unit']:<7}  {told:>14}")
    print(machine())
    keep(json.loads(json.dumps(rows, default=float)), args.json)


if __name__ == "__main__":
    main()
