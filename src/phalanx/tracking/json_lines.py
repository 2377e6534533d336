"""The record of a training that is always written: one JSON object per line, each with its step."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from ..runtime.files import append_bytes, write_text


class Event(NamedTuple):
    """One line of the log.

    Attributes:
        name: what happened, such as ``epoch``.
        step: optimizer steps done at that time.
        time: seconds since 1970.
        values: everything else that the line contains.
    """

    name: str
    step: int
    time: float
    values: dict[str, Any]

    def numbers(self) -> dict[str, float]:
        """The finite numbers among the values, which is what trackers plot."""
        return {
            key: float(value)
            for key, value in self.values.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }

    def text(self) -> str | None:
        """The message of an event that has one."""
        text = self.values.get("text")
        return text if isinstance(text, str) else None


class JsonLines:
    """``log.jsonl``: appended to line by line, each line synced to the disk."""

    def __init__(self, path: Path):
        self.path = path

    def rewind(self, step: int) -> list[Event]:
        """Drops the lines after ``step``, of work that a kill undid, and a line that is cut off; returns the rest."""
        if not self.path.is_file():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        found = [(line, event) for line in lines if (event := _parse(line)) is not None and event.step <= step]
        write_text(self.path, "".join(f"{line}\n" for line, _ in found))
        return [event for _, event in found]

    def append(self, event: Event) -> None:
        """Adds one line."""
        line = json.dumps({"event": event.name, "step": event.step, "time": event.time, **event.values})
        append_bytes(self.path, (line + "\n").encode())


def _parse(line: str) -> Event | None:
    try:
        values = json.loads(line)
        return Event(str(values.pop("event")), int(values.pop("step")), float(values.pop("time")), values)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # cut off by a kill
