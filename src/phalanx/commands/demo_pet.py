"""The job on pet X-rays from end to end on synthetic pets: masks of livers, boxes of hip joints."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..config.f1_iou import F1AtIoU
from .demo import run_stages, write_summary

MASKS, BOXES = "demo_pet_masks", "demo_pet_boxes"  # experiments
ORGANS = {MASKS: ("livers", "pet", "ab01"), BOXES: ("hips", "pet_boxes", "mu04")}  # set, its data, its disease
RULES = {  # an image with both classes is called by that which has more pixels, or the surer box
    MASKS: F1AtIoU(positive="diseased", negative="normal", iou=0.5, both="larger_area"),
    BOXES: F1AtIoU(positive="diseased", negative="normal", iou=0.5, both="most_confident"),
}
Figures = Mapping[str, Any]


def run_pet(*, quick: bool, call: Callable[[list[str]], int]) -> dict[str, Any]:
    """Runs what is not done yet, and writes ``summary.json`` and two pictures; returns the summary.

    Args:
        quick: tiny sets and a few steps, to see that all works; its scores mean nothing.
        call: runs one command line and returns its exit code.
    """
    home = Path("runs/demo_pet_quick" if quick else "runs/demo_pet")
    out = home / "submissions"
    seconds = run_stages(home, _stages(home, out, quick=quick), call)
    found = {name: json.loads((home / f"score_{name}.json").read_text(encoding="utf-8")) for name in (MASKS, BOXES)}
    every = json.loads((home / f"score_{BOXES}_all.json").read_text(encoding="utf-8"))
    scores = {
        MASKS: _figures(found[MASKS]["f1_iou"][0]),
        BOXES: _figures(found[BOXES]["f1_iou"][0])
        | {"map": every["metrics"]["map"]["value"], "map50": every["metrics"]["map50"]["value"]},
    }
    summary = write_summary(home, {"scores": scores}, seconds)
    print("\n".join(_table(scores)))
    print(
        f"{summary['seconds_main']:.0f} s in all. See next:"
        f"\n  {home}/masks.png, {home}/boxes.png     predictions and ground truth"
        f"\n  {home}/eda_boxes     objects, sizes and anchors of the boxes"
        f"\n  {out}/{MASKS}.csv, {out}/{BOXES}.csv     the submissions, masks and boxes"
        f"\n  {home / 'summary.json'}     the numbers\n  {home / BOXES}/fold0     the files of a run"
        "\n  docs/imbalance.md, docs/detection.md     your own images",
        flush=True,
    )
    return summary


def _stages(home: Path, out: Path, *, quick: bool) -> dict[str, list[str]]:
    """The command lines of the demo by name, in order."""
    tiny = ["epochs=3", "validate_every=0", "folds=2"] if quick else []
    smaller: dict[str, list[str]] = {MASKS: [], BOXES: []}
    if quick:  # boxes of a network that has learned nothing: a small overlap is enough for a threshold to be chosen
        smaller = {MASKS: [*tiny, "data.size=64"], BOXES: [*tiny, "data.size=96", "f1_iou=0.1"]}
    patients = {MASKS: 8, BOXES: 12} if quick else {MASKS: 180, BOXES: 140}
    tested = (
        ["test_patients=4", "test_diseased=3", "diseased=0.5"] if quick else ["test_patients=40", "test_diseased=28"]
    )
    stages: dict[str, list[str]] = {}
    for name, (organ, data, disease) in ORGANS.items():
        root = home / organ
        stages[f"make {organ}"] = [
            "phantom", "pet", f"disease={disease}", f"patients={patients[name]}", *tested, "size=192", "seed=2024",
            f"out={root}",
        ]  # fmt: skip
        stages[f"check {organ}"] = [
            "check",
            f"data={data}",
            f"data.root={root}",
            f"json={home / f'check_{organ}.json'}",
        ]
    boxes = home / ORGANS[BOXES][0]
    stages["explore hips"] = [
        "eda", f"experiment={BOXES}", f"data.root={boxes}", *smaller[BOXES], f"out={home / 'eda_boxes'}",
    ]  # fmt: skip
    for name, (organ, _, _) in ORGANS.items():
        stages[f"train {name}"] = [
            "train", "fold=0", f"experiment={name}", f"data.root={home / organ}", f"runs={home}", *smaller[name],
        ]  # fmt: skip
    predict = ["infer", f"runs={home}"]
    stages[f"predict {MASKS}"] = [*predict, f"experiment={MASKS}", f"out={out / MASKS}.csv"]
    stages[f"predict {BOXES}, all"] = [
        *predict, f"experiment={BOXES}", "postprocess=null", f"out={out / BOXES}_all.csv",
    ]  # fmt: skip
    # boxes count from a score on that is chosen out of fold; average precision needs those below, too
    stages["thresholds"] = ["tune", f"members={BOXES}", f"runs={home}"]
    stages[f"predict {BOXES}"] = [*predict, f"experiment={BOXES}", f"out={out / BOXES}.csv"]
    truth = {MASKS: home / "livers/test/answers", BOXES: boxes / "test/answers.csv"}
    rules = {name: json.dumps(rule.model_dump(mode="json")) for name, rule in RULES.items()}
    for name, run in ((MASKS, MASKS), (BOXES, BOXES), (f"{BOXES}_all", BOXES)):
        stages[f"score {name}"] = [
            "score", f"{out / name}.csv", str(truth[run]), f"f1_iou={rules[run]}",
            f"json={home / f'score_{name}.json'}",
        ]  # fmt: skip
    for name, (organ, _, _) in ORGANS.items():
        picture = home / ("masks.png" if name == MASKS else "boxes.png")
        stages[f"picture {organ}"] = [
            "picture", f"{out / name}.csv", str(truth[name]), str(home / organ / "test/images"), "rows=6",
            f"out={picture}",
        ]  # fmt: skip
    return stages


def _figures(found: Figures) -> dict[str, Any]:
    """Of a rule's report what the table shows."""
    return {
        "images": found["images"],
        "diseased": found["tp"] + found["fn"],
        "found": found["tp"],
        "false_alarms": found["fp"],
        "f1": found["f1"],
        "f1_interval": found["intervals"]["f1"],
        "accuracy": found["accuracy"],
        "iou": found["class_iou"],
    }


def _table(scores: Mapping[str, Figures]) -> list[str]:
    """The scores as lines for the terminal, and whether the disease is found at all."""

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    heads = ["F1 at IoU .5", "95% interval", "accuracy", "IoU background", "normal", "diseased", "mAP", "mAP at .5"]
    lines = ["", "  ".join([f"{'':<{len(MASKS)}}", *heads])]
    for name, of in scores.items():
        span, iou = of["f1_interval"], of["iou"]
        cells = [
            shown(of["f1"]), "-" if span is None else f"{span[0]:.2f} to {span[1]:.2f}", shown(of["accuracy"]),
            shown(iou.get("background")), shown(iou.get("normal")), shown(iou.get("diseased")), shown(of.get("map")),
            shown(of.get("map50")),
        ]  # fmt: skip
        lines.append("  ".join([name, *(f"{cell:>{len(head)}}" for cell, head in zip(cells, heads, strict=True))]))
    for name, of in scores.items():
        lines.append(
            f"{ORGANS[name][0]}: {of['found']} of {of['diseased']} diseased images are found, "
            f"{of['false_alarms']} of {of['images'] - of['diseased']} others are called diseased"
        )
    return [*lines, "on unseen animals; IoU of masks over all pixels, of boxes over the objects"]
