"""Findings of bones by comparing images: swapped labels, missing bones, unusual places and sizes."""

from collections.abc import Iterator, Sequence

import numpy as np

from .findings import Finding, Severity
from .geometry import MIN_DEVIATIONS, MIN_IMAGES, Expected, expect, relabel
from .inspection import Inspection
from .likelihood import Assessment, assess

MIN_PRESENT = 0.95  # fraction of the other images with a class, from which its absence is reported
MIN_COMPLETE = 0.99  # fraction of classes present over all images, from which an absence is an error
MAX_TINY = 0.05  # fraction of the expected area
MAX_MISFIT = 6.0  # median deviation of an image unlike any other
MAX_LOG_SIZE = 0.5  # difference in log size to the other images
MIN_DIM = 6.0  # robust deviations below the usual contrast
FAR_WARNING, FAR_ERROR = 7.0, 8.0  # deviations of a place: unusual, and impossible
MAX_AREA = 9.0  # deviations of an area

RELABEL = "Inspect the image; correct the labels, or quarantine it"
INSPECT = "Inspect the image: unusual anatomy may stay, a wrong annotation must be corrected"


def compare_bones(
    inspections: Sequence[Inspection], classes: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> Iterator[Finding]:
    """Yields the findings of annotations that need several images.

    Args:
        pairs: left-right partners as class numbers.
    """
    annotated = [one for one in inspections if one.record.labels is not None]
    labelled = [one for one in annotated if np.isfinite(one.bones[:, 2]).any()]
    yield from absent_bones(labelled, classes)
    yield from off_image(labelled)
    if len(labelled) < MIN_IMAGES:
        if labelled:
            text = f"{len(labelled)} annotated images are too few to compare bones; at least {MIN_IMAGES} are needed"
            yield Finding("train", "note", "few-images", text, "Nothing to do")
        return
    bones = np.stack([one.bones for one in labelled])
    places = expect(bones[..., :3], pairs)
    moves = [relabel(places.deviations(image)) for image in range(len(labelled))]
    start = np.tile(np.arange(len(classes)), (len(labelled), 1))
    for labels, moved in zip(start, moves, strict=True):
        for cycle in _chains(moved):
            if moved[cycle[-1]] == cycle[0]:
                labels[[moved[c] for c in cycle]] = cycle
    bones[places.mirrored] = np.nan  # reported as a whole, and excluded from the statistics
    assessed = assess(bones, [one.record.group for one in labelled], start, flip=not pairs)
    for image, inspection in enumerate(labelled):
        yield from odd_bones(inspection, image, places, assessed, moves[image], classes)


def odd_bones(
    inspection: Inspection,
    image: int,
    places: Expected,
    assessed: Assessment,
    moves: dict[int, int],
    classes: Sequence[str],
) -> Iterator[Finding]:
    """Yields swapped labels and bones of unusual place or size of one image."""

    def found(severity: Severity, kind: str, text: str, remedy: str) -> Finding:
        return Finding(str(inspection.truth), severity, kind, text, remedy, inspection.record.name)

    if places.mirrored[image]:
        yield found("error", "left-right", "left and right labels are swapped throughout", RELABEL)
        return
    usual = np.nanmedian(places.log_scale) if np.isfinite(places.log_scale).any() else np.nan
    if abs(places.log_scale[image] - usual) > MAX_LOG_SIZE:
        text = f"everything is {np.exp(places.log_scale[image] - usual):.1f} times as large as in the other images"
        yield found("warning", "odd-size", text, "Check that the annotation was drawn on an image of this size")
    swapped = {int(label): c for c, label in enumerate(assessed.labels[image]) if label != c}
    for cycle in _chains(swapped):
        what = "swapped" if len(cycle) == 2 else "each in the place of the next"
        yield found("error", "swapped-labels", f"{', '.join(classes[c] for c in cycle)} are {what}", RELABEL)
    if places.misfit[image] > MAX_MISFIT:
        yield found("warning", "odd-pose", "the pose differs from that of all other images", INSPECT)
        return
    shifted = set()
    for chain in _chains({a: b for a, b in moves.items() if a not in swapped}):
        if moves[chain[-1]] in moves:
            continue  # a cycle that the likelihood contradicts
        shifted |= set(chain)
        text = f"{', '.join(classes[c] for c in chain)}: in the place of {classes[moves[chain[-1]]]}"
        yield found("warning", "shifted-labels", text + ", each in the place of the next" * (len(chain) > 1), RELABEL)
    for c in np.flatnonzero(np.isfinite(places.own_area[image])).tolist():
        if c in shifted or c in swapped:
            continue
        ratio = float(np.exp(places.own_area[image, c] - places.area[image, c]))
        off = abs(places.own_area[image, c] - places.area[image, c]) / places.area_scale[image, c]
        place, size = assessed.place[image, c], assessed.size[image, c]
        if ratio < MAX_TINY and off > MIN_DEVIATIONS:
            yield found("error", "tiny", f"{classes[c]} has {ratio:.1%} of the expected area", RELABEL)
        elif place > FAR_WARNING:
            text = f"{classes[c]} is {place:.0f} deviations from where the other bones predict it"
            yield found("error" if place > FAR_ERROR else "warning", "odd-place", text, INSPECT)
        elif size > MAX_AREA:
            yield found("warning", "odd-area", f"{classes[c]} has {ratio:.2g} times the expected area", INSPECT)


def absent_bones(inspections: Sequence[Inspection], classes: Sequence[str]) -> Iterator[Finding]:
    """Yields classes missing from an image that nearly all others have; one note for all if absence is common."""
    if not inspections:
        return
    present = np.stack([np.isfinite(one.bones[:, 2]) for one in inspections])
    used = present.max(axis=0)
    complete = present[:, used].mean() >= MIN_COMPLETE or len(inspections) == 1
    incomplete = []
    for c, name in enumerate(classes):
        missing = np.flatnonzero(~present[:, c]).tolist()
        others = (len(inspections) - len(missing)) / max(len(inspections) - 1, 1)
        if complete and used[c] and others >= MIN_PRESENT:
            for i in missing:
                remedy = "Annotate it; if the patient lacks it, ignore this"
                text, path = f"{name} is not annotated", str(inspections[i].truth)
                yield Finding(path, "error", "absent", text, remedy, inspections[i].record.name)
        elif missing:
            incomplete.append((len(missing), name))
    if incomplete:
        most = ", ".join(f"{name} in {count}" for count, name in sorted(incomplete, reverse=True)[:6])
        text = f"{len(incomplete)} classes are missing from some of {len(inspections)} images: {most}"
        yield Finding("train", "note", "absent", text, "Nothing to do if this is expected")


def off_image(inspections: Sequence[Inspection]) -> Iterator[Finding]:
    """Yields annotations that do not cover what is bright in their image, as if drawn on another one."""
    values = np.array([one.contrast for one in inspections])
    if np.isfinite(values).sum() < MIN_IMAGES:
        return
    middle = np.nanmedian(values)
    deviation = 1.4826 * np.nanmedian(np.abs(values - middle))
    for inspection, value in zip(inspections, values, strict=True):
        if value < middle - MIN_DIM * deviation and value < middle / 2:
            text = f"the annotation is off the bones (contrast {value:.2f}, usually {middle:.2f})"
            yield Finding(
                str(inspection.truth), "warning", "off-image", text,
                "Inspect the image; the annotation may belong to another one", inspection.record.name,
            )  # fmt: skip


def _chains(moves: dict[int, int]) -> Iterator[list[int]]:
    """Yields cycles of moves (swaps), and chains that end in a place where this image has no bone.

    >>> list(_chains({1: 2, 2: 1, 5: 6}))
    [[5], [1, 2]]
    """
    left = dict(moves)
    for start in [*(a for a in moves if a not in moves.values()), *moves]:
        chain = []
        while start in left:
            chain.append(start)
            start = left.pop(start)
        if chain:
            yield chain
