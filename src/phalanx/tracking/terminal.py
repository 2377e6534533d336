"""Lines on the terminal that leave a progress bar whole."""

import sys

from tqdm import tqdm


def say(text: str) -> None:
    """Prints one line above any progress bar, at once even if the output is a file or a pipe."""
    tqdm.write(text)
    sys.stdout.flush()
