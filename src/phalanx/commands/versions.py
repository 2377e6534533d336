"""The command about versions of a data set: snapshots, and what changed."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .args import split_places

if TYPE_CHECKING:
    from ..config import Config

DATA = """\
phalanx data snapshot NAME data=NAME data.root=DIR [snapshots=DIR] [key=value ...]
phalanx data diff A B [out=DIR] [snapshots=DIR] [data=NAME data.root=DIR] [key=value ...]

snapshot stores what a data set is now in snapshots/NAME, which never changes: digests of each image's file and pixels
and of its annotation and labels, its patient and split, and the labels themselves, compressed. No image is copied.
What an earlier snapshot has of the same file is taken over, so that the next ones take seconds. A training whose data
equals a snapshot records its name in the snapshot.json of its folder; without one, a digest of the data stands there.

diff lists what changed from A to B: images added, removed and renamed, other pixels, other labels, other patients,
splits and folds; a file that was rewritten with the same content is named as that. Writes diff.json, and pictures of
the changed labels, the old ones dashed, the new ones solid.

  A, B                   snapshots; present, the data set of data= now; or runs, their folders or folds
  snapshots=snapshots    the folder with the snapshots
  runs=runs              the folder of the runs
  out=DIR                the folder to write (default: diff_A_B in the folder with the snapshots)
  images=24              images with changed labels that are drawn; all are in diff.json
  size=384               pixels of a panel's side, 128 to 2048
  workers=N              threads (default: all cores)        progress=false   no progress bar
"""
OWN = ("out", "images", "size", "snapshots")


def data(words: Sequence[str]) -> None:
    """``phalanx data``."""
    places, pairs = split_places(words)
    what, names = (places[0], places[1:]) if places else ("", [])
    wanted = {"snapshot": 1, "diff": 2}
    if what not in wanted or len(names) != wanted[what]:
        raise ConfigError(
            f"{' '.join(places) or 'nothing'}: expected snapshot NAME, or diff A B; see phalanx data --help"
        )

    from ..data.versions import SNAPSHOTS

    folder = Path(pairs.pop("snapshots", SNAPSHOTS))
    if what == "snapshot":
        _snapshot(names[0], folder, pairs)
    else:
        _diff(names[0], names[1], folder, pairs)


def _snapshot(name: str, folder: Path, pairs: dict[str, str]) -> None:
    from ..data.snapshot import check_name, take

    check_name(name, folder)  # first: a wrong name should not wait for a synthetic set
    print(take(_config(pairs), name, folder))


def _diff(one: str, other: str, folder: Path, pairs: dict[str, str]) -> None:
    from ..data.snapshot import RESERVED
    from ..runtime.leftovers import in_the_way

    own = {key: pairs.pop(key) for key in OWN if key in pairs}
    images, size = _whole(own, "images", "24", 1, 10_000), _whole(own, "size", "384", 128, 2048)
    if RESERVED not in (one, other):
        known = {"runs", "workers", "progress"}
        if unknown := next((key for key in pairs if key not in known), None):
            from ..config import nearest

            raise ConfigError(f"{unknown}: only {RESERVED} reads a data set{nearest(unknown, [*OWN, *known])}")
    elif not pairs.keys() & {"data", "data.root", "experiment"}:
        raise ConfigError(f"{RESERVED}: name the data set, as in data=hand data.root=/path/to/dataset")
    runs = Path(pairs.get("runs", "runs"))
    out = Path(own.get("out") or folder / f"diff_{Path(one).name}_{Path(other).name}")
    if out.exists() and not out.is_dir():
        raise in_the_way(out)

    from ..data.changes import compare
    from ..show.changed import write_changes
    from ..show.versions import open_version

    before, after = (open_version(name, folder, runs, partial(_config, pairs)) for name in (one, other))
    if before.kind != after.kind:
        raise ConfigError(f"{one} is of task={before.kind} and {other} of task={after.kind}; they cannot be compared")
    found = compare(before, after)
    print(found.to_text())
    written = write_changes(before, after, found, out, images=images, size=size)
    print(f"{out}: {', '.join(written)}")


def _config(pairs: dict[str, str]) -> "Config":
    from ..config.compose import compose
    from ..data.root import resolve_root

    config = compose({"name": "data"} | pairs)
    config.data = resolve_root(config.data)
    return config


def _whole(own: dict[str, str], key: str, default: str, least: int, most: int) -> int:
    text = own.get(key, default)
    if not text.isdecimal() or not least <= int(text) <= most:
        raise ConfigError(f"{key}={text}: expected a whole number from {least} to {most}")
    return int(text)
