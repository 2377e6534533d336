"""A pipe from the process that starts a job to the job: the job ends as soon as nobody holds the other end."""

import os
import signal
import threading

VARIABLE = "PHALANX_LIFELINE"  # number of the file descriptor that the job reads


def end_with_starter() -> None:
    """Kills this process and its group once the process that started it is gone, even by SIGKILL.

    Does nothing if this process is not a job. The job leads a process group of its own.
    """
    number = os.environ.pop(VARIABLE, None)
    if number is not None:
        threading.Thread(target=_follow, args=(int(number),), daemon=True).start()


def _follow(descriptor: int) -> None:
    os.read(descriptor, 1)  # nothing is ever written: this returns when the pipe is closed
    os.killpg(0, signal.SIGKILL)
