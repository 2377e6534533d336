"""``curves.png`` of a run's folder, drawn while it trains, but rarely, and when it has ended."""

import time
from pathlib import Path

from ..errors import PhalanxError
from ..runtime.terminal import say
from ..tracking.curves import Curves

NAME = "curves.png"
FIRST, LEAST = 30.0, 60.0  # seconds of training before the first picture, and between two
COST = 50  # at most one part in so many of the time is spent drawing


class CurvesPicture:
    """Draws the curves of one training. A picture that cannot be drawn is reported once, and does not end training.

    Args:
        title: of the picture.
    """

    def __init__(self, folder: Path, title: str):
        self.path, self.title, self.due = folder / NAME, title, time.monotonic() + FIRST
        self.failed = False

    def refresh(self, curves: Curves) -> None:
        """Draws if it is time."""
        if time.monotonic() >= self.due:
            self.draw(curves)

    def draw(self, curves: Curves) -> None:
        """Draws now."""
        began = time.monotonic()
        try:
            from ..visualize.curves import draw_run  # takes long to load

            draw_run(curves, self.title, self.path)
        except (OSError, PhalanxError):  # a full disk, or something in the way
            raise
        except Exception as error:
            if not self.failed:
                cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                say(f"{self.path}: could not be drawn ({cause}); curves.csv has the numbers")
            self.failed = True
        self.due = time.monotonic() + max(LEAST, COST * (time.monotonic() - began))
