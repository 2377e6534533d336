"""The quarantine: a text file of training images to leave out, ``<image name> # <reason>`` a line."""

from pathlib import Path

from ..config import Data
from ..errors import DataError
from ..runtime.files import write_text
from .layouts import train_names, train_records
from .records import Record


def read_quarantine(path: Path) -> dict[str, str]:
    """Reasons by image name. Empty lines and lines that begin with '#' are comments.

    Raises:
        DataError: no such file, or no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"data.quarantine={path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"data.quarantine={path}: no text in UTF-8; one image name a line is expected") from None
    found = {}
    for line in lines:
        name, _, reason = line.partition(" # ")
        if name.strip() and not name.startswith("#"):
            found[name.strip()] = reason.strip()
    return found


def write_quarantine(path: Path, reasons: dict[str, str]) -> None:
    """A quarantine file, whole or not at all."""
    head = "# Training images to leave out: train with data.quarantine=THIS FILE. A line may be deleted or added.\n"
    write_text(path, head + "".join(f"{name} # {' '.join(reason.split())}\n" for name, reason in reasons.items()))


def kept_records(data: Data) -> list[Record]:
    """As :func:`train_records`, without the images in ``data.quarantine``, which are printed.

    Raises:
        DataError: also where the quarantine names an image that is not there: a misspelt name protects nobody.
    """
    if data.quarantine is None:
        return train_records(data)
    reasons = read_quarantine(data.quarantine)
    unknown = sorted(reasons.keys() - train_names(data))
    if unknown:
        raise DataError(
            f"data.quarantine={data.quarantine}: {unknown[0]} is no training image of {data.root} ({len(unknown)} "
            "such name(s)); correct the name, or delete the line"
        )
    records = train_records(data, reasons)
    print(f"{data.quarantine}: {len(reasons)} image(s) left out", flush=True)
    for name, reason in sorted(reasons.items()):
        print(f"  {name}{f' ({reason})' if reason else ''}", flush=True)
    return records
