"""Commands killed by SIGKILL at random moments, each followed by the same command again.

The killed process is the command's own: those that it has started must end by themselves. What is left on disk when a
command has come to its end is compared with what the same command leaves when nobody disturbs it.

    python bench/kills_all.py [--quick] [--kills N] [--seed S] [--commands A,B] [--json FILE]
"""

import json
import os
import random
import re
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from common import flags, keep, machine
from killing import Call, make_set, warm_up
from kills import COMMON

KILLS_A_ROUND = 5
SOON = 2  # seconds in which all that a killed command has started must be gone, on a machine with much else to do
# what differs from call to call: times, and locks, which stay
VOLATILE = re.compile(
    r"(log\.jsonl|done\.json|state\.json|environment\.json|export\.json|.*seed\d\.fold\d\.json|\.holder|\.lock|.*\.lock)"
)
TINY = dict(word.split("=", 1) for word in [*COMMON, "validate_every=4", "checkpoint_minutes=0.002"])
TABLE = """
title: Tiny
why: To see that it goes on.
overrides: {overrides}
rows:
  - {{name: plain, source: a report}}
  - {{name: faster, source: a report, overrides: [optim.lr=2e-2], baseline: plain, outcome: open}}
"""


class Command(NamedTuple):
    """A command to be killed.

    Attributes:
        share: of the kills.
        words: of ``phalanx``.
        again: exit codes with which it ends when all was done before.
    """

    share: int
    words: list[str]
    again: tuple[int, ...] = (0,)


def commands() -> dict[str, Command]:
    """Words of each command, in a working folder as :func:`prepare` makes it."""
    train = [f"{key}={value}" for key, value in (TINY | {"data.root": "hands", "name": "new", "workers": "1"}).items()]
    place = ["data.root=hands", "progress=false", "workers=1", "device=cpu"]
    return {
        "train": Command(60, ["train", *train]),
        "infer": Command(60, ["infer", "experiment=base", *place, "maps=true", "out=out/base.csv"]),
        "ensemble soft": Command(
            30, ["ensemble", "mode=soft", "members=base,other", *place, "out=out/soft.csv", "allow_misaligned=true"]
        ),
        "ensemble hard": Command(
            30, ["ensemble", "mode=hard", "members=base,other", *place, "out=out/hard.csv", "allow_misaligned=true"]
        ),
        "phantom": Command(40, ["phantom", "hand", "patients=3", "size=128", "workers=2", "out=made"], again=(2,)),
        "eda": Command(30, ["eda", "data.root=hands", "workers=2", "progress=false", "out=eda"]),
        "check": Command(20, ["check", "data.root=hands", "workers=2", "progress=false", "json=check.json"]),
        "sweep": Command(30, ["sweep", "one", "scale=tiny", "seeds=0", "data.root=hands", "devices=cpu"]),
    }


def prepare(home: Path, *, runs: bool) -> None:
    """Makes ``home``/begin: data, two trained ``runs`` if they are needed, a sweep's table; there each round begins."""
    from phalanx.config.compose import config_folder

    begin = home / "begin"
    begin.mkdir()
    make_set(home)
    (home / "hands").rename(begin / "hands")
    shutil.copytree(config_folder(), begin / "configs")
    (begin / "configs/experiment/claims_tiny.yaml").write_text("# @package _global_\nepochs: 1\n")
    words = [f"{key}={value}" for key, value in (TINY | {"epochs": "1", "loss.stages": "[{weights:{bce:0.5,dice:0.5}}]",
             "model.pointrend": "null"}).items() if key not in ("fold", "validate_every")]  # fmt: skip
    (begin / "configs/sweep/one.yaml").write_text(TABLE.format(overrides=json.dumps(words)))
    for number, name in enumerate(("base", "other") if runs else ()):
        changed = TINY | {"data.root": "hands", "name": name, "seed": str(number), "epochs": "1", "validate_every": "1",
                          "loss.stages": "[{weights:{bce:0.5,dice:0.5}}]", "model.pointrend": "null"}  # fmt: skip
        finish(Call(["train", *(f"{key}={value}" for key, value in changed.items())], home / "out", begin), home, (0,))


def finish(call: Call, home: Path, codes: tuple[int, ...]) -> None:
    """Lets a call come to its end. Raises SystemExit if that is another than one of ``codes``."""
    call.until(lambda: False)
    if call.code not in codes:
        raise SystemExit(f"exit {call.code}:\n{(home / 'out').read_text()}")


def begin(home: Path, name: str) -> Path:
    """A new working folder; the data set in it is a link."""
    place = home / name
    shutil.copytree(home / "begin", place, ignore=lambda folder, names: ["hands"] if folder.endswith("begin") else [])
    (place / "hands").symlink_to(home / "begin" / "hands")
    return place


def tree(place: Path) -> dict[str, bytes | None]:
    """Content of every file below a folder by its path; None of folders, and of what differs from call to call."""
    return {
        str(path.relative_to(place)): None if path.is_dir() or VOLATILE.fullmatch(path.name) else path.read_bytes()
        for path in sorted(place.rglob("*"))
    }


def killed(
    command: Command, place: Path, kills: int, seconds: float, rng: random.Random, home: Path
) -> tuple[int, float]:
    """Kills a command ``kills`` times, or until it is done, and lets it end; how many kills there were, and the longest
    that anything it had started lived on."""
    done, longest = 0, 0.0
    for _ in range(kills):
        call = Call(command.words, home / "out", place)
        time.sleep(rng.uniform(0, seconds))
        was_killed, after = call.kill_alone()
        longest = max(longest, after)
        if not was_killed:
            if call.code not in (0, *command.again):
                raise SystemExit(f"{' '.join(command.words)}: exit {call.code}\n{(home / 'out').read_text()}")
            break
        done += 1
    finish(Call(command.words, home / "out", place), home, (0, *command.again))
    return done, longest


def main() -> None:
    parser = flags(__doc__, quick="eight kills of each of three commands")
    parser.add_argument("--kills", type=int, default=300, help="of all commands together")
    parser.add_argument("--seed", type=int, default=None, help="of the moments; default: another each time, printed")
    parser.add_argument("--commands", help="only these, by comma")
    args = parser.parse_args()
    seed = secrets.randbelow(10**6) if args.seed is None else args.seed
    rng = random.Random(seed)
    print(f"seed {seed}", flush=True)
    began, home = time.monotonic(), Path(tempfile.mkdtemp(prefix="kills-"))
    temporary = home / "tmp"
    temporary.mkdir()
    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = str(temporary)
    warm_up()
    chosen = args.commands.split(",") if args.commands else ["infer", "phantom", "check"] if args.quick else None
    wanted = {name: command for name, command in commands().items() if chosen is None or name in chosen}
    prepare(home, runs=any("base" in word for command in wanted.values() for word in command.words))
    shares = sum(command.share for command in wanted.values())
    rows, total = [], {"kills": 0, "rounds": 0, "equal": 0, "clean": 0}
    longest = 0.0
    for name, command in wanted.items():
        kills = 8 if args.quick else round(args.kills * command.share / shares)
        started = time.monotonic()
        finish(Call(command.words, home / "out", begin(home, "whole")), home, (0,))
        seconds = time.monotonic() - started
        truth, before = tree(home / "whole"), set(temporary.iterdir())
        shutil.rmtree(home / "whole")
        found = dict.fromkeys(total, 0)
        while found["kills"] < kills:
            place = begin(home, "round")
            count, lived = killed(command, place, min(KILLS_A_ROUND, kills - found["kills"]), seconds, rng, home)
            longest = max(longest, lived)
            now = tree(place)
            left = sorted(now.keys() ^ truth.keys())
            other = sorted(file for file in now.keys() & truth.keys() if now[file] != truth[file])
            strewn = sorted(path.name for path in set(temporary.iterdir()) - before)
            if left or other or strewn:
                print(f"{name}: left or missing {left}, different {other}, temporary {strewn}", flush=True)
            found["kills"] += count
            found["rounds"] += 1
            found["equal"] += not other
            found["clean"] += not (left or strewn)
            shutil.rmtree(place)
        print(f"{name:16} {found} ({seconds:.1f} s undisturbed)", flush=True)
        rows.append({"claim": f"{name}: outputs bit-equal to an undisturbed call ({found['kills']} kills)",
                     "ours": found["equal"], "baseline": found["rounds"], "unit": "outputs"})  # fmt: skip
        total = {key: value + found[key] for key, value in total.items()}
    rows += [
        {"claim": "kills at random moments", "ours": total["kills"], "unit": "kills"},
        {"claim": "outputs bit-equal", "ours": total["equal"], "baseline": total["rounds"], "unit": "outputs"},
        {"claim": "nothing left on disk after the next call", "ours": total["clean"], "baseline": total["rounds"],
         "unit": "outputs"},
        {"claim": "longest that a process outlived the killed one", "ours": longest, "unit": "s"},
    ]  # fmt: skip
    shutil.rmtree(home)
    print(f"{total}, longest {longest:.2f} s, in {time.monotonic() - began:.0f} s; seed {seed}\n{machine()}")
    keep(rows, args.json)
    if total["equal"] < total["rounds"] or total["clean"] < total["rounds"] or longest > SOON:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
