"""Where the ground truth of test images is, if a data set has one."""

from pathlib import Path

from ..config import Data
from ..data.records import root_of
from ..errors import ConfigError, DataError

USUAL = {
    "masks": ("test/answers",),
    "competition": ("test/answers_json",),
    "coco": ("test/answers.json",),
    "polygons": ("test/answers_json",),
    "coco_boxes": ("test/answers.json",),
    "boxes": ("test/answers.csv",),
}  # by layout, as synthetic sets have it


def test_answers(data: Data, given: Path | None) -> Path:
    """The file or folder of the ground truth of the test images.

    Raises:
        DataError: what was given does not exist. ConfigError: nothing was given, and there is none in the usual place.
    """
    if given is not None:
        if not given.exists():
            raise DataError(f"truth={given}: no such file or folder of ground truth")
        return given
    for name in USUAL.get(data.layout, ()):
        if (root_of(data) / name).exists():
            return root_of(data) / name
    lacking = " or ".join(USUAL.get(data.layout, ("ground truth of its test images",)))
    raise ConfigError(
        f"split=test: {root_of(data)} has no {lacking}; name the ground truth with truth=, or review out of fold"
    )
