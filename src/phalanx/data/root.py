"""The folder of a data set: the user's, or a synthetic set made once on request."""

from pathlib import Path

from ..config import Data
from ..errors import DataError


def resolve_root(data: Data) -> Data:
    """The data configuration with an existing root; the set of a phantom is made under ``data/``.

    Raises:
        DataError: the root is not a folder.
    """
    if data.root is not None:
        if not data.root.is_dir():
            layout = "; expected <root>/train/DCM/<patient>/<image>.png" if data.layout == "competition" else ""
            raise DataError(f"data.root={data.root}: no such folder{layout}")
        return data.model_copy(update={"phantom": None})
    phantom = data.phantom
    assert phantom is not None  # the configuration refuses a set without either
    root = Path("data") / f"{phantom.kind}-{phantom.patients}p-{phantom.size}px-seed{phantom.seed}"
    if not root.is_dir():
        from ..phantom.hand import make_hands

        print(f"{root}: making a synthetic set of {phantom.patients} patients; data.root= names your own", flush=True)
        make_hands(root, patients=phantom.patients, size=phantom.size, seed=phantom.seed)
    return data.model_copy(update={"root": root})
