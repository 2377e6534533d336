"""Pictures of images as they are: annotations, rotation, outliers with reasons, and which are trained on how often."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from ..checks.findings import SEVERITIES
from ..data.brightness import BRIGHT
from ..data.records import Record
from ..data.rotation import BASE, LIMIT, TIP, centre_of_runs, has_rule
from ..errors import DataError
from ..masks.planes import one_class
from ..masks.rle import mask_runs
from ..visualize.marks import Marks, draw_marks, shrunk
from ..visualize.sheets import Panel, page
from .options import ShowOptions
from .subject import NotApplicable, Picture, Subject

COLUMNS = 3  # of pages with many images
LINE_COLOUR = (255, 255, 0)
REASONS = 3  # in a caption


def annotations(subject: Subject, options: ShowOptions, chosen: Sequence[Record]) -> Iterator[Picture]:
    """A page per image: beside it, the same with its annotation; labels stand in the caption."""
    for record in chosen:
        image, marks = _read(subject, record)
        size = f"{image.shape[1]} x {image.shape[0]} pixels"
        panels = [Panel(shrunk(image, options.size), [record.name, f"patient {record.group}, {size}"])]
        if marks.drawn:
            drawn = draw_marks(image, marks, len(subject.classes), options.size)
            panels.append(Panel(drawn, ["annotation", _counted(subject, marks)]))
            found = page(record.name, "", [panels], subject.classes, marks.present(len(subject.classes)))
        else:
            panels[0] = panels[0]._replace(lines=[*panels[0].lines, f"labels: {marks.text}"])
            found = page(record.name, "Its labels are in the caption.", [panels])
        yield Picture("annotations", f"Annotation of {record.name}", [record.name], found, {"labels": marks.text})


def _counted(subject: Subject, marks: Marks) -> str:
    count = len(subject.classes)
    if marks.boxes is not None:
        return f"{len(marks.boxes)} object(s); {len(marks.present(count))} of {count} classes"
    return f"{len(marks.present(count))} of {count} classes"


def _read(subject: Subject, record: Record) -> tuple[np.ndarray, Marks]:
    image = subject.read(record)
    return image, subject.marks(record, (image.shape[0], image.shape[1]))


def rotation(subject: Subject, options: ShowOptions, chosen: Sequence[Record]) -> Iterator[Picture]:
    """Rotated hands beside upright ones, each with the line whose angle counts."""
    if not has_rule(subject.classes):
        raise NotApplicable(f"it is measured from {BASE} to {TIP}, and the data set lacks one of these classes")
    table = subject.measured.dropna(subset="degrees").sort_values(["degrees", "image_name"])
    upright, rotated = table[table["degrees"] < LIMIT], table[table["degrees"] >= LIMIT]
    if table.empty:
        raise NotApplicable(f"no image has both {BASE} and {TIP}")
    records, side = {record.name: record for record in subject.records}, max(256, options.size // 2)
    rows, shown = [], list[str]()
    for what, part in (("upright", upright), ("rotated", rotated[::-1])):
        names = part["image_name"].tolist()[: options.images]
        shown += names
        degrees = dict(zip(part["image_name"], part["degrees"], strict=True))
        rows.append([_tilted(subject, records[name], what, degrees[name], side) for name in names])
    text = (
        f"{len(rotated)} of {len(table)} hands are rotated: the line from the centre of {BASE} to that of {TIP} is "
        f"{LIMIT:g} degrees or more from vertical. The most upright come first, then the most rotated."
    )
    facts = {"rotated": len(rotated), "measured": len(table), "limit": LIMIT}
    drawn = page("Upright and rotated hands", text, [row for row in rows if row])
    yield Picture("rotation", "Rotated beside upright hands", shown, drawn, facts)


def _tilted(subject: Subject, record: Record, what: str, degrees: float, side: int) -> Panel:
    image, marks = _read(subject, record)
    picture, scale = shrunk(image, side).copy(), side / max(image.shape[:2])
    assert marks.planes is not None  # of a data set with the two bones
    ends = []
    for name in (BASE, TIP):
        runs = mask_runs(one_class(marks.planes, subject.classes.index(name)))
        x, y = centre_of_runs(runs, image.shape[1]) * scale
        ends.append((round(float(x)), round(float(y))))
    for colour, width in (((0, 0, 0), 5), (LINE_COLOUR, 2)):
        cv2.line(picture, ends[0], ends[1], colour, width, cv2.LINE_AA)
        cv2.circle(picture, ends[1], 5, colour, width, cv2.LINE_AA)
    return Panel(picture, [f"{what}, {degrees:.0f} degrees", record.name])


def outliers(subject: Subject, options: ShowOptions, chosen: Sequence[Record]) -> Iterator[Picture]:
    """Images that ``phalanx check`` and the brightness of all find odd, each with the reasons."""
    reasons = reasons_of(subject)
    if not reasons:
        raise NotApplicable("phalanx check and the brightness of the images find nothing odd")
    records, side = {record.name: record for record in subject.records}, max(256, options.size // 2)
    names = list(reasons)[: options.images * COLUMNS]
    panels = []
    for name in names:
        more = [f"and {len(reasons[name]) - REASONS} more"] if len(reasons[name]) > REASONS else []
        both = [_odd(subject, records[name], side, drawn=False), _odd(subject, records[name], side)]
        panels.append(Panel(np.concatenate(both[: 1 + subject.draws], axis=1), [name, *reasons[name][:REASONS], *more]))
    text = f"{len(reasons)} image(s) are odd, the most severe first; {len(names)} are shown. All: phalanx check."
    drawn = page(
        "Outliers and their reasons",
        text,
        in_rows(panels, COLUMNS - subject.draws),
        subject.classes if subject.draws else (),
    )
    facts = {"reasons": {name: reasons[name] for name in names}, "found": len(reasons)}
    yield Picture("outliers", "Outliers and their reasons", names, drawn, facts)


def reasons_of(subject: Subject) -> dict[str, list[str]]:
    """Why images are odd, by name, the most severe first: findings of the check about one image, and brightness."""
    root, found = subject.data.root, dict[str, list[tuple[int, str]]]()
    owner: dict[str, str] = {}
    for record in subject.records:
        for path in (record.image, record.labels):
            if path is None or not path.is_relative_to(root):
                continue
            key = str(path.relative_to(root))
            owner[key] = "" if owner.get(key, record.name) != record.name else record.name  # of several: of none
    known = {record.name for record in subject.records}
    for finding in subject.check().findings:
        name = finding.image if finding.image in known else owner.get(finding.file, "")
        if name:
            reason = f"{finding.severity}: {finding.kind}: {finding.text}"
            found.setdefault(name, []).append((SEVERITIES.index(finding.severity), reason))
    table = subject.measured
    for name, bright in table.loc[table["bright_outlier"], ["image_name", "bright"]].itertuples(index=False):
        text = f"bright: {bright:.2%} of its pixels are {BRIGHT} or brighter, unusually many"
        found.setdefault(name, []).append((len(SEVERITIES), text))
    ordered = sorted(found, key=lambda name: (min(found[name])[0], name))
    return {name: [text for _, text in sorted(found[name])] for name in ordered}


def _odd(subject: Subject, record: Record, side: int, *, drawn: bool = True) -> np.ndarray:
    """The image, and its annotation over it if ``drawn``, as far as both can be read."""
    try:
        image = subject.read(record)
    except DataError:
        blank = np.full((side // 2, side, 3), 40, np.uint8)
        cv2.putText(blank, "cannot be read", (12, side // 4), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, 16)
        return blank
    try:
        marks = subject.marks(record, (image.shape[0], image.shape[1])) if drawn else Marks()
    except DataError:
        marks = Marks()
    return draw_marks(image, marks, len(subject.classes), side)


def selection(subject: Subject, options: ShowOptions, chosen: Sequence[Record]) -> Iterator[Picture]:
    """Images that a rule of the recipe leaves out or repeats: the first of each rule and weight."""
    found = subject.selection
    ruled = [row for row in found.rows if row.rule]
    if not ruled:
        raise NotApplicable("no rule of data.* decides over an image; each is trained on once per epoch")
    groups: dict[tuple[float, str], list[str]] = {}
    reasons = {row.image: row for row in ruled}
    for row in ruled:
        groups.setdefault((row.weight, row.rule), []).append(row.image)
    records, side = {record.name: record for record in subject.records}, max(256, options.size // 2)
    rows, shown = [], list[str]()
    for (weight, rule), names in sorted(groups.items()):
        panels = []
        for name in names[: options.images]:
            row = reasons[name]
            times = "left out" if not weight else f"weight {weight:g}: {weight:g} times per epoch"
            panels.append(Panel(_odd(subject, records[name], side), [times, name, f"data.{rule}: {row.reason}"]))
            shown.append(name)
        rows.append(panels)
    text = "; ".join(line.strip() for line in found.to_text().partition("\n\n")[0].splitlines())
    drawn = page(
        "Which images are trained on, how often, and why", text, rows, subject.classes if subject.draws else ()
    )
    weights = {name: reasons[name].weight for name in shown}
    yield Picture("selection", "Weights of images", shown, drawn, {"weights": weights})


def in_rows(panels: Sequence[Panel], columns: int = COLUMNS) -> list[Sequence[Panel]]:
    """Panels in rows of a page."""
    return [panels[first : first + columns] for first in range(0, len(panels), columns)]
