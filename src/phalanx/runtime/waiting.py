"""How threads wait for each other. To be set before torch is loaded, whose OpenMP reads it once."""

import os

CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # variables of OpenMP's libraries


def wait_passively() -> None:
    """Has the threads of this process, and of those it starts, sleep while they wait, unless the user has chosen.

    By default they keep their cores busy for milliseconds after each operation, for which the threads of another
    process on the same cores then wait.
    """
    if not any(name in os.environ for name in CHOICES):
        os.environ["OMP_WAIT_POLICY"] = "passive"
