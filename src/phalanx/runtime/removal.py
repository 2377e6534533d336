"""Removal of files and folders of ours, and only those: a link or another file is refused before anything goes."""

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from . import fence
from .files import refuse_link
from .leftovers import LEFTOVER
from .leftovers import in_the_way as not_ours


def check_files(folder: Path, ours: Callable[[str], bool], keep: Collection[str] = ()) -> list[str]:
    """Paths of the files of a folder, of which each is ours, or what a killed write left.

    Args:
        ours: whether a file of that name is one that we write there.
        keep: names that are passed over.

    Raises:
        OutputError: the folder is a link, or holds a link, a folder or another file.
    """
    refuse_link(folder)
    try:
        entries = [entry for entry in os.scandir(folder) if entry.name not in keep]
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise not_ours(folder) from None
    for entry in entries:
        if not entry.is_file(follow_symlinks=False) or not (ours(entry.name) or LEFTOVER.fullmatch(entry.name)):
            raise not_ours(Path(entry.path))
    return [entry.path for entry in entries]


def remove_files(folder: Path, ours: Callable[[str], bool], keep: Collection[str] = ()) -> None:
    """Removes the files of a folder, or none: see :func:`check_files`."""
    paths = check_files(folder, ours, keep)
    fence.check(folder / "*")
    for path in paths:
        os.unlink(path)


def remove_folder(folder: Path, ours: Callable[[str], bool]) -> None:
    """Removes a folder with its files, or nothing: see :func:`check_files`. A missing one is fine."""
    remove_files(folder, ours)
    with suppress(FileNotFoundError):
        folder.rmdir()


def remove_tree(folder: Path, ours: Callable[[str], bool]) -> None:
    """Removes a folder and all below it, of which each is ours, or nothing. A missing one is fine.

    Args:
        ours: whether a file or folder of that path, from ``folder`` on, is one that we write there.

    Raises:
        OutputError: the folder is a link, or something below it is a link, another kind of file, or not ours.
    """
    refuse_link(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise not_ours(folder)
    places: list[tuple[Path, bool]] = []
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                path, is_folder = Path(entry.path), entry.is_dir(follow_symlinks=False)
                if not (is_folder or entry.is_file(follow_symlinks=False)) or not ours(
                    path.relative_to(folder).as_posix()
                ):
                    raise not_ours(path)
                places.append((path, is_folder))
                if is_folder:
                    waiting.append(path)
    fence.check(folder / "*")
    for path, is_folder in reversed(places):
        (path.rmdir if is_folder else path.unlink)()
    folder.rmdir()
