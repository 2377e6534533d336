"""A hard vote by command: members that are no CSV yet are predicted, all are compared, then their masks are counted."""

import tempfile
from pathlib import Path
from typing import Any

from .submit import table
from .submit.agreement import look
from .submit.vote import hard_vote as vote_rows
from .votes import EnsembleOptions, is_csv, predict_members, stop_at


def hard_vote(options: EnsembleOptions, out: Path) -> None:
    """Majority of the members' masks. Members that are no CSV yet are predicted first.

    Raises:
        DataError: members that differ, a wrong row, a misaligned member (unless ``anyway``).
    """
    sizes: Any = options.size
    if sizes is None and options.images is not None:
        from .data.images import image_size
        from .data.records import scan

        sizes = {record.name: image_size(record.image) for record in scan(options.images)}
    with tempfile.TemporaryDirectory() as scratch:
        paths = []
        for number, name in enumerate(options.members):
            if is_csv(name):
                paths.append(Path(name))
                continue
            path = Path(scratch) / f"{number}.csv"
            predict_members([name], options, path)
            paths.append(path)
        members = [table.Submission.read(path, sizes=sizes) for path in paths]
        for member, name in zip(members, options.members, strict=True):
            member.name = name
            for note in member.notes:
                print(f"note: {note}", flush=True)
        rows = vote_rows(members, options.quorum, options.votes)
        if len(members) > 1:
            stop_at(look(members), anyway=options.anyway)
        hashes = {key: value for member in members for key, value in member.run_hashes.items()}
        table.write(out, rows, members[0].classes, table.known_sizes(members), hashes)
