"""What `phalanx train` without any word says before it makes a set and trains for long."""

import sys
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..config import Config

OTHERWISE = (
    "bash demo.sh quick=true      the whole pipeline on small synthetic images, in a minute or two",
    "phalanx train data.root=DIR  your own data set; experiment=NAME another recipe (configs/experiment/)",
    "phalanx train yes=true       this training, without a question",
)


def announce(config: "Config", *, agreed: bool) -> bool:
    """Prints what a training would do, and how long it takes here; returns whether to begin.

    A run that was begun goes on without a word, as the same command continues it.

    Args:
        agreed: begin without a question.

    Raises:
        ConfigError: there is no terminal to ask on.
    """
    from ..runs.folder import fold_folder

    folder = fold_folder(config, 0)
    if (folder / "config.yaml").is_file():
        return True
    print(f"phalanx train, without options, trains fold 0 of experiment={config.name} into {folder}:")
    for line in _plan(config):
        print(f"  {line}", flush=True)
    if agreed:
        return True
    print("\nInstead:")
    for line in OTHERWISE:
        print(f"  {line}", flush=True)
    if not sys.stdin.isatty():
        raise ConfigError("nothing was begun: without a terminal to ask on, give yes=true, or options such as fold=0")
    try:
        answer = input("\nBegin this training now? [y/N] ").strip().lower()
    except EOFError:
        answer = ""
    if answer not in ("y", "yes"):
        print("nothing was begun")
        return False
    return True


def _plan(config: "Config") -> list[str]:
    """Lines about network, data, device and times, all measured on this machine just now."""
    from ..config import ClassifyConfig, DetectConfig, SegmentConfig
    from ..profiling.duration import time_set, time_training
    from ..runtime.processes import cores
    from ..standings.table import duration

    if not isinstance(config, SegmentConfig | ClassifyConfig | DetectConfig):
        return [f"task={config.task}: its time is not estimated"]
    arch = getattr(config.model, "arch", getattr(config.model, "architecture", config.task))
    lines = [
        f"network  {arch} on {config.model.encoder}, {config.data.size} pixels, batch {config.batch}, {config.epochs} "
        "epochs (phalanx config shows every option)"
    ]
    print("  (timing a patient and a few steps ...)", flush=True)
    phantom = config.data.phantom
    if config.data.root is None and phantom is not None:
        made = time_set(phantom)
        images, waiting = made.images, made.seconds
        lines += [
            f"data     makes {phantom.patients} synthetic patients and their test set at {phantom.size} pixels, about "
            f"{duration(made.seconds)}",
            f"         (measured: {made.timed} patients in {made.seconds_timed:.1f} s on one of {cores()} cores)",
        ]
    else:
        from ..data.quarantine import kept_records

        images, waiting = len(kept_records(config.data)), 0.0
        lines.append(f"data     {config.data.root}, {images} images")
    found = time_training(config, images)
    lines += [
        f"device   {found.device}, precision {found.precision}",
        f"training about {duration(found.seconds)} for {images - images // config.folds} images per epoch",
        f"         (measured: {found.step:.2f} s per image of a step at {found.side} pixels, {found.forward:.2f} s per "
        f"prediction{', scaled by the number of pixels' if found.side != config.data.size else ''})",
        f"in all   about {duration(found.seconds + waiting)}",
    ]
    return lines
