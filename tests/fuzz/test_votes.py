"""Damaged RLE texts and votes over damaged CSVs: read, or refused in one line; odd masks never break the guard."""

import random
from pathlib import Path

import numpy as np
import pytest

from phalanx.errors import DataError
from phalanx.masks import rle
from phalanx.masks.stack import Stack
from phalanx.submission.table import Submission, write
from phalanx.voting.agreement import measure_agreement
from phalanx.voting.vote import hard_vote

from .harness import Format, fuzz, seconds_of_a_test

SIDE, CLASSES = 24, ["a", "b", "c"]
SIZE = (SIDE, SIDE)


def masks(rng: random.Random) -> list[np.ndarray]:
    """One mask per class: empty, full, a pixel, a corner, noise or a disc."""
    y, x = np.mgrid[:SIDE, :SIDE]
    found = []
    for _ in CLASSES:
        mask = np.zeros(SIZE, bool)
        kind = rng.randrange(7)
        if kind == 1:
            mask[:] = True
        elif kind == 2:
            mask[rng.randrange(SIDE), rng.randrange(SIDE)] = True
        elif kind == 3:
            mask[rng.choice((0, -1)), rng.choice((0, -1))] = True
        elif kind == 4:
            mask[:] = np.random.default_rng(rng.randrange(1 << 30)).random(SIZE) < 0.3
        elif kind >= 5:
            mask[(x - rng.randrange(SIDE)) ** 2 + (y - rng.randrange(SIDE)) ** 2 < rng.randrange(4, 60)] = True
        found.append(mask)
    return found


def read_rle(folder: Path) -> list[np.ndarray]:
    """Every line as an RLE, by the parser that takes many at once and by that of one; both must say the same."""
    lines = (folder / "rles.txt").read_bytes().decode("utf-8", "backslashreplace").split("\n")
    found = []
    for pixels in (SIDE * SIDE, None):
        try:
            runs, splits = rle.parse_many(lines, pixels)
        except DataError as error:
            if pixels is None:
                raise DataError(f"{folder / 'rles.txt'}: {error}") from None
            continue
        for number, line in enumerate(lines):
            alone = rle.parse(line, pixels)
            assert np.array_equal(alone, runs[splits[number] : splits[number + 1]])
            assert rle.area(alone) == rle.area(rle.union(alone, alone)) == rle.area(rle.intersection(alone, alone))
            if pixels is not None:
                mask = rle.decode(line, SIZE)
                assert mask.sum() == rle.area(alone)
                assert np.array_equal(rle.decode(rle.encode(mask), SIZE), mask)
                found.append(mask)
    return found


def read_vote(folder: Path) -> list[tuple[str, list[str]]]:
    """A vote as by command: members are read, compared and counted."""
    members = [Submission.read(folder / f"{name}.csv", sizes=SIZE) for name in "AB"]
    agreement = measure_agreement(members)
    _ = agreement.misaligned_in_sample
    found = list(hard_vote(members, observe=agreement.observe))
    assert all(isinstance(text, str) for text in [*agreement.misaligned, *agreement.notes, agreement.to_text()])
    return found


def formats(place: Path) -> list[Format]:
    """RLE texts, and two members of a hard vote."""
    rng = random.Random(4)
    lines = [rle.encode(mask) for _ in range(4) for mask in masks(rng)]
    files = {}
    for name in "AB":
        rows = [(f"i{image}", [rle.encode(mask) for mask in masks(rng)]) for image in range(4)]
        write(place / f"{name}.csv", rows, CLASSES, {})
        files[f"{name}.csv"] = (place / f"{name}.csv").read_bytes()
    same = lambda one, other: len(one) == len(other)  # noqa: E731
    return [
        Format("rle text", {"rles.txt": "\n".join(lines).encode()}, read_rle, text=True, same=same),
        Format("csv of a vote", files, read_vote, text=True),
    ]


NAMES = ["rle text", "csv of a vote"]


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_read_or_refused(tmp_path, name):
    form = next(form for form in formats(tmp_path) if form.name == name)
    folder = tmp_path / "cases"
    folder.mkdir()
    report = fuzz(form, folder, seconds=seconds_of_a_test(slow=False))
    assert report.cases > 20
    assert report.findings == []


@pytest.mark.parametrize("seed", range(4))
def test_votes_of_odd_masks_are_those_of_pixels_and_the_guard_stands_them(seed):
    """Empty, full, single pixels, corners, noise: as members of two and three, with sizes and without."""
    rng = random.Random(seed)
    for _ in range(12):
        count, images = rng.choice((2, 3, 5)), rng.choice((1, 2, 5, 20))
        painted = [[masks(rng) for _ in range(images)] for _ in range(count)]
        if rng.randrange(3) == 0:
            painted[-1] = [[np.zeros(SIZE, bool)] * len(CLASSES)] * images
        members = [
            Submission.of(
                {f"i{i:02d}": Stack.of_masks(of) for i, of in enumerate(stacks)},
                CLASSES,
                {f"i{i:02d}": SIZE for i in range(images)} if rng.randrange(2) else None,
                "ABCDE"[m],
            )
            for m, stacks in enumerate(painted)
        ]
        agreement = measure_agreement(members)
        texts = agreement.misaligned_in_sample
        for i, (_, found) in enumerate(hard_vote(members, observe=agreement.observe)):
            votes = sum(np.stack(of[i]).astype(int) for of in painted)
            assert found == [rle.encode(mask) for mask in 2 * votes > count]
        texts += agreement.misaligned + agreement.notes
        assert all("\n" not in text and "nan" not in text for text in texts)
