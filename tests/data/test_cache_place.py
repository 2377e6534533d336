"""Prepared samples go to a disk of this machine where the working folder is on a network file system."""

from types import SimpleNamespace

import pytest

from phalanx.config.compose import compose
from phalanx.data import cache_place as module
from phalanx.data.cache import SampleCache
from phalanx.data.cache_place import cache_place
from phalanx.runtime import mounts

LINE = "36 35 0:41 / {point} rw shared:1 - {kind} x rw\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder ``shared`` on NFS, and the folders for temporary files, each with its file system."""

    def mount(**kinds):
        table = "".join(LINE.format(point=tmp_path / name, kind=kind) for name, kind in kinds.items())
        (tmp_path / "mountinfo").write_text(LINE.format(point="/", kind="ext4") + table)
        return SimpleNamespace(cache_dir=None)

    for name in ("shared", "one", "two", "three"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
    monkeypatch.setattr(module, "TEMPORARY", (str(tmp_path / "two"), str(tmp_path / "three")))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "one"))
    monkeypatch.chdir(tmp_path / "shared")
    return mount


def test_a_local_folder_stays(place, capsys):
    assert cache_place(place()) == module.DEFAULT
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("kinds", "where"),
    [
        ({}, "one"),
        ({"one": "tmpfs"}, "two"),  # which is memory
        ({"one": "nfs4", "two": "fuse.sshfs"}, "three"),
        ({"one": "nfs", "two": "nfs", "three": "nfs"}, None),
    ],
)
def test_on_a_network_file_system_the_first_disk_of_this_machine(place, tmp_path, capsys, kinds, where):
    found = cache_place(place(shared="nfs4", **kinds))
    if where is None:
        assert found == module.DEFAULT
        return
    assert found.parent == tmp_path / where
    assert found.stat().st_mode & 0o777 == 0o700
    assert f"data/cache is on a network file system, so prepared samples are in {found}" in capsys.readouterr().out


def test_what_another_user_made_there_is_not_used(place, tmp_path, monkeypatch):
    (tmp_path / "one" / "phalanx-cache-7").symlink_to(tmp_path)
    (tmp_path / "two" / "phalanx-cache-7").mkdir()  # of the user who runs the test
    monkeypatch.setattr(module.os, "getuid", lambda: 7)
    found = cache_place(place(shared="nfs4", three="nfs"))
    assert found == module.DEFAULT


def test_a_given_folder_is_used_wherever_it_is(place, tmp_path):
    place(shared="nfs4")
    data = compose({"name": "x", "data.cache": "disk", "data.cache_dir": str(tmp_path / "shared" / "c")}).data
    assert SampleCache(data).store.place == tmp_path / "shared" / "c"
    data = compose({"name": "x", "data.cache": "disk"}).data
    assert data.cache_dir is None
