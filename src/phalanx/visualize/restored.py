"""A sheet of images with what noise and a denoiser make of them."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..runtime.files import write_bytes

TILE, TEXT = 160, 16  # pixels


def draw_sheet(path: Path, rows: Sequence[Sequence[tuple[str, np.ndarray]]]) -> None:
    """Writes a PNG with a row per image.

    Args:
        rows: caption and image uint8[H, W] of each tile; all rows are equally long.
    """
    tiles = [np.concatenate([_tile(*one) for one in row], axis=1) for row in rows]
    write_bytes(path, cv2.imencode(".png", np.concatenate(tiles))[1].tobytes())


def _tile(caption: str, image: np.ndarray) -> np.ndarray:
    tile = np.zeros((TILE + TEXT, TILE + 2), np.uint8)
    scale = TILE / max(image.shape)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    tile[TEXT : TEXT + size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
    cv2.putText(tile, caption[:26], (2, TEXT - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.36, 255, 1, cv2.LINE_AA)
    return tile
