"""What a check retains of one image: a few kilobytes whatever its size, so that memory hardly grows with the data."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..data.records import Record
from ..runtime.spelling import nfc
from .findings import Finding, Severity

SIDE = 512  # pixels of the long side of the small copy that is inspected

REMOVE = "Restore the file, or remove it with its annotation"
REDRAW = "Correct the annotation, or quarantine the image"


@dataclass
class Inspection:
    """What is retained of one image.

    Attributes:
        bones: float64[C, 6], centroid x, y, area, variances xx, yy and covariance xy per class, in units of the long
            side; NaN if the class is absent.
    """

    record: Record
    split: str  # train or test
    bones: np.ndarray
    shape: tuple[int, int] | None = None  # height, width; None: unreadable
    bands: tuple[int, int] = (0, 0)  # rows at the top and columns at the left of the small copy with noise
    form: str = ""  # file type, bit depth, colours
    pixels: bytes = b""  # SHA-256 of the shape and the grey pixels
    hash: int = 0  # 64-bit perceptual hash
    thumb: np.ndarray | None = None  # uint8[THUMB, THUMB]
    drawn: bytes = b""  # SHA-256 of the annotations
    contrast: float = np.nan  # mean grey level inside minus around the annotations, in deviations
    bright: tuple[int, int] | None = None  # x and y of a bright object that no bone explains
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peaks = np.full(len(self.bones), np.nan)  # float[C], from `metal.peaks`

    @property
    def truth(self) -> Path:
        """The file that a wrong annotation is reported for: the image, if one file annotates all images."""
        labels = self.record.labels
        stem = nfc(self.record.image.stem)
        own = labels is not None and nfc(labels.name).removesuffix(".json").removesuffix(".png") == stem
        return labels if own and labels is not None else self.record.image

    def add(self, path: Path, severity: Severity, kind: str, text: str, remedy: str) -> None:
        """Adds a finding of the image or its annotation."""
        spoils = self.record.name if self.split == "train" else ""
        self.findings.append(Finding(str(path), severity, kind, text, remedy, spoils))
