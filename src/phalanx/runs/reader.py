"""The run folders behind a name, and the recipe in them; neither torch nor an image library is loaded."""

from pathlib import Path

from ..config import Config, nearest, read_plain, validate
from ..errors import ConfigError


def read_config(folder: Path) -> Config:
    """The configuration a run folder was trained with."""
    try:
        values = read_plain(folder / "config.yaml")
    except ConfigError as error:
        raise ConfigError(f"{folder}: not a run folder; {error}") from None
    return validate(values)


def _holds_runs(place: Path) -> bool:
    return (place / "config.yaml").is_file() or any(place.glob("*/config.yaml"))


def fold_folders(name: str, runs: Path, weights: str = "final") -> list[Path]:
    """Folders of the trained folds behind a member's name: a run name or one fold's folder.

    Raises:
        ConfigError: nothing of that name, or folds that were begun and not finished, unless ``weights`` are the last.
    """
    place = next((p for p in (Path(name), runs / name) if _holds_runs(p)), runs / name)
    if (place / "config.yaml").is_file():
        return [place]
    folders = sorted(path.parent for path in place.glob("*/config.yaml"))
    if not folders:
        known = sorted(path.name for path in runs.glob("*") if any(path.glob("*/config.yaml"))) if runs.is_dir() else []
        raise ConfigError(f"{name}: no trained run of that name in {runs}{nearest(name, known) if known else ''}")
    unfinished = [folder for folder in folders if not (folder / "final").is_dir()]
    if unfinished and weights != "last":
        raise ConfigError(
            f"{unfinished[0]}: not finished; continue it by the command it was started with, or name the finished "
            f"folds one by one ({', '.join(str(f) for f in folders if f not in unfinished) or 'there are none'}), or "
            "take the weights so far with weights=last"
        )
    return folders
