"""A folder that is made aside by one process and then renamed to its place."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .leftovers import LOCK, Held
from .locks import LockHeld, lock, remove_lock


@contextmanager
def work_folder(out: Path, remove: Callable[[Path], None]) -> Iterator[Path]:
    """An empty folder ``.NAME.part`` next to ``out``, to be filled by this process alone and renamed to ``out``.

    What a killed process left there is removed at the start, and what is not renamed at the end.

    Args:
        remove: removes such a folder, or nothing if it is not there; refuses what is not ours.

    Raises:
        Held: another process is making ``out``.
        OutputError: something that is not ours is in the way.
    """
    aside, place = _work_places(out)
    with ExitStack() as held:
        try:
            held.enter_context(lock(place, wait=False))
        except LockHeld:
            raise Held(out) from None
        held.callback(remove_lock, place)  # while it is held, so that nobody else holds it
        remove(aside)
        aside.mkdir()
        try:
            yield aside
        finally:
            remove(aside)


def _work_places(out: Path) -> tuple[Path, Path]:
    return out.with_name(f".{out.name}.part"), out.with_name(f".{out.name}.part{LOCK}")


def clear_work(out: Path, remove: Callable[[Path], None]) -> None:
    """Removes what a process that was killed while it made ``out`` left, though ``out`` is there; as
    :func:`work_folder`."""
    if any(place.exists() for place in _work_places(out)):
        with suppress(Held), work_folder(out, remove):
            pass
