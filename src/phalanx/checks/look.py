"""What is kept of one image: some kilobytes whatever its size, so memory hardly grows with the data set."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..data.records import Record
from .findings import Finding, Severity

SIDE = 512  # long side of the grid on which images are looked at

REMOVE = "Restore the file, or remove it with its annotation"
REDRAW = "Correct the annotation, or leave the image out by the quarantine"


@dataclass
class Look:
    """What is kept of one image.

    ``bones`` float64[C, 6]: centroid x, y, area, and variances xx, yy and covariance xy of each class, in units of
    the long side; NaN where it is absent.
    """

    record: Record
    split: str  # train or test
    bones: np.ndarray
    shape: tuple[int, int] | None = None  # height, width; None: unreadable
    bands: tuple[int, int] = (0, 0)  # rows at the top and columns at the left of that grid that hold noise
    form: str = ""  # file type, bit depth, colours
    pixels: bytes = b""  # SHA-256 of the shape and the grey pixels
    hash: int = 0  # 64-bit perceptual hash
    thumb: np.ndarray | None = None  # uint8[THUMB, THUMB]
    drawn: bytes = b""  # SHA-256 of the annotations
    contrast: float = np.nan  # grey levels inside the annotations less those around, in deviations of the image
    bright: tuple[int, int] | None = None  # x and y of something bright that no bone explains
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peaks = np.full(len(self.bones), np.nan)  # float[C]: as `metal.peaks`

    @property
    def truth(self) -> Path:
        """The file to name where the annotation is at fault; the image, where one file annotates them all."""
        labels = self.record.labels
        own = labels is not None and labels.name.removesuffix(".json").removesuffix(".png") == self.record.image.stem
        return labels if own and labels is not None else self.record.image

    def add(self, path: Path, severity: Severity, kind: str, text: str, remedy: str) -> None:
        """Notes a problem of the image or its annotation."""
        spoils = self.record.name if self.split == "train" else ""
        self.findings.append(Finding(str(path), severity, kind, text, remedy, spoils))
