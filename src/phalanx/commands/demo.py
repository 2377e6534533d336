"""The main job from end to end on synthetic hands, as a user would call it: every step is one command."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import PhalanxError
from ..runtime.files import write_json

RUNS = ("demo_fpn", "demo_mobilenetv3")  # experiments: two encoder/decoder pairs


def run_demo(*, quick: bool, call: Callable[[list[str]], int]) -> dict[str, Any]:
    """Runs what is not done yet, and writes ``summary.json`` and ``picture.png``; returns the summary.

    Args:
        quick: a tiny set and a few steps, to see that all works; its Dice means nothing.
        call: runs one command line and returns its exit code.
    """
    home = Path("runs/demo_quick" if quick else "runs/demo")
    data, out = home / "data", home / "submissions"
    answers = str(data / "test" / "answers_json")
    size = 128 if quick else 512
    patients, test = (6, 2) if quick else (230, 12)
    common = [f"data.root={data}", f"runs={home}"]
    tiny = ["epochs=8", "data.size=64", "folds=2", "optim.lr=5e-3", "data.oversample=null"] if quick else []
    stages: dict[str, list[str]] = {
        "make hands": [
            "phantom", "hand", f"patients={patients}", f"test_patients={test}", f"size={size}", "seed=2024",
            f"out={data}",
        ]
    }  # fmt: skip
    for run in RUNS:
        stages[f"train {run}"] = ["train", "fold=0,1", f"experiment={run}", *common, *tiny]
    for run in RUNS:
        stages[f"predict {run}"] = ["infer", f"experiment={run}", *common, f"out={out / run}.csv", "maps=true"]
    maps = ",".join([f"{out / run}.maps" for run in RUNS])
    # as winners do: the third voter is the soft vote, which breaks ties between the other two
    files = ",".join([f"{out / name}.csv" for name in (*RUNS, "soft")])
    stages["vote soft"] = ["ensemble", "mode=soft", f"members={maps}", *common, f"out={out / 'soft'}.csv"]
    stages["vote hard"] = ["ensemble", "mode=hard", f"members={files}", f"out={out / 'hard'}.csv"]
    scored = {name: home / f"score_{name}.json" for name in (*RUNS, "soft", "hard")}
    for name, file in scored.items():
        stages[f"score {name}"] = ["score", f"{out / name}.csv", answers, f"json={file}"]
    picture = home / "picture.png"
    stages["picture"] = [
        "picture", f"{out / 'soft'}.csv", answers, str(data / "test" / "DCM"), f"out={picture}"
    ]  # fmt: skip

    seconds = run_stages(home, stages, call)
    dice = {name: json.loads(file.read_text(encoding="utf-8"))["dice"] for name, file in scored.items()}
    scores = {
        "dice_soft": dice["soft"], "dice_hard": dice["hard"], "dice_members": {run: dice[run] for run in RUNS}
    }  # fmt: skip
    summary = write_summary(home, scores, seconds)
    print(
        f"\nmean Dice on unseen patients at the original size: soft vote {dice['soft']:.4f}, "
        f"hard vote {dice['hard']:.4f}; members "
        + ", ".join(f"{run} {dice[run]:.4f}" for run in RUNS)
        + f"\n{summary['seconds_main']:.0f} s in all. See next:"
        f"\n  {picture}     predictions and ground truth\n  {home / 'summary.json'}     the numbers"
        f"\n  {out}/soft.csv     the submission\n  {home / RUNS[0]}/fold0     the files of a run"
        "\n  README.md     training on your own images",
        flush=True,
    )
    return summary


def run_stages(home: Path, stages: Mapping[str, Sequence[str]], call: Callable[[list[str]], int]) -> dict[str, float]:
    """Runs the command lines that are not done yet, in order; returns the seconds of each by name.

    Args:
        home: folder whose ``stages.json`` records what is done.

    Raises:
        PhalanxError: one of them failed.
    """
    log = home / "stages.json"
    seconds: dict[str, float] = json.loads(log.read_text(encoding="utf-8")) if log.is_file() else {}
    for name, words in stages.items():
        if name in seconds:
            continue
        print(f"\n== {name}\n   phalanx {' '.join(words)}", flush=True)
        began = time.monotonic()
        code = call([*words])
        if code and not (words[0] == "check" and code == 1):  # which found the faults that are planted
            raise PhalanxError(
                f"the step '{name}' failed, see above; fix the cause and run the demo again, which continues there"
            )
        seconds[name] = time.monotonic() - began
        write_json(log, seconds)
    return seconds


def write_summary(home: Path, scores: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, Any]:
    """Writes ``summary.json``: scores, and the seconds of the stages; returns what is in it."""
    summary = {
        **scores,
        "seconds_setup": setup_seconds(),
        "seconds_main": sum(seconds.values()),
        "seconds_stages": dict(seconds),
    }
    write_json(home / "summary.json", summary)
    return summary


def setup_seconds() -> float | None:
    """Seconds that setting up this environment took, as setup.sh recorded them; None if it did not."""
    note = Path(sys.prefix) / "seconds"
    return float(note.read_text(encoding="utf-8")) if note.is_file() else None
