"""What the page gets of a scene: a JSON header with its length before it, then the runs of masks as varints.

Masks of 29 classes at 2048 x 2048 take about 30 kB. ``static/wire.js`` is the reader.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..masks.stack import Stack
from ..visualize.scene import BoxScene, LabelScene, MaskScene, Scene

TRUTH, PREDICTED = "truth", "predicted"
BOTH = (TRUTH, PREDICTED)
DECIMALS = 6


def pack(header: Mapping[str, Any], content: bytes = b"") -> bytes:
    """Length of the header as uint32 (little-endian), the header as JSON, the content."""
    text = json.dumps(header, allow_nan=False).encode()
    return len(text).to_bytes(4, "little") + text + content


def scene_bytes(scene: Scene, known: tuple[str, ...] = BOTH) -> bytes:
    """A scene of any kind.

    Args:
        known: which sides it has: ground truth, prediction.
    """
    if isinstance(scene, MaskScene):
        return _masks(scene, known)
    if isinstance(scene, BoxScene):
        return pack(_boxes(scene, known))
    assert isinstance(scene, LabelScene)  # there are three kinds
    return pack(_labels(scene, known))


def heat_bytes(heat: np.ndarray) -> bytes:
    """Grad-CAM float64[h, w] as one byte per cell, 255 at its maximum, which is in the header."""
    top = float(heat.max(initial=0.0))
    levels = np.round(255 * heat / top if top > 0 else np.zeros_like(heat)).astype(np.uint8)
    return pack({"size": list(heat.shape), "max": round(top, DECIMALS)}, levels.tobytes())


def plain(value: Any) -> Any:
    """Numbers and arrays as JSON has them: whole ones and rounded ones; NaN and infinity become null."""
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(each) for each in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, float):
        return (int(value) if value.is_integer() else round(value, DECIMALS)) if np.isfinite(value) else None
    return value


def varints(values: np.ndarray) -> bytes:
    """Whole numbers int64[N] from 0 on in LEB128: 7 bits per byte, the lowest first.

    >>> varints(np.array([1, 127, 128])).hex(" ")
    '01 7f 80 01'
    """
    left = values.astype(np.uint64)
    lengths, more = np.ones(len(left), np.int64), left >> np.uint64(7)
    while more.any():
        lengths += more > 0
        more >>= np.uint64(7)
    ends = np.cumsum(lengths)
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    starts = ends - lengths
    for k in range(int(lengths.max(initial=0))):
        there = lengths > k
        low = (left[there] & np.uint64(127)).astype(np.uint8)
        out[starts[there] + k] = low | np.where(lengths[there] > k + 1, 128, 0).astype(np.uint8)
        left >>= np.uint64(7)
    return out.tobytes()


def _masks(scene: MaskScene, known: tuple[str, ...]) -> bytes:
    header: dict[str, Any] = {"kind": "masks", "size": list(scene.size)}
    content = b""
    for side, stack in zip(BOTH, (scene.truth, scene.predicted), strict=True):
        header[side] = np.diff(stack.splits).tolist() if side in known else None
        header[f"{side}_areas"] = [int(area) for area in stack.areas] if side in known else None
        content += _runs(stack) if side in known else b""
    return pack(header, content)


def _runs(stack: Stack) -> bytes:
    """Per run the gap from the end of the one before it, in each class from 0, and its length."""
    before = np.concatenate([[0], stack.runs[:-1, 1]]) if len(stack.runs) else np.empty(0, np.int64)
    firsts = stack.splits[:-1][np.diff(stack.splits) > 0]
    before[firsts] = 0
    return varints(np.column_stack([stack.runs[:, 0] - before, stack.runs[:, 1] - stack.runs[:, 0]]).reshape(-1))


def _boxes(scene: BoxScene, known: tuple[str, ...]) -> dict[str, Any]:
    truth, made = scene.truth, scene.predicted
    return {
        "kind": "boxes",
        "size": list(scene.size),
        "matched": known == BOTH,
        "truth": [
            {"corners": plain(corners), "class": int(c), "missed": bool(missed), "ignored": bool(ignored)}
            for corners, c, missed, ignored in zip(
                truth.corners, truth.classes, scene.missed, truth.ignored, strict=True
            )
        ] if TRUTH in known else None,
        "predicted": [
            {"corners": plain(corners), "class": int(c), "score": plain(float(score)), "right": bool(right)}
            for corners, c, score, right in zip(made.corners, made.classes, made.scores, scene.right, strict=True)
        ] if PREDICTED in known else None,
    }  # fmt: skip


def _labels(scene: LabelScene, known: tuple[str, ...]) -> dict[str, Any]:
    return {
        "kind": "labels",
        "size": list(scene.size),
        "truth": plain(scene.labels.astype(float)) if TRUTH in known else None,
        "probabilities": plain(scene.probabilities.astype(float)) if PREDICTED in known else None,
        "predicted": [bool(each) for each in scene.predicted] if PREDICTED in known else None,
        "heat": scene.heat is not None and PREDICTED in known,
    }
