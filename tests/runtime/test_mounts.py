"""Where the system's locks exclude: by the mount's options, and by trying."""

import errno

import pytest

from phalanx.runtime import mounts
from phalanx.runtime.mounts import excludes, is_network, mount_of

LINE = "36 35 0:41 / {point} rw,relatime shared:1 - {kind} server:/export {options}"


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(mounts, "_probed", {})


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """Has a folder of the test appear as the root of another file system."""

    def mount(kind, options="rw", point=None, more=""):
        table = tmp_path / "mountinfo"
        place = str(point or tmp_path).replace(" ", "\\040")
        root = LINE.format(point="/", kind="ext4", options="rw")
        table.write_text(f"{root}\n{LINE.format(point=place, kind=kind, options=options)}\n{more}")
        monkeypatch.setattr(mounts, "MOUNTS", table)

    return mount


@pytest.mark.parametrize(
    ("kind", "options", "excluding"),
    [
        ("ext4", "rw", True),
        ("nfs", "rw,vers=3,addr=1.2.3.4,local_lock=none", True),
        ("nfs", "rw,vers=3,nolock,local_lock=all", False),
        ("nfs4", "rw,vers=4.2,local_lock=none", True),
        ("nfs4", "rw,local_lock=flock", False),
        ("nfs4", "rw,local_lock=posix", True),  # of flock, this says nothing
        ("cifs", "rw,vers=3.1.1", True),
        ("smb3", "rw,nobrl", False),
        ("ceph", "rw", True),
        ("lustre", "rw,flock", True),
        ("lustre", "rw,localflock", False),
        ("9p", "rw", False),
        ("fuse.sshfs", "rw", False),
        ("fuseblk", "rw", True),
        ("beegfs_nodev", "rw", False),
        ("gpfs", "rw", False),
    ],
)
def test_the_options_of_a_mount(tmp_path, mounted, kind, options, excluding):
    mounted(kind, options)
    assert mount_of(tmp_path).kind == kind
    assert excludes(tmp_path / "lock") is excluding
    assert is_network(tmp_path / "made" / "later") is (kind not in ("ext4", "fuseblk"))
    assert [path.name for path in tmp_path.iterdir()] == ["mountinfo"]  # nothing is left of the try


def test_the_innermost_and_last_mount_counts(tmp_path, mounted):
    inner = tmp_path / "with space"
    (inner / "run").mkdir(parents=True)
    mounted("nfs", "nolock", inner)
    assert (mount_of(tmp_path).kind, mount_of(inner / "run").kind) == ("ext4", "nfs")
    assert mount_of(tmp_path / "with spaces").kind == "ext4"
    (tmp_path / "link").symlink_to(inner)
    assert mount_of(tmp_path / "link").kind == "nfs"
    point = str(inner).replace(" ", "\\040")
    mounted("nfs", "nolock", inner, more=f"{LINE.format(point=point, kind='xfs', options='rw')}\nnot a line\n")
    assert mount_of(inner).kind == "xfs"


def test_without_a_list_of_mounts_trying_is_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "none")
    assert mount_of(tmp_path) is None
    assert excludes(tmp_path / "lock")
    assert not is_network(tmp_path)


def granted(descriptor, how):
    pass


def refused(number):
    def flock(descriptor, how):
        raise OSError(number, "no")

    return flock


@pytest.mark.parametrize(
    ("flock", "excluding"),
    [
        (granted, False),
        (refused(errno.ENOLCK), False),
        (refused(errno.EOPNOTSUPP), False),
        (refused(errno.ENOSYS), False),
        (refused(errno.EACCES), True),  # what some say of a lock that another has
        (refused(errno.EIO), True),  # the lock itself will fail with it
    ],
)
def test_a_lock_that_two_are_granted_does_not_exclude(tmp_path, monkeypatch, flock, excluding):
    monkeypatch.setattr("fcntl.flock", flock)
    assert excludes(tmp_path / "lock") is excluding
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_reported_by_what_opens_the_lock(tmp_path):
    assert excludes(tmp_path / "none" / "lock")
