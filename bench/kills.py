"""Runs killed by SIGKILL at random moments and continued by the same command, against the same runs left alone.

Half of the kills fall while a checkpoint is being written; others just after the start, anywhere between two
checkpoints, and at the end, while the held-out images are predicted. A kill takes all processes of a call. Each call is
a fork of one process that has imported everything, since imports would take most of the time, and processes that train
one fold together are forks of that, where the command starts new ones.

    python bench/kills.py [--quick] [--kills N] [--seed S] [--json FILE]
"""

import json
import random
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from common import flags, keep, machine
from killing import Call, make_set, warm_up

STAGES = "[{weights:{bce:0.5,dice:0.5,point:0.5},until:{epochs:2}},{weights:{bce:0.5,lovasz:0.5,point:1.0}}]"
COMMON = [
    "fold=0", "data.size=64", "folds=2", "epochs=4", "batch=1", "workers=0", "progress=false", "validate_every=2",
    "device=cpu", "augment=affine", "optim.lr=1e-2", "optim.ema=0.9", "checkpoint_minutes=1e-9",
    "model.arch=fpn", "model.encoder=tu-test_efficientnet", "model.weights=none",
    "model.options={decoder_pyramid_channels:32,decoder_segmentation_channels:32}",
    "model.pointrend={points:64,hidden:16,layers:1,subdivision_points:64}", "loss.stages=" + STAGES,
]  # fmt: skip
# and the share of the kills that each gets
VARIANTS: dict[str, tuple[int, list[str]]] = {
    "EMA, stages, PointRend": (20, []),
    "bf16": (20, ["precision=bf16"]),
    "accumulation, two loader processes": (20, ["accumulate=2", "workers=2"]),
    "BatchNorm, SGD, no average": (20, ["model.norm=batch", "optim.name=sgd", "optim.ema=0"]),
    "two processes (ddp)": (20, ["ddp=true", "devices=cpu,cpu", "batch=2"]),
}
SAME = ("final/weights.safetensors", "best/weights.safetensors", "last/optimizer.safetensors", "oof.csv")
KILLS_A_RUN = 10


def step_of(folder: Path) -> int:
    """Steps done by the last checkpoint; 0 where there is none, or it is being replaced right now."""
    try:
        return json.loads((folder / "last" / "state.json").read_text())["step"]
    except (OSError, ValueError):
        return 0


def kill_once(call: Call, folder: Path, kind: str, target: int, rng: random.Random) -> bool:
    """Kills a call at a moment of the kind; False where it ended before."""
    if kind == "start":
        time.sleep(rng.uniform(0, 0.6))
    elif kind == "finish":
        names = ("final.new", "final", "oof_score.json")
        name = rng.choice(names)
        if not call.until((folder / name).exists):
            return False
        time.sleep(rng.uniform(0, 0.1))
    else:
        if not call.until(lambda: step_of(folder) >= target):
            return False
        if kind == "save":
            if not call.until(lambda: any(folder.glob("last*.new"))):
                return False
            time.sleep(rng.uniform(0, 0.015))
        else:
            time.sleep(rng.uniform(0, 0.1))
    return call.kill()


def plan(kills: int, steps: int, rng: random.Random) -> list[tuple[str, int]]:
    """Moments of a run's kills, early to late: half in saving."""
    kinds = [("save", "save", "step", "save", "start", "save", "step", "finish")[i % 8] for i in range(kills)]
    targets = sorted(rng.randrange(1, steps - 1) for _ in kinds)
    order = [kind for kind in kinds if kind != "finish"]
    rng.shuffle(order)
    return list(zip([*order, *(kind for kind in kinds if kind == "finish")], targets, strict=True))


def killed_run(words: list[str], folder: Path, kills: int, steps: int, rng: random.Random, out: Path) -> dict[str, int]:
    """Kills a run ``kills`` times, unless it ends before, and lets it end; how many kills there were of each kind."""
    counts: dict[str, int] = {}
    for kind, target in plan(kills, steps, rng):
        call = Call(["train", *words], out)
        if kill_once(call, folder, kind, target, rng):
            torn = any(folder.glob("last*.new"))
            counts[kind] = counts.get(kind, 0) + 1
            counts["torn"] = counts.get("torn", 0) + torn
        elif call.code != 0:
            raise SystemExit(f"{folder}: exit {call.code} instead of a continued run\n{out.read_text()}")
        else:
            break
    call = Call(["train", *words], out)
    call.until(lambda: False)
    counts["lost"] = int(call.code != 0 or not (folder / "done.json").is_file())
    if counts["lost"]:
        print(f"{folder}: exit {call.code}\n{out.read_text()}", file=sys.stderr)
    return counts


def words(more: list[str], home: Path, run: str) -> list[str]:
    """Words of a run below ``home``."""
    pairs = [*COMMON, *more, f"data.root={home / 'hands'}", f"runs={home / 'runs'}", f"name={run}"]
    return [f"{key}={value}" for key, value in dict(pair.split("=", 1) for pair in pairs).items()]


def main() -> None:
    parser = flags(__doc__, quick="one variant, eight kills")
    parser.add_argument("--kills", type=int, default=100, help="of all variants together")
    parser.add_argument("--seed", type=int, default=None, help="of the moments; default: another each time, printed")
    args = parser.parse_args()
    seed = secrets.randbelow(10**6) if args.seed is None else args.seed
    rng = random.Random(seed)
    print(f"seed {seed}", flush=True)
    warm_up()

    began, home = time.monotonic(), Path(tempfile.mkdtemp(prefix="kills-"))
    make_set(home)
    variants = dict(list(VARIANTS.items())[:1]) if args.quick else VARIANTS
    rows, total = [], {"runs": 0, "kills": 0, "lost": 0, "equal": 0, "oof": 0, "torn": 0}
    shares = sum(share for share, _ in variants.values())
    for name, (share, more) in variants.items():
        wanted = 8 if args.quick else round(args.kills * share / shares)
        whole = Call(["train", *words(more, home, "whole")], home / "out")
        whole.until(lambda: False)
        if whole.code:
            raise SystemExit((home / "out").read_text())
        truth = home / "runs" / "whole" / "fold0"
        done, steps = dict.fromkeys(total, 0), step_of(truth)
        while done["kills"] < wanted:
            run = f"run{done['runs']}"
            folder = home / "runs" / run / "fold0"
            counts = killed_run(
                words(more, home, run), folder, min(KILLS_A_RUN, wanted - done["kills"]), steps, rng, home / "out"
            )
            done["runs"] += 1
            done["kills"] += sum(counts.get(kind, 0) for kind in ("start", "save", "step", "finish"))
            done["torn"] += counts.get("torn", 0)
            done["lost"] += counts["lost"]
            same = [
                (folder / file).is_file() and (folder / file).read_bytes() == (truth / file).read_bytes()
                for file in SAME
            ]
            done["equal"] += all(same[:3])
            done["oof"] += same[3]
        print(f"{name:36} {done}", flush=True)
        rows += [
            {"claim": f"{name}: runs bit-equal to an uninterrupted run ({done['kills']} kills)",
             "ours": done["equal"], "baseline": done["runs"], "unit": "runs"},
        ]  # fmt: skip
        total = {key: value + done[key] for key, value in total.items()}
        shutil.rmtree(home / "runs")
    rows += [
        {"claim": "kills", "ours": total["kills"], "unit": "kills"},
        {"claim": "of them while a checkpoint was being written", "ours": total["torn"], "unit": "kills"},
        {"claim": "lost runs", "ours": total["lost"], "unit": "runs"},
        {"claim": "final, best and optimizer bit-equal to an uninterrupted run", "ours": total["equal"],
         "baseline": total["runs"], "unit": "runs"},
        {"claim": "oof.csv equal", "ours": total["oof"], "baseline": total["runs"], "unit": "runs"},
    ]  # fmt: skip
    shutil.rmtree(home)
    print(f"{total} in {time.monotonic() - began:.0f} s; seed {seed}\n{machine()}")
    keep(rows, args.json)
    if total["lost"] or total["equal"] < total["runs"] or total["oof"] < total["runs"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
