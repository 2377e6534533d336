"""``phalanx rounds``: hard-negative rounds, as ordinary trainings one after the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .args import number_of, split_places

if TYPE_CHECKING:
    from ..config import ClassifyConfig
    from ..ensemble.label_rounds import Stage

MAX_ROUNDS = 20
ROUNDS = """\
phalanx rounds experiment=NAME [rounds=2] key=value ...

Hard-negative rounds of a recipe of task=classify: full training, then per round a short training on the failures on
confused classes alone (hard), and a training on all images with more weight on the failures (refined). Each begins with
the weights of the one before, fold by fold, and trains on its out-of-fold failures (data.hard), never on test images.
Each is an ordinary run of all folds: NAME, NAME_round1_hard, NAME_round1_refined, ... If it is killed, the same command
continues. Ends with a table of scores by training, which shows what was forgotten; rounds end early without failures.

  rounds=2               number of rounds, up to 20
  hard.pairs=[[A,B]]     classes that are confused (default: the pairs that the first training confuses most)
  hard.per_failure=1     right images of the same class per failure, in the hard training
  hard.epochs=N          of the hard training (default: a quarter of epochs); any hard.KEY=value is an option of
                         phalanx train for it, as hard.optim.lr=1e-4
  refined.weight=3       appearances of a failure per epoch in the refined training; refined.KEY=value likewise
  truth=FILE             labels of the test images: scores there as well, also of images with marks and without
  out=FILE.json          the table (default: runs/NAME_rounds.json)
  experiment= data= ...  options of phalanx train, for all trainings
"""
OWN = {
    "hard.pairs": "data.hard.pairs",
    "hard.per_failure": "data.hard.per_failure",
    "refined.weight": "data.hard.weight",
}


def rounds(words: Sequence[str]) -> int:
    """``phalanx rounds``; returns 1 if one of several folds failed."""
    places, pairs = split_places(words)
    if places:
        raise ConfigError(f"{places[0]}: expected key=value, as in experiment={places[0]}; see phalanx rounds --help")
    count = number_of(pairs.pop("rounds", "2"))
    if count is None or count != int(count) or not 1 <= count <= MAX_ROUNDS:
        raise ConfigError(f"rounds=: expected a whole number from 1 to {MAX_ROUNDS}, as in rounds=2")
    truth = Path(pairs.pop("truth")) if "truth" in pairs else None
    if truth is not None and not truth.exists():
        raise ConfigError(f"truth={truth}: no such file or folder of labels")
    out = Path(pairs.pop("out")) if "out" in pairs else None
    parts = {part: _taken(pairs, part) for part in ("hard", "refined")}
    if set_here := next((key for key in pairs if key == "data.hard" or key.startswith("data.hard.")), None):
        raise ConfigError(f"{set_here}: the rounds set it; give hard.pairs=, hard.per_failure= or refined.weight=")

    from ..runtime.files import check_report, write_report

    config, fold = _checked(pairs, parts)
    out = out or config.runs / f"{config.name}_rounds.json"
    check_report(out, "rounds")
    stages = _train_all(pairs, parts, config, fold, int(count))
    if isinstance(stages, int):
        return stages

    from ..ensemble.label_rounds import rounds_text, stage_report

    confused = stages[1].pairs if len(stages) > 1 else ()
    reports = [stage_report(stage, config.runs, confused, truth, config.device) for stage in stages]
    print(rounds_text(reports, confused), flush=True)
    write_report(out, "rounds", {"pairs": [list(pair) for pair in confused], "trainings": reports})
    print(out)
    return 0


def _taken(pairs: dict[str, str], part: str) -> dict[str, str]:
    """Options of one kind of training, taken out of the pairs, under their names in ``phalanx train``."""
    keys = [key for key in pairs if key.startswith(f"{part}.")]
    return {OWN.get(key, key.removeprefix(f"{part}.")): pairs.pop(key) for key in keys}


def _checked(pairs: dict[str, str], parts: dict[str, dict[str, str]]) -> "tuple[ClassifyConfig, str]":
    """The recipe of the full training and the folds to train, once all trainings are known to be possible.

    Raises:
        ConfigError: an option that cannot work, another task, or folds that are left out.
    """
    from ..config import ClassifyConfig
    from ..config.compose import compose_as, parse_folds

    wanted = pairs.pop("fold", None)
    config = compose_as(ClassifyConfig, pairs)
    fold = wanted or f"0..{config.folds - 1}"
    if set(parse_folds(fold, config.folds)) != set(range(config.folds)):
        raise ConfigError(
            f"fold={fold}: failures are mined out of fold, so all folds are needed: fold=0..{config.folds - 1}, or "
            "fewer folds="
        )
    parts["hard"].setdefault("epochs", str(max(1, config.epochs // 4)))
    for part, keep in (("hard", "only"), ("refined", "all")):
        parts[part]["data.hard.keep"] = keep
        if fixed := {"name", "folds", "seed", "runs"} & parts[part].keys():
            raise ConfigError(f"{part}.{min(fixed)}: is the same in all trainings; give it without {part}.")
        compose_as(ClassifyConfig, pairs | parts[part] | {"data.hard.run": config.name})
    if "data.hard.pairs" in parts["hard"]:
        parts["refined"]["data.hard.pairs"] = parts["hard"]["data.hard.pairs"]
    return config, fold


def _train_all(
    pairs: dict[str, str], parts: dict[str, dict[str, str]], config: "ClassifyConfig", fold: str, count: int
) -> "list[Stage] | int":
    """Trains what is missing; the finished trainings in order, or an exit code if folds failed."""
    from ..data.hard import NoFailures, confused_pairs
    from ..ensemble.label_rounds import Stage, mined_pairs
    from ..tasks.mining import mined_run
    from .training import train

    def run(words: dict[str, str]) -> int:
        return train([f"{key}={value}" for key, value in words.items()] + [f"fold={fold}"])

    if code := run(pairs | {"name": config.name}):
        return code
    stages = [Stage("full", config.name)]
    for number in range(1, count + 1):
        for part in ("hard", "refined"):
            before, name = stages[-1].run, f"{config.name}_round{number}_{part}"
            print(f"{name}: begins with {before} and trains on its failures", flush=True)
            more = {"name": name, "model.init_from": before, "data.hard.run": before}
            if "data.hard.pairs" not in parts[part]:  # those of the first training, so that all are compared on them
                found = confused_pairs(mined_run(config, before))
                if not found:
                    print(f"{before}: confuses no pair of classes out of fold; the rounds end here", flush=True)
                    return stages
                named = ",".join(f'["{a}","{b}"]' for a, b in found)
                parts["hard"]["data.hard.pairs"] = parts["refined"]["data.hard.pairs"] = f"[{named}]"
            try:
                code = run(pairs | parts[part] | more)
            except NoFailures as error:
                print(f"{error}; the rounds end here", flush=True)
                return stages
            if code:
                return code
            stages.append(Stage(f"{part} {number}", name, mined_pairs(config.runs, name)))
    return stages
