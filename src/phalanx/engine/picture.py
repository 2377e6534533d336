"""``curves.png`` of a run's folder, drawn while it trains, but rarely, and when it has ended."""

import time
from pathlib import Path

from ..tracking.curves import Curves

NAME = "curves.png"
FIRST, LEAST = 30.0, 60.0  # seconds of training before the first picture, and between two
COST = 50  # at most one part in so many of the time is spent drawing


class CurvesPicture:
    """Draws the curves of one training.

    Args:
        title: of the picture.
    """

    def __init__(self, folder: Path, title: str):
        self.path, self.title, self.due = folder / NAME, title, time.monotonic() + FIRST

    def refresh(self, curves: Curves) -> None:
        """Draws if it is time."""
        if time.monotonic() >= self.due:
            self.draw(curves)

    def draw(self, curves: Curves) -> None:
        """Draws now."""
        from ..visualize.curves import draw_run  # takes long to load

        began = time.monotonic()
        draw_run(curves, self.title, self.path)
        self.due = time.monotonic() + max(LEAST, COST * (time.monotonic() - began))
