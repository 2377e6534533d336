"""Commands that score, compare, keep and show what was predicted."""

import math
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from .args import report_path, split_places, switch

SCORE = """\
phalanx score FILE.csv [ANSWERS] [key=value ...] [json=FILE] [partial=true]

  ANSWERS                polygon JSON (<patient>/<image>.json below a folder), a COCO file, a folder of PNG masks, or
                         another submission CSV (which tells no patients: intervals are then over images, and too
                         narrow); without it the annotated images of data.root=DIR
  data=NAME              classes of a CSV without sidecar (configs/data/)
  data.layout= data.coco.group= data.masks.kind= ...     how answers of these kinds lie, as for training
  size=HxW               image size of a CSV without sidecar
  surface=2              also surface Dice at this tolerance in pixels, and the 95% Hausdorff distance
  spacing=0.14           mm a pixel, to tell these in mm too
  json=FILE              write every number
  partial=true           FILE holds some of the answered images (an out-of-fold CSV): score those
"""


def score(words: Sequence[str]) -> None:
    """``phalanx score``."""
    places, pairs = split_places(words)
    partial = switch(pairs, "partial")
    if not 1 <= len(places) <= 2:
        raise ConfigError(f"expected FILE.csv ANSWERS, got {' '.join(places) or 'nothing'}; see phalanx score --help")

    from ..runtime.files import write_report
    from .scoring import score_file

    report = report_path(pairs, "score")
    truth = Path(places[1]) if places[1:] else None
    result = score_file(Path(places[0]), truth, pairs, partial=partial)
    print(result.to_text())
    if report is not None:
        write_report(report, "score", result.to_json())


COMPARE = """\
phalanx compare A.csv B.csv ANSWERS [key=value ...] [json=FILE] [partial=true]
phalanx compare runs/A runs/B [json=FILE]

Scores both as phalanx score does (same options but surface= and spacing=), or takes two runs' out-of-fold scores, and
compares them in pairs: difference by class and in all with a 95% interval over patients, and the chance of so large a
difference between equals, by patients' signs drawn anew.
"""


def compare(words: Sequence[str]) -> None:
    """``phalanx compare``."""
    places, pairs = split_places(words)
    partial = switch(pairs, "partial")
    if not 2 <= len(places) <= 3:
        raise ConfigError(f"expected A B ANSWERS, got {' '.join(places) or 'nothing'}; see phalanx compare --help")

    from ..runtime.files import write_report
    from .scoring import compare_files

    report = report_path(pairs, "comparison")
    first, second, *truth = map(Path, places)
    result = compare_files(first, second, truth[0] if truth else None, pairs, partial=partial)
    print(result.to_text())
    if report is not None:
        write_report(report, "comparison", result.to_json())


LEDGER = """\
phalanx ledger add RUN|FILE.csv [score=0.976] [note=TEXT] [ledger=FILE]

Adds a run's folder (no fold half done) or a submission to submissions/ledger.csv. Runs in runs/ with all their folds,
and votes into submissions/, are added by themselves. What stands there already takes the score or note.

  score=0.976            what the leaderboard said
  note=TEXT              in your words
  ledger=FILE            another ledger
"""


def ledger(words: Sequence[str]) -> None:
    """``phalanx ledger``."""
    places, pairs = split_places(words)
    unknown = [key for key in pairs if key not in ("score", "note", "ledger")]
    if len(places) != 2 or places[0] != "add" or unknown:
        raise ConfigError(f"{' '.join(words) or 'nothing'}: expected add RUN|FILE.csv; see phalanx ledger --help")

    from dataclasses import replace

    from ..runs.ledger import LEDGER, add, csv_row, run_row

    what, where = Path(places[1]), Path(pairs.pop("ledger", LEDGER))
    row = run_row(what, every=False) if what.is_dir() else csv_row(what)
    if row is None:
        raise ConfigError(f"{what}: has folds that are not finished; train them first")
    score_told = pairs.get("score", "")
    try:
        finite = math.isfinite(float(score_told or 0))
    except ValueError:
        finite = False
    if not finite:
        raise ConfigError(f"score={score_told}: expected the leaderboard's number, as in score=0.976")
    changed = add(where, replace(row, **pairs))
    print(f"{where}: {row.name} {'written' if changed else 'stands there already'}")


LEADERBOARD = """\
phalanx leaderboard [ledger=FILE]

Prints submissions/ledger.csv: by the leaderboard's score where it was told, then by out-of-fold Dice.
"""


def leaderboard(words: Sequence[str]) -> None:
    """``phalanx leaderboard``."""
    from ..config.compose import split_words

    pairs = split_words(words)
    from ..runs.ledger import LEDGER, read, to_text

    where = Path(pairs.pop("ledger", LEDGER))
    if pairs:
        raise ConfigError(f"{next(iter(pairs))}: no such option; known: ledger")
    rows = read(where)
    if not rows:
        raise ConfigError(f"{where}: no ledger here yet; runs in runs/ and votes into submissions/ begin it")
    print(to_text(rows))


PICTURE = """\
phalanx picture FILE.csv ANSWERS IMAGES out=FILE.png [rows=4]

  IMAGES                 folder with the images (searched below)
  rows=4                 images shown, the worst, the best and between: image, truth, prediction
"""


def picture(words: Sequence[str]) -> None:
    """``phalanx picture``."""
    places, pairs = split_places(words)
    if len(places) != 3 or "out" not in pairs:
        raise ConfigError("expected FILE.csv ANSWERS IMAGES out=FILE.png; see phalanx picture --help")

    from ..config.words import typed
    from ..visualize.overlay import PictureOptions, draw
    from .scoring import open_pair

    options = typed(PictureOptions, pairs)
    submission, truth, _ = open_pair(Path(places[0]), Path(places[1]), {})
    draw(submission, truth, Path(places[2]), options.out, rows=options.rows)
    print(options.out)
