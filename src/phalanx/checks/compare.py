"""What is wrong with an image in the light of the others: copies, leaks, and files of several kinds."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from .bones import RELABEL, compare_bones
from .findings import Finding
from .geometry import FEWEST
from .look import Look
from .normal import median

NEAR_BITS = 12  # of 64 that may differ between near-duplicates' hashes: a first sieve
COMMON, FEW = 0.3, 3  # share, and number, of images with something bright from which on it is no news
PEAK = 4.0  # deviations from which a bone's brightest spot is no bone
NEAR = 0.99  # correlation of their thumbnails; different people's images stay below .98


def compare(looks: Sequence[Look], classes: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """Problems that need several images; ``pairs``: left-right partners as class numbers."""
    yield from same_pixels(looks)
    yield from nearly_same(looks)
    yield from same_patients(looks)
    yield from same_annotations(looks)
    yield from forms(looks)
    yield from bright(looks, classes)
    yield from compare_bones(looks, classes, pairs)


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
    tested = {seen.record.group for seen in looks if seen.split == "test"}
    first = {seen.record.group: seen for seen in reversed(looks) if seen.split == "train"}
    for group in sorted(tested & first.keys()):
        text = f"patient {group} stands in train and in test"
        yield Finding(str(first[group].record.image), "warning", "patient-in-both", text, "Keep a patient on one side")


def same_annotations(looks: Sequence[Look]) -> Iterator[Finding]:
    """Different images with the very same annotation, of which one at most can be right."""
    first: dict[bytes, Look] = {}
    for seen in (s for s in looks if s.drawn):
        other = first.setdefault(seen.drawn, seen)
        if other is not seen and other.pixels != seen.pixels:
            text = f"is the same annotation as {other.truth}"
            yield Finding(str(seen.truth), "error", "copied-annotation", text, RELABEL, seen.record.name)


def forms(looks: Sequence[Look]) -> Iterator[Finding]:
    """One note each where file types or image sizes are mixed: all of them can be read."""
    kinds = Counter(seen.form for seen in looks if seen.shape)
    sizes = Counter(f"{seen.shape[0]} x {seen.shape[1]}" for seen in looks if seen.shape)
    for kind, counts, what in (("mixed-types", kinds, "file types"), ("mixed-sizes", sizes, "image sizes")):
        if len(counts) > 1:
            text = f"{what}: " + ", ".join(f"{count} of {name}" for name, count in counts.most_common(6))
            yield Finding("", "note", kind, text, "Nothing to do: all are read as grey, on one grid")


def bright(looks: Sequence[Look], classes: Sequence[str]) -> Iterator[Finding]:
    """Images with something bright that no bone explains; one note for all where it is common, as crowns of teeth."""
    shining = {i: f"something bright at {s.bright} that no bone explains" for i, s in enumerate(looks) if s.bright}
    for i, label in spots(looks).items():
        shining.setdefault(i, f"a spot near {classes[label]}, brighter than that bone has in the other images")
    annotated = sum(seen.record.labels is not None for seen in looks)
    if len(shining) > max(COMMON * annotated, FEW):
        text = f"something bright that no bone explains in {len(shining)} of {annotated} images: usual here"
        yield Finding("", "note", "metal", text, "Nothing to do")
        return
    for i, text in shining.items():
        seen, remedy = looks[i], "Nothing to do; such images may be worth a look of their own"
        yield Finding(str(seen.record.image), "note", "metal", f"{text}: a ring, an implant, a stone?", remedy,
                      seen.record.name)  # fmt: skip


def spots(looks: Sequence[Look]) -> dict[int, int]:
    """Images in which a bone has a far brighter spot than in the others, and the class of the brightest."""
    peaks = np.stack([seen.peaks for seen in looks])
    peaks[:, np.isfinite(peaks).sum(axis=0) < FEWEST] = np.nan
    usual = median(peaks)
    deviations = (peaks - usual) / np.fmax(1.4826 * median(np.abs(peaks - usual)), 0.05)
    high = np.nan_to_num(deviations)
    return {int(i): int(high[i].argmax()) for i in np.flatnonzero(high.max(axis=1) > PEAK)}


def _correlation(one: Look, other: Look) -> float:
    assert one.thumb is not None
    assert other.thumb is not None
    a, b = (thumb.astype(float) - thumb.mean() for thumb in (one.thumb, other.thumb))
    return float((a * b).sum() / max(np.sqrt((a**2).sum() * (b**2).sum()), 1e-9))
