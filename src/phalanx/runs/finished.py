"""Whether a fold is finished, and still what it was when it was."""

import json
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..runtime.sidecar import read_sidecar
from . import checkpoint


def finished(folder: Path, maps: bool = False) -> dict[str, Any] | None:
    """The result of a finished fold; None where there is work left.

    Where its weights or out-of-fold predictions are damaged or gone, it says so and there is work left: they come from
    ``last`` once more, to the same bits.

    Args:
        maps: probability maps of all held-out images are wanted as well, whether or not it was trained with them.
    """
    try:
        result = json.loads((folder / "done.json").read_text(encoding="utf-8"))
        trouble = None if isinstance(result, dict) else "done.json is damaged"
    except FileNotFoundError:
        return None
    except ValueError:
        result, trouble = {}, "done.json is damaged"
    if trouble is None:
        trouble = _trouble(folder, predicted="dice" in result, maps=maps)
    if trouble is not None:
        print(f"{folder}: was finished, but {trouble}; made again", flush=True)
        return None
    return result


def _trouble(folder: Path, *, predicted: bool, maps: bool) -> str | None:
    if not checkpoint.whole(folder / "final"):
        return "final is missing or altered"
    if not predicted:
        return None
    gone = [name for name in ("oof.csv", "oof.json", "oof_score.json") if not (folder / name).is_file()]
    if gone:
        return f"{gone[0]} is missing"
    try:
        sidecar, _ = read_sidecar(folder / "oof.csv")
    except DataError as error:
        return str(error)
    if sidecar is None:
        return "oof.json is damaged"
    wanted = ["maps.json", *(f"{name}.npz" for name in sidecar.sizes)] if maps else []
    lacking = next((name for name in wanted if not (folder / "oof_prob" / name).is_file()), None)
    return f"oof_prob/{lacking} is missing" if lacking else None
