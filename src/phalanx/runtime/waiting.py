"""How threads wait for each other. To be set before torch is loaded, whose OpenMP reads it once."""

import os

CHOICES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # of which the user may have made one
SPINS = "3000"  # some microseconds


def wait_briefly() -> None:
    """Has the threads of this process, and of those it starts, sleep after some microseconds of waiting.

    By default they keep their cores busy for milliseconds after each operation, for which the threads of another
    process on the same cores then wait: two trainings at once take many times as long as one after the other.
    """
    if not any(name in os.environ for name in CHOICES):
        os.environ["GOMP_SPINCOUNT"] = SPINS
