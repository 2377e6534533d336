"""What predictions of labels and of boxes have in common: the images, and a file that is there already."""

from collections.abc import Sequence
from pathlib import Path

from ..config import Data
from ..data.layouts import test_place, test_records
from ..data.listing import list_images
from ..data.records import Record, scan
from ..errors import DataError, shown
from ..runtime.sidecar import read_sidecar
from .common_options import RunOptions


def find_records(data: Data, options: RunOptions) -> Sequence[Record]:
    """The images to predict: a plain folder, or the test set of a root in the layout the run was trained on.

    Args:
        data: of the run's recipe.
    """
    data = data.model_copy(update={"root": options.root or data.root})
    place = options.images or test_place(data)
    if place is not None and place.is_dir() and (text := list_images(place).to_text(place)):
        print(f"note: {shown(text)}", flush=True)
    return scan(options.images) if options.images is not None else test_records(data)


def is_finished(out: Path, key: str) -> bool:
    """Whether a CSV is the prediction with this key; says so if it is."""
    try:
        sidecar, _ = read_sidecar(out)
    except DataError:
        return False
    if sidecar is None or sidecar.key != key:
        return False
    print(f"{out}: finished before; delete it to predict it again", flush=True)
    return True
