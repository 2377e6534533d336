"""The table of `phalanx runs`: groups of what may be ranked together, sorted, with the best of each marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import nearest_key
from ..errors import ConfigError, one_line
from .csvs import stand_csvs
from .find import find_runs
from .fold import FoldStanding, Recipes
from .recipes import chosen, differing, short_names, text_of
from .standing import Group, Standing, stand

MOST_KEYS = 6  # columns of recipe keys that are printed
HEADINGS = ("name", "state", "epoch", "95% interval", "folds", "time", "machine")
BEST, FINISHED = "*", "finished"
SORTS = ("score", "name", "date", "state", "epoch", "seconds")


@dataclass
class Listing:
    """Groups of standings in their order, and for each the keys in which its recipes differ."""

    groups: dict[Group, list[Standing]]
    keys: dict[Group, list[str]]

    @property
    def standings(self) -> list[Standing]:
        """All of them, group by group."""
        return [one for rows in self.groups.values() for one in rows]

    @property
    def recipes(self) -> list[dict[str, Any]]:
        """The recipes of all runs."""
        return [one.recipe for one in self.standings if one.recipe]


def list_runs(root: Path, submissions: Path | None) -> list[Standing]:
    """All runs below a folder, and the votes and CSVs in another.

    Raises:
        ConfigError: no folder of runs.
    """
    recipes = Recipes()
    runs = [stand(run, folders, root, recipes) for run, folders in find_runs(root).items()]
    by_data: dict[tuple[str, str], list[Group]] = {}
    for run in runs:
        if run.group.metric and run.group not in by_data.setdefault((run.group.task, run.group.data), []):
            by_data[run.group.task, run.group.data].append(run.group)
    for run in runs:  # one that was not validated yet joins those of its task and data
        groups = by_data.get((run.group.task, run.group.data), [])
        if not run.group.metric and len(groups) == 1:
            run.group = groups[0]
    return [*runs, *(stand_csvs(submissions, runs) if submissions is not None and submissions.is_dir() else [])]


def arrange(standings: Sequence[Standing], sort: str = "score") -> Listing:
    """Groups, each sorted, with the best marked.

    The best is chosen among votes and runs without an unfinished fold, if there are any; else among runs with the most
    finished folds: fewer folds are other images.

    Args:
        sort: one of ``SORTS`` or a key of recipes; with ``-`` before it the other way round.

    Raises:
        ConfigError: nothing of that name to sort by.
    """
    groups: dict[Group, list[Standing]] = {}
    for one in standings:
        groups.setdefault(one.group, []).append(one)
    known = {key for one in standings for key in one.recipe}
    name = sort.removeprefix("-")
    if name not in SORTS and name not in known:
        raise ConfigError(f"sort={sort}: nothing of that name to sort by{nearest_key(name, [*SORTS, *known])}")
    found = dict(sorted(groups.items(), key=lambda item: (item[0].task == "unknown", item[0])))
    keys = {}
    for group, rows in found.items():
        _mark_best(group, rows)
        rows.sort(key=lambda one: one.name)
        rows.sort(key=lambda one: _order(one, name, group), reverse=False)
        if sort.startswith("-"):
            rows.reverse()
        keys[group] = differing([one.recipe for one in rows if one.recipe])
    return Listing(found, keys)


def _order(one: Standing, sort: str, group: Group) -> tuple[Any, ...]:
    """What to sort by; what has none is last."""
    if sort == "score":
        sign = -1 if group.higher_is_better else 1
        return (one.value is None, sign * (one.value or 0.0))
    if sort == "date":
        return (-one.changed,)
    if sort == "seconds":
        return (one.seconds is None, one.seconds or 0.0)
    if sort == "epoch":
        return (not one.folds, -min((fold.epoch for fold in one.folds), default=0))
    if sort in ("name", "state"):
        return (getattr(one, sort),)
    value = one.recipe.get(sort)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (sort not in one.recipe, not is_number, value if is_number else 0, text_of(value))


def _mark_best(group: Group, rows: Sequence[Standing]) -> None:
    able = [one for one in rows if one.value is not None and one.kind != "file" and one.state != "damaged"]
    whole = [one for one in able if one.is_complete]
    if not whole and able:
        most = max(finished_folds(one) for one in able)
        whole = [one for one in able if finished_folds(one) == most]
    sign = 1 if group.higher_is_better else -1
    top = max((sign * (one.value or 0.0) for one in whole), default=None)
    for one in whole:
        one.best = sign * (one.value or 0.0) == top and len(able) > 1


def finished_folds(one: Standing) -> int:
    """Number of its folds that are finished."""
    return sum(fold.state == "finished" for fold in one.folds)


def only(standings: Sequence[Standing], filters: Mapping[str, str], own: Mapping[str, str]) -> list[Standing]:
    """Those that words choose.

    Args:
        filters: keys of recipes; what has no recipe is left out then, such as CSVs.
        own: of ``task``, ``data``, ``metric``, ``state``, ``kind`` and ``name``, with ``*`` for any text.
    """
    from fnmatch import fnmatchcase

    def fits(one: Standing) -> bool:
        of = {
            "task": one.group.task, "data": one.group.data, "metric": one.group.metric, "state": one.state,
            "kind": one.kind, "name": one.name,
        }  # fmt: skip
        return all(fnmatchcase(of[key], wanted) for key, wanted in own.items()) and chosen(one.recipe, filters)

    return [one for one in standings if fits(one)]


def to_text(listing: Listing, *, folds: bool = False, keys: Sequence[str] | None = None) -> str:
    """The tables for the terminal.

    Args:
        folds: one more row for each fold of several, and their mean.
        keys: columns of recipe keys; by default the first ``MOST_KEYS`` that differ within the group.
    """
    parts = []
    for group, rows in listing.groups.items():
        shown = listing.keys[group][:MOST_KEYS] if keys is None else [*keys]
        parts.append(_table(group, rows, shown, folds))
        left = [key for key in listing.keys[group] if key not in shown]
        if left and keys is None:
            more = f" and {len(left) - 8} more" if len(left) > 8 else ""
            parts.append(f"also differ: {', '.join(left[:8])}{more}; keys=all shows them")
        parts.append("")
    faults = [f"{one.name}: {one.fault}" for one in listing.standings if one.fault]
    notes = [f"damaged: {fault}" for fault in faults]
    if any(one.best for one in listing.standings):
        notes.append(
            f"{BEST} the best of its table: of votes and runs with all folds, or else of runs with the most folds"
        )
    return "\n".join([*parts, *notes]).rstrip()


def _table(group: Group, rows: Sequence[Standing], keys: Sequence[str], folds: bool) -> str:
    score = group.metric or "score"
    head = ["", "name", "state", "epoch", score, *HEADINGS[3:], *short_names(keys, HEADINGS).values()]
    lines = [head]
    for one in rows:
        lines.append(_line(one, keys, compact=not folds or len(one.folds) < 2))
        if folds and len(one.folds) > 1:
            lines += [_fold_line(fold, one, keys) for fold in one.folds]
            if one.spread is not None and one.metric is not None:
                lines.append(["", "  mean", "", "", one.metric.text(one.value), f"sd {one.metric.text(one.spread)}"])
    wide = max(map(len, lines))
    cells = [[_cell(cell) for cell in line] + [""] * (wide - len(line)) for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    return "\n".join([f"{group.title}: {len(rows)} {'entry' if len(rows) == 1 else 'entries'}", *table])


def _line(one: Standing, keys: Sequence[str], *, compact: bool) -> list[str]:
    metric = one.metric
    state = one.state if one.kind == "run" else f"{one.kind}, damaged" if one.fault else one.kind
    folds = _folds_text(one) if compact else f"{finished_folds(one)} of {one.drawn or len(one.folds)}"
    if one.kind == "run" and not one.drawn:
        folds = "all images" if any(fold.number is None for fold in one.folds) else "-"
    if one.kind != "run":
        folds = (
            one_line(": ".join([*[one.how] * bool(one.how), ", ".join(Path(name).stem for name in one.members)]), 60)
            or "-"
        )
    score = "-" if metric is None or one.value is None else metric.text(one.value)
    return [
        BEST if one.best else "", one.name, state, one.epoch_text, score, _span(one), folds,
        duration(one.seconds), one.machine or "-",
        *(text_of(one.recipe[key]) if key in one.recipe else "-" for key in keys),
    ]  # fmt: skip


def _cell(text: str) -> str:
    """On one line, and indented as it was."""
    return text[: len(text) - len(text.lstrip(" "))] + one_line(text, 80)


def _span(one: Standing) -> str:
    if one.interval is None or one.metric is None:
        return "-"
    return f"{one.metric.text(one.interval[0])} to {one.metric.text(one.interval[1])}"


def _folds_text(one: Standing) -> str:
    """How many folds are finished, and the metric of each: ``2 of 5: 0 .9712, 1 .9688``."""
    parts = []
    for fold in one.folds:
        if fold.number is None:
            continue
        value = fold.value if fold.value is not None else fold.validated
        text = fold.metric.text(value) if fold.metric is not None and value is not None else "-"
        parts.append(f"{fold.number}:{text}{'' if fold.state == FINISHED else f' ({fold.state})'}")
    return f"{finished_folds(one)} of {one.drawn or len(one.folds)}: {' '.join(parts)}"


def _fold_line(fold: FoldStanding, one: Standing, keys: Sequence[str]) -> list[str]:
    metric = fold.metric
    text = metric.text(fold.value if fold.value is not None else fold.validated) if metric is not None else "-"
    span = "-"
    if metric is not None and fold.interval is not None:
        span = f"{metric.text(fold.interval[0])} to {metric.text(fold.interval[1])}"
    differ = [text_of(fold.recipe[key]) if fold.recipe.get(key) != one.recipe.get(key) else "" for key in keys]
    epoch = f"{fold.epoch}/{fold.epochs if fold.epochs is not None else '?'}"
    return [
        "",
        f"  {fold.name}",
        fold.state,
        epoch,
        text,
        span,
        "",
        duration(fold.seconds),
        fold.machine or "-",
        *differ,
    ]


def duration(seconds: float | None) -> str:
    """A time in two units.

    >>> duration(None), duration(8), duration(200), duration(12000), duration(200000)
    ('-', '8 s', '3 min 20 s', '3 h 20 min', '2 d 7 h')
    """
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def mean_text(one: Standing) -> str:
    """One line about all folds of a run together: the metric over all held-out images, and its spread over folds;
    empty while a fold is not finished."""
    if one.metric is None or one.value is None or any(fold.state != FINISHED for fold in one.folds):
        return ""
    span = f", 95% interval {_span(one)} over patients" if one.interval is not None else ""
    spread = f", standard deviation over folds {one.metric.text(one.spread)}" if one.spread is not None else ""
    each = " ".join(f"{fold.number}:{one.metric.text(fold.value)}" for fold in one.folds)
    return (
        f"{one.name}: {len(one.folds)} folds, {one.metric.name} {one.metric.text(one.value)} over {one.images} images"
        f"{span}{spread} ({each})"
    )
