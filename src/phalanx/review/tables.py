"""The tables of a failure review as CSV text."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..scoring.object_suspects import MEASURES, Suspect
from .case import Case, Reviewed

BETWEEN = "; "


def table_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    return text.getvalue()


def number(value: float | None, decimals: int = 4) -> str:
    """A number for a table; empty for None."""
    return "" if value is None else f"{value:.{decimals}f}".rstrip("0").rstrip(".") or "0"


def named(areas: Mapping[str, float]) -> str:
    """Classes that are there, or ``nothing``."""
    return BETWEEN.join(areas) or "nothing"


def cells_header(classes: Sequence[str]) -> list[str]:
    """Columns of cells.csv."""
    sides = [f"{side} {label}" for label in classes for side in ("area of", "predicted area of")]
    columns = ("cell", "image_name", "patient", "fold", "truth", "prediction", "iou", "mean_iou", "confidence")
    return [*columns, *(side.replace(" ", "_") for side in sides)]


def cells_csv(reviewed: Reviewed) -> str:
    """A row per image and cell: the false ones first, in each cell the lowest IoU first."""
    classes, rows = list(reviewed.config.data.classes), []
    for cell in ("fn", "fp", "tp", "tn"):
        for k in ordered(reviewed, cell):
            case = reviewed.cases[k]
            areas = [number(side.get(label, 0.0), 1) for label in classes for side in (case.truth, case.predicted)]
            fold = "" if case.fold is None else case.fold
            iou = number(float(reviewed.f1.iou[k])) if reviewed.f1.diseased[k] else ""
            rows.append([
                cell, case.image, case.patient, fold, named(case.truth), named(case.predicted), iou,
                number(case.iou), number(case.confidence), *areas,
            ])  # fmt: skip
    return table_csv(cells_header(classes), rows)


def ordered(reviewed: Reviewed, cell: str) -> list[int]:
    """Numbers of the images in a cell, the lowest mean IoU first; equal ones from the most confident, then by name."""
    inside = [k for k in range(len(reviewed.cases)) if cell in reviewed.cells_of(k)]

    def key(k: int) -> tuple[float, float, str]:
        case: Case = reviewed.cases[k]
        return case.iou, -(case.confidence or 0.0), case.image

    return sorted(inside, key=key)


SUSPECTS = (
    "rank", "image_name", "patient", "object", "given", "other", "score", *(f"{name}_score" for name in MEASURES),
    "area", "smaller_of_class", "width_ratio", "predicted_width_ratio", "predicted_diseased", "reasons",
)  # fmt: skip


def suspects_csv(found: Sequence[Suspect], names: tuple[str, str]) -> str:
    """A row per annotated object, the most doubtful first."""
    rows = []
    for rank, one in enumerate(found, 1):
        own = one.object
        rows.append([
            rank, own.image, own.patient, own.number, names[own.diseased], names[not own.diseased],
            number(one.score), *(number(one.doubts.get(name)) for name in MEASURES), number(own.area, 1),
            number(one.smaller), number(own.width), number(own.predicted_width), number(own.prediction),
            BETWEEN.join(one.reasons),
        ])  # fmt: skip
    return table_csv(SUSPECTS, rows)


def comparison_csv(reviewed: Sequence[Reviewed], images: Sequence[str], why: Mapping[str, str]) -> str:
    """A row per image that all runs predicted: cell and mean IoU by each, and why the picture shows it, if it does."""
    header = ["image_name", "truth", "mean_iou", "shown", *(f"{what} {one.name}" for one in reviewed
              for what in ("cell", "mean_iou"))]  # fmt: skip
    places = [{case.image: k for k, case in enumerate(one.cases)} for one in reviewed]
    rows = []
    for image in images:
        numbers = [place[image] for place in places]
        found = [one.cases[k] for one, k in zip(reviewed, numbers, strict=True)]
        cells = ["+".join(one.cells_of(k)) for one, k in zip(reviewed, numbers, strict=True)]
        each = [text for cell, case in zip(cells, found, strict=True) for text in (cell, number(case.iou))]
        mean = sum(case.iou for case in found) / len(found)
        rows.append([image, named(found[0].truth), number(mean), why.get(image, ""), *each])
    return table_csv(header, rows)


def curves_csv(rows: Iterable[tuple[str, str, int, float]]) -> str:
    """Run, fold, step and F1 of each validation."""
    return table_csv(
        ["run", "fold", "step", "f1"], ([run, fold, step, number(value, 6)] for run, fold, step, value in rows)
    )
