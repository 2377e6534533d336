"""A lock of files alone, for file systems whose own locks do not exclude: filelock's strict soft lock, with a way out.

The strict lock never expires. Each of its claims is of one process, and has a random name. Here each process that
claims has a card, by which others find out whether it has ended; then they remove that claim, by its name. So two that
remove the same claim remove nothing of a third, and must both claim again, which only one of them is granted.
"""

import atexit
import json
import os
import random
import time
import uuid
from contextlib import suppress
from pathlib import Path

from filelock import StrictSoftFileClaim as Claim
from filelock import StrictSoftFileLock, Timeout

from ..errors import DataError
from .files import write_text
from .reading import listed, read_mapping
from .scheduler import Process, state_of
from .terminal import say

POLL = 0.02, 0.06  # seconds between two tries
ASK_EVERY = 10  # seconds between two questions to the scheduler, which many jobs may ask at once
REPORT_AFTER = 20  # seconds of waiting
_cards: set[tuple[int, Path]] = set()  # with the process that wrote each: a fork does not remove its parent's


class SoftLock:
    """The soft lock of the name ``path``, next to which it has files ``<path>.soft*``."""

    def __init__(self, path: Path):
        self.path = place(path)
        self.cards = self.path.with_name(f"{self.path.name}.cards")
        self.strict = StrictSoftFileLock(self.path, thread_local=False)

    def acquire(self, wait: bool) -> bool:
        """Whether the lock is had; with ``wait`` it is in the end.

        Raises:
            SoftFileLockProtocolError: the file system has no hard links either, or the lock's files were changed.
        """
        new = self._show_card()
        began, reported, asked = time.monotonic(), False, time.monotonic()
        while True:
            with suppress(Timeout):
                self.strict.acquire(blocking=False)
                if new:
                    self._clear_cards()
                return True
            ask = time.monotonic() - asked > ASK_EVERY
            asked = time.monotonic() if ask else asked
            if self._break_ended(ask):
                continue
            if not wait:
                return False
            if not reported and time.monotonic() - began > REPORT_AFTER:
                reported = True
                say(
                    f"waiting for {self.owner() or 'another process'} to release {self.path}. If it has ended, and "
                    "its machine cannot say so, delete that file and the folders of its name"
                )
            time.sleep(random.uniform(*POLL))

    def release(self) -> None:
        """Gives the lock back."""
        self.strict.release()

    def owner(self) -> str:
        """The process that holds the lock, as text; empty if unknown."""
        found = [self._process(claim) for claim in self.strict.claims]
        return str(found[0]) if found and found[0] is not None else ""

    def _break_ended(self, ask: bool) -> bool:
        """Removes the claims of processes that have ended; whether there were any.

        Args:
            ask: the scheduler, too.
        """
        broken = False
        for claim in self.strict.claims:
            process = self._process(claim)
            if process is None or process.is_this or state_of(process, ask=ask) != "ended":
                continue
            with suppress(FileNotFoundError):  # another process has removed it
                self.strict.force_break(claim.name)
            broken = True
        return broken

    def _process(self, claim: Claim) -> Process | None:
        """Who claims; None if its card is missing."""
        card = self._card_of(claim)
        found = _read(card) if card is not None else None
        return found if found is not None and found.pid == claim.pid else None

    def _card_of(self, claim: Claim) -> Path | None:
        if claim.start is None:  # of a system that does not say when a process began
            return None
        return self._card(claim.pid, str(uuid.UUID(int=claim.start >> 64)), str(claim.start % 2**64))

    def _card(self, pid: int, boot: str, began: str) -> Path:
        return self.cards / f"{boot}-{pid}-{began}.json"

    def _clear_cards(self) -> None:
        """Removes the cards of killed processes that claim nothing: they never will."""
        ended = [card for card in listed(self.cards) if (of := _read(card)) and state_of(of, ask=False) == "ended"]
        claimed = {self._card_of(claim) for claim in self.strict.claims}
        for card in ended:
            if card not in claimed:
                card.unlink(missing_ok=True)

    def _show_card(self) -> bool:
        """Writes the card of this process; False if it is there."""
        own = Process.this()
        card = self._card(own.pid, own.boot, own.began)
        if (own.pid, card) in _cards and card.is_file():
            return False
        write_text(card, json.dumps(own.to_json()) + "\n")
        _cards.add((own.pid, card))
        return True


def _read(card: Path) -> Process | None:
    try:
        return Process.of(read_mapping(card))
    except (DataError, ValueError):
        return None


def place(path: Path) -> Path:
    """The file of the soft lock ``path``."""
    return path.with_name(f"{path.name}.soft")


@atexit.register
def _remove_cards() -> None:
    for pid, card in _cards:
        if pid == os.getpid():
            with suppress(OSError):
                card.unlink()
