"""What kind of file system a folder is on, and whether a lock of the operating system excludes others there."""

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MOUNTS = Path("/proc/self/mountinfo")
# of file systems that several machines share: whether their locks exclude processes of another machine, by the options
NETWORK: dict[str, Callable[[frozenset[str]], bool]] = {
    # flock is a lock of byte ranges at the server; not with these: then it is one within this machine
    "nfs": lambda options: not options & {"nolock", "local_lock=flock", "local_lock=all"},
    "nfs4": lambda options: not options & {"nolock", "local_lock=flock", "local_lock=all"},
    "cifs": lambda options: not options & {"nobrl", "nolock"},
    "smb3": lambda options: not options & {"nobrl", "nolock"},
    "ceph": lambda options: True,
    "gfs2": lambda options: "localflocks" not in options,
    "ocfs2": lambda options: "localflocks" not in options,
    "lustre": lambda options: "flock" in options,  # else localflock, or none
}
# as above, of which no option says so: FUSE is most often one of them (sshfs, glusterfs, object stores)
UNSURE = re.compile(r"fuse(\..+)?|9p|virtiofs|gpfs|beegfs\w*|afs|orangefs|pvfs2|panfs|glusterfs|lustre\w*|smbfs|vboxsf")

_probed: dict[int, bool] = {}  # by device, of this process


class Mount(NamedTuple):
    """A mounted file system: its type and the options of the mount and of the file system."""

    kind: str
    options: frozenset[str]


def mount_of(place: Path) -> Mount | None:
    """The file system that a folder is on; None if the system does not list them."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    inside, best, found = os.path.realpath(place), -1, None
    for line in lines:
        fields, _, rest = line.partition(" - ")
        own, about = fields.split(" "), rest.split(" ")
        if len(own) < 6 or len(about) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), own[4])
        if len(point) >= best and (inside + "/").startswith(point.rstrip("/") + "/"):  # a later mount hides others
            best, found = len(point), Mount(about[0], frozenset([*own[5].split(","), *about[-1].split(",")]))
    return found


def is_network(place: Path) -> bool:
    """Whether a folder, or the one that it will be made in, is on a file system that other machines may share."""
    mount = mount_of(place)
    return mount is not None and (mount.kind in NETWORK or UNSURE.fullmatch(mount.kind) is not None)


def excludes(path: Path) -> bool:
    """Whether a lock of the operating system on the file ``path`` excludes all other processes that can open it."""
    mount = mount_of(path.parent)
    if mount is not None and (mount.kind in NETWORK or UNSURE.fullmatch(mount.kind)):
        known = NETWORK.get(mount.kind)
        if known is None or not known(mount.options):
            return False
    try:
        device = path.parent.stat().st_dev
    except OSError:
        return True  # there is nothing to lock, which opening the file will report
    if device not in _probed:
        _probed[device] = _probe(path)
    return _probed[device]


def _probe(path: Path) -> bool:
    """Whether the system refuses a lock that another open file has.

    It shows locks that are dropped or not implemented. It cannot show that a lock reaches other machines: a client that
    keeps its locks to itself refuses here, too, so that the mount's options are asked first.
    """
    place = path.with_name(f".{path.name}.{secrets.randbelow(10**9)}.part")  # a name that is cleared after a kill
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = list[int]()
    try:
        opened.append(os.open(place, flags | os.O_CREAT | os.O_EXCL, 0o600))
        opened.append(os.open(place, flags))
        fcntl.flock(opened[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(opened[1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:  # with another cause, as of a read-only folder, the lock itself will fail and name it
        return error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
    finally:
        for descriptor in opened:
            with suppress(OSError):
                os.close(descriptor)
        if opened:
            with suppress(OSError):
                place.unlink()
    return False  # both were granted
