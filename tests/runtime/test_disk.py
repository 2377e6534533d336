"""A disk that is full: one line that names the file and the remedy, in every command that writes a report."""

import errno

import pytest

from phalanx import cli
from phalanx.runtime import files


@pytest.fixture
def full(monkeypatch):
    def sync(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.Replacement, "sync", sync)


def test_the_file_that_could_not_be_written_is_named(tmp_path, full):
    with pytest.raises(OSError, match="No space left") as caught:
        files.write_bytes(tmp_path / "a", b"x")
    assert caught.value.filename == str(tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_command_says_so_in_one_line(tmp_path, full, capsys):
    assert cli.main(["claims", f"out={tmp_path}/a.md"]) == 2
    assert capsys.readouterr().err == (
        f"phalanx claims: {tmp_path}/a.md: No space left on device; make room there, and run the same command again\n"
    )
