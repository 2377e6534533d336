"""The kinds of synthetic sets by name, as ``phalanx phantom KIND`` and ``data.phantom.kind`` take them."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from . import brain, hand, pet, ultrasound
from .dataset import PhantomOptions, clear_left


def _fits(layout: str, options: Mapping[str, Any]) -> None:
    """Any layout that the configuration allows fits."""


class Kind(NamedTuple):
    """``options``: of the command line, keyword arguments of ``make``; ``files``: see :func:`.dataset.new_set`;
    ``check``: raises ConfigError if a set with these options does not have what a layout reads."""

    options: type[PhantomOptions]
    make: Callable[..., dict[str, Any]]
    files: re.Pattern[str]
    check: Callable[[str, Mapping[str, Any]], None] = _fits

    def clear_left(self, out: Path) -> None:
        """See :func:`.dataset.clear_left`."""
        clear_left(out, self.files)


KINDS = {
    "hand": Kind(hand.HandOptions, hand.make_hands, hand.FILES),
    "ultrasound": Kind(ultrasound.UltrasoundOptions, ultrasound.make_ultrasound, ultrasound.FILES),
    "brain": Kind(brain.BrainOptions, brain.make_brain, brain.FILES),
    "pet": Kind(pet.PetOptions, pet.make_pet, pet.FILES, pet.check_layout),
}


def data_of(kind: str, options: PhantomOptions) -> str:
    """The file of ``configs/data/`` that trains on such a set, which for pets depends on the disease."""
    if not isinstance(options, pet.PetOptions) or pet.DISEASES[options.disease].truth == "masks":
        return kind
    return "pet_boxes_fractures" if pet.DISEASES[options.disease].classes == ("fracture",) else "pet_boxes"
