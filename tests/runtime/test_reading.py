"""The readers of small files: what is read alike in any spelling, and what is refused in one line."""

import errno
import json
import os
import socket
import time
from pathlib import Path

import pytest

from phalanx.errors import DataError
from phalanx.runtime import reading
from phalanx.runtime.files import sha256_file
from phalanx.runtime.reading import listed, read_text


def written(tmp_path, content, name="a.json"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path, read=reading.read_json, **options):
    with pytest.raises(DataError) as error:
        read(path, remedy="do this", **options)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert text.endswith("; do this")
    assert "\n" not in text
    return text


VALUE = {"a": [1, -2.5, "환자"], "b": {"c": None}}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_changes_nothing(tmp_path, encoding):
    path = written(tmp_path, json.dumps(VALUE, ensure_ascii=False).encode(encoding))
    assert reading.read_mapping(path) == VALUE


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff{}", "is not UTF-8 at byte 0"),
        (b'{"a": "\0"}', "contains NUL"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"a":' * 100_000, "nested deeper"),
        (b"[" * 65 + b"]" * 65, "nested deeper"),
        (b'[NaN, {"a": 1}]', "NaN"),
        (b"[1e999]", "1e999"),
        (b"[" + b"9" * 20 + b"]", "more than 19 digits"),
        (b"[" + b"9" * 100_000 + b"]", "more than 19 digits"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
    ],
)
def test_what_is_not_json_is_refused_in_one_line(tmp_path, content, fault):
    assert fault in refusal(written(tmp_path, content))


def test_brackets_in_strings_are_not_levels_and_pairs_of_surrogates_are_characters(tmp_path):
    value = {"a": "[" * 1000 + '"{\\', "b": "\U0001f9b4", "c": [[1]] * 100}
    assert reading.read_json(written(tmp_path, json.dumps(value))) == value


def test_a_list_is_not_a_mapping(tmp_path):
    assert "is not a mapping" in refusal(written(tmp_path, b"[]"), reading.read_mapping)


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path):
    started = time.monotonic()
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe" in refusal(tmp_path / "pipe")
    assert "is a folder" in refusal(tmp_path)
    assert "is a device" in refusal(os.devnull)
    with socket.socket(socket.AF_UNIX) as place:
        place.bind(str(tmp_path / "s"))
        refusal(tmp_path / "s")
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be read" in refusal(tmp_path / "loop")
    with pytest.raises(reading.MissingFile, match=r"x: no such file"):
        reading.read_json(tmp_path / "x")
    assert time.monotonic() - started < 60, "none of them was waited for"


def test_a_link_to_a_regular_file_is_read(tmp_path):
    (tmp_path / "link").symlink_to(written(tmp_path, "{}"))
    assert reading.read_json(tmp_path / "link") == {}


def test_a_file_beyond_its_limit_is_not_read(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole without content
    assert "more than 16 MiB" in refusal(path)
    assert "more than 0.5 MiB" in refusal(path, limit=1 << 19)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_rows_are_read_with_any_line_ends_and_long_fields(tmp_path, ends):
    rows = [["이름", "b"], ["x" * 200_000, 'say "a,b"'], ["1", ""]]
    text = ends.join(["이름,b", f'{"x" * 200_000},"say ""a,b"""', "", "1,"])
    assert reading.read_rows(written(tmp_path, "\ufeff" + text)) == rows


def test_csv_with_nul_is_refused(tmp_path):
    assert "contains NUL" in refusal(written(tmp_path, b"a,b\0\n"), reading.read_rows)


@pytest.mark.parametrize("times", [1, 4, 5])
def test_a_file_that_was_replaced_on_a_network_file_system_is_read_anew(tmp_path, monkeypatch, times):
    path, calls = tmp_path / "x", []
    path.write_text("new")
    real = reading.open_regular

    def stale(place):
        calls.append(place)
        if len(calls) <= times:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(place)

    monkeypatch.setattr(reading, "STALE_PAUSES", (0, 0, 0, 0))
    monkeypatch.setattr(reading, "open_regular", stale)
    if times == 5:
        with pytest.raises(DataError, match="x: cannot be read \\(Stale file handle\\)"):
            read_text(path)
    else:
        assert read_text(path) == "new"
    assert len(calls) == min(times, 4) + 1


def test_a_listing_and_a_hash_are_repeated_too_and_other_errors_are_not(tmp_path, monkeypatch):
    (tmp_path / "x").write_text("")
    monkeypatch.setattr(reading, "STALE_PAUSES", (0,))
    calls = []

    def once(real, number):
        def call(*arguments, **options):
            calls.append(number)
            if len(calls) == 1:
                raise OSError(number, "no")
            return real(*arguments, **options)

        return call

    monkeypatch.setattr(Path, "glob", once(Path.glob, errno.ESTALE))
    assert listed(tmp_path) == [tmp_path / "x"]
    calls.clear()
    monkeypatch.setattr(os, "open", once(os.open, errno.ESTALE))
    assert len(sha256_file(tmp_path / "x")) == 64
    calls.clear()
    monkeypatch.setattr(os, "open", once(os.open, errno.EIO))
    with pytest.raises(OSError, match="no"):
        sha256_file(tmp_path / "x")
