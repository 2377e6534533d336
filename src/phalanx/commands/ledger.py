"""Commands that record results, and rank them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .args import number_of, report_path, split_places

if TYPE_CHECKING:
    from ..standings.leaderboard import Entry

LEDGER = """\
phalanx ledger add RUN|FILE.csv [public=.9728] [private=.9735] [note=TEXT] [ledger=FILE]

Adds a run, whose folds must be finished, or a submission to submissions/ledger.csv. Runs in runs/ with all their folds
and votes in submissions/ are added automatically. An entry that exists already gets the scores or the note.

  public=.9728           score on the public leaderboard; score=.9728 is the same
  private=.9735          score on the private one
  note=TEXT              a note
  ledger=FILE            another ledger
"""


def ledger(words: Sequence[str]) -> None:
    """``phalanx ledger``."""
    places, pairs = split_places(words)
    unknown = [key for key in pairs if key not in ("public", "private", "score", "note", "ledger")]
    if len(places) != 2 or places[0] != "add" or unknown:
        raise ConfigError(f"{' '.join(words) or 'nothing'}: expected add RUN|FILE.csv; see phalanx ledger --help")
    for key in ("public", "private", "score"):
        if pairs.get(key) and number_of(pairs[key]) is None:
            raise ConfigError(f"{key}={pairs[key]}: expected the leaderboard's number, as in {key}=0.976")
    if "score" in pairs:
        if "public" in pairs:
            raise ConfigError("score: is the public score, which public= gives already; leave it out")
        pairs["public"] = pairs.pop("score")

    from dataclasses import replace

    from ..runs.ledger import LEDGER, add, csv_row, run_row

    what, where = Path(places[1]), Path(pairs.pop("ledger", LEDGER))
    row = run_row(what, every=False) if what.is_dir() else csv_row(what)
    if row is None:
        raise ConfigError(f"{what}: has folds that are not finished; train them first")
    changed = add(where, replace(row, **pairs))
    print(f"{where}: {row.name} {'written' if changed else 'is there already'}")


LEADERBOARD = """\
phalanx leaderboard [sort=public] [picture=FILE.png] [json=FILE] [ledger=FILE]

Prints submissions/ledger.csv: public and private scores, the metric out of fold, and the gap from it to the public one.
Each task, data set and metric has its own table. Sorted by public score, then private, then out of fold.

  sort=public            or private, oof, gap, date
  picture=FILE.png       draw public scores against those out of fold, and the gap by decoder, of entries with both
  json=FILE              write the entries
  ledger=FILE            another ledger
"""


def leaderboard(words: Sequence[str]) -> None:
    """``phalanx leaderboard``."""
    from ..config.compose import split_words

    pairs = split_words(words)

    from ..config import nearest
    from ..runs.ledger import LEDGER, read
    from ..runtime.files import write_report
    from ..standings.leaderboard import entries, to_json, to_text

    report, where = report_path(pairs, "leaderboard"), Path(pairs.pop("ledger", LEDGER))
    sort, picture = pairs.pop("sort", ""), pairs.pop("picture", "")
    for key in pairs:
        raise ConfigError(f"{key}: no such option{nearest(key, ('ledger', 'sort', 'picture', 'json'))}")
    if picture and not picture.lower().endswith(".png"):
        raise ConfigError(f"picture={picture}: expected a name that ends in .png")
    rows = read(where)
    if not rows:
        raise ConfigError(f"{where}: no such ledger; runs in runs/ and votes in submissions/ begin one")
    found = entries(rows, sort)
    print(to_text(found))
    if picture:
        _draw(found, Path(picture))
        print(picture)
    if report is not None:
        write_report(report, "leaderboard", to_json(found))


def _draw(found: "Sequence[Entry]", out: Path) -> None:
    """Draws the largest group of entries that have both scores. Raises ConfigError if none has."""
    from ..visualize.gap_plot import GapPoint, draw_gaps

    both = [one for one in found if one.public is not None and one.oof is not None]
    if not both:
        raise ConfigError(
            f"picture={out}: no entry has a public score and one out of fold; add scores with phalanx ledger add "
            "FILE.csv public=.97"
        )
    groups = [one.group for one in both]
    group = max(dict.fromkeys(groups), key=groups.count)
    if left := len(both) - groups.count(group):
        print(f"note: {out} shows {group.title}; {left} entries of other tables are left out")
    points = [
        GapPoint(one.row.name, one.row.model.partition("/")[0] or "unknown", one.oof, one.public)
        for one in both
        if one.group == group and one.oof is not None and one.public is not None
    ]
    draw_gaps(points, group.metric or "metric", group.title, out)
