"""The one way to read a file that others may have written: a regular file of bounded size, in Unicode, of its format.

Every error is one line: the file, its fault, and the remedy that the caller gives.
"""

import csv
import errno
import io
import json
import math
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ..errors import DataError, brief, one_line
from .stored import Stored

SMALL = 16 << 20  # bytes of a file about one run, CSV or folder
LIST = 256 << 20  # bytes of a file with a line or an entry per image, or per event of a training
LARGE = 2 << 30  # bytes of a file about a whole data set, as COCO annotations or a log
MAX_DEPTH = 64  # levels of lists and mappings within each other; annotation formats have up to 6
MAX_DIGITS = 19  # of a whole number: those of 64 bits
STALE_PAUSES = (0.0, 0.05, 0.2, 1.0)  # seconds before a read that found a replaced file is repeated
MAX_FIELD = 64 << 20  # characters of a CSV field
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\Z)', re.DOTALL)  # or what an open one swallows: never scanned twice
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

csv.field_size_limit(MAX_FIELD)  # of the process; Python's own limit is 131072


Found = TypeVar("Found")


def fresh(read: Callable[[], Found]) -> Found:
    """What ``read()`` returns, called again while a network file system says that what it had opened or looked up was
    replaced (ESTALE): the next call finds the file that is there now.

    Raises:
        OSError: as ``read()``, at the last try.
    """
    for pause in STALE_PAUSES:
        try:
            return read()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        time.sleep(pause)
    return read()


def listed(folder: Path, pattern: str = "*") -> list[Path]:
    """What a folder has of a pattern, by name; see :func:`fresh`."""
    return fresh(lambda: sorted(folder.glob(pattern)))


class MissingFile(DataError):
    """No file has that name."""


class _Fault(ValueError):
    """What is wrong with a content, without the file's name."""


def fault(path: Path, text: str, remedy: str = "") -> DataError:
    """The error about a file: its name, its fault in one line, and the remedy if there is one."""
    return DataError(f"{path}: {one_line(text)}{f'; {remedy}' if remedy else ''}")


def open_regular(path: Path) -> BufferedReader:
    """A regular file, one that a link leads to, or one in an archive, opened for reading. Anything else is refused, and
    nothing waits.

    Raises:
        OSError: it is not a regular file, or cannot be opened.
    """
    if isinstance(path, Stored):
        return path.open_stored()
    # O_NONBLOCK: opening a pipe without a writer would wait for ever
    descriptor = fresh(lambda: os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise OSError(errno.EINVAL, f"is {kind}, not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, limit: int = SMALL, remedy: str = "") -> bytes:
    """The content of a regular file, or of one that a link leads to.

    Args:
        limit: bytes that the file may have.
        remedy: end of the message of every error, as "write the CSV again".

    Raises:
        MissingFile: there is no such file.
        DataError: it is not a regular file, cannot be read, or is larger.
    """

    def read() -> tuple[int, bytes]:
        with open_regular(path) as file:
            size = path.stat().st_size if isinstance(path, Stored) else os.fstat(file.fileno()).st_size
            return size, file.read(limit + 1) if size <= limit else b""

    try:
        size, content = fresh(read)
    except FileNotFoundError:
        raise MissingFile(f"{path}: no such file{f'; {remedy}' if remedy else ''}") from None
    except OSError as error:  # among others of a socket
        text = str(error.strerror) if error.errno == errno.EINVAL else f"cannot be read ({error.strerror})"
        raise fault(path, text, remedy) from None
    except DataError:  # of an archive
        raise
    except ValueError:  # a NUL in the name
        raise fault(path, "is not a file name", remedy) from None
    if size > limit or len(content) > limit:
        raise fault(path, f"has more than {limit / (1 << 20):g} MiB, too many for a file of this kind", remedy)
    return content


def decode(content: bytes) -> str:
    """Text in UTF-8, or in UTF-16 if it begins with its byte order mark; a mark is not part of the text.

    Raises:
        ValueError: it is neither, or contains NUL.
    """
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _Fault(f"is not {encoding.removesuffix('-sig').upper()} at byte {error.start}") from None
    if "\0" in text:
        raise _Fault("contains NUL, so it is not text")
    return text


def read_text(path: Path, limit: int = SMALL, remedy: str = "") -> str:
    """The text of a file, as :func:`decode`. Raises as :func:`read_bytes`, and DataError if it is not text."""
    return _parsed(path, limit, remedy, lambda text: text)


def read_json(path: Path, limit: int = SMALL, remedy: str = "", *, finite: bool = True) -> Any:
    """The value in a JSON file, as :func:`parse_json`. Raises as :func:`read_text`, and DataError if it is not JSON."""
    return _parsed(path, limit, remedy, lambda text: parse_json(text, finite=finite))


def read_mapping(path: Path, limit: int = SMALL, remedy: str = "") -> dict[str, Any]:
    """As :func:`read_json`, of a file whose value is a mapping."""
    values = read_json(path, limit, remedy)
    if not isinstance(values, dict):
        raise fault(path, "is not a mapping", remedy)
    return values


def read_rows(path: Path, limit: int = SMALL, remedy: str = "", delimiter: str = ",") -> list[list[str]]:
    """The rows of a CSV with any line ends, without those that are empty. Raises as :func:`read_text`."""
    return _parsed(path, limit, remedy, lambda text: parse_rows(text, delimiter))


def read_json_lines(path: Path, limit: int = LIST, remedy: str = "") -> list[Any]:
    """The values of a file with one JSON text per line. What follows the last line break, which a kill cut off, is
    left out. Numbers may be NaN and infinite. Raises as :func:`read_json`."""
    content = read_bytes(path, limit, remedy)
    values = []
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        if line.strip():
            try:
                values.append(parse_json(decode(line), finite=False))
            except _Fault as error:
                raise fault(path, f"line {number} {error}", remedy) from None
    return values


def _parsed(path: Path, limit: int, remedy: str, parse: Callable[[str], Any]) -> Any:
    content = read_bytes(path, limit, remedy)
    try:
        return parse(decode(content))
    except _Fault as error:
        raise fault(path, str(error), remedy) from None


def parse_json(text: str, *, finite: bool = True) -> Any:
    """The value of a JSON text.

    Args:
        finite: refuse numbers that are not finite or too long; otherwise they become infinite or NaN, for readers that
            name the entry with such a number.

    Raises:
        ValueError: it is not JSON, is nested deeper than ``MAX_DEPTH``, has a number that is not finite or a whole
            number of more than ``MAX_DIGITS`` digits, or a string that is not Unicode.
    """
    if _depth(text) > MAX_DEPTH:
        raise _Fault(f"is nested deeper than {MAX_DEPTH} levels")
    try:
        if finite:
            values = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_refused)
        else:
            values = json.loads(text, parse_int=_any_whole)
    except json.JSONDecodeError as error:
        raise _Fault(f"is not JSON ({error.msg} at line {error.lineno}, column {error.colno})") from None
    if _SURROGATE.search(text):
        try:
            json.dumps(values, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _Fault("has a string with half a character (a surrogate), which is not Unicode") from None
    return values


def parse_rows(text: str, delimiter: str = ",") -> list[list[str]]:
    """The rows of CSV text, without those that are empty.

    Raises:
        ValueError: it is not CSV.
    """
    return [row for _, row in numbered_rows(text, delimiter)]


def numbered_rows(text: str, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """As :func:`parse_rows`, each row with the number of the line that it ends in."""
    lines = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter)
    try:
        return [(lines.line_num, row) for row in lines if row]
    except csv.Error as error:
        raise _Fault(f"is not CSV ({error})") from None


def stream_rows(
    path: Path, limit: int = LARGE, remedy: str = "", separators: str = ",", change: Callable[[str], str] = str
) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV as :func:`numbered_rows`, one at a time, so that a long file takes no memory.

    Args:
        separators: of which the one is used that the first line has most often.
        change: is done to each line first.

    Raises:
        MissingFile, DataError: as :func:`read_text`, when the fault is met.
    """
    if not path.is_file() or path.stat().st_size > limit:
        read_bytes(path, limit, remedy)  # which says why it is not read
    with open_regular(path) as file:
        mark = file.peek(4)[:4]
        encoding = next((name for known, name in _MARKS.items() if mark.startswith(known)), "utf-8")
        lines = io.TextIOWrapper(file, encoding)
        try:
            first = _text(lines.readline(), change)
            delimiter = max(separators, key=first.count)
            rows = csv.reader(chain([first], (_text(line, change) for line in lines)), delimiter=delimiter)
            for row in rows:
                if row:
                    yield rows.line_num, row
        except UnicodeError:
            read_text(path, limit, remedy)  # which says where
            raise
        except csv.Error as error:
            raise fault(path, f"is not CSV ({error})", remedy) from None
        except _Fault as error:
            raise fault(path, str(error), remedy) from None


def _text(line: str, change: Callable[[str], str]) -> str:
    if "\0" in line:
        raise _Fault("contains NUL, so it is not text")
    return change(line)


def as_whole(value: Any, low: int = 0, high: int = 2**53) -> int:
    """A value that is a whole number in a range, ends included. Raises ValueError if it is not."""
    if type(value) is not int or not low <= value <= high:
        raise _Fault(f"has {brief(value, 40)}, which is not a whole number of {low} to {high}")
    return value


def as_real(value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A value that is a finite number in a range, ends included. Raises ValueError if it is not."""
    if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
        span = "" if math.isinf(low) and math.isinf(high) else f" of {low:g} to {high:g}"
        raise _Fault(f"has {brief(value, 40)}, which is not a number{span}")
    return float(value)


def as_name(value: Any) -> str:
    """A value that is a printable text of one line, not empty. Raises ValueError if it is not."""
    if not isinstance(value, str) or not value or not value.isprintable() or len(value) > 4096:
        raise _Fault(f"has {brief(value, 40)}, which is not a name")
    return value


def as_hash(value: Any) -> str:
    """A value that is a SHA-256 in hexadecimal digits. Raises ValueError if it is not."""
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise _Fault(f"has {brief(value, 40)}, which is not a SHA-256")
    return value


def as_mapping(value: Any, what: str = "its content") -> dict[str, Any]:
    """A value that is a mapping. Raises ValueError if it is not."""
    if not isinstance(value, dict):
        raise _Fault(f"has no mapping as {what}")
    return value


def as_names(value: Any, what: str) -> list[str]:
    """A value that is a list of different names, not empty. Raises ValueError if it is not."""
    if not isinstance(value, list) or not value or len({as_name(one) for one in value}) < len(value):
        raise _Fault(f"has no list of different names as {what}")
    return value


def _depth(text: str) -> int:
    """Levels of a JSON text, or fewer than ``MAX_DEPTH``, if there are not as many brackets."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0
    import numpy as np  # not by those who read nothing so large: the command line starts fast

    marks = np.frombuffer(_STRING.sub("", text).encode("utf-8", "replace"), np.uint8)
    steps = np.zeros(256, np.int8)
    steps[[*b"[{"]], steps[[*b"]}"]] = 1, -1
    level, most = 0, 0
    for begin in range(0, len(marks), 1 << 20):  # in parts: the sums are 8 times as large as the text
        levels = level + np.cumsum(steps[marks[begin : begin + (1 << 20)]], dtype=np.int64)
        level, most = int(levels[-1]), max(most, int(levels.max()))
    return most


def _whole(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        raise _Fault(f"has a whole number of more than {MAX_DIGITS} digits ({text[:24]}...)")
    return int(text)


def _any_whole(text: str) -> float:
    return int(text) if len(text.lstrip("-")) <= MAX_DIGITS else math.copysign(math.inf, -1 if text[0] == "-" else 1)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Fault(f"has the number {text[:24]}, which is beyond the range of numbers")
    return value


def _refused(text: str) -> NoReturn:
    raise _Fault(f"has the value {text}, which is not JSON")
