"""The quarantine: a text file of training images to leave out, ``<image name> # <reason>`` per line."""

from pathlib import Path

from ..config import Data
from ..errors import DataError, shown
from ..runtime.files import write_text
from .layouts import passed_over, train_names, train_records
from .records import Record


def read_quarantine(path: Path) -> dict[str, str]:
    """Reasons by image name. Empty lines and lines that begin with '#' are comments.

    Raises:
        DataError: no such file, or not text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"data.quarantine={path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"data.quarantine={path}: not UTF-8 text; one image name per line is expected") from None
    found = {}
    for line in lines:
        name, _, reason = line.partition(" # ")
        if name.strip() and not name.startswith("#"):
            found[name.strip()] = reason.strip()
    return found


def write_quarantine(path: Path, reasons: dict[str, str]) -> None:
    """Writes a quarantine file, whole or not at all."""
    head = "# Training images to leave out: train with data.quarantine=THIS FILE. A line may be deleted or added.\n"
    write_text(path, head + "".join(f"{name} # {' '.join(reason.split())}\n" for name, reason in reasons.items()))


def quarantined(data: Data) -> dict[str, str]:
    """Reasons by image name of the images in ``data.quarantine``; empty without one.

    Raises:
        DataError: the file cannot be read, or names an image that is not in the data set: a misspelt name protects
            nobody.
    """
    if data.quarantine is None:
        return {}
    reasons = read_quarantine(data.quarantine)
    unknown = sorted(reasons.keys() - train_names(data))
    if unknown:
        raise DataError(
            f"data.quarantine={data.quarantine}: {unknown[0]} is not a training image of {data.root} ({len(unknown)} "
            "such name(s)); correct the name, or delete the line"
        )
    return reasons


def kept_records(data: Data, *, report: bool = True) -> list[Record]:
    """Annotated images of a data set outside the quarantine, sorted by name. Raises as :func:`quarantined` and
    :func:`train_records`.

    Args:
        report: print what is in quarantine.
    """
    reasons = quarantined(data)
    records = train_records(data, reasons)
    if report and (note := passed_over(data)):
        print(f"note: {shown(note)}", flush=True)
    if report and data.quarantine is not None:
        print(f"{data.quarantine}: {len(reasons)} image(s) left out", flush=True)
        for name, reason in sorted(reasons.items()):
            print(f"  {name}{f' ({reason})' if reason else ''}", flush=True)
    return records
