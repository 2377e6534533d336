"""The folder of a data set: the user's, or a synthetic set made once on request."""

import time
from pathlib import Path
from typing import Any, TypeVar

from ..config import Data, nearest
from ..errors import ConfigError, DataError
from ..runtime.leftovers import Held
from ..runtime.terminal import say

Set = TypeVar("Set", bound=Data)


def resolve_root(data: Set) -> Set:
    """The data configuration with an existing root; the set of a phantom is made under ``data/``.

    Raises:
        DataError: the root is not a folder.
    """
    if data.root is not None:
        if not data.root.is_dir():  # a tar is as its folder
            layout = "; expected <root>/train/DCM/<patient>/<image>.png" if data.layout == "competition" else ""
            raise DataError(f"data.root={data.root}: no such folder{layout}")
        return data.model_copy(update={"phantom": None})
    phantom = data.phantom
    assert phantom is not None  # the configuration refuses a set without either
    parts = [f"{phantom.kind}-{phantom.patients}p-{phantom.size}px-seed{phantom.seed}"]
    parts += [
        f"{key}{value if isinstance(value, str) else format(value, 'g')}"
        for key, value in sorted(phantom.options.items())
    ]
    root = Path("data") / "-".join(parts)
    from ..phantom.kinds import KINDS

    kind = KINDS[phantom.kind]
    if unknown := sorted(phantom.options.keys() - kind.options.model_fields.keys()):
        raise ConfigError(
            f"data.phantom.options.{unknown[0]}: no such option{nearest(unknown[0], kind.options.model_fields)}"
        )
    options: dict[str, Any] = {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in phantom.options.items()
    }
    kind.check(data.layout, options)
    if root.is_dir():
        kind.clear_left(root)
    else:
        say(f"{root}: making a synthetic set of {phantom.patients} patients; data.root= names your own")
        waiting = False
        while not root.is_dir():
            try:
                kind.make(root, patients=phantom.patients, size=phantom.size, seed=phantom.seed, **options)
            except Held:
                if not waiting:
                    say(f"{root}: another process is making it; waiting")
                waiting = True
                time.sleep(0.2)
    return data.model_copy(update={"root": root})
