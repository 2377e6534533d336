"""The record of a training that is always written: one JSON object per line, each with its step."""

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from ..runtime.files import append_bytes, write_text
from ..runtime.reading import (
    LIST,
    MissingFile,
    as_mapping,
    as_name,
    as_real,
    as_whole,
    fault,
    read_json_lines,
)

REMEDY = "remove what is damaged, or delete the file: training continues without the lines that it had"


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

    def rewind(self, step: int, undone: Collection[str] = ()) -> list[Event]:
        """Drops the lines after ``step``, of work that a kill undid, those of ``undone`` events, and a line that is
        cut off; returns the events up to ``step``.

        Raises:
            DataError: a line before the last is not an event, or the file is not a log.
        """
        try:
            events = self.read()
        except MissingFile:
            return []
        found = [event for event in events if event.step <= step]
        write_text(self.path, "".join(_line(event) for event in found if event.name not in undone))
        return found

    def read(self) -> list[Event]:
        """All events; a line that is cut off is left out.

        Raises:
            DataError: a line before the last is not an event, or the file is missing or not a log.
        """
        lines = read_json_lines(self.path, LIST, REMEDY)
        return [self._event(number, values) for number, values in enumerate(lines, 1)]

    def _event(self, number: int, values: Any) -> Event:
        try:
            values = {**as_mapping(values)}
            name, step = as_name(values.pop("event", None)), as_whole(values.pop("step", None))
            return Event(name, step, as_real(values.pop("time", None)), values)
        except ValueError as error:
            raise fault(self.path, f"line {number} is not an event ({error})", REMEDY) from None

    def append(self, event: Event) -> None:
        """Adds one line."""
        append_bytes(self.path, _line(event).encode())


def _line(event: Event) -> str:
    return json.dumps({"event": event.name, "step": event.step, "time": event.time, **event.values}) + "\n"
