"""A hard vote by command: predicts members that are not CSVs, compares all members, then counts their masks."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from ..errors import ConfigError, OutputError
from ..predict.journal import claimed, remove_part
from ..runtime.files import refuse_link
from ..runtime.removal import remove_folder
from ..runtime.sidecar import Size, is_csv, merged_hashes
from ..submission import table
from ..submission.matching import known_sizes
from ..voting.agreement import Agreement, measure_agreement
from ..voting.vote import hard_vote as vote_rows
from .retrained import note_retrained

SCRATCH_FILE = re.compile(r"[0-9a-f]{16}\.(csv|json)")  # a member's masks, predicted for this vote alone


def hard_vote(
    names: Sequence[str],
    out: Path,
    *,
    predict: Callable[[str, Path], object],
    on_agreement: Callable[[Agreement], object],
    on_all: Callable[[Agreement], object],
    sizes: Mapping[str, Size] | Size | None = None,
    quorum: int | None = None,
    votes: Sequence[int] | None = None,
    how: str = "",
) -> None:
    """Writes the majority of the members' masks to ``out``.

    Args:
        names: of the members. Those that are not CSVs are predicted into a folder ``.<out>.members`` next to ``out``,
            which is removed when the vote is written: after a kill or stop, the same vote predicts nothing twice.
        predict: writes a member's masks into a CSV, unless it has them already.
        on_agreement: receives the agreement of several members over a sample; may raise to stop the vote.
        on_all: receives it again when all images were voted, before the file is in its place; may raise, too.
        how: the vote in words, for the sidecar.

    Raises:
        DataError: members that differ, a wrong row.
        PhalanxError: another process is writing the same file.
    """
    with claimed(out):
        scratch = out.with_name(f".{out.name}.members")
        refuse_link(scratch)
        members = []
        for name in names:
            path = Path(name)
            if not is_csv(path):
                path = scratch / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.csv"
                predict(name, path)
            members.append(table.Submission.read(path, sizes=sizes))
            members[-1].name = name
            for note in members[-1].notes:
                print(f"note: {note}", flush=True)
            note_retrained(name, members[-1].run_hashes)
        head = exclusive_head(members, quorum, votes)
        vote: dict[str, Any] = {"how": how, "members": list(names), "agreement": None}
        agreement = measure_agreement(members) if len(members) > 1 else None
        rows = vote_rows(members, quorum, votes, None if agreement is None else agreement.observe)
        if agreement is not None:
            on_agreement(agreement)

        def checked() -> Iterator[tuple[str, list[str]]]:
            yield from rows
            if agreement is not None:
                on_all(agreement)
                vote["agreement"] = agreement.to_json()

        hashes = merged_hashes((member.name, member.run_hashes) for member in members)
        table.write(out, checked(), members[0].classes, known_sizes(members), hashes, vote, head=head)
        with suppress(OutputError):  # it stays if it has files of another program
            for part in filter(Path.is_dir, scratch.glob(".*.part")):  # of a member that another vote had
                remove_part(part)
            remove_folder(scratch, lambda name: SCRATCH_FILE.fullmatch(name) is not None)


def exclusive_head(
    members: Sequence[table.Submission], quorum: int | None, votes: Sequence[int] | None
) -> Literal["softmax"] | None:
    """Whether the masks of all members exclude each other, so that those of a majority do.

    Raises:
        ConfigError: they do, and several classes could reach the quorum.
    """
    if not all(member.head == "softmax" for member in members):
        return None
    total = sum(votes) if votes is not None else len(members)
    if quorum is not None and 2 * quorum <= total:
        raise ConfigError(
            f"quorum={quorum}: the members' classes exclude each other (softmax), and of {total} votes two classes "
            f"could have as many; give {total // 2 + 1} or more, or leave it out"
        )
    return "softmax"
