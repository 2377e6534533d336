"""From PNG and JSON on disk to a batch: bit-planes and one warp, against the usual pipeline.

The usual one: OpenCV decodes, fillPoly draws one plane a class, albumentations flips, moves (affine) and bends
(elastic) image and uint8[S, S, 29], and the target is float32. Every transform takes place every time, in both. One
core each, in turns, medians. Without decoding, both begin with image and masks of the working grid in memory.

    python bench/data.py [--quick] [--json FILE]
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from common import flags, keep, machine
from phalanx.config import Augment, SegmentData, validate_as
from phalanx.data.cache import SampleCache
from phalanx.data.dataset import Batch, TrainingSet, collate
from phalanx.data.layouts import train_records
from phalanx.data.records import Record
from phalanx.phantom.anatomy import HAND_CLASSES
from phalanx.phantom.hand import make_hands

WARP = {"flip": 1.0, "warp": 1.0, "shift": 0.05, "scale": 0.1, "rotate": 15, "elastic": {"p": 1.0}}


class Usual:
    """What most notebooks do."""

    def __init__(self, records: Sequence[Record]):
        import albumentations

        self.records = records
        self.chain = albumentations.Compose(
            [
                albumentations.HorizontalFlip(p=1.0),
                albumentations.Affine(translate_percent=0.05, scale=(0.9, 1.1), rotate=(-15, 15), p=1.0),
                albumentations.ElasticTransform(p=1.0, approximate=True),  # the quicker of its two ways
            ],
            seed=0,
        )

    def read(self, which: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self._read(index) for index in which]

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        record = self.records[index]
        image = cv2.imread(str(record.image), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        assert record.labels is not None
        planes = np.zeros((len(HAND_CLASSES), *image.shape), np.uint8)
        for item in json.loads(record.labels.read_text())["annotations"]:
            outline = np.array(item["points"]).round().astype(np.int32)
            cv2.fillPoly(planes[HAND_CLASSES.index(item["label"])], [outline], 1)
        return image, np.ascontiguousarray(planes.transpose(1, 2, 0))

    def batch(self, samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
        images, targets = [], []
        for image, masks in samples:
            moved = self.chain(image=image, mask=masks)
            images.append(torch.from_numpy(moved["image"])[None].float() / 255)
            targets.append(torch.from_numpy(moved["mask"]).permute(2, 0, 1))
        return torch.stack(images), torch.stack(targets).float()  # the quickest order of three: stacked as bytes


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Seconds, and the result."""
    start = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - start, result


def batch_of(source: TrainingSet, epoch: int, which: Sequence[int]) -> Any:
    return collate([source[epoch, i] for i in which])


def compare(root: Path, size: int, rounds: int, batch: int = 2) -> list[dict[str, Any]]:
    """Rows of images/s and bytes for a set of images of ``size`` pixels."""
    data = SegmentData(name="hand", root=root, classes=list(HAND_CLASSES), size=size, cache="none")
    records = train_records(data)
    augment = validate_as(Augment, WARP)

    def training(kind: str) -> TrainingSet:
        changed = data.model_copy(update={"cache": kind})
        return TrainingSet(records, data=changed, augment=augment, seed=0, cache=SampleCache(changed))

    usual, read, kept = Usual(records), training("none"), training("ram")
    times: dict[str, list[float]] = {"usual": [], "ours": [], "usual decoded": [], "ours decoded": []}
    held: tuple[Tensor, Tensor] | None = None
    made: Any = None
    for number in range(rounds):
        which = [(number * batch + i) % len(records) for i in range(batch)]
        held = None
        spent, decoded = timed(usual.read, which)
        warped, held = timed(usual.batch, decoded)
        times["usual"].append(spent + warped)
        times["usual decoded"].append(warped)
        for name, source in (("ours", read), ("ours decoded", kept)):
            spent, made = timed(batch_of, source, number, which)
            times[name].append(spent)
    assert isinstance(made, Batch)
    assert held is not None
    rate = {name: batch / float(np.median(values[1:])) for name, values in times.items()}  # the first warms up
    target, sample = _bytes(held[1]) / _bytes(made.planes), _bytes(*held) / _bytes(made.images, made.planes)
    where = f"at {size}, 29 classes"
    return [
        _rate(f"PNG and JSON on disk to batch {where}", rate["ours"], rate["usual"]),
        _rate(f"decoded to batch {where}", rate["ours decoded"], rate["usual decoded"]),
        _size(f"target {where}", _bytes(made.planes) / batch, target),
        _size(f"sample {where}", _bytes(made.images, made.planes) / batch, sample),
    ]


def _rate(claim: str, ours: float, baseline: float) -> dict[str, Any]:
    return {"claim": claim, "ours": ours, "baseline": baseline, "ratio": ours / baseline, "unit": "images/s"}


def _size(claim: str, ours: float, ratio: float) -> dict[str, Any]:
    return {"claim": claim, "ours": ours / 1e6, "baseline": ours * ratio / 1e6, "ratio": ratio, "unit": "MB"}


def _bytes(*tensors: Tensor) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def planes_of(cache: SampleCache, record: Record) -> np.ndarray:
    return cache(record).runs.planes()


def cache_rows(root: Path, size: int, folder: Path) -> list[dict[str, Any]]:
    """Rows of the time to have a prepared sample, and of its bytes, by where it was kept."""
    rows: list[dict[str, Any]] = []
    times, held = {}, 0
    for kind in ("none", "ram", "disk"):
        data = SegmentData(name="hand", root=root, classes=list(HAND_CLASSES), size=size, cache=kind, cache_dir=folder)
        cache, records = SampleCache(data), train_records(data)
        cache.add(records, progress=False)
        spent = [timed(planes_of, cache, record)[0] for record in records[:4] * 3]
        times[kind] = float(np.median(spent)) * 1000
        held = cache(records[0]).nbytes
    for kind in ("ram", "disk"):
        claim = f"prepared sample at {size} from cache={kind} (baseline: cache=none)"
        rows.append({"claim": claim, "ours": times[kind], "baseline": times["none"], "unit": "ms"})
    whole = size * size * (1 + 4)
    rows.append(_size(f"prepared sample at {size} in the cache (baseline: image and planes)", held, whole / held))
    return rows


def main() -> None:
    args = flags(__doc__, quick="smaller images, fewer rounds").parse_args()
    sizes, rounds = ([512, 1024], 5) if args.quick else ([1024, 2048], 15)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            root = Path(folder) / str(size)
            make_hands(root, patients=6, size=size, seed=1, progress=False)
            rows += compare(root, size, rounds) + cache_rows(root, size, Path(folder) / "cache")
    width = max(len(row["claim"]) for row in rows)
    for row in rows:
        ratio = row.get("ratio", row["baseline"] / row["ours"])
        print(f"{row['claim']:<{width}}  {row['ours']:>8.4g}  {row['baseline']:>8.4g} {row['unit']}  {ratio:.1f}x")
    print(machine())
    keep(rows, args.json)


if __name__ == "__main__":
    main()
