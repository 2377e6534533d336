"""Run-length work against the usual notebook way: encoding a hand's masks, and a hard vote of three members.

Masks are 29 bones about as large as a hand's in 2048 x 2048; each member's outlines differ a little.
Ours includes reading, checking, comparing and writing the CSVs; the usual way is only decoding, adding and encoding.
Streaming is measured in a process of its own, on members whose rows lie in any order, with short RLEs.

    python bench/vote.py [--quick] [--json FILE]
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from common import flags, keep, machine
from phalanx.masks import rle
from phalanx.masks.planes import pack
from phalanx.scoring.score import score
from phalanx.submission.matching import known_sizes
from phalanx.submission.table import Submission, write
from phalanx.voting.agreement import measure_agreement
from phalanx.voting.vote import hard_vote

SIDE = 2048
CLASSES = [f"bone-{i + 1}" for i in range(29)]
MEMBERS = 3
STREAM_SIDE, POSES = 64, 40
CHILD = """
import json, sys, time
from pathlib import Path
from phalanx.voting.agreement import measure_agreement
from phalanx.submission.matching import known_sizes
from phalanx.submission.table import Submission, write
from phalanx.voting.vote import hard_vote

def status(key):  # of this program alone: a child's ru_maxrss begins with its parent's
    return int(Path("/proc/self/status").read_text().split(key + ":")[1].split()[0]) * 1024

before, began = status("VmRSS"), time.process_time()
side = int(sys.argv[2])
members = [Submission.read(path, sizes=(side, side)) for path in sys.argv[3:]]
agreement = measure_agreement(members)
agreement.misaligned_in_sample
write(sys.argv[1], hard_vote(members, observe=agreement.observe), members[0].classes, known_sizes(members))
agreement.misaligned
print(json.dumps({"bytes": status("VmHWM") - before, "peak": status("VmHWM"), "seconds": time.process_time() - began}))
"""


def bones(rng: np.random.Generator) -> np.ndarray:
    """float64[29, 5]: x, y, half length, half width, tilt: five rays, the wrist, the two forearm bones."""
    rows = []
    for ray, (angle, reach) in enumerate([(-0.8, 0.7), (-0.2, 0.95), (0.0, 1.0), (0.15, 0.95), (0.35, 0.8)]):
        joints = [(250, 150, 50), (480, 95, 42), (650, 60, 38), (770, 45, 32)]
        for distance, half, width in joints if ray else joints[:3]:
            x, y = np.sin(angle) * distance * reach, -np.cos(angle) * distance * reach
            rows.append([x, y, half * reach, width, angle])
    rows += [[70 * (i % 4) - 110, 75 * (i // 4) - 20, 50, 40, i] for i in range(8)]  # carpals overlap
    rows += [[-60, 350, 260, 90, 0.05], [110, 370, 250, 60, -0.05]]
    vary = rng.normal(0, 4, (29, 5)) * np.array([1, 1, 1, 1, 0.01])
    return np.array(rows) + vary + np.array([SIDE / 2, SIDE / 2 + 200, 0, 0, 0])


def outline_runs(bone: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Runs int64[N, 2] of an ellipse whose border wavers by a pixel or two, as predicted ones do."""
    x, y, length, width, tilt = bone
    c, s = np.cos(tilt), np.sin(tilt)
    # Row by row: a dx^2 + 2 b dx dy + e dy^2 <= 1
    a, b = c**2 / width**2 + s**2 / length**2, c * s * (1 / width**2 - 1 / length**2)
    e = s**2 / width**2 + c**2 / length**2
    rows = np.arange(max(int(y - length), 0), min(int(y + length), SIDE))
    dy = rows - y
    root = (b * dy) ** 2 - a * (e * dy**2 - 1)
    rows, dy, root = rows[root > 0], dy[root > 0], np.sqrt(root[root > 0])
    ends = x + (-b * dy + [[-1.0], [1.0]] * root) / a + rng.normal(0, 1, (2, len(rows)))
    left, right = np.clip(np.round(ends), 0, SIDE - 1).astype(np.int64)
    keep = right > left
    return (rows[keep] * SIDE)[:, None] + np.stack([left[keep], right[keep]], axis=1)


def member_rows(images: int, member: int) -> Iterator[tuple[str, list[str]]]:
    for i in range(images):
        hand, rng = bones(np.random.default_rng(i)), np.random.default_rng([i, member])
        yield f"image{i:05d}", [rle.format_runs(outline_runs(bone, rng)) for bone in hand]


def notebook_encode(mask: np.ndarray) -> str:
    """The encoder of most notebooks (without the error that zeroes corner pixels)."""
    pixels = np.concatenate([[0], mask.flatten(), [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(x) for x in runs)


def notebook_decode(text: str) -> np.ndarray:
    numbers = np.asarray(text.split(), dtype=int)
    mask = np.zeros(SIDE * SIDE, np.uint8)
    for start, length in zip(numbers[::2] - 1, numbers[1::2], strict=True):
        mask[start : start + length] = 1
    return mask.reshape(SIDE, SIDE)


def notebook_vote(tables: list[list[str]]) -> list[str]:
    voted = []
    for texts in zip(*tables, strict=True):
        votes = np.zeros((SIDE, SIDE), np.uint8)
        for text in texts:
            votes += notebook_decode(text)
        voted.append(notebook_encode((votes >= 2).astype(np.uint8)))
    return voted


def best(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of the fastest of some repeats: the one least disturbed by others on the machine."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def measure_encoding(repeats: int) -> list[dict]:
    texts = next(member_rows(1, 0))[1]
    masks = np.stack([rle.decode(text, (SIDE, SIDE)) for text in texts])
    as_bytes, planes = masks.astype(np.uint8), pack(masks)
    if not (texts == [notebook_encode(m) for m in as_bytes] == [rle.encode(m) for m in masks]):
        raise SystemExit("the encoders do not agree")
    if rle.encode_planes(planes, 29) != texts:
        raise SystemExit("encoding bit-planes does not agree")
    usual = best(lambda: [notebook_encode(mask) for mask in as_bytes], 3)
    ours = best(lambda: [rle.encode(mask) for mask in masks], repeats)
    words = best(lambda: rle.encode_planes(planes, 29), repeats)
    what = "RLE of 29 masks of 2048x2048"
    return [
        {"claim": f"{what}, one bool array each", "ours": ours * 1e3, "baseline": usual * 1e3, "unit": "CPU ms"},
        {"claim": f"{what}, from bit-planes", "ours": words * 1e3, "baseline": usual * 1e3, "unit": "CPU ms"},
    ]


def vote_alone(out: Path, side: int, paths: list[Path]) -> dict:
    """Bytes added and at the peak, and CPU seconds, of a vote in a process that does nothing else."""
    words = [sys.executable, "-c", CHILD, out, str(side), *paths]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def measure_vote(folder: Path, images: int, slow_images: int, repeats: int) -> list[dict]:
    sizes = {f"image{i:05d}": (SIDE, SIDE) for i in range(images)}
    paths = [folder / f"member{m}.csv" for m in range(MEMBERS)]
    for m, path in enumerate(paths):
        write(path, member_rows(images, m), CLASSES, sizes)

    def ours() -> None:
        members = [Submission.read(path) for path in paths]
        agreement = measure_agreement(members)
        early = agreement.misaligned_in_sample
        rows = hard_vote(members, observe=agreement.observe)
        write(folder / "voted.csv", rows, CLASSES, known_sizes(members))
        if early or agreement.misaligned:
            raise SystemExit("good members were called misaligned")

    seconds = best(ours, repeats)
    members, voted = [Submission.read(path) for path in paths], Submission.read(folder / "voted.csv")
    tables = {image: [member.rles(image) for member in members] for image in voted.images[:slow_images]}
    start = time.process_time()
    expected = {image: notebook_vote(rows) for image, rows in tables.items()}
    usual = (time.process_time() - start) / slow_images * images
    if any(voted.rles(image) != texts for image, texts in expected.items()):
        raise SystemExit("the votes do not agree")
    start = time.process_time()
    score(members[0], voted)
    scoring = time.process_time() - start
    start = time.process_time()
    for image in tables:
        for a, b in zip(members[0].rles(image), voted.rles(image), strict=True):
            x, y = notebook_decode(a), notebook_decode(b)
            _ = 2 * (x & y).sum() / (x.sum() + y.sum())
    slow_scoring = (time.process_time() - start) / slow_images * images
    what = f"{images} images x 29 classes at 2048, usual way scaled from {slow_images} images"
    peak = vote_alone(folder / "voted.csv", SIDE, paths)["peak"]
    return [
        {"claim": f"hard vote of 3 members, {what}", "ours": seconds, "baseline": usual, "unit": "CPU s"},
        {"claim": "peak of that vote's process", "ours": peak / 1e6, "unit": "MB"},
        {"claim": f"Dice of a table, {what}", "ours": scoring, "baseline": slow_scoring, "unit": "CPU s"},
    ]


def write_shuffled(path: Path, images: int, member: int) -> None:
    """A member of many small images, which repeat every POSES, with all rows in one random order."""
    rng = np.random.default_rng(member)
    y, x = np.mgrid[:STREAM_SIDE, :STREAM_SIDE]
    texts = []
    for pose in range(POSES):
        places = np.random.default_rng(pose).uniform(8, STREAM_SIDE - 8, (len(CLASSES), 2)) + rng.normal(0, 0.5)
        texts.append([rle.encode((x - a) ** 2 + (y - b) ** 2 < 20) for a, b in places])
    with path.open("w", encoding="utf-8") as file:
        file.write("image_name,class,rle\n")
        for row in rng.permutation(images * len(CLASSES)).tolist():
            image, label = divmod(row, len(CLASSES))
            file.write(f"image{image:05d},{CLASSES[label]},{texts[image % POSES][label]}\n")


def measure_streaming(folder: Path, images: int, members: int) -> list[dict]:
    """Memory by the row of members read, in a process that does nothing else."""
    paths = [folder / f"stream{m}.csv" for m in range(members)]
    for m, path in enumerate(paths):
        write_shuffled(path, images, m)
    told = vote_alone(folder / "streamed.csv", STREAM_SIDE, paths)
    voted = Submission.read(folder / "streamed.csv")
    tables = [Submission.read(path) for path in paths]
    for image in voted.images[:: images // 4]:  # the vote itself, on pixels
        votes = sum(
            np.stack([rle.decode(text, (STREAM_SIDE, STREAM_SIDE)) for text in table.rles(image)]).astype(int)
            for table in (one.reorder(voted.classes) for one in tables)
        )
        if voted.rles(image) != [rle.encode(mask) for mask in votes * 2 > members]:
            raise SystemExit("the streamed vote is wrong")
    rows = members * images * len(CLASSES)
    what = f"streamed vote of {members} members x {images} images x 29 classes, rows shuffled"
    return [
        {"claim": f"{what}: memory per row", "ours": told["bytes"] / rows, "unit": "bytes"},
        {"claim": f"{what}: peak of the process", "ours": told["peak"] / 1e6, "unit": "MB"},
        {"claim": f"{what}", "ours": told["seconds"], "unit": "CPU s"},
    ]


def main() -> None:
    args = flags(__doc__, quick="fewer images and repeats").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure_encoding(repeats=15 if args.quick else 30)
        images, slow, repeats = (48, 3, 3) if args.quick else (288, 12, 3)
        results += measure_vote(Path(folder), images, slow, repeats)
        results += measure_streaming(Path(folder), images=1_000 if args.quick else 10_000, members=10)
    width = max(len(row["claim"]) for row in results)
    print(f"{'':<{width}}  {'ours':>10}  {'usual way':>10}  ratio")
    for row in results:
        ours, usual = (f"{row[key]:.4g} {row['unit']}" if key in row else "" for key in ("ours", "baseline"))
        ratio = f"{row['baseline'] / row['ours']:.1f}x" if usual else ""
        print(f"{row['claim']:<{width}}  {ours:>10}  {usual:>10}  {ratio}")
    print(machine())
    keep(results, args.json)


if __name__ == "__main__":
    main()
