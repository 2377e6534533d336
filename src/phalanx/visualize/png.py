"""PNG files that say which program made them, so that no other file is replaced."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..runtime.files import refuse_foreign, write_bytes

MADE_BY = "phalanx"  # `Software` in the PNG's metadata


def refuse_others(path: Path) -> None:
    """Raises OutputError if the file exists and was not written by this program, such as an input image."""
    refuse_foreign(path, f"Software\0{MADE_BY}")


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Writes RGB uint8[H, W, 3] as a PNG with `Software` in its metadata.

    Raises:
        OutputError: as :func:`refuse_others`.
    """
    refuse_others(path)
    about, data = PngInfo(), BytesIO()
    about.add_text("Software", MADE_BY)
    Image.fromarray(pixels).save(data, "PNG", pnginfo=about)
    write_bytes(path, data.getvalue())
