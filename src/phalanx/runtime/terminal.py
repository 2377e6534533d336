"""Lines on the terminal, and streams that outlive their reader."""

import errno
import io
import os
import sys
import time
from typing import Any

PIPE_CLOSED = 141  # exit code of a program that SIGPIPE ended, as shells report it


_lines = [0.0]  # moment of the last one, of ``time.monotonic()``


def say(text: str) -> None:
    """Prints a line at once, above any progress bar."""
    from tqdm import tqdm

    note_line()
    with tqdm.external_write_mode():
        print(text, flush=True)


def note_line() -> None:
    """Notes that a line was printed now."""
    _lines[0] = time.monotonic()


def last_line() -> float:
    """Moment of ``time.monotonic()`` of the last line that was noted."""
    return _lines[0]


class Stream(io.TextIOWrapper):
    """A stream that shows what its encoding lacks as escapes, and goes on if nobody reads it any more.

    Attributes:
        fault: why it could not be written; then what follows is dropped.
    """

    fault: OSError | None = None

    @classmethod
    def around(cls, stream: Any) -> "Stream":
        """The same stream; the given one may not be used afterwards."""
        line_buffering, encoding = stream.line_buffering, stream.encoding
        return cls(stream.detach(), encoding, "backslashreplace", line_buffering=line_buffering)

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        """Sends what is buffered and all that follows nowhere, also from processes that are started later."""
        self.fault = self.fault or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def open_streams() -> None:
    """Makes the standard streams outlive their readers; an encoding that lacks a character is no error."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper:
            setattr(sys, name, Stream.around(stream))
    if isinstance(sys.stdout, Stream):  # of processes that are started
        os.environ["PYTHONIOENCODING"] = f"{sys.stdout.encoding}:backslashreplace"


def close_streams(code: int) -> int:
    """The exit code of a command that ended with ``code``, once all that it printed is written.

    ``PIPE_CLOSED`` if that was 0 and nobody read the output to its end; 2 if a disk was full.
    """
    out = sys.stdout
    if not isinstance(out, Stream):
        return code
    out.flush()
    sys.stderr.flush()
    if out.fault is None or code:
        return code
    if out.fault.errno == errno.EPIPE:
        return PIPE_CLOSED
    print(f"phalanx: the output could not be printed ({out.fault.strerror}); the files are whole", file=sys.stderr)
    return 2
