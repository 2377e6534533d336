"""A table and its sidecar written together, whole or not at all."""

import hashlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from ..runtime.files import Replacement, sync_folder, whole_disk
from ..runtime.sidecar import Sidecar, sidecar_path


def write_with_sidecar(path: Path, blocks: Iterable[bytes], about: Callable[[str], Sidecar]) -> str:
    """Writes a table and its sidecar, each aside, synced and renamed; returns the table's sha256.

    Nothing is left of a write that fails.

    Args:
        blocks: the table's content.
        about: the sidecar, by the sha256 of the content; called once all blocks are written.

    Raises:
        TrainingError: a disk that is full, beyond a quota or failed.
        OutputError: ``path`` or the sidecar's place is a link or a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_disk(path), ExitStack() as undo:
        table, side = (undo.enter_context(Replacement(target)) for target in (path, sidecar_path(path)))
        digest = hashlib.sha256()
        for block in blocks:
            digest.update(block)
            table.file.write(block)
        table.sync()
        side.file.write(about(digest.hexdigest()).text().encode())
        # Killed between the two, the new sidecar's hash does not fit the old table, and reading reports it. The sidecar
        # comes first: a table without one is taken for somebody else's and never replaced.
        side.finish()
        table.finish()
    sync_folder(path.parent)
    return digest.hexdigest()
