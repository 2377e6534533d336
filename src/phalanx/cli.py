"""The command line: the only place that composes configurations. Heavy imports wait until a command needs them."""

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import usage
from .errors import ConfigError, PhalanxError
from .words import split_flags, whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 1 where a check found errors or a fold failed, 2 for a mistake."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage.MAIN, end="")
        return 0
    if words[0] == "--version":
        from . import __version__

        print(__version__)
        return 0
    command, rest = words[0], words[1:]
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        if command not in COMMANDS:
            import difflib

            close = difflib.get_close_matches(command, COMMANDS, n=1)
            raise ConfigError(f"{command}: no such command{f'; did you mean {close[0]}?' if close else ''} See --help")
        run, text = COMMANDS[command]
        if "-h" in rest or "--help" in rest:
            print(text, end="")
            return 0
        return run(rest) or 0
    except PhalanxError as error:
        print(f"phalanx {command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        from .files import why_unwritable

        if error.filename is None and why_unwritable(error) is None:
            raise
        print(f"phalanx {command}: {error.filename or 'writing'}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nphalanx {command}: stopped; the same command continues", file=sys.stderr)
        return 130


def train(words: Sequence[str]) -> int:
    """``phalanx train``: 1 where one of several folds failed."""
    from .compose import compose, parse_folds, split_words

    began = time.monotonic()
    pairs = split_words(words)
    wanted = pairs.pop("fold", "0")
    config = compose(pairs)
    folds = parse_folds(wanted, config.folds)
    deadline = began + 3600 * config.max_hours if config.max_hours else None
    if config.devices and not config.ddp:
        from .fanout import side_by_side

        return side_by_side(train, pairs, folds, config, deadline)

    from .data.quarantine import kept_records
    from .engine.fit import fit
    from .roots import resolve_root
    from .tasks.segment import Segment

    config.data = resolve_root(config.data)
    records = kept_records(config.data)
    for fold in folds:
        fit(config, fold, records, Segment, deadline)

    from .submit.ledger import note_run

    note_run(config.runs / config.name, pairs.get("experiment", "base"))
    return 0


def infer(words: Sequence[str]) -> None:
    """``phalanx infer``."""
    from .compose import split_words
    from .votes import InferOptions, check_members, infer_run, typed

    pairs = split_words(words)
    names = [name for name in (pairs.pop("experiment", "") or pairs.pop("name", "")).split(",") if name]
    if not names:
        raise ConfigError("experiment=: name the run or runs to predict with, as in experiment=base")
    options = typed(InferOptions, pairs)
    if options.out is not None and len(names) > 1:
        raise ConfigError("out=: fits one run; several runs go to submissions/<run>.csv each")
    check_members(names, options.runs, options.weights)
    for name in names:
        print(infer_run(name, options), flush=True)


def ensemble(words: Sequence[str]) -> None:
    """``phalanx ensemble``."""
    from .compose import split_words
    from .votes import EnsembleOptions, typed, vote

    print(vote(typed(EnsembleOptions, split_words(words))), flush=True)


def export(words: Sequence[str]) -> None:
    """``phalanx export``."""
    places, pairs = split_flags(words, {})[1:]
    if len(places) != 1:
        raise ConfigError(f"expected one RUN or FOLD, got {' '.join(places) or 'nothing'}; see phalanx export --help")

    from .predict.export import ExportOptions, export_run
    from .votes import typed

    print(export_run(places[0], typed(ExportOptions, pairs)), flush=True)


def score(words: Sequence[str]) -> None:
    """``phalanx score``."""
    flags, places, pairs = split_flags(words, {"--json": True, "--partial": False})
    if not 1 <= len(places) <= 2:
        raise ConfigError(f"expected FILE.csv ANSWERS, got {' '.join(places) or 'nothing'}; see phalanx score --help")

    from .files import write_json
    from .scoring import score_file

    truth = Path(places[1]) if places[1:] else None
    result = score_file(Path(places[0]), truth, pairs, partial="--partial" in flags)
    print(result.to_text())
    if "--json" in flags:
        write_json(Path(flags["--json"]), result.to_json())


def compare(words: Sequence[str]) -> None:
    """``phalanx compare``."""
    flags, places, pairs = split_flags(words, {"--json": True, "--partial": False})
    if not 2 <= len(places) <= 3:
        raise ConfigError(f"expected A B ANSWERS, got {' '.join(places) or 'nothing'}; see phalanx compare --help")

    from .files import write_json
    from .scoring import compare_files

    first, second, *truth = map(Path, places)
    result = compare_files(first, second, truth[0] if truth else None, pairs, partial="--partial" in flags)
    print(result.to_text())
    if "--json" in flags:
        write_json(Path(flags["--json"]), result.to_json())


def decide(words: Sequence[str]) -> None:
    """``phalanx decide``."""
    from .compose import split_words

    pairs = split_words(words)
    if "members" not in pairs:
        raise ConfigError("members=: name the runs to decide about, as in members=base,unetpp")

    from .decide import DecideOptions
    from .decide import decide as decide_members
    from .votes import typed

    options = typed(DecideOptions, pairs)
    print(decide_members(options).to_text(), options.out, sep="\n")


def ledger(words: Sequence[str]) -> None:
    """``phalanx ledger``."""
    places, pairs = split_flags(words, {})[1:]
    unknown = [key for key in pairs if key not in ("score", "note", "ledger")]
    if len(places) != 2 or places[0] != "add" or unknown:
        raise ConfigError(f"{' '.join(words) or 'nothing'}: expected add RUN|FILE.csv; see phalanx ledger --help")

    from dataclasses import replace

    from .submit.ledger import LEDGER, add, csv_row, run_row

    what, where = Path(places[1]), Path(pairs.pop("ledger", LEDGER))
    row = run_row(what, every=False) if what.is_dir() else csv_row(what)
    if row is None:
        raise ConfigError(f"{what}: has folds that are not finished; train them first")
    score_told = pairs.get("score", "")
    try:
        finite = math.isfinite(float(score_told or 0))
    except ValueError:
        finite = False
    if not finite:
        raise ConfigError(f"score={score_told}: expected the leaderboard's number, as in score=0.976")
    changed = add(where, replace(row, **pairs))
    print(f"{where}: {row.name} {'written' if changed else 'stands there already'}")


def leaderboard(words: Sequence[str]) -> None:
    """``phalanx leaderboard``."""
    from .compose import split_words

    pairs = split_words(words)
    from .submit.ledger import LEDGER, read, to_text

    where = Path(pairs.pop("ledger", LEDGER))
    if pairs:
        raise ConfigError(f"{next(iter(pairs))}: no such option; known: ledger")
    rows = read(where)
    if not rows:
        raise ConfigError(f"{where}: no ledger here yet; runs in runs/ and votes into submissions/ begin it")
    print(to_text(rows))


def phantom(words: Sequence[str]) -> None:
    """``phalanx phantom``."""
    known = ("--patients", "--test-patients", "--size", "--seed", "--out", "--workers")
    flags, places, pairs = split_flags(words, dict.fromkeys(known, True))
    if places != ["hand"] or pairs:
        raise ConfigError(f"{' '.join([*places, *pairs]) or 'nothing'}: expected: phalanx phantom hand --out DIR ...")
    if "--out" not in flags:
        raise ConfigError("--out DIR: missing; name the folder to make")

    from .phantom.hand import make_hands

    out = Path(flags["--out"])
    test = whole(flags, "--test-patients", None)
    make_hands(
        out,
        patients=whole(flags, "--patients", 80) or 0,
        size=whole(flags, "--size", 512) or 0,
        seed=whole(flags, "--seed", 0) or 0,
        test_patients=test,
        workers=whole(flags, "--workers", None),
    )
    print(
        f"{out}: made; train on it with: bash train.sh data=hand data.root={out} data.size={flags.get('--size', 512)}"
    )


def folds(words: Sequence[str]) -> None:
    """``phalanx folds``."""
    from .compose import compose, split_words

    pairs = split_words(words)
    out = Path(pairs.pop("out", ""))
    if out.suffix != ".csv":
        raise ConfigError("out=FILE.csv: missing; name the fold file, as in out=folds/hand.csv")
    if out.exists():
        raise ConfigError(f"{out}: exists; folds never change once made. Give another name, or delete it yourself")
    columns = [name.strip() for name in pairs.pop("stratify", "").split(",") if name.strip()]
    config = compose(pairs)

    from .data import folds as folding
    from .data.quarantine import kept_records
    from .roots import resolve_root

    data = resolve_root(config.data)
    records = kept_records(data)
    named = None
    if columns:
        from .data.traits import read_traits, strata

        named = strata(read_traits(records, data, columns))
        drawn = folding.draw_stratified(records, config.folds, config.seed, named)
    else:
        drawn = folding.draw(records, config.folds, config.seed)
    table = folding.balance(records, drawn, config.folds, named)
    folding.write(out, records, drawn)
    print(table)


def eda(words: Sequence[str]) -> None:
    """``phalanx eda``."""
    from .compose import compose, split_words

    pairs = split_words(words)
    out, csv = pairs.pop("out", ""), pairs.pop("csv", "")
    if not out:
        raise ConfigError("out=DIR: missing; name the folder for tables and plots, as in out=runs/eda")
    if csv and not Path(csv).is_file():
        raise ConfigError(f"csv={csv}: no such file; name a submission or an out-of-fold CSV")
    config = compose(pairs)

    from .explain.eda import explore
    from .roots import resolve_root

    found = explore(
        resolve_root(config.data),
        Path(out),
        csv=Path(csv) if csv else None,
        workers=config.workers,
        progress=config.progress,
    )
    print(found)


def check(words: Sequence[str]) -> int:
    """``phalanx check``: 1 where there are errors."""
    flags, places, pairs = split_flags(words, {"--json": True, "--quarantine": True})
    if places:
        raise ConfigError(f"{places[0]}: expected key=value, as in data.root={places[0]}; see phalanx check --help")
    out = Path(flags["--quarantine"]) if "--quarantine" in flags else None
    if out is not None and out.exists():
        raise ConfigError(f"{out}: exists, and may hold lines of yours; give another name, or delete it yourself")

    from .compose import compose

    config = compose(pairs)

    from .data.checks.run import check as check_data
    from .data.quarantine import write_quarantine
    from .files import write_json
    from .roots import resolve_root

    report = check_data(resolve_root(config.data), workers=config.workers, progress=config.progress)
    where = Path(flags.get("--json", "check.json"))
    write_json(where, report.to_json())
    print(report.to_text(), where, sep="\n")
    bad = report.bad_images()
    if out is not None:
        write_quarantine(out, bad)
        print(f"{out}: {len(bad)} image(s); train without them with data.quarantine={out}")
    elif bad:
        print(f"{len(bad)} training image(s) have errors; --quarantine FILE lists them for data.quarantine=FILE")
    return 1 if report.counts["error"] else 0


def plan(words: Sequence[str]) -> None:
    """``phalanx plan``."""
    flags, places, pairs = split_flags(words, {"--json": True})
    if places:
        raise ConfigError(f"{places[0]}: expected key=value, as in experiment={places[0]}; see phalanx plan --help")
    pairs.pop("fold", None)  # of a phalanx train that this asks about
    measure = pairs.pop("measure", "false")
    if measure not in ("true", "false"):
        raise ConfigError(f"measure={measure}: expected true or false")
    memory = pairs.pop("vram", None)
    try:
        vram = float(memory) if memory is not None else None
    except ValueError:
        vram = -1.0
    if vram is not None and not 0 < vram < 10_000:
        raise ConfigError(f"vram={memory}: expected the GPU's memory in GiB, as in vram=24")

    from .compose import compose

    config = compose(pairs)

    from .explain.plan import make_plan
    from .files import write_json

    found = make_plan(config, vram=vram, measure=measure == "true")
    print(found.to_text())
    if "--json" in flags:
        write_json(Path(flags["--json"]), found.to_json())


def quarantine(words: Sequence[str]) -> None:
    """``phalanx quarantine``."""
    from .compose import compose, split_words

    pairs = split_words(words)
    out = Path(pairs.pop("out", ""))
    if not out.name:
        raise ConfigError("out=FILE: missing; name the file to write, as in out=quarantine.txt")
    if out.exists():
        raise ConfigError(f"{out}: exists, and may hold lines of yours; give another name, or delete it yourself")
    config = compose(pairs | {"name": "quarantine"})  # no run, so that the rule may ask any, also the default's
    if config.data.drop is None:
        raise ConfigError(
            "data.drop: names no rule; give one, as in data.drop.bright=1.5; see phalanx quarantine --help"
        )

    from .data.drop import find, reasons_of
    from .data.quarantine import kept_records, read_quarantine, write_quarantine
    from .roots import resolve_root

    data = resolve_root(config.data)
    reasons = reasons_of(find(kept_records(data), data, config.runs))
    before = read_quarantine(data.quarantine) if data.quarantine else {}
    write_quarantine(out, before | reasons)
    print(f"{out}: {len(reasons)} image(s) by the rule{f', {len(before)} from {data.quarantine}' if before else ''}")
    print(f"look them through, delete lines, and train with data.quarantine={out} instead of data.drop")


def picture(words: Sequence[str]) -> None:
    """``phalanx picture``."""
    flags, places, pairs = split_flags(words, {"--out": True, "--rows": True})
    if len(places) != 3 or pairs or "--out" not in flags:
        raise ConfigError("expected FILE.csv ANSWERS IMAGES --out FILE.png; see phalanx picture --help")

    from .explain.picture import draw
    from .scoring import open_pair

    submission, truth, _ = open_pair(Path(places[0]), Path(places[1]), {})
    draw(submission, truth, Path(places[2]), Path(flags["--out"]), rows=whole(flags, "--rows", 4) or 1)
    print(flags["--out"])


def sweep(words: Sequence[str]) -> int:
    """``phalanx sweep``: 1 where a training failed."""
    _, places, pairs = split_flags(words, {})

    from .sweep.options import SweepOptions

    options = SweepOptions.read(places, pairs)

    from .sweep.run import sweep as run_sweep

    return 1 if run_sweep(options) else 0


def claims(words: Sequence[str]) -> None:
    """``phalanx claims``."""
    from .compose import split_words

    pairs = split_words(words)
    out = Path(pairs.pop("out", "docs/results.md"))
    if pairs or out.suffix != ".md":
        raise ConfigError(f"{' '.join(words)}: expected out=FILE.md or nothing")

    from .files import write_text
    from .sweep.claims import document

    write_text(out, document())
    print(out)


def demo(words: Sequence[str]) -> None:
    """``phalanx demo``."""
    from .compose import split_words

    pairs = split_words(words)
    quick = pairs.pop("quick", "false")
    if pairs or quick not in ("true", "false"):
        raise ConfigError(f"{' '.join(words)}: the demo takes quick=true or nothing")

    from .demo import run_demo

    run_demo(quick=quick == "true", call=main)


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], Any], str]] = {
    "train": (train, usage.TRAIN),
    "infer": (infer, usage.INFER),
    "ensemble": (ensemble, usage.ENSEMBLE),
    "export": (export, usage.EXPORT),
    "score": (score, usage.SCORE),
    "compare": (compare, usage.COMPARE),
    "decide": (decide, usage.DECIDE),
    "ledger": (ledger, usage.LEDGER),
    "leaderboard": (leaderboard, usage.LEADERBOARD),
    "phantom": (phantom, usage.PHANTOM),
    "folds": (folds, usage.FOLDS),
    "eda": (eda, usage.EDA),
    "check": (check, usage.CHECK),
    "quarantine": (quarantine, usage.QUARANTINE),
    "plan": (plan, usage.PLAN),
    "picture": (picture, usage.PICTURE),
    "sweep": (sweep, usage.SWEEP),
    "claims": (claims, usage.CLAIMS),
    "demo": (demo, usage.DEMO),
}

if __name__ == "__main__":
    sys.exit(main())
