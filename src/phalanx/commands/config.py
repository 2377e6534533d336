"""Commands that show what can be configured, and what is."""

from collections.abc import Sequence

from ..errors import ConfigError
from .args import report_path, split_places, switch

CONFIG = """\
phalanx config [SECTION ...] experiment=NAME key=value ... [changed=true] [json=FILE]

Prints the recipe that phalanx train would use for the same words, and where each value is from: a file of configs/, the
command line, or the default of its class in src/phalanx/config/.

  SECTION ...            only these sections or keys, as in optim, loss.stages or lr
  changed=true           leave out values that are defaults
  json=FILE              write the recipe with its sources
"""


def config(words: Sequence[str]) -> None:
    """``phalanx config``."""
    places, pairs = split_places(words)
    changed = switch(pairs, "changed")
    pairs.pop("fold", None)  # of the phalanx train whose recipe is shown

    from ..config import nearest_key
    from ..config.origin import DEFAULT, resolve
    from ..errors import one_line
    from ..runtime.files import write_report
    from ..standings.recipes import text_of

    report = report_path(pairs, "config")
    found = resolve(pairs)
    keys = [one.key for one in found.origins]
    for place in places:
        if not any(_within(key, place) for key in keys):
            raise ConfigError(f"{place}: the recipe has no such section or key{nearest_key(place, keys)}")
    shown = [
        one
        for one in found.origins
        if (not changed or one.source != DEFAULT) and (not places or any(_within(one.key, place) for place in places))
    ]
    cells = [(one.key, one_line(text_of(one.value), 60), one.source) for one in shown]
    widths = [max((len(line[column]) for line in cells), default=0) for column in range(2)]
    for key, value, source in cells:
        print(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {source}")
    print(f"\nmerged from, each over those before it: {', '.join(found.files)}")
    if report is not None:
        values = {one.key: {"value": one.value, "source": one.source} for one in found.origins}
        write_report(report, "config", {"files": found.files, "recipe": values})


def _within(key: str, place: str) -> bool:
    """Whether a key is the place, within it, or ends with it."""
    return key == place or key.startswith(f"{place}.") or key.endswith(f".{place}")
