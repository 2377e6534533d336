"""The folder of ``data.cache=disk``, on a disk of this machine if it can be."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from ..config import Data
from ..runtime.mounts import is_network, mount_of
from ..runtime.terminal import say

DEFAULT = Path("data/cache")
TEMPORARY = ("/tmp", "/var/tmp")


def cache_place(data: Data) -> Path:
    """``data.cache_dir``; if it is null, ``data/cache``, or if that is on a network file system, a folder of this user
    on a disk of this machine: samples are read in each epoch, and are quickly made again on another machine."""
    if data.cache_dir is not None:
        return data.cache_dir
    if is_network(DEFAULT):
        for home in (os.environ.get("TMPDIR"), *TEMPORARY):
            place = _own_folder(Path(home)) if home else None
            if place is not None:
                say(f"data.cache=disk: {DEFAULT} is on a network file system, so prepared samples are in {place}")
                return place
    return DEFAULT


def _own_folder(home: Path) -> Path | None:
    """A folder of this user alone in one for temporary files; None if that is memory, shared, or not writable."""
    mount = mount_of(home)
    if mount is None or mount.kind == "tmpfs" or is_network(home) or not os.access(home, os.W_OK):
        return None
    place = home / f"phalanx-cache-{os.getuid()}"
    with suppress(OSError):
        place.mkdir(mode=0o700, exist_ok=True)
        state = place.lstat()
        if stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid():  # else another user, or a link, is there
            return place
    return None
