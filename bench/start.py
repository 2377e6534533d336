"""How long commands take before they work: from `bash train.sh` to the first step, from `bash infer.sh` to an image.

200 synthetic hands of 512 pixels, their disk cache filled by an earlier run. The first step begins when the loop of
steps does, plus all that the loop waited for batches (so the figure is an upper bound); the first image is there when
its record is in the journal. Wall times of the quickest and the middle of several starts: other work on the machine
only adds.

    python bench/start.py [--model fpn_light] [--times 5] [--keep DIR] [--quick] [--json FILE]
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import flags, keep, phalanx

HERE = Path(__file__).resolve().parent.parent
BARS = {"train": 6.0, "infer": 5.0}  # seconds on a machine that does nothing else


def main() -> None:
    parser = flags(__doc__, "24 images of 128 pixels, two starts")
    parser.add_argument("--model", default="fpn_light", help="of configs/model; default: fpn_light")
    parser.add_argument("--times", type=int, default=5, help="starts of each command; default: 5")
    parser.add_argument("--keep", type=Path, help="folder of the data and the run, used again if it is there")
    given = parser.parse_args()
    images, size, times = (24, 128, 2) if given.quick else (200, 512, given.times)
    with tempfile.TemporaryDirectory() as scratch:
        home = given.keep or Path(scratch)
        root = home / f"hands{images}_{size}"
        if not root.exists():
            half = images // 2  # two hands a patient
            phalanx(
                "phantom", "hand", f"patients={half}", f"test_patients={half}", f"size={size}", "seed=3", f"out={root}"
            )
        words = [f"data.root={root}", f"runs={home / 'runs'}", "progress=false"]
        train = [*words, f"model={given.model}", "model.weights=none", f"data.size={size}", "fold=all", "batch=8",
                 "data.cache=disk", f"data.cache_dir={home / 'cache'}", "epochs=1", "validate_every=0"]  # fmt: skip
        first_step([*train, "name=filling"])
        found = {
            "train": [first_step([*train, f"name=start{number}"]) for number in range(times)],
            "infer": [
                first_image([*words, "experiment=filling"], home / f"start{number}.csv") for number in range(times)
            ],
        }
    rows = []
    for command, what in (("train", "the first step"), ("infer", "the first predicted image")):
        for of, value in (("quickest", min(found[command])), ("median", statistics.median(found[command]))):
            claim = f"bash {command}.sh to {what}, {images} images of {size} px, {of} of {times}"
            print(f"{claim:90} {value:6.2f} s (bar {BARS[command]:g} s)", flush=True)
            rows.append({"claim": claim, "ours": value, "baseline": BARS[command], "unit": "s"})
    keep(rows, given.json)


def first_step(words: list[str]) -> float:
    """Trains an epoch; seconds from the command to its first step."""
    began = time.time()
    shell("train", *words).wait()
    folder = Path(value_of(words, "runs")) / value_of(words, "name")
    (log,) = folder.glob("*/log.jsonl")
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    epoch = next(event for event in events if event.get("event") == "epoch")
    return epoch["time"] - epoch["seconds"] * (1 - epoch["waiting"]) - began


def first_image(words: list[str], out: Path) -> float:
    """Begins to predict; seconds from the command to the first record. The rest is not waited for."""
    out.unlink(missing_ok=True)
    began = time.time()
    process = shell("infer", *words, f"out={out}")
    part = out.with_name(f".{out.name}.part")
    while not any(file.stat().st_size for file in part.glob("rows.*")):
        if process.poll() is not None:
            raise SystemExit("infer ended without a record")
        time.sleep(0.005)
    spent = time.time() - began
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return spent


def shell(command: str, *words: str) -> subprocess.Popen[bytes]:
    """The command through its script, in a group of processes of its own."""
    line = ["bash", str(HERE / f"{command}.sh"), *words]
    return subprocess.Popen(line, stdout=sys.stderr, start_new_session=True)


def value_of(words: list[str], key: str) -> str:
    """Of ``key=value``."""
    return next(word.removeprefix(f"{key}=") for word in words if word.startswith(f"{key}="))


if __name__ == "__main__":
    main()
