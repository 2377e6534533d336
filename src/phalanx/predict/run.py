"""From images to a submission: members streamed image by image into one average, then threshold and RLE."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ..data.images import Grid, read_grey
from ..data.records import Record
from ..errors import ConfigError, DataError
from ..files import write_bytes, write_json
from ..submit import table
from ..submit.agreement import Watch
from ..submit.rle import encode
from .members import SoftMember


def average(
    members: Sequence[SoftMember],
    records: Sequence[Record],
    *,
    batch: int,
    weights: Sequence[int] | None = None,
    watch: Watch | None = None,
    threshold: float = 0.5,
    progress: bool = True,
    title: str = "",
) -> Iterator[tuple[Record, Grid, np.ndarray]]:
    """Each image with the mean of its members' maps, float32[C, n, n] on the finest grid any of them has.

    Only one batch of images is held at a time, whatever the number of images.

    Args:
        weights: of each member in the mean; equal by default.
        watch: sees what each member alone would submit of the first images, at ``threshold``.

    Raises:
        DataError: members of different classes, an image that cannot be read.
    """
    for member in members[1:]:
        if member.classes != members[0].classes:
            raise DataError(f"{member.name}: has other classes than {members[0].name}; they cannot vote together")
    shares = np.array(weights or [1] * len(members), np.float32)
    shares /= shares.sum()
    bar = tqdm(total=len(records), desc=title or "predict", disable=not progress, unit="image")
    with bar:
        for first in range(0, len(records), batch):
            part = records[first : first + batch]
            images = [read_grey(record.image) for record in part]
            totals: list[np.ndarray] | None = None
            seen: list[list[np.ndarray]] = [[] for _ in part]
            for member, share in zip(members, shares, strict=True):
                maps = member.maps(part, images)
                if watch is not None and first < watch.wanted:
                    for of_image, one in zip(seen, maps, strict=True):
                        of_image.append(one)
                parts = [one * share for one in maps]
                totals = parts if totals is None else [add(a, b) for a, b in zip(totals, parts, strict=True)]
            for record, image, total, of_image in zip(part, images, totals or [], seen, strict=True):
                if watch is not None and of_image:
                    rles = [masks_to_rles(one, Grid.of(image, one.shape[1]), threshold) for one in of_image]
                    watch(record.name, (image.shape[0], image.shape[1]), rles)
                yield record, Grid.of(image, total.shape[1]), total
            bar.update(len(part))


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The sum of two maps float32[C, n, n], the coarser enlarged to the finer's grid."""
    side = max(a.shape[1], b.shape[1])
    return fit_grid(a, side) + fit_grid(b, side)


def fit_grid(maps: np.ndarray, side: int) -> np.ndarray:
    """Maps float32[C, n, n] enlarged to float32[C, side, side], bilinear."""
    if maps.shape[1] == side:
        return maps
    return np.stack([cv2.resize(one, (side, side), interpolation=cv2.INTER_LINEAR) for one in maps])


def masks_to_rles(maps: np.ndarray, grid: Grid, threshold: float) -> list[str]:
    """One RLE a class at the original size, from maps float32[C, n, n] on the grid."""
    there = maps.reshape(len(maps), -1).max(1) >= threshold
    rles = [""] * len(maps)
    for c in np.flatnonzero(there):
        rles[c] = encode(grid.restore(maps[c : c + 1])[0] >= threshold)
    return rles


def write_submission(
    path: Path,
    members: Sequence[SoftMember],
    records: Sequence[Record],
    *,
    threshold: float,
    batch: int,
    weights: Sequence[int] | None = None,
    watch: Watch | None = None,
    maps_folder: Path | None = None,
    progress: bool = True,
) -> None:
    """Predicts the records, each image by all members, and writes ``path`` with its sidecar, whole or not at all.

    Args:
        weights: of each member in the mean; equal by default.
        watch: sees what each member alone would submit of the first images, and may raise to stop the vote.
        maps_folder: also store the averaged maps there, for soft votes later; replaces those of an earlier call.

    Raises:
        ConfigError: ``maps_folder`` holds something else. DataError: as :func:`average`.
    """
    if maps_folder is not None and maps_folder.exists() and not (maps_folder / "maps.json").is_file():
        raise ConfigError(f"{maps_folder}: exists and is no folder of probability maps; move it away, or change out=")
    sizes: dict[str, tuple[int, int]] = {}
    classes = members[0].classes
    hashes = {key: value for member in members for key, value in member.hashes.items()}

    def rows() -> Iterator[tuple[str, list[str]]]:
        for record, grid, maps in average(
            members, records, batch=batch, weights=weights, watch=watch, threshold=threshold,
            progress=progress, title=path.stem,
        ):  # fmt: skip
            sizes[record.name] = (grid.height, grid.width)
            if aside is not None:
                store_map(aside, record.name, maps)
            yield record.name, masks_to_rles(maps, grid, threshold)

    aside = maps_folder.with_name(f".{maps_folder.name}.part") if maps_folder is not None else None
    if aside is None or maps_folder is None:
        table.write(path, rows(), classes, sizes, hashes)
        return
    shutil.rmtree(aside, ignore_errors=True)
    try:
        table.write(path, rows(), classes, sizes, hashes)
        about = {"classes": classes, "run_hashes": hashes, "sizes": {k: list(v) for k, v in sizes.items()}}
        write_json(aside / "maps.json", about)
        shutil.rmtree(maps_folder, ignore_errors=True)
        aside.rename(maps_folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def store_map(folder: Path, name: str, maps: np.ndarray) -> None:
    """Maps float32[C, n, n] of one image, in 256 steps, compressed, at ``<folder>/<name>.npz``."""
    from io import BytesIO

    buffer = BytesIO()
    np.savez_compressed(buffer, maps=np.round(maps * 255).astype(np.uint8))
    write_bytes(folder / f"{name}.npz", buffer.getvalue())
