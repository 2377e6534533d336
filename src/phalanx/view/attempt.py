"""An image that was dropped on the page: predicted as ``infer`` does, with the area of each class."""

import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.images import Spacing, image_spacing
from ..errors import DataError, PhalanxError
from ..review.scene_source import Predict, PredictOptions, SceneSource
from ..runs.reader import fold_folders
from ..runtime.spelling import nfc
from ..visualize.scene import BoxScene, MaskScene, Scene
from .pictures import Pictures
from .wire import PREDICTED, plain, scene_bytes

ENDINGS = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}  # by their first bytes; anything else is read as DICOM
STORED = 20  # attempts in memory
OPEN = 2  # runs in memory
MAX_NAME = 120
_NAME = re.compile(r"[^\w .()+-]")  # of characters that a name of an image in a CSV does not get


class Attempt(NamedTuple):
    """A predicted image.

    Attributes:
        scene: as the page gets it.
        picture: JPEG.
        csv: as ``infer`` writes it.
    """

    name: str
    scene: bytes
    picture: bytes
    csv: bytes
    about: Mapping[str, Any]


class Attempts:
    """Predictions of dropped images; the last ones stay in memory.

    Args:
        folder: for temporary files.
    """

    def __init__(self, scenes: SceneSource, pictures: Pictures, options: PredictOptions, folder: Path):
        self._scenes, self._pictures, self._options, self._folder = scenes, pictures, options, folder
        self.made: OrderedDict[str, Attempt] = OrderedDict()
        self._runs: OrderedDict[tuple[str, object], Predict] = OrderedDict()  # by name and state, the last ones

    def predict(self, run: str, name: str, content: bytes) -> tuple[str, Attempt]:
        """Predicts an image with a run; returns an id and what was found.

        Args:
            name: of the user's file; in the CSV, and never a place on the disk.

        Raises:
            DataError: it is not an image that can be read.
        """
        own = secrets.token_hex(9)
        folder = self._folder / own
        folder.mkdir()
        name = plain_name(name, content)
        path = folder / name
        try:
            path.write_bytes(content)
            picture, spacing = self._pictures.jpeg(path, "full"), image_spacing(path)
            out = self._folder / f"{own}.csv"
            self._opened(run)(folder, out)
            found = self._scenes.predicted(out)
            scene = found.scene(found.images[0], path)
            made = Attempt(
                name, scene_bytes(scene, (PREDICTED,)), picture, out.read_bytes(),
                about(scene, self._scenes.classes, spacing),
            )  # fmt: skip
        except PhalanxError as error:  # about the user's file, and not about a place and an annotation
            raise DataError(re.sub("; restore it.*", "", str(error).replace(f"{folder}/", ""))) from None
        finally:
            for left in (*folder.iterdir(), *self._folder.glob(f"{own}.*")):
                if left.is_file():
                    left.unlink()
            folder.rmdir()
        self.made[own] = made
        while len(self.made) > STORED:
            self.made.popitem(last=False)
        return own, made

    def _opened(self, run: str) -> Predict:
        """The run, opened once; again after it was trained again."""
        folders = fold_folders(run, self._options.runs)
        key = run, tuple((folder, (folder / "final").stat().st_mtime_ns) for folder in folders)
        found = self._runs.pop(key, None) or self._scenes.opened(run, self._options)
        self._runs[key] = found
        while len(self._runs) > OPEN:
            self._runs.popitem(last=False)
        return found


def plain_name(name: str, content: bytes) -> str:
    """A file name without folders, of plain characters, with the ending of what the file is.

    >>> plain_name("../../etc/hand 1.jpeg", bytes([255, 216, 255])), plain_name("", b"")
    ('hand 1.jpg', 'image.dcm')
    """
    last = _NAME.sub("_", nfc(name).replace("\\", "/").rpartition("/")[2]).strip(" .")
    ending = next((ending for mark, ending in ENDINGS.items() if content.startswith(mark)), ".dcm")
    stem = re.sub(r"\.(png|jpe?g|tiff?|dcm|dicom)$", "", last, flags=re.IGNORECASE)[:MAX_NAME].strip(" .")
    return (stem or "image") + ending


def about(scene: Scene, classes: tuple[str, ...], spacing: Spacing | None) -> dict[str, Any]:
    """Size, spacing and the area of each class, in pixels and, if the spacing is known, in mm²."""
    height, width = scene.size
    found: dict[str, Any] = {"size": [height, width], "spacing": None, "areas": None}
    mm2 = None
    if spacing is not None:
        mm2 = spacing.rows * spacing.columns
        found["spacing"] = {"rows": spacing.rows, "columns": spacing.columns, "tag": spacing.tag}
    areas = None
    if isinstance(scene, MaskScene):
        areas = scene.predicted.areas
    elif isinstance(scene, BoxScene):
        areas = np.bincount(scene.predicted.classes, weights=scene.predicted.areas, minlength=len(classes))
    if areas is not None:
        found["areas"] = [
            {"class": name, "pixels": plain(round(float(area), 1)), "mm2": mm2 and plain(round(float(area) * mm2, 2))}
            for name, area in zip(classes, areas, strict=True)
        ]
    return found
