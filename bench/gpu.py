"""All that needs a GPU, in one command: steps of training, losses, norms, memory, a race, the tests marked gpu.

Sections run in order of worth, each within its part of the time, and the rows are written after each, so that a call
that is cut off has kept what it measured. Every case is a process of its own. ``--root`` is a data set in the
competition's layout with answers for its test images, for a race of equal time. What time is left goes to
`phalanx sweep` at the scale ``gpu``, which goes on from call to call.

    python bench/gpu.py [--minutes 8] [--root DATASET] [--experiment NAME] [--json FILE] [--only SECTION] [--quick]
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import torch

from common import flags
from gpu_bench import HERE, ON_GPU, QUICK, Bench, Row, Steps, hands, kernels

LARGE = ("convnextv2_base_upernet", "hrnet_w48_ocr")
NEEDED = {
    "pytest": "the tests marked gpu",
    "triton": "the kernels of losses and norms",
    "nnunetv2": "nnU-Net in the race",
}
VARIANTS: tuple[tuple[str, dict[str, str]], ...] = (  # of our step
    ("with Lovasz instead of Dice", {"loss": "lovasz"}),
    ("without the point head", {"model.pointrend": "null"}),
    ("norm=batch", {"model.norm": "batch"}),
    ("precision=fp16", {"precision": "fp16"}),
    ("channels_last=true", {"model.channels_last": "true"}),
)
ROW = (  # of a step
    ("ms", "a step", "ms"),
    ("busy", "the GPU's own work", "ms"),
    ("launches", "launches of kernels", "launches"),
    ("gib", "peak memory", "GiB"),
)


def steps_of(bench: Bench, size: int, batch: int) -> None:
    """Steps of one size: ours by either kind of kernels, and with parts left out or exchanged; the plain script's."""
    sizes, root = bench.sizes, str(hands(bench, size))
    where = f"{size} px, batch {batch}"
    base = {"root": root, "model": sizes.model, "size": size, "batch": batch, "loss": "bce+dice", "steps": sizes.steps}
    plain = bench.case("step", who="plain", **base) or {}
    whole = {kind: bench.case("step", kind, who="ours", **base) or {} for kind in kernels()}
    for kind, found in whole.items():
        for key, what, unit in ROW:
            bench.add(f"{where}, {kind}: {what}", found.get(key), plain.get(key), unit)
        bench.add(f"{where}, {kind}: memory as planned (baseline: peak)", found.get("planned"), found.get("gib"), "GiB")
    best = min((found.get("ms", float("inf")), kind) for kind, found in whole.items())[1]
    ours = whole[best]
    bench.steps[size] = Steps(where, best, base, ours, plain)
    if torch.cuda.is_available():
        graphs(bench, bench.steps[size])
        rows(bench, f"{where}, {best}", " (baseline: plain channels_last)",
             ours, bench.case("step", who="plain channels_last", **base))  # fmt: skip
    for name, more in VARIANTS:
        if torch.cuda.is_available() or "precision" not in more:
            rows(bench, f"{where}, {best}", f", {name}", bench.case("step", best, who="ours", **base | more), ours)


def rows(bench: Bench, where: str, name: str, found: Row | None, baseline: Row | None) -> None:
    """All that is measured of a step, beside another."""
    for key, what, unit in ROW:
        bench.add(f"{where}: {what}{name}", (found or {}).get(key), (baseline or {}).get(key), unit)


def graphs(bench: Bench, steps: Steps) -> None:
    """Steps that are launched as a whole, beside the same ones without and beside the plain script's.

    Their memory is what torch has reserved, since nothing else shows what a graph holds.
    """
    for name, more in (("", {}), (" with Lovasz instead of Dice", {"loss": "lovasz"})):
        base = steps.base | more
        usual = bench.case("step", steps.kind, who="ours", **base) or {} if more else steps.ours
        found = bench.case("step", steps.kind, who="ours", **base | {"cuda_graphs": "true"}) or {}
        what = f"{steps.where}, {steps.kind}, cuda_graphs=true{name}"
        for beside, of in (("without graphs", usual), ("plain script", {} if more else steps.plain)):
            bench.add(f"{what}: a step (baseline: {beside})", found.get("ms"), of.get("ms"))
            bench.add(f"{what}: memory reserved (baseline: {beside})", found.get("reserved"), of.get("reserved"), "GiB")
        bench.add(f"{what}: the GPU's own work", found.get("busy"), usual.get("busy"))
        bench.add(f"{what}: the first four steps", found.get("first"), usual.get("first"), "s")


def compiled(bench: Bench) -> None:
    """Compiled steps, ours and the plain script's; a second start finds the compiler's cache filled."""
    size = bench.sizes.small[0]
    if not torch.cuda.is_available() or size not in bench.steps:
        print("compiled: skipped, it needs a GPU and the small steps", flush=True)
        return
    where, kind, base, ours, plain = bench.steps[size]
    for name, more in (("model.compile=true", {}), ("model.compile=true, cuda_graphs=true", {"cuda_graphs": "true"})):
        options = base | more | {"model.compile": "true"}
        found = bench.case("step", kind, who="ours", **options)
        rows(bench, f"{where}, {kind}", f", {name}", found, ours)
        again = bench.case("step", kind, who="ours", **options) or {}
        what = f"{where}, {kind}: the first four steps, {name} (baseline: without the compiler's cache)"
        bench.add(what, again.get("first"), (found or {}).get("first"), "s")
    found = bench.case("step", who="plain compiled", **base)
    rows(bench, f"{where}, {kind}", " (baseline: plain compiled)", ours, found)
    rows(bench, f"{where}: plain compiled", "", found, plain)


def alone(bench: Bench) -> None:
    """Losses and norms by themselves."""
    (size, batch), repeats = bench.sizes.small, bench.sizes.repeats
    for name in ("bce+dice", "lovasz"):
        options = {"size": size, "batch": batch, "classes": 29, "name": name, "repeats": repeats}
        usual = bench.case("loss", who="smp", **options) or {} if name == "bce+dice" else {}
        for kind in kernels():
            found = bench.case("loss", kind, who="ours", **options) or {}
            where = f"{name}, {size} px, batch {batch}, {kind}"
            bench.add(f"{where}: forward and gradient", found.get("ms"), usual.get("ms"))
            bench.add(f"{where}: the GPU's own work", found.get("busy"), usual.get("busy"))
            bench.add(f"{where}: peak memory", found.get("gib"), usual.get("gib"), "GiB")
    for shape in bench.sizes.norms:
        usual = bench.case("norm", norm="batch", shape=shape, repeats=repeats) or {}
        for kind in kernels():
            found = bench.case("norm", kind, norm="group", shape=shape, repeats=repeats) or {}
            where = f"group norm and SiLU of {' x '.join(map(str, shape))}, {kind}"
            bench.add(f"{where} (baseline: BatchNorm)", found.get("ms"), usual.get("ms"))


def same_bits(bench: Bench) -> None:
    """Two runs of the same steps."""
    size, batch = bench.sizes.small
    for kind in kernels():
        options = {"root": str(hands(bench, size)), "model": bench.sizes.model, "size": size, "batch": batch}
        found = bench.case("equal", kind, steps=bench.sizes.steps, **options) or {}
        bench.add(f"largest difference of weights between two runs, {kind}", found.get("difference"), unit="weight")
        if torch.cuda.is_available():
            found = bench.case("equal", kind, steps=bench.sizes.steps, **options, cuda_graphs="true") or {}
            what = f"largest difference of weights between runs without and with graphs, {kind}"
            bench.add(what, found.get("difference"), unit="weight")


def starts(bench: Bench) -> None:
    """From a command to its first step, and to its first prediction."""
    size = bench.sizes.small[0]
    found = bench.case("start", root=str(hands(bench, size)), model=bench.sizes.model, size=size)
    if found:
        bench.add(f"from `train` to the end of its first step, {found['images']} images", found["train"], unit="s")
        bench.add("`infer` of one image", found["infer"], unit="s")


def race(bench: Bench) -> None:
    """Equal time on the data set at ``root``: Dice on its test images, ours, the plain script's and nnU-Net's."""
    root, recipe = bench.root, bench.recipe
    if root is None and not torch.cuda.is_available():
        root, recipe = hands(bench, bench.sizes.small[0]), "base"
    if root is None or not (root / "test" / "answers_json").is_dir():
        print(f"race: skipped, no data set with test/answers_json at --root {root}", flush=True)
        return
    size = bench.sizes.small[0]
    options = {"root": str(root), "recipe": recipe, "model": bench.sizes.model, "size": size,
               "batch": bench.sizes.small[1], "seconds": bench.sizes.race}  # fmt: skip
    for kind in kernels()[-1:]:
        found, usual = bench.case("race", kind, who="ours", **options), bench.case("race", who="plain", **options)
        where = f"{bench.sizes.race:.0f} s of training at {size} px from scratch"
        if found and usual:
            bench.add(f"{where}, {kind}: Dice on unseen images", found["dice"], usual["dice"], "Dice")
            bench.add(f"{where}, {kind}: steps", found["steps"], usual["steps"], "steps")
            bench.add(f"{where}, {kind}: seconds", found["seconds"], usual["seconds"], "s")
            bench.add(f"predicting {found['images']} images, with the start of the command", found["infer"], unit="s")
        if found and importlib.util.find_spec("nnunetv2") and (other := bench.case("race", who="nnunet", **options)):
            bench.add(
                f"{where}, {kind}: Dice on unseen images (baseline: nnU-Net)", found["dice"], other["dice"], "Dice"
            )
            bench.add(f"{where}, {kind}: steps (baseline: nnU-Net)", found["steps"], other["steps"], "steps")


def large_networks(bench: Bench) -> None:
    """Steps of other networks at the published size."""
    size, batch = bench.sizes.large
    for model in LARGE if torch.cuda.is_available() else ():
        base = {"root": str(hands(bench, size)), "model": model, "size": size, "batch": batch, "loss": "bce+dice"}
        for kind in kernels():
            found = bench.case("step", kind, who="ours", steps=5, **base) or {}
            bench.add(f"{model}, {size} px, batch {batch}, {kind}: a step", found.get("ms"))
            bench.add(f"{model}, {size} px, batch {batch}, {kind}: the GPU's own work", found.get("busy"))
            bench.add(
                f"{model}, {kind}: peak memory (baseline: as planned)", found.get("gib"), found.get("planned"), "GiB"
            )


def other_bench(name: str) -> Callable[[Bench], None]:
    """A section that runs another bench, whose rows it takes over."""

    def section(bench: Bench) -> None:
        file = bench.scratch / f"{name}.json"
        words = [sys.executable, str(HERE / f"{name}.py"), "--json", str(file)]
        if not torch.cuda.is_available():
            words.append("--quick")
        try:
            subprocess.run(words, check=False, timeout=max(1.0, bench.left))
        except subprocess.TimeoutExpired:
            print(f"bench/{name}.py: cut off, its section's time is over", flush=True)
        if file.is_file():
            for row in json.loads(file.read_text(encoding="utf-8")):
                bench.add(f"bench/{name}.py: {row['claim']}", row["ours"], row.get("baseline"), row["unit"])

    return section


def marked_tests(bench: Bench) -> None:
    """The tests marked gpu."""
    if not torch.cuda.is_available() or importlib.util.find_spec("pytest") is None:
        print("tests marked gpu: skipped, they need a GPU and pytest", flush=True)
        return
    words = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "tests"]
    try:
        done = subprocess.run(words, cwd=HERE.parent, check=False, timeout=max(1.0, bench.left))
        bench.add("tests marked gpu: exit code", done.returncode, unit="0 is all passed")
    except subprocess.TimeoutExpired:
        print("tests marked gpu: cut off, their section's time is over", flush=True)


def sweep(bench: Bench) -> None:
    """Published variants that have no result at the scale ``gpu`` yet, until the time is over."""
    if torch.cuda.is_available():
        words = [sys.executable, "-m", "phalanx", "sweep", "all", "scale=gpu", "progress=false"]
        with subprocess.Popen(words, cwd=HERE.parent) as running:
            try:
                running.wait(timeout=max(1.0, bench.left))
            except subprocess.TimeoutExpired:
                running.terminate()  # the same command continues


class Section(NamedTuple):
    """``share``: the most that it may take, of all the time."""

    name: str
    share: float
    run: Callable[[Bench], None]


SECTIONS = [
    Section("small steps", 0.25, lambda bench: steps_of(bench, *bench.sizes.small)),
    Section("large steps", 0.25, lambda bench: steps_of(bench, *bench.sizes.large)),
    Section("tests", 0.15, marked_tests),
    Section("alone", 0.15, alone),
    Section("race", 0.5, race),
    Section("same bits", 0.1, same_bits),
    Section("start", 0.1, starts),
    Section("compiled", 0.3, compiled),
    Section("large networks", 0.2, large_networks),
    Section("train", 0.3, other_bench("train")),
    Section("warp", 0.1, other_bench("warp")),
    Section("sweep", 1.0, sweep),
]


def main() -> None:
    parser = flags(__doc__, quick="tiny sizes, also without a GPU: shows that it runs; its numbers mean nothing")
    parser.add_argument("--minutes", type=float, help="default: 8; 30 if --quick and no GPU, where starts take longest")
    parser.add_argument("--root", type=Path, help="a data set for the race")
    parser.add_argument("--experiment", default="teeth_light", help="the recipe of the race, with another network")
    parser.add_argument("--only", default="", help=f"sections by comma: {', '.join(s.name for s in SECTIONS)}")
    args = parser.parse_args()
    if not torch.cuda.is_available() and not args.quick:
        print("No CUDA device here, nothing is measured; --quick shows that the script runs.")
        return
    if args.minutes is None:
        args.minutes = 8.0 if torch.cuda.is_available() else 30.0
    for module, purpose in NEEDED.items():
        if importlib.util.find_spec(module) is None:
            print(f"{module} is not installed: without it there is no measuring {purpose}", flush=True)
    scratch = Path(tempfile.mkdtemp(prefix="gpu-"))
    wanted = [name for name in args.only.split(",") if name]
    try:
        bench = Bench(
            QUICK if args.quick else ON_GPU, 60 * args.minutes, args.json, scratch, args.root, args.experiment
        )
        for section in SECTIONS:
            if wanted and section.name not in wanted:
                continue
            bench.until = time.monotonic() + section.share * 60 * args.minutes
            if bench.left < 1:
                break
            print(f"-- {section.name}: {bench.left:.0f} s", flush=True)
            section.run(bench)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
