"""What a lone training pays for threads that wait briefly, and what two at once gain.

By default OpenMP's threads spin for milliseconds after each operation (libgomp: 300,000 turns); phalanx sets a count of
some microseconds, unless the user has chosen. Both settings take turns: one training alone, then two at the same time,
each with as many threads as there are cores. Medians of rounds, ratios within rounds.

    python bench/waiting.py [--quick] [--json FILE]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import flags, keep, machine
from phalanx.phantom.hand import make_hands

USUAL = {"GOMP_SPINCOUNT": "300000"}  # libgomp's default
SETTINGS: dict[str, dict[str, str]] = {"ours": {}, "usual": USUAL}


def seconds(root: Path, side: int, epochs: int, count: int, environment: dict[str, str]) -> float:
    """Wall time until ``count`` trainings, begun together, have all ended."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))} | environment
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "fold=0", "experiment=demo_fpn", "data.oversample=null", f"data.root={root}", f"data.size={side}",
            f"epochs={epochs}", "folds=2", "validate_every=1000", "workers=0", "progress=false", "device=cpu",
            f"runs={folder}",
        ]  # fmt: skip
        began = time.monotonic()
        running = [
            subprocess.Popen([sys.executable, "-m", "phalanx", "train", *words, f"name=r{i}"], env=own,
                             stdout=subprocess.DEVNULL)
            for i in range(count)
        ]  # fmt: skip
        if any(process.wait() for process in running):
            raise SystemExit("a training failed")
        return time.monotonic() - began


def main() -> None:
    args = flags(__doc__, quick="one round of one epoch; its numbers mean nothing").parse_args()
    # two that spin at once take minutes, so there is one round of them
    rounds, side, epochs = ({1: 1, 2: 1}, 64, 1) if args.quick else ({1: 3, 2: 1}, 160, 4)
    spent: dict[tuple[str, int], list[float]] = {(name, count): [] for name in SETTINGS for count in (1, 2)}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "hands"
        make_hands(root, patients=12, test_patients=1, size=256, seed=4, progress=False)
        for count, turns in rounds.items():
            for turn in range(turns):
                for name in SETTINGS if turn % 2 else reversed(SETTINGS):
                    spent[name, count].append(seconds(root, side, epochs, count, SETTINGS[name]))
    rows = []
    for count, what in ((1, "one training alone"), (2, "two trainings at once")):
        ours, usual = spent["ours", count], spent["usual", count]
        ratio = statistics.median(b / a for a, b in zip(ours, usual, strict=True))
        rows.append({
            "claim": what, "ours": statistics.median(ours), "baseline": statistics.median(usual), "ratio": ratio,
            "unit": "s",
        })  # fmt: skip
        print(f"{what:24} {rows[-1]['ours']:8.4g} {rows[-1]['baseline']:8.4g} s x{ratio:.3f}")
    print(machine())
    keep(rows, args.json)


if __name__ == "__main__":
    main()
