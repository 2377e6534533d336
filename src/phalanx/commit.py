"""The git commit of this code, for what must be made again one day."""

import subprocess
from pathlib import Path


def commit() -> str | None:
    """The commit that is checked out where the package lies; None where that is no repository, or git is missing."""
    root = Path(__file__).resolve().parents[2]
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None
