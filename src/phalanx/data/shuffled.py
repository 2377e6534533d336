"""Labels permuted over patients: what a control trains on, which can learn nothing but its training images."""

from collections.abc import Sequence

import numpy as np

from ..errors import ConfigError


def shuffle_labels(labels: np.ndarray, patients: Sequence[str], seed: int) -> np.ndarray:
    """The rows of labels float32[N, C] dealt out anew: patients in random order hand theirs to patients in order.

    Rows stay whole and all are used once, so that the classes are as frequent as before, alone and together; the rows
    of a patient mostly stay together, as those of patients with as many images do.

    Args:
        patients: of each row.

    Raises:
        ConfigError: all rows are of one patient.

    >>> shuffle_labels(np.array([[1.0], [1], [0]]), ["a", "a", "b"], 1).ravel().tolist()
    [0.0, 1.0, 1.0]
    """
    rows: dict[str, list[int]] = {}
    for number, patient in enumerate(patients):
        rows.setdefault(patient, []).append(number)
    names = sorted(rows)
    if len(names) < 2:
        raise ConfigError("data.shuffle_labels: needs two patients at least to permute labels over")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(names))
    while (order == np.arange(len(names))).all():
        order = rng.permutation(len(names))
    receivers = [number for name in names for number in rows[name]]
    givers = [number for place in order for number in rows[names[place]]]
    found = np.empty_like(labels)
    found[receivers] = labels[givers]
    return found


def note_control(name: str, seed: int) -> str:
    """What a user should know of a run that was trained on permuted labels."""
    return (
        f"{name}: data.shuffle_labels={seed}, so it is trained on permuted labels: a control for phalanx cam, whose "
        "predictions mean nothing"
    )
