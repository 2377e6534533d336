"""A training step that a graph of the device records: its code cannot wait for the device.

What would be looked at on the way is collected instead, and judged after each replay.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from torch import Tensor

Verdict = Literal["right", "wasteful", "wrong"]  # wasteful: right, but a new recording would be quicker


class Check(NamedTuple):
    """A number of a recorded step, int64[] on the device, and what it means for the step once the host knows it.

    ``judge`` is called after each replay. After ``wrong`` the step is computed again without a recording, and then
    recorded anew.
    """

    value: Tensor
    judge: Callable[[int], Verdict]


_checks: list[Check] | None = None


@contextmanager
def recording() -> Iterator[list[Check]]:
    """Until the end of this, code must not wait for the device; yields the checks that it adds."""
    global _checks
    before, _checks = _checks, list[Check]()
    try:
        yield _checks
    finally:
        _checks = before


def recorded_checks() -> list[Check] | None:
    """The checks of the step that is being recorded, to be added to; None if none is."""
    return _checks
