"""Sections about how runs were trained: curves, time and memory."""

from collections.abc import Sequence

from ..errors import PhalanxError
from ..review.charts import Curves as Drawn
from ..review.charts import Line
from ..review.evaluated import Evaluated
from ..runs.reader import FoldRun
from ..tracking.curves import FINAL, HELD_OUT, MONITORED, Curves, curves_of
from ..tracking.json_lines import Event
from .document import Cell, Plot, Section, Table, Text, count, number, table
from .svg import Chart, spread

WIDE = 40.0  # ratio of the largest and the smallest loss from which on its axis is logarithmic
NAN = float("nan")


def trainings(evaluations: Sequence[Evaluated]) -> Section:
    """Curves of each run: loss and its terms, learning rate, metric while training and on held-out images."""
    plots, notes = list[Chart](), list[str]()
    for one in evaluations:
        if not one.folds:
            notes.append(f"{one.name}: was not trained itself")
            continue
        folds = [(fold, found) for fold in one.folds if (found := read(fold, notes)) is not None]
        prefix = f"{one.name}: " if len(evaluations) > 1 else ""
        plots += [Chart(chart._replace(title=f"{prefix}{chart.title}")) for chart in of_folds(folds)]
    blocks: list[Plot | Text] = [Plot(tuple(plots))] if plots else []
    if notes:
        blocks.append(Text(tuple(dict.fromkeys(notes)), listed=True))
    return Section("training", "Training", tuple(blocks))


def read(fold: FoldRun, notes: list[str]) -> Curves | None:
    """The curves of a fold's log; a damaged log is a note and None."""
    try:
        lines = fold.log()
    except PhalanxError as error:
        notes.append(f"curves: {error}")
        return None
    known = ("event", "step", "time")
    return curves_of([
        Event(line["event"], int(line.get("step", 0)), float(line.get("time", 0)),
              {key: value for key, value in line.items() if key not in known})
        for line in lines
    ])  # fmt: skip


def of_folds(folds: Sequence[tuple[FoldRun, Curves]]) -> list[Drawn]:
    """Charts of one run's folds, those without any point left out."""
    if not folds:
        return []
    first = folds[0][1]
    metric = first.metric.name if first.metric else "metric"
    terms = [key for key in first.keys if key.startswith("loss/")]
    charts = []
    loss = [_line(f"loss, {fold.name}", found, "loss") for fold, found in folds]
    charts.append(Drawn("Loss", "epoch", "loss of training", loss))
    if terms:
        lines = [_line(key.removeprefix("loss/"), first, key) for key in terms]
        charts.append(
            Drawn("Terms of the loss", "epoch", "value before its weight", lines, note=f"Of {folds[0][0].name}.")
        )
    lines = [_line(f"held out, {fold.name}", found, f"{HELD_OUT}{metric}") for fold, found in folds]
    lines += [_line(f"monitored, {fold.name}", found, f"{MONITORED}{metric}") for fold, found in folds]
    if first.trained_by:
        lines += [_line(f"training, {fold.name}", found, first.trained_by or "") for fold, found in folds]
    final = [points[-1][1] for _, found in folds if (points := found.points(f"{FINAL}{metric}"))]
    note = f"Out of fold with the final weights: {', '.join(f'{value:.4f}' for value in final)}." if final else ""
    charts.append(Drawn(f"{metric} over epochs", "epoch", metric, lines, note=note))
    classes = next(iter(first.by_class().values()), {})
    if classes:
        last = {label: points[-1][1] for label, key in classes.items() if (points := first.points(key))}
        worst = sorted(last, key=lambda label: last[label])[:6]
        lines = [_line(label, first, classes[label]) for label in worst]
        charts.append(Drawn(
            f"{metric} of the worst classes", "epoch", metric, lines,
            note=f"Held-out images of {folds[0][0].name}; the {len(worst)} lowest of {len(last)} at the end.",
        ))  # fmt: skip
    grouped = next(iter(first.by_group().values()), {})
    if grouped:
        lines = [_line(name, first, key) for name, key in grouped.items()]
        charts.append(Drawn(f"{metric} of groups", "epoch", metric, lines, note=f"Of {folds[0][0].name}."))
    charts.append(Drawn("Learning rate", "epoch", "learning rate", [_line("learning rate", first, "lr")]))
    found = []
    for chart in charts:
        used = [line for line in chart.lines if len(line.x)]
        if used:
            steep = chart.title.startswith(("Loss", "Terms")) and spread(used) >= WIDE
            found.append(chart._replace(lines=used, log=steep))
    return found


def _line(name: str, curves: Curves, key: str) -> Line:
    points = curves.points(key) if key else []
    return Line(name, [x for x, _ in points], [y for _, y in points])


def resources(evaluations: Sequence[Evaluated]) -> Section:
    """Time and memory of each fold, on which machine."""
    rows, notes = list[list[Cell | str]](), list[str]()
    for one in evaluations:
        for fold in one.folds:
            curves, result = read(fold, notes), fold.result
            epochs = curves.points("images_per_second") if curves else []
            memory = [value for _, value in curves.points("memory_gib")] if curves else []
            speed = sorted(value for _, value in epochs)
            rows.append([
                one.name, fold.name, number(result.seconds_train / 3600 if result else NAN, 3),
                number(result.seconds_held_out if result else NAN, 1),
                number(speed[len(speed) // 2] if speed else NAN, 1), number(max(memory, default=NAN), 2),
                count(len(epochs)) if epochs else count(NAN), _machine(fold, notes),
            ])  # fmt: skip
    columns = [
        "run", "fold", "hours of training", "seconds to predict held-out images", "images per second",
        "peak memory (GiB)", "epochs logged", "machine",
    ]  # fmt: skip
    blocks: list[Table | Text] = []
    if rows:
        note = "Images per second: median over epochs. Memory: of the GPU, or of the process if there was none."
        blocks.append(table("resources", "Time and memory", columns, rows, note=note))
    else:
        blocks.append(Text(("Nothing was trained here: time and memory are those of the members.",)))
    if notes:
        blocks.append(Text(tuple(dict.fromkeys(notes)), listed=True))
    return Section("resources", "Time and memory", tuple(blocks))


def _machine(fold: FoldRun, notes: list[str]) -> str:
    try:
        about = fold.environment
    except PhalanxError as error:
        notes.append(str(error))
        return "not recorded"
    return str(about["gpu"] or f"CPU {about.get('machine', '')}, {about['threads']} thread(s)")
