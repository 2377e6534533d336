"""Bones in the light of the other images: labels in each other's place, bones absent, of odd place or size."""

from collections.abc import Iterator, Sequence

import numpy as np

from .findings import Finding, Severity
from .geometry import CLEAR, FEWEST, Places, expect, relabel
from .likelihood import Judged, judge
from .look import Look

USUAL = 0.95  # share of the other images that have a class, from which on its absence is told
COMPLETE = 0.99  # share of classes present in the whole set, from which on an absence is an error
TINY = 0.05  # share of the expected area
POSE = 6.0  # median deviation of an image unlike any other
OFF_SIZE = 0.5  # log of the size against the others'
DIM = 6.0  # robust deviations below the usual contrast
FAR, WRONG = 7.0, 8.0  # deviations of a place that are worth a look, and that no patient has
ODD_AREA = 9.0  # deviations of an area worth a look

RELABEL = "Look at the picture; correct the labels, or leave the image out by the quarantine"
LOOK = "Look at the picture: an odd patient may stay, a wrong annotation must be corrected"


def compare_bones(looks: Sequence[Look], classes: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """Problems of annotations that need several images; ``pairs``: left-right partners as class numbers."""
    labelled = [seen for seen in looks if seen.record.labels is not None and np.isfinite(seen.bones[:, 2]).any()]
    yield from absent(labelled, classes)
    yield from dim(labelled)
    if len(labelled) < FEWEST:
        if labelled:
            text = f"{len(labelled)} annotated images are too few to compare bones; {FEWEST} are needed"
            yield Finding("train", "note", "few-images", text, "Nothing to do")
        return
    bones = np.stack([seen.bones for seen in labelled])
    places = expect(bones[..., :3], pairs)
    moves = [relabel(places.deviations(image)) for image in range(len(labelled))]
    start = np.tile(np.arange(len(classes)), (len(labelled), 1))
    for bearing, moved in zip(start, moves, strict=True):
        for cycle in _chains(moved):
            if moved[cycle[-1]] == cycle[0]:
                bearing[[moved[c] for c in cycle]] = cycle
    bones[places.mirrored] = np.nan  # told as a whole, and no witnesses of the others
    judged = judge(bones, [seen.record.group for seen in labelled], start, flip=not pairs)
    for image, seen in enumerate(labelled):
        yield from odd(seen, image, places, judged, moves[image], classes)


def odd(
    seen: Look, image: int, places: Places, judged: Judged, moves: dict[int, int], classes: Sequence[str]
) -> Iterator[Finding]:
    """Labels in each other's place, and bones of odd place or size, of one image."""

    def found(severity: Severity, kind: str, text: str, remedy: str) -> Finding:
        return Finding(str(seen.truth), severity, kind, text, remedy, seen.record.name)

    if places.mirrored[image]:
        yield found("error", "left-right", "left and right labels are exchanged throughout", RELABEL)
        return
    usual = np.nanmedian(places.growth)
    if abs(places.growth[image] - usual) > OFF_SIZE:
        text = f"everything is {np.exp(places.growth[image] - usual):.1f} times as large as in the other images"
        yield found("warning", "odd-size", text, "Check that the annotation was drawn on an image of this size")
    exchanged = {int(label): c for c, label in enumerate(judged.bearing[image]) if label != c}
    for cycle in _chains(exchanged):
        what = "in each other's place" if len(cycle) == 2 else "in the places of the next"
        yield found("error", "swapped-labels", f"{', '.join(classes[c] for c in cycle)} lie {what}", RELABEL)
    if places.misfit[image] > POSE:
        yield found("warning", "odd-pose", "the bones lie unlike those of any other image", LOOK)
        return
    shifted = set()
    for chain in _chains({a: b for a, b in moves.items() if a not in exchanged}):
        if moves[chain[-1]] in moves:
            continue  # a cycle that the likelihood denies
        shifted |= set(chain)
        text = f"{', '.join(classes[c] for c in chain)}: where {classes[moves[chain[-1]]]} should be"
        yield found("warning", "shifted-labels", text + ", each in the place of the next" * (len(chain) > 1), RELABEL)
    for c in np.flatnonzero(np.isfinite(places.own_area[image])).tolist():
        if c in shifted or c in exchanged:
            continue
        ratio = float(np.exp(places.own_area[image, c] - places.area[image, c]))
        off = abs(places.own_area[image, c] - places.area[image, c]) / places.area_scale[image, c]
        place, size = judged.place[image, c], judged.size[image, c]
        if ratio < TINY and off > CLEAR:
            yield found("error", "tiny", f"{classes[c]} has {ratio:.1%} of the area expected", RELABEL)
        elif place > FAR:
            text = f"{classes[c]} lies {place:.0f} deviations from where the other bones let expect it"
            yield found("error" if place > WRONG else "warning", "odd-place", text, LOOK)
        elif size > ODD_AREA:
            yield found("warning", "odd-area", f"{classes[c]} has {ratio:.2g} times the area expected", LOOK)


def absent(looks: Sequence[Look], classes: Sequence[str]) -> Iterator[Finding]:
    """Classes that nearly all other images have; one note for all where absence is common, as with teeth."""
    if not looks:
        return
    there = np.stack([np.isfinite(seen.bones[:, 2]) for seen in looks])
    used = there.max(axis=0)
    complete = there[:, used].mean() >= COMPLETE or len(looks) == 1
    seldom = []
    for c, name in enumerate(classes):
        missing = np.flatnonzero(~there[:, c]).tolist()
        others = (len(looks) - len(missing)) / max(len(looks) - 1, 1)
        if complete and used[c] and others >= USUAL:
            for i in missing:
                remedy = "Annotate it; where the patient lacks it, leave the image in and pass this over"
                text, path = f"{name} is not annotated", str(looks[i].truth)
                yield Finding(path, "error", "absent", text, remedy, looks[i].record.name)
        elif missing:
            seldom.append((len(missing), name))
    if seldom:
        most = ", ".join(f"{name} in {count}" for count, name in sorted(seldom, reverse=True)[:6])
        text = f"{len(seldom)} classes are absent in some of {len(looks)} images: {most}"
        yield Finding("train", "note", "absent", text, "Nothing to do where this is as it should be")


def dim(looks: Sequence[Look]) -> Iterator[Finding]:
    """Annotations that do not lie on what is bright in their image, as those of another image would."""
    values = np.array([seen.contrast for seen in looks])
    if np.isfinite(values).sum() < FEWEST:
        return
    middle = np.nanmedian(values)
    deviation = 1.4826 * np.nanmedian(np.abs(values - middle))
    for seen, value in zip(looks, values, strict=True):
        if value < middle - DIM * deviation and value < middle / 2:
            text = f"the annotation does not lie on the bones (contrast {value:.2f}, usually {middle:.2f})"
            yield Finding(
                str(seen.truth), "warning", "off-image", text,
                "Look at the picture; the annotation may belong to another image", seen.record.name,
            )  # fmt: skip


def _chains(moves: dict[int, int]) -> Iterator[list[int]]:
    """Cycles of moves (swaps), and chains that end in a place where no bone of this image lay.

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
