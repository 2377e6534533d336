"""What is wrong with an image in the light of the others: copies, leaks, odd bones, labels in each other's place."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from .findings import Finding, Severity
from .geometry import CLEAR, FAR, FEWEST, WRONG, Places, expect, relabel
from .look import Look

NEAR_BITS = 12  # of 64 that may differ between near-duplicates' hashes: a first sieve
NEAR = 0.99  # correlation of their thumbnails; different people's images stay below .98
USUAL = 0.95  # share of the other images that have a class, from which on its absence is told
COMPLETE = 0.99  # share of classes present in the whole set, from which on an absence is an error
TINY = 0.05  # share of the expected area
POSE = 6.0  # median deviation of an image unlike any other
OFF_SIZE = 0.5  # log of the size against the others'
DIM = 6.0  # robust deviations below the usual contrast

RELABEL = "Look at the picture; correct the labels, or leave the image out by the quarantine"
LOOK = "Look at the picture: an odd patient may stay, a wrong annotation must be corrected"


def compare(looks: Sequence[Look], classes: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """Problems that need several images; ``pairs``: left-right partners as class numbers."""
    yield from same_pixels(looks)
    yield from nearly_same(looks)
    yield from same_patients(looks)
    yield from same_annotations(looks)
    yield from forms(looks)
    labelled = [seen for seen in looks if seen.record.labels is not None and np.isfinite(seen.bones[:, 2]).any()]
    yield from absent(labelled, classes)
    yield from dim(labelled)
    if len(labelled) < FEWEST:
        if labelled:
            text = f"{len(labelled)} annotated images are too few to compare bones; {FEWEST} are needed"
            yield Finding("train", "note", "few-images", text, "Nothing to do")
        return
    places = expect(np.stack([seen.bones for seen in labelled]), pairs)
    for image, seen in enumerate(labelled):
        yield from odd(seen, image, places, classes)


def odd(seen: Look, image: int, places: Places, classes: Sequence[str]) -> Iterator[Finding]:
    """Labels in each other's place, and bones of odd place or size."""

    def found(severity: Severity, kind: str, text: str, remedy: str) -> Finding:
        return Finding(str(seen.record.labels), severity, kind, text, remedy, seen.record.name)

    if places.mirrored[image]:
        yield found("error", "left-right", "left and right labels are exchanged throughout", RELABEL)
        return
    usual = np.nanmedian(places.growth)
    if abs(places.growth[image] - usual) > OFF_SIZE:
        text = f"everything is {np.exp(places.growth[image] - usual):.1f} times as large as in the other images"
        yield found("warning", "odd-size", text, "Check that the annotation was drawn on an image of this size")
    if places.misfit[image] > POSE:
        yield found("warning", "odd-pose", "the bones lie unlike those of any other image", LOOK)
        return
    deviations = places.deviations(image)
    moves = relabel(deviations)
    for cycle in _chains(moves):
        names = [classes[c] for c in cycle]
        if moves[cycle[-1]] == cycle[0]:
            what = "in each other's place" if len(cycle) == 2 else "in the places of the next"
            yield found("error", "swapped-labels", f"{', '.join(names)} lie {what}", RELABEL)
        else:
            text = f"{', '.join(names)}: where {classes[moves[cycle[-1]]]} should be" + (
                ", each in the place of the next" if len(names) > 1 else ""
            )
            yield found("warning", "shifted-labels", text, RELABEL)
    apart = np.abs(places.own_place[image] - places.place[image]) / places.place_scale[image]
    size = np.abs(places.own_area[image] - places.area[image]) / places.area_scale[image]
    for c in np.flatnonzero(np.fmax(apart, size) > CLEAR).tolist():
        if c in moves:
            continue
        ratio = float(np.exp(places.own_area[image, c] - places.area[image, c]))
        if ratio < TINY:
            yield found("error", "tiny", f"{classes[c]} has {ratio:.1%} of the area expected", RELABEL)
        elif apart[c] > FAR:
            severity: Severity = "error" if apart[c] > WRONG else "warning"
            text = f"{classes[c]} lies {apart[c]:.0f} deviations from where similar images have it"
            yield found(severity, "odd-place", text, LOOK)
        elif size[c] > FAR:
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
                text, path = f"{name} is not annotated", str(looks[i].record.labels)
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
                str(seen.record.labels), "warning", "off-image", text,
                "Look at the picture; the annotation may belong to another image", seen.record.name,
            )  # fmt: skip


def same_pixels(looks: Sequence[Look]) -> Iterator[Finding]:
    """Images with the very same pixels: errors across patients or splits, warnings within a patient."""
    seen_first: dict[bytes, Look] = {}
    for seen in sorted((s for s in looks if s.pixels), key=lambda s: s.split != "test"):  # the test image stays
        first = seen_first.setdefault(seen.pixels, seen)
        if first is seen:
            continue
        spoiled = seen.record.name if seen.split == "train" else ""
        text, path = f"has the same pixels as {first.record.image}", str(seen.record.image)
        if first.split != seen.split:
            yield Finding(path, "error", "test-image-in-train", text, "Remove it from train", spoiled)
        elif first.record.group != seen.record.group:
            yield Finding(path, "error", "duplicate", text + ", of another patient", "Keep one of them", spoiled)
        else:
            yield Finding(path, "warning", "duplicate", text, "Keep one: it counts twice", spoiled)


def nearly_same(looks: Sequence[Look]) -> Iterator[Finding]:
    """Images of different patients that look alike: recompressed, brightened or cut copies."""
    some = [seen for seen in looks if seen.thumb is not None and not any(f.kind == "blank" for f in seen.findings)]
    if len(some) < 2:
        return
    codes = np.array([seen.hash for seen in some], np.uint64)
    bits = np.unpackbits(codes.view(np.uint8).reshape(-1, 8), axis=1).astype(np.float32) * 2 - 1
    for i, seen in enumerate(some[:-1]):
        differing = (64 - bits[i + 1 :] @ bits[i]) / 2
        for j in (i + 1 + np.flatnonzero(differing <= NEAR_BITS)).tolist():
            other = some[j]
            if (other.record.group == seen.record.group and other.split == seen.split) or other.pixels == seen.pixels:
                continue
            alike = _correlation(seen, other)
            if alike >= NEAR:
                yield Finding(
                    str(other.record.image), "warning", "near-duplicate",
                    f"looks like {seen.record.image} (correlation {alike:.3f})",
                    "Look at both; keep one, or put both under one patient", other.record.name,
                )  # fmt: skip


def same_patients(looks: Sequence[Look]) -> Iterator[Finding]:
    """Patients that stand in train and in test."""
    groups = {split: {s.record.group for s in looks if s.split == split} for split in ("train", "test")}
    for group in sorted(groups["train"] & groups["test"]):
        text = f"patient {group} stands in train and in test"
        yield Finding(f"train/DCM/{group}", "warning", "patient-in-both", text, "Keep a patient on one side")


def same_annotations(looks: Sequence[Look]) -> Iterator[Finding]:
    """Different images with the very same annotation, of which one at most can be right."""
    first: dict[bytes, Look] = {}
    for seen in (s for s in looks if s.drawn):
        other = first.setdefault(seen.drawn, seen)
        if other is not seen and other.pixels != seen.pixels:
            text = f"is the same annotation as {other.record.labels}"
            yield Finding(str(seen.record.labels), "error", "copied-annotation", text, RELABEL, seen.record.name)


def forms(looks: Sequence[Look]) -> Iterator[Finding]:
    """One note each where file types or image sizes are mixed: all of them can be read."""
    kinds = Counter(seen.form for seen in looks if seen.shape)
    sizes = Counter(f"{seen.shape[0]} x {seen.shape[1]}" for seen in looks if seen.shape)
    for kind, counts, what in (("mixed-types", kinds, "file types"), ("mixed-sizes", sizes, "image sizes")):
        if len(counts) > 1:
            text = f"{what}: " + ", ".join(f"{count} of {name}" for name, count in counts.most_common(6))
            yield Finding("", "note", kind, text, "Nothing to do: all are read as grey, on one grid")


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


def _correlation(one: Look, other: Look) -> float:
    assert one.thumb is not None
    assert other.thumb is not None
    a, b = (thumb.astype(float) - thumb.mean() for thumb in (one.thumb, other.thumb))
    return float((a * b).sum() / max(np.sqrt((a**2).sum() * (b**2).sum()), 1e-9))
