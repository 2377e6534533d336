"""Files of a tar are read by offset through paths that behave as those of a folder; what is no plain tar is refused."""

import gzip
import hashlib
import io
import os
import pickle
import shutil
import tarfile
from multiprocessing import get_context
from pathlib import Path

import pytest

from phalanx.data.listing import list_files, list_images
from phalanx.errors import DataError
from phalanx.runtime import archive as module
from phalanx.runtime import archive_index
from phalanx.runtime.archive import ArchivePath, rooted
from phalanx.runtime.files import sha256_file
from phalanx.runtime.reading import MissingFile, read_bytes, read_text, stream_rows
from phalanx.runtime.spelling import on_disk

FILES = {
    "train/a/1.png": b"one",
    "train/a/2.png": b"two" * 5000,
    "train/a-b/3.png": b"",
    "train/.hidden": b"h",
    "table.csv": b"a,b\n1,\xc3\xa9\n",
    "train/e\u0301.txt": b"accent",  # decomposed, as macOS has it
    f"train/{'long' * 60}.png": b"long",
}


def pack(path, files=FILES, folders=("train/empty",), before="./", **options):
    with tarfile.open(path, "w", **options) as tar:
        for name in folders:
            info = tarfile.TarInfo(before + name)
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(before + name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def tar(tmp_path):
    return rooted(pack(tmp_path / "set.tar"))


def test_it_is_read_as_the_folder_would_be(tar, tmp_path):
    with tarfile.open(tar) as packed:
        packed.extractall(tmp_path / "set", filter="data")
    folder = tmp_path / "set"
    assert isinstance(tar / "train", ArchivePath)
    for path in sorted(folder.rglob("*")):
        inside = tar / path.relative_to(folder)
        assert (inside.is_file(), inside.is_dir(), inside.exists()) == (path.is_file(), path.is_dir(), True), path
        if path.is_file():
            assert read_bytes(inside) == inside.read_bytes() == path.read_bytes()
            assert inside.stat().st_size == path.stat().st_size
            assert sha256_file(inside) == hashlib.sha256(path.read_bytes()).hexdigest()
    for place in (".", "train", "train/a"):
        assert sorted(one.name for one in (tar / place).iterdir()) == sorted(
            one.name for one in (folder / place).iterdir()
        )
    for one, other in (
        (list_images(tar), list_images(folder)),
        (list_images(tar / "train"), list_images(folder / "train")),
    ):
        assert [str(path).removeprefix(str(tar)) for path in one.files] == [
            str(path).removeprefix(str(folder)) for path in other.files
        ]
        assert [(found.kind, found.path.name) for found in one.passed] == [
            (found.kind, found.path.name) for found in other.passed
        ]
    assert [path.name for path in list_files(tar, ".csv")] == ["table.csv"]
    assert read_text(tar / "table.csv") == "a,b\n1,é\n"
    assert list(stream_rows(tar / "table.csv")) == [(1, ["a", "b"]), (2, ["1", "é"])]
    assert on_disk(tar / "train", "é.txt").read_bytes() == b"accent"
    assert (tar / "table.csv").open(encoding="utf-8").readlines() == ["a,b\n", "1,é\n"]


def test_what_is_not_there_is_missing_and_nothing_is_written(tar):
    assert not (tar / "train/nope.png").exists()
    assert not (tar / "train/a/1.png/x").exists()
    with pytest.raises(MissingFile, match=r"nope\.png: no such file"):
        read_bytes(tar / "nope.png")
    with pytest.raises(DataError, match="Is a directory"):
        read_bytes(tar / "train")
    with pytest.raises(NotADirectoryError):
        list((tar / "table.csv").iterdir())
    with pytest.raises(OSError, match="Read-only"):
        (tar / "new").open("wb")


def test_a_part_is_read_from_any_place(tar):
    with (tar / "train/a/2.png").open("rb") as file:
        file.seek(-4, os.SEEK_END)
        assert file.read(100) == b"otwo"
        assert file.seek(1) == 1
        assert file.read(4) == b"wotw"
        assert file.read() == (b"two" * 5000)[5:]


def test_the_index_is_made_once_and_anew_for_another_archive(tar, tmp_path, monkeypatch):
    made = []
    scan = archive_index.scan
    monkeypatch.setattr(archive_index, "scan", lambda path: (made.append(path), scan(path))[1])
    for _ in range(3):
        module._opened.clear()
        assert (tar / "train/a/1.png").read_bytes() == b"one"
    assert len(made) == 1
    place = tmp_path / ".set.tar.index"
    for damage in (lambda b: b[:-1], lambda b: b"", lambda b: b[:60] + b"\1" + b[61:]):
        place.write_bytes(damage(place.read_bytes()))
        module._opened.clear()
        assert (tar / "train/a/1.png").read_bytes() == b"one"
    assert len(made) == 4
    pack(tmp_path / "new.tar", FILES | {"train/a/1.png": b"eleven"})
    os.replace(tmp_path / "new.tar", tar)
    assert (tar / "train/a/1.png").read_bytes() == b"eleven"
    assert len(made) == 5


def test_where_no_index_can_be_stored_it_is_in_the_cache_folder_or_in_memory(tar, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / ".set.tar.index.lock").mkdir()  # in the way
    assert (tar / "train/a/1.png").read_bytes() == b"one"
    assert len(list((tmp_path / "cache/phalanx").glob("*.index"))) == 1
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("in the way, too")
    module._opened.clear()
    assert (tar / "train/a/1.png").read_bytes() == b"one"


def read_in_child(path, queue):
    queue.put((path.read_bytes(), module._opened[str(path.parents[2])]._owner == os.getpid()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_every_process_has_a_descriptor_of_its_own(tar, method):
    assert (tar / "train/a/1.png").read_bytes() == b"one"
    context = get_context(method)
    queue = context.Queue()
    child = context.Process(target=read_in_child, args=(tar / "train/a/2.png", queue))
    child.start()
    assert queue.get(timeout=60) == (b"two" * 5000, True)
    child.join()
    assert (tar / "train/a/1.png").read_bytes() == b"one"


def test_a_path_is_sent_as_it_is(tar):
    sent = pickle.loads(pickle.dumps(tar / "train/a/1.png"))
    assert type(sent) is ArchivePath
    assert sent == tar / "train/a/1.png"


def test_a_hard_link_is_the_file_it_leads_to(tmp_path):
    path = pack(tmp_path / "set.tar")
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("train/again.png")
        info.type, info.linkname = tarfile.LNKTYPE, "./train/a/2.png"
        tar.addfile(info)
    assert (rooted(path) / "train/again.png").read_bytes() == b"two" * 5000


def refused(path, match):
    module._opened.clear()
    with pytest.raises(DataError, match=match):
        (rooted(path) / "train").is_dir()
    assert not path.with_name(f".{path.name}.index").exists()


@pytest.mark.parametrize(
    ("name", "match"),
    [("../x.png", "leads out of the archive"), ("/abs/x.png", "leads out"), ("a/../../x", "leads out")],
)
def test_names_that_lead_out_are_refused(tmp_path, name, match):
    refused(pack(tmp_path / "set.tar", {name: b"x"}, before=""), match)


def test_a_file_twice_is_refused(tmp_path):
    path = pack(tmp_path / "set.tar")
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("train/a/1.png"))
    refused(path, r"has train/a/1\.png twice; make it again")


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (tarfile.SYMTYPE, "is a symbolic link.*tar --dereference"),
        (tarfile.FIFOTYPE, "is a pipe"),
        (tarfile.LNKTYPE, "is a link to nowhere, which is not a file in the archive"),
    ],
)
def test_what_is_no_file_is_refused(tmp_path, kind, match):
    path = pack(tmp_path / "set.tar")
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("odd")
        info.type, info.linkname = kind, "nowhere"
        tar.addfile(info)
    refused(path, match)


def test_a_compressed_or_damaged_one_is_refused_with_what_to_do(tmp_path):
    whole = pack(tmp_path / "set.tar").read_bytes()
    path = tmp_path / "x.tar"
    path.write_bytes(gzip.compress(whole))
    refused(path, r"is compressed \(gzip\).*gunzip -k x\.tar")
    path.write_bytes(b"PK\x03\x04" + b"\0" * 600)
    refused(path, r"is compressed \(zip\)")
    path.write_bytes(b"a,b\n" * 1000)
    refused(path, "is a file, but not a tar")
    path.write_bytes(b"")
    refused(path, "is a file, but not a tar")
    path.write_bytes(b"\0" * 10240)
    refused(path, "is an empty archive")
    place = whole.index(b"two")
    path.write_bytes(whole[: place + 100])
    refused(path, r"is (damaged or )?cut off.*make it again")
    header = whole.index(b"./table.csv")
    path.write_bytes(whole[:header] + b"garbage" + whole[header + 7 :])
    refused(path, r"is damaged or cut off at byte \d+, after")
    path.write_bytes(whole[:header])
    refused(path, "is damaged or cut off")


def test_a_folder_and_what_is_not_there_stay_plain_paths(tmp_path):
    for path in (tmp_path, tmp_path / "nope", Path("data"), tmp_path / "nope/x"):
        assert type(rooted(path)) is type(Path())
