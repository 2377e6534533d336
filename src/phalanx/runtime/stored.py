"""A path of something that is stored within a file, such as an archive, and is read as if it were a file of its own."""

import os
import stat
from contextlib import suppress
from io import BufferedReader
from pathlib import Path, PosixPath


class Stored(PosixPath):
    """Below a file that stores others. All paths made from it, such as its parents, are of the same class."""

    __slots__ = ()

    def open_stored(self) -> BufferedReader:
        """What is stored here, opened for reading. Raises OSError as `open` of a file."""
        raise NotImplementedError


def is_archive(path: Path) -> bool:
    """Whether there is a regular file, which in the place of a folder can only be an archive."""
    with suppress(OSError, ValueError):
        return stat.S_ISREG(os.stat(path).st_mode)
    return False
