"""Where a result comes from: the git commit of this code, and digests of what it was made of."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any


def commit() -> str | None:
    """The commit that is checked out where the package lies; None if that is not a repository, or git is missing."""
    root = Path(__file__).resolve().parents[3]
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def digest(value: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
