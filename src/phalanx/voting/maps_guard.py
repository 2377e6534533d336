"""The guard of a soft vote: members compared by what they would submit of each image, while it is predicted."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..runtime.sidecar import Size
from .agreement import Agreement
from .guard import SAMPLE_IMAGES, Guard, Verdict


class MapsGuard:
    """Collects where members have their masks, image by image, and compares them each time the images have doubled.

    Args:
        names: of the members.
        total: images there will be.
        report: receives what was found, and whether of all images; may raise to stop the vote.
    """

    def __init__(
        self, names: Sequence[str], classes: Sequence[str], total: int, report: Callable[[Verdict, bool], object]
    ):
        self.names, self.classes, self.total, self.report = list(names), tuple(classes), total, report
        self.mean = np.ones((len(names), len(names)))  # Dice of each pair, if it was measured
        self._told = list[str]()  # faults that the first images showed
        self._seen, self._next = Guard(names, classes, total), 2 * SAMPLE_IMAGES

    def noting(self, on_agreement: Callable[[Agreement], object]) -> Callable[[Agreement], None]:
        """A receiver of the first images' agreement that passes it on, and keeps it for the naming of members."""

        def receive(agreement: Agreement) -> None:
            self.mean, self._told = agreement.mean, agreement.misaligned
            on_agreement(agreement)

        return receive

    def see(self, image: str, size: Size, places: np.ndarray) -> None:
        """Takes in an image that was predicted here.

        Args:
            places: float[M, C, 3], as :func:`places.places`.
        """
        if len(self._seen.images) < self.total:
            self._seen.add_places(image, size, places)
        if len(self._seen.images) == self._next < self.total:
            self._next *= 2
            self.report(self._seen.verdict(self.mean, None), False)

    def finish(self, rows: Iterable[tuple[str, Size, np.ndarray | None]]) -> list[str]:
        """The misaligned members by all images, wherever they were predicted."""
        guard = Guard(self.names, self.classes, self.total)
        for image, size, places in rows:
            if places is not None:
                guard.add_places(image, size, places)
        verdict = guard.verdict(self.mean, None)
        known = {_member(text) for text in self._told}
        verdict = verdict._replace(faults=[text for text in verdict.faults if _member(text) not in known])
        self.report(verdict, True)
        return self._told + verdict.faults


def _member(fault: str) -> str:
    """Whom a text of :class:`Verdict` names."""
    return fault.partition(" is misaligned: ")[0]
