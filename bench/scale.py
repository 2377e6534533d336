"""Memory of a check, EDA, folds and votes by the record: what 10^6 records take above 10^4, per record, in bytes.

The images are in one tar, in the layout of labels in a CSV, each with pixels of its own. Records, table, archive,
comparisons and reports are those of the commands; of the pixels alone less is measured than by `phalanx check` (their
digest, thumbnail and hash), since that takes hours and no memory. Each measurement is a process of its own, and what is
compared is the most memory that it ever had (VmHWM). Votes are of three CSVs: of masks with 10^6 rows each, 29 classes,
and of probabilities with 10^6 images.

    python bench/scale.py [--quick] [--json FILE]
"""

import json
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common import flags, keep, machine, memory

CLASSES = ("AC", "BPD", "FL", "AFI", "3D")  # of data=ultrasound
SIDE, FEW, BAR = 8, 10_000, 300
BARRED = ("check", "folds", "masks", "labels")  # EDA draws figures of all images, for which no bar is set
MEMBERS, LABELS = 3, 29


def png(pixels: np.ndarray) -> bytes:
    """A grey PNG of uint8[SIDE, SIDE], not compressed."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")


def tar_head(name: str, size: int) -> bytes:
    """The head of a file in a tar (USTAR)."""
    fields = [
        name.encode().ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", f"{size:011o}\0".encode(),
        b"00000000000\0", b" " * 8, b"0", b"\0" * 100, b"ustar\00000", b"\0" * 247,
    ]  # fmt: skip
    fields[6] = f"{sum(map(sum, fields)):06o}\0 ".encode()
    return b"".join(fields)


def make_set(root: Path, count: int) -> None:
    """A tar of ``count`` images of patients with two each, and the CSV of their labels."""
    rng = np.random.default_rng(0)
    with root.open("wb") as tar:

        def add(name: str, content: bytes) -> None:
            tar.write(tar_head(name, len(content)) + content + b"\0" * (-len(content) % 512))

        lines = [f"image_name,patient,{','.join(CLASSES)}"]
        for first in range(0, count, 4096):
            coarse = rng.integers(0, 200, (min(4096, count - first), SIDE // 2, SIDE // 2))
            pixels = np.kron(coarse, np.ones((2, 2), int)) + rng.integers(0, 55, (len(coarse), SIDE, SIDE))
            for number, one in enumerate(pixels.astype(np.uint8), first):
                name = f"P{number // 2:06d}-{number % 2}.png"
                add(f"train/images/{name}", png(one))
                cells = ["1" if number % len(CLASSES) == c else "0" for c in range(len(CLASSES))]
                lines.append(f"{name},P{number // 2:06d},{','.join(cells)}")
        add("train.csv", ("\n".join(lines) + "\n").encode())
        tar.write(b"\0" * 1024)


def make_masks(folder: Path, rows: int) -> list[str]:
    """Members with a mask of each of LABELS classes in images of 64 x 64 pixels."""
    names = []
    for member in range(MEMBERS):
        path = folder / f"masks{member}.csv"
        with path.open("w", encoding="utf-8") as file:
            file.write("image_name,class,rle\n")
            for row in range(rows):
                image, label = divmod(row, LABELS)
                begin = 1 + 100 * label + 64 * (image % 9) + image % 13
                runs = (f"{begin + 64 * line} {10 + (member + line) % 2}" for line in range(4))
                file.write(f"image{image:06d}.png,c{label},{' '.join(runs)}\n")
        names.append(str(path))
    return names


def make_probabilities(folder: Path, images: int) -> list[str]:
    """Members with probabilities of three classes."""
    names = []
    for member in range(MEMBERS):
        path, rng = folder / f"labels{member}.csv", np.random.default_rng(1)
        with path.open("w", encoding="utf-8") as file:
            file.write("image_name,a,b,c\n")
            for first in range(0, images, 10_000):
                values = rng.random((min(10_000, images - first), 3)) * 0.9 + member * 0.01
                for number, (a, b, c) in enumerate(values.tolist(), first):
                    file.write(f"image{number:06d}.png,{a:.6f},{b:.6f},{c:.6f}\n")
        names.append(str(path))
    return names


def checked(folder: Path, count: int) -> None:
    """``phalanx check``, whose inspection of pixels is replaced by their digest, thumbnail and hash."""
    import hashlib

    from phalanx.checks import labels
    from phalanx.checks.inspection import Inspection
    from phalanx.checks.pixels import perceptual_hash
    from phalanx.commands.datasets import check

    def inspect(item: Any) -> Inspection:
        image = cv2.imdecode(np.frombuffer(item[0].image.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
        assert image is not None
        found = Inspection(item[0], item[1], np.zeros((0, 6)), shape=(SIDE, SIDE), form="png, 8 bit, grey")
        found.pixels = hashlib.sha256(image.tobytes()).digest()
        found.hash, found.thumb = perceptual_hash(image)
        return found

    labels._inspect = inspect
    words = ["data=ultrasound", f"data.root={folder / 'set.tar'}", f"json={folder / 'check.json'}", "workers=1"]
    if check([*words, "progress=false"]):
        raise SystemExit("the check found errors")
    report = json.loads((folder / "check.json").read_text())
    if report["images"]["train"] != count:
        raise SystemExit("the check missed images")


def folded(folder: Path, count: int) -> None:
    """``phalanx folds``."""
    from phalanx.commands.datasets import folds

    out = folder / f"folds{count}.csv"
    folds(["data=ultrasound", f"data.root={folder / 'set.tar'}", f"out={out}"])
    with out.open(encoding="utf-8") as file:
        if sum(1 for _ in file) != count + 1:
            raise SystemExit("the folds miss images")


def explored(folder: Path, count: int) -> None:
    """``phalanx eda``."""
    from phalanx.commands.datasets import eda

    out = folder / f"eda{count}"
    words = ["data=ultrasound", f"data.root={folder / 'set.tar'}", f"out={out}", "workers=1", "progress=false"]
    eda(words)
    with (out / "images.csv").open(encoding="utf-8") as file:
        if sum(1 for _ in file) != count + 1:
            raise SystemExit("the EDA misses images")


def voted_masks(folder: Path, count: int) -> None:
    """``phalanx ensemble mode=hard`` of CSVs of masks."""
    from phalanx.ensemble.options import EnsembleOptions
    from phalanx.ensemble.run import vote

    names = [str(folder / f"masks{member}.csv") for member in range(MEMBERS)]
    vote(EnsembleOptions(mode="hard", members=names, size=(64, 64), out=folder / "voted_masks.csv", out_of_fold=False))


def voted_labels(folder: Path, count: int) -> None:
    """``phalanx ensemble mode=soft`` of CSVs of probabilities."""
    from phalanx.ensemble.classify import VoteLabels, vote

    names = [str(folder / f"labels{member}.csv") for member in range(MEMBERS)]
    vote(VoteLabels(mode="soft", members=names, head="sigmoid", out=folder / "voted_labels.csv", out_of_fold=False))


MAKE: dict[str, Callable[[Path, int], Any]] = {
    "check": lambda folder, count: make_set(folder / "set.tar", count),
    "folds": lambda folder, count: make_set(folder / "set.tar", count),
    "eda": lambda folder, count: make_set(folder / "set.tar", count),
    "masks": lambda folder, count: make_masks(folder, -(-count // LABELS) * LABELS),
    "labels": make_probabilities,
}
WORK: dict[str, Callable[[Path, int], None]] = {
    "check": checked, "folds": folded, "eda": explored, "masks": voted_masks, "labels": voted_labels,
}  # fmt: skip
NAMES = {
    "check": "check of {} images with labels in a tar",
    "folds": "folds of {} images with labels in a tar",
    "eda": "EDA of {} images with labels in a tar",
    "masks": "hard vote of 3 members x {} masks",
    "labels": "soft vote of 3 members x {} images with 3 classes",
}


def alone(what: str, folder: Path, count: int) -> dict[str, float]:
    """Peak in MB and CPU seconds of the work in a process that does nothing else."""
    words = [sys.executable, __file__, "--child", what, str(folder), str(count)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def child(what: str, folder: str, count: str) -> None:
    """The work, and a line of what it took."""
    begun = time.process_time()
    WORK[what](Path(folder), int(count))
    print(json.dumps({"peak": memory("VmHWM"), "seconds": time.process_time() - begun}))


def main() -> None:
    if "--child" in sys.argv:
        child(*sys.argv[sys.argv.index("--child") + 1 :])
        return
    parser = flags(__doc__, quick="20,000 records above 2,000")
    parser.add_argument(
        "--only", default=",".join(WORK), help="some of these; the others' rows in FILE stay: " + ",".join(WORK)
    )
    parser.add_argument("--count", type=int, help="records instead of 10^6")
    args = parser.parse_args()
    few, many = (2_000, 20_000) if args.quick else (FEW, args.count or 1_000_000)
    chosen = args.only.split(",")
    earlier = json.loads(args.json.read_text()) if args.json and args.json.is_file() else []
    kept = tuple(NAMES[what].partition(" of ")[0] for what in WORK if what not in chosen)
    rows = [row for row in earlier if row["claim"].startswith(kept)]
    for what in chosen:
        found = {}
        for count in (few, many):
            with tempfile.TemporaryDirectory() as folder:
                MAKE[what](Path(folder), count)
                found[count] = alone(what, Path(folder), count)
        each = (found[many]["peak"] - found[few]["peak"]) * (1 << 20) / (many - few)
        name = NAMES[what].format(f"{many:,}")
        bar = float(BAR) if what in BARRED else None
        rows.append({"claim": f"{name}: memory of each above {few:,}{' (baseline: the bar)' if bar else ''}",
                     "ours": each, "baseline": bar, "unit": "bytes"})  # fmt: skip
        rows.append({"claim": f"{name}: peak of the process", "ours": found[many]["peak"] * 1.048576, "unit": "MB"})
        rows.append({"claim": name, "ours": found[many]["seconds"], "unit": "CPU s"})
        print(*(f"{row['claim']}: {row['ours']:.4g} {row['unit']}" for row in rows[-3:]), sep="\n", flush=True)
    print(machine())
    keep(rows, args.json)


if __name__ == "__main__":
    main()
