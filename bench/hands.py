"""Synthetic hands for a bench, made once and, in a folder that stays, used again."""

from pathlib import Path

from phalanx.phantom.hand import make_hands


def hand_set(folder: Path, patients: int, size: int, seed: int) -> Path:
    """A set of two images a patient in ``folder``: ``patients`` in train and a quarter of that in test.

    It is made on all cores unless it is there; a set from an older generator is for the user to delete. Not to be
    changed by who uses it.
    """
    root = folder / f"hands-{patients}p-{size}px-seed{seed}"
    if not root.is_dir():
        make_hands(root, patients=patients, size=size, seed=seed)
    return root
