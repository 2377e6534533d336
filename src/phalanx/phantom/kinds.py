"""The kinds of synthetic sets by name, as ``phalanx phantom KIND`` and ``data.phantom.kind`` take them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from . import brain, hand, pet, ultrasound
from .dataset import PhantomOptions, clear_left


class Kind(NamedTuple):
    """``options``: of the command line, keyword arguments of ``make``; ``files``: see :func:`.dataset.new_set`."""

    options: type[PhantomOptions]
    make: Callable[..., dict[str, Any]]
    files: re.Pattern[str]

    def clear_left(self, out: Path) -> None:
        """See :func:`.dataset.clear_left`."""
        clear_left(out, self.files)


KINDS = {
    "hand": Kind(hand.HandOptions, hand.make_hands, hand.FILES),
    "ultrasound": Kind(ultrasound.UltrasoundOptions, ultrasound.make_ultrasound, ultrasound.FILES),
    "brain": Kind(brain.BrainOptions, brain.make_brain, brain.FILES),
    "pet": Kind(pet.PetOptions, pet.make_pet, pet.FILES),
}
