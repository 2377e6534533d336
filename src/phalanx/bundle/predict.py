"""The steps of a bundle as commands: where members and results are, and which options they get."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..config.words import join_list
from ..errors import ConfigError
from ..runtime.files import write_text
from ..runtime.sidecar import read_sidecar, sidecar_path
from .manifest import Step


class Places(NamedTuple):
    """The bundle's folder, one for results of steps before the last, and the CSV of the last."""

    bundle: Path
    work: Path
    out: Path

    def of(self, member: str) -> str:
        """Path of a member, as a step names it."""
        kind, mark, name = member.partition(":")
        if mark and kind in ("csv", "maps"):
            return str(self.work / f"{name}.{kind}")
        return str(self.bundle / member)


def pairs_of(step: Step, places: Places, given: Mapping[str, str], *, last: bool) -> tuple[list[str], dict[str, str]]:
    """Members and options of the command of a step.

    Args:
        given: the user's options.
    """
    names = [places.of(member) for member in step.members]
    words = dict(word.split("=", 1) for word in step.words)
    words |= {key: str(places.bundle / place) for key, place in step.files.items()}
    if any(":" not in member.partition("/")[0] for member in step.members):  # a network is among them
        if both := next((key for key in given if key in words), None):
            raise ConfigError(f"{both}: the bundle was made with {both}={words[both]}; leave it out")
        words |= {key: value for key, value in given.items() if key != "out"}
    words["out"] = str(places.out if last else places.work / f"{step.result}.csv")
    if step.maps:
        words["maps"] = "true"
    if step.command == "ensemble":
        words |= {"members": join_list(names), "out_of_fold": "false"}
    return names, words


def rename_members(out: Path, step: Step, places: Places) -> None:
    """Records the members of the last vote as the bundle names them, not by their paths of now."""
    sidecar, _ = read_sidecar(out, verify=False)
    if sidecar is None or sidecar.vote is None:
        return
    vote = {**sidecar.vote, "members": step.members}
    write_text(sidecar_path(out), replace(sidecar, vote=vote, made_by=None).text())
