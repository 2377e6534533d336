"""What stands in for a kill within the process."""

from phalanx.tasks.segment import Segment

# of a log's lines, which differ between equal runs
MEASURED = ("time", "waiting", "images_per_second", "memory_gib", "seconds")


class Stopped(Exception):
    """Ends training as a kill would: nothing is saved on the way out."""


def stopping(step: int, kind: type = Segment) -> type:
    """A task that stops at its micro-batch number ``step``."""

    class Stopping(kind):
        calls = 0

        def step(self, *arguments):
            self.calls += 1
            if self.calls == step:
                raise Stopped
            return super().step(*arguments)

    return Stopping
