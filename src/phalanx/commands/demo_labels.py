"""The jobs with labels from end to end on their synthetic sets: every step is one command, as a user would call it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .demo import run_stages, write_summary


class LabelJob(NamedTuple):
    """A job of the demo.

    Attributes:
        runs: experiments, which vote together.
        patients: of train and test; and of a quick demo.
        truth: the labels of the test images, below the data set.
        options: of scores.
        masks: folder of lesion masks below the data set, for the gallery that shows where a network looks.
    """

    runs: tuple[str, ...]
    patients: tuple[int, int]
    quick: tuple[int, int]
    truth: str
    options: tuple[str, ...] = ()
    masks: str | None = None


JOBS = {
    "ultrasound": LabelJob(("demo_ultrasound", "demo_ultrasound_asl"), (110, 40), (8, 6), "answers.csv"),
    "brain": LabelJob(("demo_brain", "demo_brain_balanced"), (150, 60), (12, 8), "test", ("healthy=healthy",), "masks"),
}
SHOWN = ("accuracy", "macro_auc", "macro_f1")


def run_labels(job: str, *, quick: bool, call: Callable[[list[str]], int]) -> dict[str, Any]:
    """Runs what is not done yet of a job, and writes ``summary.json`` and a gallery; returns the summary.

    Args:
        quick: a tiny set and a few steps, to see that all works; its scores mean nothing.
        call: runs one command line and returns its exit code.
    """
    about = JOBS[job]
    home = Path(f"runs/demo_{job}_quick" if quick else f"runs/demo_{job}")
    data, out = home / "data", home / "submissions"
    train, test = about.quick if quick else about.patients
    common = [f"data.root={data}", f"runs={home}"]
    tiny = ["epochs=1", "data.size=64", "metric=accuracy"] if quick else []
    stages: dict[str, list[str]] = {
        f"make {job}": [
            "phantom", job, f"patients={train}", f"test_patients={test}", "size=256", "seed=2024", f"out={data}",
        ],
        "check": ["check", f"data={job}", f"data.root={data}", f"json={home / 'check.json'}"],
    }  # fmt: skip
    for member in about.runs:
        stages[f"train {member}"] = ["train", "fold=0,1", f"experiment={member}", *common, *tiny]
    for member in about.runs:
        stages[f"predict {member}"] = ["infer", f"experiment={member}", *common, f"out={out / member}.csv"]
    files = ",".join(f"{out / member}.csv" for member in about.runs)
    for mode in ("soft", "hard"):
        # a demo trains for minutes: what the guard of votes makes of networks so weak is only reported
        stages[f"vote {mode}"] = [
            "ensemble", f"mode={mode}", f"members={files}", f"out={out / mode}.csv", "allow_misaligned=true",
        ]  # fmt: skip
    scored = {name: home / f"score_{name}.json" for name in (*about.runs, "soft", "hard")}
    for name, file in scored.items():
        stages[f"score {name}"] = [
            "score", f"{out / name}.csv", str(data / about.truth), *about.options, f"json={file}"
        ]  # fmt: skip

    gallery = home / "cam"
    masks = [f"masks={data / about.masks}"] if about.masks else []
    stages["gallery"] = ["cam", about.runs[0], *common, *masks, "count=8", f"out={gallery}"]
    seconds = run_stages(home, stages, call)
    found = {name: json.loads(file.read_text(encoding="utf-8"))["metrics"] for name, file in scored.items()}
    scores = {name: {key: of[key]["value"] for key in SHOWN} for name, of in found.items()}
    summary = write_summary(home, {"scores": scores}, seconds)
    print("\n".join(_table(scores)))
    print(
        f"on unseen patients; {summary['seconds_main']:.0f} s in all. See next:"
        f"\n  {gallery}/gallery.png     where the first network looks"
        f"\n  {out}/soft.csv     the submission\n  {home / 'summary.json'}     the numbers"
        f"\n  {home / about.runs[0]}/fold0     the files of a run\n  docs/classification.md     your own images",
        flush=True,
    )
    return summary


def _table(scores: dict[str, dict[str, float | None]]) -> list[str]:
    width = max(map(len, scores))
    lines = ["", "  ".join([f"{'':<{width}}", *(f"{name:>9}" for name in SHOWN)])]
    for name, of in scores.items():
        cells = (f"{'-':>9}" if value is None else f"{value:>9.4f}" for value in of.values())
        lines.append("  ".join([f"{name:<{width}}", *cells]))
    return lines
