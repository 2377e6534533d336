"""Sections with images: the worst, the best, and all that can be chosen from."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..review.evaluated import Evaluated
from .document import MISSING, Gallery, Item, Section, Text, data_uri
from .images import Drawn, chosen, draw_all
from .options import ReportOptions

MANY = 200  # values of a filter; of more, the name is searched
WORST = 5  # classes that the text below a picture names


def galleries(evaluations: Sequence[Evaluated], options: ReportOptions) -> list[Section]:
    """The worst and the best images of the first run, and the list of all."""
    first = evaluations[0]
    drawn, notes = draw_all(evaluations, options)
    attributes = first.attributes()
    ranked = [first.names[k] for k in first.ranked()]
    items = {name: _item(evaluations, name, drawn.get(name), attributes) for name in ranked}
    large = chosen(first, options)
    worst, best = large[: options.worst], large[options.worst :]
    legend = _legend(first)
    found = []
    for key, title, names in (("worst", "Worst images", worst), ("best", "Best images", best)):
        if names:
            gallery = Gallery(key, first.per_image_name, tuple(items[name] for name in names), {}, ())
            found.append(Section(key, title, (Text((*legend, *notes)), gallery)))
    values = {
        "fold": sorted({_fold(first, name) for name in ranked}),
        **({"patient": sorted({image.patient for image in first.images})} if first.grouped else {}),
        **{key: sorted(set(each)) for key, each in attributes.items() if 1 < len(set(each)) <= MANY},
    }
    filters = {key: each for key, each in values.items() if 1 < len(each) <= MANY}
    note = ""
    if left := len(ranked) - min(len(ranked), options.images):
        note = f"The {left} best images are listed without a picture; images=N draws more."
    if lacking := sum(1 for one in drawn.values() if not one.full):
        note = f"{note} {lacking} have a thumbnail alone, as the file would grow too large.".strip()
    shown = {name for name in large if items[name].full}
    every = tuple(items[name]._replace(full="", elsewhere=True) if name in shown else items[name] for name in ranked)
    gallery = Gallery("all", first.per_image_name, every, filters, first.classes, note)
    what = f"{first.name}; ranked by {first.per_image_name}."
    return [*found, Section("images", "All images", (Text((what,)), gallery))]


def _legend(one: Evaluated) -> tuple[str, ...]:
    """How pictures are to be read, and the numbers of the classes."""
    numbers = ", ".join(f"{k} {label}" for k, label in enumerate(one.classes, 1))
    signs = {
        "pixels": "Outlines of the ground truth are solid, predicted ones dashed. Errors: false positives are yellow "
                  "and striped, missed pixels blue and dotted.",
        "boxes": "Objects are solid, predicted boxes dashed. Errors: false boxes are yellow and crossed, missed "
                 "objects blue and dashed.",
        "images": "Bars are probabilities; marks show what is true. The heat is the Grad-CAM of the class that is most "
                  "wrong.",
    }  # fmt: skip
    return (signs[one.unit], f"Numbers of the classes: {numbers}.")


def _fold(one: Evaluated, name: str) -> str:
    fold = one.images[one.number[name]].fold
    return "none" if fold is None else str(fold)


def _item(
    evaluations: Sequence[Evaluated], name: str, drawn: Drawn | None, attributes: Mapping[str, Sequence[str]]
) -> Item:
    first = evaluations[0]
    k = first.number[name]
    image, value = first.images[k], float(first.per_image[k])
    faults = first.counts.fp[k] + first.counts.fn[k]
    own = {"fold": _fold(first, name), "patient": image.patient}
    own |= {key: values[k] for key, values in attributes.items()}
    wrong = [int(c) for c in np.argsort(-faults, kind="stable") if faults[c] > 0]
    there = [c for c in range(len(first.classes)) if first.present[k, c] or first.counts.fp[k, c] > 0]
    return Item(
        name, value, _text(value), own, tuple(first.classes[c] for c in there),
        tuple(first.classes[c] for c in wrong), data_uri(drawn.thumb) if drawn else "",
        data_uri(drawn.full) if drawn else "", _about(evaluations, name, own, wrong),
    )  # fmt: skip


def _about(evaluations: Sequence[Evaluated], name: str, own: Mapping[str, str], wrong: Sequence[int]) -> str:
    first = evaluations[0]
    k = first.number[name]
    figures = [
        f"{one.per_image_name} {_text(float(one.per_image[one.number[name]]))}"
        + (f" ({one.name})" if len(evaluations) > 1 else "")
        for one in evaluations if name in one.number
    ]  # fmt: skip
    parts = [*figures, *(value if value.startswith(key) else f"{key} {value}" for key, value in own.items())]
    if wrong:
        each = [
            f"{first.classes[c]} (false {first.counts.fp[k, c]:.0f}, missed {first.counts.fn[k, c]:.0f} {first.unit})"
            for c in wrong[:WORST]
        ]
        more = f" and {len(wrong) - WORST} more" if len(wrong) > WORST else ""
        parts.append(f"wrong: {', '.join(each)}{more}")
    return "; ".join(parts)


def _text(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.4f}"
