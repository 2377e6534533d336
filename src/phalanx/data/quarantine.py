"""The quarantine: a text file of training images to leave out, ``<image name> # <reason>`` per line."""

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ..config import Data, nearest
from ..errors import DataError, brief, shown
from ..runtime.files import write_text
from ..runtime.reading import read_text
from ..runtime.spelling import nfc
from ..runtime.terminal import say
from .layouts import passed_over, train_names, train_records
from .records import Record

MARK = " # "
MAX_WORD, MAX_NAMES = 200, 20_000  # beyond these the nearest name is not looked for: it takes seconds
REMEDY = "data.quarantine= names a text file with one image name per line"


def read_quarantine(path: Path, names: Collection[str] = ()) -> dict[str, str]:
    """Reasons by image name. Empty lines and lines that begin with '#' are comments.

    Args:
        names: the images' names, which may themselves contain '#'.

    Raises:
        DataError: no such file, or not text.
    """
    found: dict[str, str] = {}
    for line in re.split(r"\r\n|\r|\n", nfc(read_text(path, remedy=REMEDY))):
        readings = list(_readings(line))
        known = [reading for reading in readings if reading[0] in names]
        if known:
            name, reason = known[-1]  # the longest
        elif line.lstrip().startswith("#") or not line.strip():
            continue
        else:
            name, reason = readings[0]
        found[name.strip() if not known else name] = reason.strip()
    return found


def _readings(line: str) -> Iterator[tuple[str, str]]:
    """Name and reason of a line for each '#' that may divide them, and without any; as they are and stripped."""
    ends = [match.start() for match in re.finditer(re.escape(MARK), line)] + [len(line)]
    for end in ends[:20]:
        name, reason = line[:end], line[end + len(MARK) :]
        yield name.strip(), reason
        yield name, reason


def write_quarantine(path: Path, reasons: dict[str, str]) -> None:
    """Writes a quarantine file, whole or not at all.

    Raises:
        DataError: a name that cannot be a line of it.
    """
    for name in reasons:
        if re.search("[\r\n\0\ud800-\udfff]", name):
            raise DataError(
                f"{path}: cannot list {brief(name)}, which is not one line of UTF-8; rename that image first"
            )
    head = "# Training images to leave out: train with data.quarantine=THIS FILE. A line may be deleted or added.\n"
    write_text(path, head + "".join(f"{name}{MARK}{' '.join(reason.split())}\n" for name, reason in reasons.items()))


def quarantined(data: Data) -> dict[str, str]:
    """Reasons by image name of the images in ``data.quarantine``; empty without one.

    Raises:
        DataError: the file cannot be read, or names an image that is not in the data set: a misspelt name protects
            nobody.
    """
    if data.quarantine is None:
        return {}
    names = train_names(data)
    reasons = read_quarantine(data.quarantine, names)
    unknown = sorted(reasons.keys() - names)
    if unknown:
        raise DataError(
            f"data.quarantine={data.quarantine}: {unmatched(unknown[0], data, names)} ({len(unknown)} such name(s)); "
            "correct the name, or delete the line"
        )
    return reasons


def unmatched(name: str, data: Data, names: Collection[str]) -> str:
    """What a message says about a line of a quarantine that matches no training image, with the nearest name."""
    close = nearest(name[:MAX_WORD], names) if len(names) <= MAX_NAMES else ""
    close = close.removeprefix("; ").rstrip("?") if "did you mean" in close else ""
    return f"{brief(name)[1:-1]} is not a training image of {data.root}{f'; {close}?' if close else ''}"


def kept_records(data: Data, *, report: bool = True) -> Sequence[Record]:
    """Annotated images of a data set outside the quarantine, sorted by name. Raises as :func:`quarantined` and
    :func:`train_records`.

    Args:
        report: print what is in quarantine.
    """
    reasons = quarantined(data)
    records = train_records(data, reasons)
    if report and (note := passed_over(data)):
        say(f"note: {shown(note)}")
    if report and data.quarantine is not None:
        say(f"{data.quarantine}: {len(reasons)} image(s) left out")
        for name, reason in sorted(reasons.items()):
            say(f"  {name}{f' ({reason})' if reason else ''}")
    return records
