"""Decisions about annotations in doubt: appended to JSON lines as they are made, so that a kill loses none."""

import json
import os
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from ..data.quarantine import read_quarantine, write_quarantine
from ..errors import DataError
from ..runtime.files import append_bytes, format_mark, refuse_foreign, refuse_link
from ..runtime.reading import LIST, as_name, fault, parse_json, read_bytes

KIND = "decisions"
VERDICTS = ("accept", "reject", "undo")  # the annotation is wrong; it is right; not decided after all
REASON = "reviewed: "  # how our lines of a quarantine begin
REMEDY = "restore it from a copy, or give another name with decisions="


class Decisions:
    """The decisions of a file, which is made with the first one.

    Raises:
        OutputError: it is a link, or the file of something else.
        DataError: it is damaged. A last line that a kill has cut off is not: it was never confirmed, and is removed.
    """

    def __init__(self, path: Path):
        self.path, self._lock = path, Lock()
        self.verdicts: dict[str, dict[str, Any]] = {}  # of each annotation, the last
        refuse_foreign(path, format_mark(KIND))
        self._begun = self._read()

    def _read(self) -> bool:
        if not os.path.lexists(self.path):
            return False
        content = read_bytes(self.path, LIST, REMEDY)
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))
        for number, line in enumerate(whole.decode("utf-8", "replace").splitlines()[1:], 2):
            try:
                values = parse_json(line)
                if not isinstance(values, dict) or values.get("verdict") not in VERDICTS:
                    raise ValueError("is not a decision")
                self._enter(as_name(values.get("suspect")), values)
            except ValueError as error:
                raise fault(self.path, f"line {number} {error}", REMEDY) from None
        return bool(whole)

    def _enter(self, suspect: str, values: dict[str, Any]) -> None:
        if values["verdict"] == "undo":
            self.verdicts.pop(suspect, None)
        else:
            self.verdicts[suspect] = values

    def decide(self, suspect: str, image: str, verdict: str, reason: str) -> None:
        """Records a decision; it is on the disk when this returns.

        Args:
            verdict: accept, reject or undo.
        """
        assert verdict in VERDICTS
        values = {
            "suspect": suspect, "image": image, "verdict": verdict, "reason": reason,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        with self._lock:
            head = b"" if self._begun else f"{{{format_mark(KIND)}}}\n".encode()
            if not self._begun:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            append_bytes(self.path, head + json.dumps(values).encode() + b"\n")
            self._begun = True
            self._enter(suspect, values)

    def accepted(self) -> dict[str, str]:
        """Reasons by the name of each image with an annotation that was accepted as wrong."""
        found: dict[str, list[str]] = {}
        for values in self.verdicts.values():
            if values["verdict"] == "accept":
                found.setdefault(values["image"], []).append(values["reason"])
        return {image: REASON + "; ".join(reasons) for image, reasons in sorted(found.items())}


def write_accepted(path: Path, decisions: Decisions, names: Collection[str]) -> int:
    """Writes the accepted images into a quarantine; lines of others stay. Returns how many are accepted.

    Args:
        names: of the images for training: others cannot be left out.

    Raises:
        OutputError: the place is a link or a folder. DataError: the file cannot be read, or is not a quarantine.
    """
    refuse_link(path)
    others = read_quarantine(path, names) if path.exists() else {}
    if strangers := sorted(others.keys() - set(names)):
        raise DataError(
            f"{path}: has a line {strangers[0]!r}, which is not an image of this data set; name another file with "
            "quarantine="
        )
    accepted = {name: reason for name, reason in decisions.accepted().items() if name in names}
    kept = {name: reason for name, reason in others.items() if not reason.startswith(REASON)}
    write_quarantine(path, {**kept, **{name: reason for name, reason in accepted.items() if name not in kept}})
    return len(accepted)
