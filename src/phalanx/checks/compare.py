"""Findings that need several images: duplicates, leaks from test to train, mixed file types."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ..data.record_list import groups_of
from ..runtime.columns import repeated
from .bones import RELABEL, compare_bones
from .findings import Finding
from .geometry import MIN_IMAGES
from .inspected import Inspected
from .inspection import Inspection
from .near import near_rows, normed
from .normal import median

MAX_HASH_BITS = 12  # of 64 that may differ between hashes of near-duplicates: a first filter
COMMON_FRACTION, MIN_COMMON = 0.3, 3  # fraction and number of bright images, beyond which it is usual
MIN_PEAK = 4.0  # deviations from which the brightest spot on a bone is foreign
PAIRS = 512  # whose thumbnails are compared at once
MIN_CORRELATION = 0.99  # of thumbnails; images of different people stay below .98


def compare(
    inspections: Sequence[Inspection], classes: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> Iterator[Finding]:
    """Yields the findings that need several images.

    Args:
        pairs: left-right partners as class numbers.
    """
    yield from duplicates(inspections)
    yield from near_duplicates(near_pairs(inspections))
    yield from patients_in_both(inspections)
    yield from copied_annotations(inspections)
    yield from mixed_forms(inspections)
    yield from metal_notes(inspections, classes)
    yield from compare_bones(inspections, classes, pairs)


def duplicates(inspections: Sequence[Inspection]) -> Iterator[Finding]:
    """Yields images with identical pixels: errors across patients or splits, warnings within a patient."""
    first_with: dict[bytes, Inspection] = {}
    found = Inspected.of(inspections)
    several = (found[row] for row in repeated(found.pixels()))
    for inspection in sorted(several, key=lambda one: one.split != "test"):  # the test image stays
        first = first_with.setdefault(inspection.pixels, inspection)
        if first is inspection:
            continue
        spoiled = inspection.record.name if inspection.split == "train" else ""
        text, path = f"has the same pixels as {first.record.image}", str(inspection.record.image)
        if first.split != inspection.split:
            yield Finding(path, "error", "test-image-in-train", text, "Remove it from train", spoiled)
        elif first.record.group != inspection.record.group:
            yield Finding(path, "error", "duplicate", text + ", of another patient", "Remove one of them", spoiled)
        else:
            yield Finding(path, "warning", "duplicate", text, "Remove one: it counts twice", spoiled)


def near_duplicates(pairs: Iterable[tuple[Inspection, Inspection, float]]) -> Iterator[Finding]:
    """Yields the later of two images of :func:`near_pairs`."""
    for inspection, other, alike in pairs:
        yield Finding(
            str(other.record.image), "warning", "near-duplicate",
            f"looks like {inspection.record.image} (correlation {alike:.3f})",
            "Inspect both; retain one, or assign both to one patient", other.record.name,
        )  # fmt: skip


def near_pairs(inspections: Sequence[Inspection]) -> Iterator[tuple[Inspection, Inspection, float]]:
    """Yields images of different patients or splits that look alike, recompressed, brightened or cropped copies, and
    their correlation; not those with the same pixels."""
    found = Inspected.of(inspections)
    rows = found.comparable()
    sources = found.sources()
    pairs = list[tuple[int, int, float]]()
    reads = near_rows(found.hashes()[rows], lambda some: found.thumbs(rows[some]), MAX_HASH_BITS, MIN_CORRELATION)
    for one, other in reads:
        i, j = rows[one], rows[other]
        wanted = found.differ(i, j) & (sources[i] != sources[j])
        i, j = i[wanted], j[wanted]
        likely = (
            np.concatenate(
                [
                    (normed(found.thumbs(i[a : a + PAIRS])) * normed(found.thumbs(j[a : a + PAIRS]))).sum(axis=1)
                    for a in range(0, len(i), PAIRS)
                ]
                or [np.zeros(0)]
            )
            > MIN_CORRELATION - 1e-3
        )  # in single precision
        for a, b in zip(i[likely].tolist(), j[likely].tolist(), strict=True):
            alike = _correlation(*found.thumbs([a, b]))
            if alike >= MIN_CORRELATION:
                pairs.append((a, b, alike))
    for a, b, alike in sorted(pairs):
        yield found[a], found[b], alike


def patients_in_both(inspections: Sequence[Inspection]) -> Iterator[Finding]:
    """Yields patients with images in both train and test."""
    found = Inspected.of(inspections)
    if found.items is None:
        return
    groups = np.fromiter(map(hash, groups_of(found.records)), np.int64, len(found))
    tests = np.fromiter((found.items.split(row) == "test" for row in range(len(found))), bool, len(found))
    both = np.flatnonzero(np.isin(groups, np.intersect1d(groups[tests], groups[~tests])))
    several = [found.items[row] for row in both.tolist()]
    tested = {record.group for record, split in several if split == "test"}
    first = {record.group: record for record, split in reversed(several) if split == "train"}
    for group in sorted(tested & first.keys()):
        text = f"patient {group} is in train and in test"
        yield Finding(str(first[group].image), "warning", "patient-in-both", text, "Assign each patient to one split")


def copied_annotations(inspections: Sequence[Inspection]) -> Iterator[Finding]:
    """Yields different images with identical annotations, at most one of which can be right."""
    first: dict[bytes, Inspection] = {}
    for inspection in (one for one in inspections if one.drawn):
        other = first.setdefault(inspection.drawn, inspection)
        if other is not inspection and other.pixels != inspection.pixels:
            text = f"is the same annotation as {other.truth}"
            yield Finding(str(inspection.truth), "error", "copied-annotation", text, RELABEL, inspection.record.name)


def mixed_forms(inspections: Sequence[Inspection]) -> Iterator[Finding]:
    """Yields a note if file types are mixed, and one if image sizes are; all of them can be read."""
    kinds, sizes = map(Counter, Inspected.of(inspections).kinds())
    for kind, counts, what in (("mixed-types", kinds, "file types"), ("mixed-sizes", sizes, "image sizes")):
        if len(counts) > 1:
            text = f"{what}: " + ", ".join(f"{count} of {name}" for name, count in counts.most_common(6))
            yield Finding("", "note", kind, text, "Nothing to do: all are read as grey and resized")


def metal_notes(inspections: Sequence[Inspection], classes: Sequence[str]) -> Iterator[Finding]:
    """Yields images with bright objects that no bone explains; one note for all if that is common, as with crowns."""
    found = {i: f"a bright object at {s.bright} that no bone explains" for i, s in enumerate(inspections) if s.bright}
    for i, label in bright_spots(inspections).items():
        found.setdefault(i, f"a spot near {classes[label]}, brighter than on that bone in other images")
    annotated = sum(one.record.labels is not None for one in inspections)
    if len(found) > max(COMMON_FRACTION * annotated, MIN_COMMON):
        text = f"bright objects that no bone explains in {len(found)} of {annotated} images: usual here"
        yield Finding("", "note", "metal", text, "Nothing to do")
        return
    for i, text in found.items():
        inspection, remedy = inspections[i], "Nothing to do; such images may be worth inspecting"
        yield Finding(str(inspection.record.image), "note", "metal", f"{text}: a ring, an implant, a stone?", remedy,
                      inspection.record.name)  # fmt: skip


def bright_spots(inspections: Sequence[Inspection]) -> dict[int, int]:
    """Returns the images in which a bone has a far brighter spot than in others, and the class of the brightest."""
    peaks = np.stack([one.peaks for one in inspections])
    peaks[:, np.isfinite(peaks).sum(axis=0) < MIN_IMAGES] = np.nan
    usual = median(peaks)
    deviations = (peaks - usual) / np.fmax(1.4826 * median(np.abs(peaks - usual)), 0.05)
    high = np.nan_to_num(deviations)
    return {int(i): int(high[i].argmax()) for i in np.flatnonzero(high.max(axis=1) > MIN_PEAK)}


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of two thumbnails uint8[P]."""
    a, b = (thumb.astype(float) - thumb.mean() for thumb in (one, other))
    return float((a * b).sum() / max(np.sqrt((a**2).sum() * (b**2).sum()), 1e-9))
