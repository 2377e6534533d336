"""Files of masks: how they are read, and which image and class one belongs to by its name."""

from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..config import nearest
from ..errors import DataError
from ..runtime.reading import MissingFile, read_bytes
from ..runtime.spelling import nfc, on_disk
from .headers import header, upright
from .images import MAX_BYTES


def read_labels(path: Path) -> np.ndarray:
    """A label map as integers [H, W], upright: grey values of up to 16 bits, or the indices of a palette."""
    values, mode, bits = _read(path)
    if mode in ("RGB", "RGBA", "LA"):
        values = values[:, :, : 1 if mode == "LA" else 3]
        if (values != values[:, :, :1]).any():
            raise DataError(
                f"{path}: colours instead of class numbers; save the label map in grey or with a palette, or give "
                "one mask per class (data.masks.kind=classes)"
            )
        values = values[:, :, 0]
    elif mode == "L" and bits < 8:  # decoders spread grey values over 0..255
        values = values // (255 // ((1 << bits) - 1))
    return values.astype(np.uint16)


def read_mask(path: Path) -> np.ndarray:
    """A mask of one class as bool[H, W], upright: set wherever it is not black; an alpha channel is dropped."""
    values, mode, _ = _read(path, resolve=True)
    if values.ndim == 3:
        values = (values[:, :, :1] if mode == "LA" else values[:, :, :3]).max(axis=2)
    return values.astype(bool)


def _read(path: Path, *, resolve: bool = False) -> tuple[np.ndarray, str, int]:
    """A PNG's pixels [H, W] or [H, W, channels], Pillow's name of their mode, and the bits of a channel.

    Args:
        resolve: whether to look up a palette's colours, some of which list white first, instead of the indices.
    """
    from PIL.PngImagePlugin import PngImageFile

    remedy = "make it again, or remove it with its image"
    try:
        content = read_bytes(path, MAX_BYTES, remedy)
    except MissingFile:
        raise DataError(f"{path}: no such mask; every training image needs one") from None
    head = header(path, content)
    if head.kind != "PNG":
        raise DataError(f"{path}: is {head.kind}, but masks must be PNG, without loss; {remedy}")
    content = content[: len(content) - head.excess]
    bits, colour = content[24], content[25]
    try:
        if bits == 16 and colour != 0:  # Pillow would retain 8 bits of them
            values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
            if values is None:
                raise ValueError("damaged")
            mode = "RGB" if values.ndim == 3 else "I;16"
        else:
            image: Any = PngImageFile(BytesIO(content))
            if resolve and image.mode == "P":
                image = image.convert("RGB")
            values, mode = np.asarray(image), image.mode
    except (OSError, SyntaxError, ValueError, MemoryError, cv2.error) as error:
        text = " ".join(str(error).split())
        raise DataError(f"{path}: not a readable mask ({text}); {remedy}") from None
    return upright(values, head.orientation), mode, bits


def class_masks(stem: Path, classes: list[str]) -> list[tuple[int, Path]]:
    """The existing masks of an image with the numbers of their classes; a class without a mask is absent."""
    found = []
    for number, name in enumerate(classes):
        for path in (on_disk(stem, f"{name}.png"), on_disk(stem.parent, f"{stem.name}_{name}.png")):
            if path.is_file():
                found.append((number, path))
    return found


def readings(path: Path, stems: Collection[Path]) -> list[tuple[Path, str]]:
    """The image's stem and the class of a mask's path, for each way to read it."""
    if path.parent in stems:
        return [(path.parent, nfc(path.stem))]
    cuts = [i for i, letter in enumerate(path.stem) if letter == "_"]
    pairs = [(path.with_name(path.stem[:i]), nfc(path.stem[i + 1 :])) for i in cuts]
    return [(stem, name) for stem, name in pairs if stem in stems]


def owner(path: Path, stems: Collection[Path], known: Collection[str]) -> Path | None:
    """The one of the images' ``stems`` that a mask belongs to, if any. Raises DataError for an unknown class."""
    pairs = readings(path, stems)
    fitting = [stem for stem, name in pairs if name in known]
    if pairs and not fitting:
        name = pairs[-1][1]
        raise DataError(f"{path}: {name!r} is not a class{nearest(name, known)}; rename it, or add it to data.classes")
    if len(fitting) > 1:
        raise DataError(f"{path}: may belong to {fitting[0].name} or {fitting[1].name}; use <image>/<class>.png")
    return fitting[0] if fitting else None
