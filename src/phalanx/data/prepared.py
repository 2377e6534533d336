"""Images and truth on the working grid: a sample before random augmentation."""

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..config import PREPROCESSING, ClassifyData, Data
from ..masks.planes import PlaneRuns
from .images import Grid, read_colour, read_grey
from .layouts import truth
from .preprocess import preprocess
from .records import Record

# options that change a prepared sample; any other may differ
OPTIONS = ("classes", "size", "layout", "coco", "masks", "overlap", *PREPROCESSING, "colour", "overlays")
TABLE_OPTIONS = ("regions", "region_kind")  # the same of `table`

# modules that make a prepared sample: an edit of any other does not invalidate what is cached on disk
CODE = (
    "data/coco", "data/coco_file", "data/coco_rle", "data/dicom", "data/dicom_pixels", "data/digests", "data/grey",
    "data/groups", "data/headers", "data/images", "data/label_table", "data/labels", "data/layouts", "data/mask_files",
    "data/masks", "data/overlay_network",
    "data/overlays", "data/patients", "data/polygons", "data/prepared", "data/preprocess", "data/presence",
    "data/regions", "data/restored", "data/tiff", "data/tiff_pixels", "masks/planes",
)  # fmt: skip


class Prepared(NamedTuple):
    """An image and the truth's bit-planes on a ``grid`` of side S.

    ``image``: uint8[S, S], or [S, S, 3] in colour; ``runs``: of shape [S, S, P].
    """

    image: np.ndarray
    runs: PlaneRuns
    grid: Grid

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays: at 2048 pixels about 4.3 MB, while uncompressed image and planes take 21 MB."""
        return self.image.nbytes + self.runs.nbytes


def prepare(record: Record, data: Data) -> Prepared:
    """Reads an image and its truth.

    Raises:
        DataError: either cannot be used.
    """
    image, grid = prepare_image(record, data)
    return Prepared(image, PlaneRuns.of(truth(record, data, grid)), grid)


def prepare_image(record: Record, data: Data) -> tuple[np.ndarray, Grid]:
    """A record's image uint8[S, S], or [S, S, 3] in colour, on its grid. Raises DataError if it cannot be read."""
    colour = isinstance(data, ClassifyData) and data.colour
    marked = isinstance(data, ClassifyData) and data.overlays != "keep"  # whose colour shows where they are
    image = (read_colour if colour or marked else read_grey)(record.image)
    grid = Grid.of(image, data.size)
    return grid.place(preprocess(image, data)), grid


def channels_first(image: np.ndarray) -> np.ndarray:
    """uint8[S, S] or [S, S, 3] as uint8[1 or 3, S, S]."""
    return image[None] if image.ndim == 2 else np.ascontiguousarray(image.transpose(2, 0, 1))


def prepared_key(record: Record, digests: list[str], data: Data) -> str:
    """Cache key of what `prepare` returns for files with these digests; of image, truth, options and code."""
    options = data.model_dump_json(include=set(OPTIONS))
    if isinstance(data, ClassifyData) and data.table is not None and data.table.regions is not None:
        options += data.table.model_dump_json(include=set(TABLE_OPTIONS))
    return hashlib.sha256("\n".join([_code(), options, record.name, *digests]).encode()).hexdigest()


@cache
def _code() -> str:
    """Digest of the code that prepares samples, so that those of another version are not used."""
    decoders = f"opencv {cv2.__version__} pillow {version('pillow')} pydicom {version('pydicom')}"
    digest = hashlib.sha256(decoders.encode())
    for name in CODE:
        digest.update((Path(__file__).parents[1] / f"{name}.py").read_bytes())
    return digest.hexdigest()
