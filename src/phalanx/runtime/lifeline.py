"""Processes that end when the one that started them does, even by SIGKILL. Loads quickly, to be there in time."""

import os
import signal
import sys
import threading

VARIABLE = "PHALANX_LIFELINE"  # number of the file descriptor that a job reads
PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> bool:
    """Has the system kill this process when the process that started it ends; at once if that is over.

    Args:
        parent: number of the process that started this one.

    Returns:
        whether the system can do so, which only Linux does.
    """
    if not _killed_by_system():
        return False
    if os.getppid() != parent:  # it ended before
        os.kill(os.getpid(), signal.SIGKILL)
    return True


def end_with_starter() -> None:
    """Ends this process and its group once the process that started it is gone, if it is a job.

    A job leads a process group of its own, and reads a pipe, of which the process that started it holds the other end.
    """
    number = os.environ.pop(VARIABLE, None)
    if number is not None:
        _killed_by_system()
        threading.Thread(target=_follow, args=(int(number),), daemon=True).start()


def _killed_by_system() -> bool:
    if sys.platform != "linux":
        return False
    import ctypes

    return ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0


def _follow(descriptor: int) -> None:
    os.read(descriptor, 1)  # nothing is ever written: this returns when the pipe is closed
    os.killpg(0, signal.SIGKILL)
