"""What a command says of its members: how they agree, and which are misaligned."""

from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from ..voting.agreement import Agreement, spread
from ..voting.guard import Verdict
from ..voting.maps_guard import MapsGuard
from .candidates import OutOfFold

TUNE_IMAGES = 64  # in which members that are tuned are compared


def report_agreement(agreement: Agreement, *, allow_misaligned: bool) -> None:
    """Prints how the members agree in a sample of the images.

    Raises:
        DataError: one of them is misaligned; with ``allow_misaligned`` that is printed instead.
    """
    print(agreement.to_text(), flush=True)
    for one, other in agreement.identical():
        print(f"note: {one} and {other} have the same masks, so one opinion has two votes", flush=True)
    report_faults(agreement.misaligned_in_sample, allow_misaligned=allow_misaligned)


def report_all(agreement: Agreement, *, allow_misaligned: bool) -> None:
    """Prints what the sample did not show. Raises as :func:`report_agreement`."""
    for note in agreement.notes:
        print(f"note: {note}", flush=True)
    faults = agreement.misaligned
    report_faults([] if faults == agreement.misaligned_in_sample else faults, allow_misaligned=allow_misaligned)


def report_faults(faults: Sequence[str], *, allow_misaligned: bool) -> None:
    """Stops at misaligned members. Raises as :func:`report_agreement`."""
    if faults and not allow_misaligned:
        raise DataError(f"{'; '.join(faults)}. Predict it again or leave it out; allow_misaligned=true votes with it")
    for fault in faults:
        print(f"note: {fault}; voted with it, by allow_misaligned=true", flush=True)


def report_verdict(verdict: Verdict, *, final: bool, allow_misaligned: bool) -> None:
    """Reports what images of a soft vote show: its notes at the end, its faults at once.

    Raises:
        DataError: as :func:`report_agreement`.
    """
    for note in verdict.notes if final else ():
        print(f"note: {note}", flush=True)
    if final or not allow_misaligned:
        report_faults(verdict.faults, allow_misaligned=allow_misaligned)


def note_misaligned(held: OutOfFold, threshold: float) -> None:
    """Prints which members of a tuning are misaligned, by some of their out-of-fold maps. The truth weighs them."""
    if len(held.members) < 2:
        return
    chosen = set(spread([record.name for record in held.records], TUNE_IMAGES))
    rows = []
    for record, fold in zip(held.records, held.folds.tolist(), strict=True):
        if record.name in chosen:
            folders = held.folders[fold]
            size = folders[0].sizes[record.name]
            found = [folder.maps([record], [])[0].places(size, threshold) for folder in folders]
            rows.append((record.name, size, np.stack(found)))
    guard = MapsGuard(held.members, held.data.classes, len(rows), lambda verdict, final: None)
    for fault in guard.finish(rows):
        print(f"note: {fault}", flush=True)
