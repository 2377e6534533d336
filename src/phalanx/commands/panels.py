"""The command that shows validation panels of several epochs side by side."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError, DataError
from .args import split_places

PANELS = """\
phalanx panels RUN [epochs=5,50] [out=FILE.png] [runs=runs]

Validation panels of several epochs side by side: the same held-out images, how they were predicted, and what was wrong.
Each validation draws them into runs/NAME/fold<k>/panels/: first a case of its own, such as a rotated hand, then the
worst images of the first validation. The key panels=4 of training is their number; 0 draws none.

  RUN                    a run, whose first fold with panels is shown, or the folder of a fold (runs/NAME/fold1)
  epochs=5,50            counted from 1; of epochs without a picture the nearest one is shown. Default: first and last
  out=FILE.png           default: panels.png in the fold's folder panels
"""


def panels(words: Sequence[str]) -> None:
    """``phalanx panels``."""
    places, pairs = split_places(words)
    if len(places) != 1:
        raise ConfigError(f"{' '.join(places) or 'nothing'}: expected one RUN; see phalanx panels --help")

    from ..config import nearest
    from ..runs.panels import FOLDER, PanelIndex, nearest_epoch
    from ..runs.reader import FoldRun, fold_folders

    if unknown := next((key for key in pairs if key not in ("epochs", "out", "runs")), None):
        raise ConfigError(f"{unknown}: no such option{nearest(unknown, ['epochs', 'out', 'runs'])}")
    folders = fold_folders(places[0], Path(pairs.get("runs", "runs")), "last")
    for fold in folders:
        folder, index = fold / FOLDER, PanelIndex.read(fold / FOLDER)
        if index is not None and index.epochs:
            break
    else:
        raise DataError(
            f"{folders[0].parent}: has no validation panels; training draws them of held-out images, unless panels= or "
            "validate_every= is 0"
        )
    wanted = _epochs(pairs["epochs"]) if "epochs" in pairs else [index.epochs[0], index.epochs[-1]]
    shown = list(dict.fromkeys(nearest_epoch(epoch, index.epochs) for epoch in wanted))
    for epoch in wanted:
        if epoch not in index.epochs:
            print(f"note: epoch {epoch} has no picture; epoch {nearest_epoch(epoch, index.epochs)} is the nearest")

    from ..visualize.epochs import draw_epochs

    out = Path(pairs["out"]) if "out" in pairs else folder / "panels.png"
    title = f"{fold.parent.name}, {fold.name}: held-out images after training epochs"
    draw_epochs(folder, index, shown, out, title, FoldRun(fold).config.data.classes)
    print(out)


def _epochs(text: str) -> list[int]:
    parts = text.strip("[]").split(",")
    if not all(part.strip().isdecimal() and len(part) < 8 and int(part) > 0 for part in parts) or len(parts) > 12:
        raise ConfigError(f"epochs={text}: expected up to 12 numbers from 1 on, as in epochs=5,50")
    return [int(part) for part in parts]
