"""Opens members of a soft vote by name; torch is loaded only if one of them is a run."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import SegmentConfig, SegmentData, SegmentPredict
from ..runs.reader import FoldRun
from ..runtime.processes import cores
from .exported import DESCRIPTION_FILE, ExportFold, open_export
from .soft import RunMember, SoftMember
from .stored import MapsFolder


def needs_torch(name: str) -> bool:
    """Whether a member's name is that of a run, not of stored maps or an export."""
    return not any((Path(name) / file).is_file() for file in ("maps.json", DESCRIPTION_FILE))


def open_member(
    name: str,
    *,
    runs: Path,
    weights: str = "final",
    device: str = "auto",
    precision: str = "auto",
    changes: dict[str, Any] | None = None,
    root: Path | None = None,
    threads: int | None = None,
) -> RunMember | MapsFolder:
    """A soft member by run name, run folder, folder of an export or of probability maps.

    Args:
        changes: of the options of prediction.
        root: the data set with the metadata sheet of the patients; None: that of training.
        threads: of onnxruntime; all cores by default.
    """
    if (Path(name) / "maps.json").is_file():
        return MapsFolder(Path(name))
    if (Path(name) / DESCRIPTION_FILE).is_file():
        return open_export(
            Path(name), weights=weights, device=device, precision=precision, changes=changes or {}, threads=threads
        )
    from .members import open_run

    return open_run(
        name, runs=runs, weights=weights, device=device, precision=precision, changes=changes or {}, root=root
    )


def open_members(names: Sequence[str], *, sharing: int = 1, **options: Any) -> list[RunMember | MapsFolder]:
    """Members by name, as :func:`open_member`. ``sharing``: processes that share the cores."""
    threads = max(1, int(os.environ.get("OMP_NUM_THREADS") or cores()) // sharing)
    if sharing > 1 and any(map(needs_torch, names)):
        import torch

        torch.set_num_threads(threads)  # of all cores: an earlier call may have divided torch's number
    return [open_member(name, threads=threads, **options) for name in names]


def recipe_of(members: Sequence[SoftMember]) -> tuple[SegmentData, SegmentPredict] | None:
    """Data and prediction options of the first member that has any: a run, an export, or maps whose run is found and
    segments, as those of Mask R-CNN do not."""
    for member in members:
        folds = member.folds if isinstance(member, RunMember) else []
        if folds and isinstance(folds[0], ExportFold):
            return folds[0].data, folds[0].predict
        for folder in map(Path, member.hashes):
            run = FoldRun(folder)
            if (folder / "config.yaml").is_file() and run.recipe.get("task", "segment") == "segment":
                config = run.config_of(SegmentConfig)
                return config.data, config.predict
    return None
