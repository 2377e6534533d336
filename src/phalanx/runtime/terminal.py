"""Lines on the terminal."""

from tqdm import tqdm


def say(text: str) -> None:
    """Prints a line at once, above any progress bar."""
    with tqdm.external_write_mode():
        print(text, flush=True)
