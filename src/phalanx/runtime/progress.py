"""How far long work is: a bar on a terminal, now and then a line elsewhere, and never a long silence."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

from . import terminal

Item = TypeVar("Item")
TICK = 0.5  # seconds after which a bar is drawn again, whether or not anything moved
PATIENCE = 2.0  # seconds that work without a terminal takes before a line names it
QUIET = 30.0  # seconds without any line before the next one, without a terminal
MIN_BAR = 6  # columns that a bar is worth
_shown: "list[Progress]" = []  # what is under way, the innermost last


class Progress:
    """Shows how far work is until it is closed; of work without a ``total``, for how long it has been under way.

    On a terminal its line fits the width and changes every half second. Elsewhere a line is printed if nothing else was
    for half a minute, by the innermost work alone. Both are on the error stream.

    Args:
        name: of the work, in a few words.
        unit: of what is counted, in the singular.
        initial: number that is done already.
        figures: numbers as texts, the most important first; they come before those that are counted.
        enabled: show anything at all.
    """

    def __init__(
        self, name: str, total: int | None = None, *, unit: str = "", initial: int = 0,
        figures: Callable[[], Sequence[str]] | None = None, enabled: bool = True,
    ):  # fmt: skip
        self.name, self.total, self.unit, self.initial, self.done = name, total, unit, initial, initial
        self.figures, self.enabled, self.began = figures or list, enabled, time.monotonic()
        self.named = False  # in a line, without a terminal
        self.bar: _Bar | None = None
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None

    def update(self, count: int = 1) -> None:
        """Counts on; the line follows at the next tick."""
        self.done += count

    def rename(self, name: str) -> None:
        """Names the step of the work that begins now."""
        self.name, self.began, self.named = name, time.monotonic(), False

    def close(self) -> None:
        """Removes the bar."""
        if self in _shown:
            _shown.remove(self)
        self.ended.set()
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def line(self, width: int) -> str:
        """The state in at most ``width`` columns: name, figures, and a bar if there is room."""
        took, facts = time.monotonic() - self.began, list(self.figures())
        moved = self.done - self.initial
        if self.total is not None:
            facts += [f"{self.done}/{self.total}{f' {self.unit}s' if self.unit else ''}"]
            if moved and self.done < self.total:
                facts.append(f"{clock(took * (self.total - self.done) / moved)} left")
        facts.append(clock(took))
        fraction = None if not self.total else min(1.0, self.done / self.total)
        return fitted(self.name, facts, width, fraction)

    def __enter__(self) -> "Progress":
        if self.enabled:
            self.began = time.monotonic()
            _shown.append(self)
            terminal.note_line()  # so that the work gets its time before a line
            if self.total is not None and sys.stderr.isatty():
                self.bar = _Bar(self)
            self.thread = threading.Thread(target=self._tick, daemon=True, name="progress")
            self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self.close()

    def _tick(self) -> None:
        while not self.ended.wait(TICK):
            if sys.stderr.isatty():
                if self.bar is None:  # of work that did not end at once
                    self.bar = _Bar(self)
                self.bar.refresh()
            elif _shown[-1:] == [self]:
                self._report()

    def _report(self) -> None:
        """A line, if it is time for one."""
        now = time.monotonic()
        first = not self.named and now - self.began >= PATIENCE and self.total is None
        if first or now - terminal.last_line() >= QUIET:
            self.named = True
            terminal.note_line()
            sys.stderr.write(f"{self.line(200)}\n")
            sys.stderr.flush()


class _Bar(tqdm):
    """tqdm's place on the terminal, with a line of our own."""

    def __init__(self, progress: Progress):
        self.progress = progress
        super().__init__(total=progress.total, dynamic_ncols=True, leave=False)

    def __str__(self) -> str:
        return self.progress.line(max(10, (self.format_dict["ncols"] or 80) - 1))


def fitted(name: str, facts: Sequence[str], width: int, fraction: float | None) -> str:
    """A line of at most ``width`` columns: the name, as many facts from the first on as there is room for, and a bar.

    >>> fitted("fold0", ["epoch 3/9", "loss 0.25", "0:12 left"], 40, 0.5)
    'fold0  epoch 3/9  loss 0.25  0:12 left'
    >>> fitted("fold0", ["epoch 3/9", "loss 0.25", "0:12 left"], 30, 0.5)
    'fold0  epoch 3/9  loss 0.25'
    >>> fitted("fold0", ["epoch 3/9"], 40, 0.5)
    'fold0  [#########.........]  epoch 3/9'
    """
    room = max(8, width // 2)
    parts = [name if len(name) <= room else f"{name[: room - 3]}..."]
    for fact in facts:
        if len("  ".join([*parts, fact])) > width:
            break
        parts.append(fact)
    left = width - len("  ".join(parts)) - 4  # of the gap and the ends of the bar
    if fraction is not None and left >= MIN_BAR:
        length = min(left, 18)
        full = round(fraction * length)
        parts.insert(1, f"[{'#' * full}{'.' * (length - full)}]")
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """A duration in hours, minutes and seconds.

    >>> clock(9.7), clock(3725)
    ('0:10', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def tracked(
    items: Iterable[Item], name: str, total: int | None = None, *, unit: str = "", enabled: bool = True
) -> Iterator[Item]:
    """The items, counted as each is used up."""
    with Progress(name, total, unit=unit, enabled=enabled) as shown:
        for item in items:
            yield item
            shown.update()


def working(name: str, enabled: bool = True) -> Progress:
    """Shows that work is under way whose length is not known; for ``with``."""
    return Progress(name, enabled=enabled)
