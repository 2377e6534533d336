"""The command that compares several classifiers in one table."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import ConfigError
from .args import report_path, split_places, switch

RANK = """\
phalanx rank A.csv B.csv [C.csv ...] TRUTH [healthy=CLASS] [key=value ...] [json=FILE] [partial=true]
phalanx rank runs/A runs/B [runs/C ...] [healthy=CLASS] [json=FILE]

One table of several classifiers of the same images, CSVs of probabilities with labels, or runs by their out-of-fold
predictions: accuracy, AUC (macro, and each class against the rest), recall, specificity and F1, all from one integer
confusion matrix per classifier. Ranks them by accuracy and by AUC, side by side; those whose difference from the first
is within noise (paired bootstrap over patients) are tied. Says whether the accuracy winner is the AUC winner.

  healthy=CLASS          also recall, specificity and F1 of any disease against this class
  data.groups_file=FILE.csv   patients of the images, as `phalanx check groups=` writes them: copies are one
  json=FILE              write all numbers; in results/classification/ `phalanx claims` sets them beside published ones
  head= threshold= postprocess= data.table.group= data.folders.group_pattern= partial=      as for phalanx score
"""


def rank(words: Sequence[str]) -> None:
    """``phalanx rank``."""
    places, pairs = split_places(words)
    partial = switch(pairs, "partial")
    report = report_path(pairs, "rank")
    files = [Path(place) for place in places]
    runs = [file.is_dir() and any(file.glob("*/config.yaml")) for file in files]

    from ..ensemble.classify_oof import scored_out_of_fold
    from ..runtime.files import write_report
    from ..scoring.classify_rank import MIN_MODELS, rank_table
    from .scoring_labels import score_labels

    members = files if all(runs) else files[:-1]
    if len(members) < MIN_MODELS or any(runs) != all(runs):
        raise ConfigError(
            f"{' '.join(places) or 'nothing'}: expected two CSVs or more and their TRUTH, or two runs or more; see "
            "phalanx rank --help"
        )
    if twice := next((one for one in members if members.count(one) > 1), None):
        raise ConfigError(f"{twice}: given twice")
    if all(runs):
        healthy = pairs.pop("healthy", None)
        if pairs:
            raise ConfigError(f"{next(iter(pairs))}: runs are ranked by their out-of-fold predictions; only healthy= "
                              "and json= apply")  # fmt: skip
        scores = [scored_out_of_fold(run) for run in members]
        for one in scores:
            if healthy is not None and (one.head != "softmax" or healthy not in one.classes):
                raise ConfigError(f"healthy={healthy}: is not a class of a softmax in {one.name}; it has "
                                  f"{', '.join(one.classes)}")  # fmt: skip
        scores = [replace(one, healthy=healthy) for one in scores]
    else:
        scores = [score_labels(file, files[-1], pairs, partial=partial) for file in members]
    found = rank_table(scores, short_names(members))
    print(found.to_text())
    if report is not None:
        write_report(report, "rank", found.to_json())


def short_names(files: Sequence[Path]) -> list[str]:
    """Names of files without folder and ending, where that leaves them distinct."""
    short = [file.stem if file.suffix == ".csv" else file.name for file in files]
    return short if len(set(short)) == len(short) else [str(file) for file in files]
