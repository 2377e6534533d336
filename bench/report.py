"""Writes docs/benchmarks.md from the JSON files in results/: no number there is typed by hand.

python bench/report.py
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TITLES = {
    "demo": (
        "The demo (baseline: a plain smp script, trained as long as one fold)",
        "python bench/demo.py --json results/demo.json (--without-plain leaves the baseline out)",
    ),
    "teeth": ("Real dental X-rays", "python bench/teeth.py --root DIR --json results/teeth.json"),
    "teeth_labels": (
        "Labels of real dental X-rays (baseline: a regression on the number of teeth; the most frequent category)",
        "python bench/teeth_labels.py --root DIR --json results/teeth_labels.json",
    ),
    "teeth_boxes": (
        "Boxes of real dental X-rays, from scratch (baseline: a plain torchvision script with as much CPU time)",
        "python bench/teeth_boxes.py --root DIR --json results/teeth_boxes.json",
    ),
    "hand_instances": (
        "Mask R-CNN on synthetic hands, from scratch (baseline: a pyramid that segments, with as much CPU time)",
        "python bench/hand_instances.py --json results/hand_instances.json",
    ),
    "brain": (
        "Classifiers of real brain MRI, from scratch (baseline: a plain timm script with as much CPU time)",
        "python bench/brain.py --root DIR --json results/brain.json",
    ),
    "brain_path": (
        "What is planted into synthetic brain slices (baseline: the fraction of wrong labels)",
        "python bench/brain_path.py --json results/brain_path.json",
    ),
    "pet_suspects": (
        "Planted wrong labels of synthetic pets, found by annotations alone (baseline: the fraction of wrong labels)",
        "python bench/pet_suspects.py --json results/pet_suspects.json (--train adds out-of-fold predictions)",
    ),
    "pet_hearts": (
        "Synthetic hearts of which one in 44 is enlarged: boxes by how the rare images are shown",
        "python bench/pet_hearts.py --json results/pet_hearts.json",
    ),
    "overlays": (
        "Burnt-in marks of ultrasound, found and removed on unseen synthetic sets",
        "python bench/overlays.py --json results/overlays.json",
    ),
    "warp": ("The warp, on a CPU core and on a GPU", "python bench/warp.py --json results/warp.json"),
    "data": ("From files to a batch (baseline: the usual pipeline)", "python bench/data.py --json results/data.json"),
    "check": (
        "Faults planted into synthetic hands, found by `phalanx check`",
        "python bench/check.py --keep DIR --json results/check.json",
    ),
    "guard": (
        "The guard of votes on members misaligned in part (ours: found; in votes of three also named; baseline: tried)",
        "python bench/guard.py --members A.csv,B.csv,C.csv --members D.csv,E.csv --json results/guard.json",
    ),
    "vote": ("Encoding, voting and scoring", "python bench/vote.py --json results/vote.json"),
    "scale": (
        "Large data sets: memory of each record above 10,000 (baseline: the bar of 300 bytes)",
        "python bench/scale.py --json results/scale.json",
    ),
    "eda": (
        "Exploring a data set (baseline: planted, dense masks, or a set a quarter as large)",
        "python bench/eda.py --json results/eda.json (--keep DIR saves the set for later calls)",
    ),
    "report_page": (
        "The HTML page of runs (baseline: the limit that it must keep)",
        "python bench/report_page.py --json results/report_page.json (--home DIR saves the set for later calls)",
    ),
    "losses": (
        "Losses (baseline: segmentation-models-pytorch; boundary: exact distances at full size, plain PyTorch)",
        "python bench/losses.py --run runs/bench_pointrend/full/joint-seed0/fold0 --json results/losses.json",
    ),
    "pointrend": (
        "The PointRend head (ours: with it, baseline: the same network without; three seeds)",
        "python bench/pointrend.py --json results/pointrend.json",
    ),
    "models": (
        "A training step (baseline: segmentation-models-pytorch's losses), and models as ONNX",
        "python bench/models.py --onnx --json results/models.json",
    ),
    "train": (
        "A training step of the engine (baseline: a bare loop on the same batches; ratio: median within rounds)",
        "python bench/train.py --json results/train.json",
    ),
    "gpu": (
        "On a GPU (baseline: the plain script of smp with BatchNorm, or what the claim names)",
        "python bench/gpu.py --root DIR --json results/gpu.json",
    ),
    "cluster": (
        "Jobs on a cluster (baseline: the 30 s that each sleeps; 50 ms per job of a submission)",
        "python bench/cluster.py --json results/cluster.json",
    ),
    "start": (
        "From a command to its work, a warm disk cache, CPU (baseline: the bar)",
        "python bench/start.py --json results/start.json",
    ),
    "mask_suspects": (
        "Planted errors of annotated hands found by suspects (baseline: chance)",
        "python bench/mask_suspects.py --json results/mask_suspects.json",
    ),
    "view": (
        "The local page in a headless Chromium without a GPU (baseline: the bar, of frames 30 per second)",
        "python bench/view.py --json results/view.json",
    ),
    "waiting": (
        "Threads that wait briefly (baseline: OpenMP's default; with the start of the commands)",
        "python bench/waiting.py --json results/waiting.json",
    ),
    "plan": (
        "Memory of a training step (ours: estimated, baseline: measured on a CPU; ratio: estimated / measured)",
        "python bench/plan.py --json results/plan.json",
    ),
    "kills": (
        "Runs killed by SIGKILL and continued (ours: equal to an uninterrupted run; baseline: all)",
        "python bench/kills.py --json results/kills.json",
    ),
    "locks": (
        "Attempts of one run where the system's locks are dropped (a preloaded library)",
        "python bench/locks.py --json results/locks.json",
    ),
    "kills_all": (
        "Commands killed by SIGKILL at random moments, then called again (ours: as if undisturbed; baseline: all)",
        "python bench/kills_all.py --json results/kills_all.json",
    ),
    "predict": (
        "From logits to masks, probability maps, soft votes (baseline: the usual loop; float32 arrays)",
        "python bench/predict.py --json results/predict.json",
    ),
    "hand_geometry": (
        "Synthetic hands against real ones (baseline: the real statistic)",
        "python bench/hand_geometry.py --json results/hand_geometry.json",
    ),
    "brain_look": (
        "Synthetic brain slices beside real ones (baseline: the real slices, or chance)",
        "python bench/brain_look.py --root DIR --json results/brain_look.json",
    ),
}


SCORES = ("", "Dice", "Dice, unseen patients", "AP", "average precision", "macro AUC")  # units; more is better


def show(value: Any) -> str:
    """A number with four significant digits."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Rows as a Markdown table."""
    compared = any(row.get("baseline") is not None for row in rows)
    head = ["claim", "ours", *(["baseline", "ratio"] if compared else []), "unit"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = {key: show(row.get(key)) for key in head}
        if row["unit"] in SCORES and row.get("baseline") is not None:
            cells["ratio"] = f"gain {row['ours'] - row['baseline']:+.4f}"  # the ratio of two scores means little
        lines.append("| " + " | ".join(cells.values()) + " |")
    return lines


def main() -> None:
    text = ["# Benchmarks", "", "Made by `python bench/report.py` from `results/`. Machines are noisy: read ratios."]
    for file in sorted((ROOT / "results").glob("*.json"), key=lambda p: [*TITLES].index(p.stem)):
        rows = json.loads(file.read_text(encoding="utf-8"))
        title, command = TITLES[file.stem]
        text += ["", f"## {title}", f"`{command}`", "", *table(rows)]
        machines = sorted({row["machine"] for row in rows})
        text += ["", f"Measured on {'; '.join(machines)}."]
    (ROOT / "docs" / "benchmarks.md").write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
