"""Which jobs Slurm has pending or running, by squeue; how a job ended is read from its folder, not asked of sacct."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import ConfigError, PhalanxError, one_line

SECONDS = 60  # for an answer of the controller
FIELDS = ("%i", "%T", "%N", "%r", "%M")


class Queued(NamedTuple):
    """A job in the queue.

    Attributes:
        number: as 12 or 12_0.
        state: as Slurm names it, such as PENDING or RUNNING.
        node: the node it runs on, or empty.
        reason: why it is pending, such as Resources; None while it runs.
        time: that it has run, as Slurm writes it.
    """

    number: str
    state: str
    node: str
    reason: str
    time: str


class NoSlurm(ConfigError):
    """There is no Slurm on this machine."""


def queue() -> dict[str, Queued]:
    """The jobs of this user that Slurm has not ended, by their number.

    Raises:
        NoSlurm: there is no squeue. PhalanxError: the controller does not answer.
    """
    words = ["--noheader", "--array", f"--user={os.getuid()}", f"--format={'|'.join(FIELDS)}"]
    return parse(call("squeue", words))


def parse(text: str) -> dict[str, Queued]:
    """The rows of squeue.

    >>> parse("12_0|RUNNING|n1|None|0:07\\n")["12_0"].node
    'n1'
    """
    rows = [line.split("|") for line in text.splitlines() if line.count("|") >= len(FIELDS) - 1]
    found = [Queued(row[0], row[1], row[2], "|".join(row[3:-1]), row[-1].strip()) for row in rows]
    return {one.number: one for one in found}


def cancel(numbers: Sequence[str]) -> None:
    """Cancels jobs. Raises as :func:`queue`."""
    for first in range(0, len(numbers), 500):
        call("scancel", numbers[first : first + 500])


def requeue(number: str) -> None:
    """Has Slurm end a job that runs and begin it again later. Raises as :func:`queue`."""
    call("scontrol", ["requeue", number])


def call(program: str, words: Sequence[str]) -> str:
    """What a program of Slurm prints. Raises as :func:`queue`."""
    path = shutil.which(program)
    if path is None:
        raise NoSlurm(f"{program}: not found here; run this on a machine of the Slurm cluster, such as its login node")
    try:
        done = subprocess.run([path, *words], capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise PhalanxError(f"{program}: Slurm's controller did not answer within {SECONDS} s; try again") from None
    if done.returncode:
        text = one_line((done.stderr or done.stdout).strip()) or f"exit code {done.returncode}"
        raise PhalanxError(f"{program}: {text.removeprefix(f'{program}: error: ')}")
    return done.stdout
