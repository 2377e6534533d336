"""The command that lists networks."""

from collections.abc import Sequence

from ..errors import ConfigError
from .args import report_path, split_places

MODELS = """\
phalanx models [WORD ...] [json=FILE]

Lists what model= can name: decoders (model.arch), detectors (model.architecture), files of configs/model/ with their
published scores, and encoders (model.encoder) of segmentation-models-pytorch and timm.

  WORD ...               only what contains all words, as in `phalanx models convnext` or `phalanx models detect`; then
                         all models of timm are searched, and of up to 40 encoders the parameters are counted
  json=FILE              write the list

Any decoder can have any encoder that has its feature maps: phalanx plan says whether a pair runs, and what it costs.
"""


def models(words: Sequence[str]) -> None:
    """``phalanx models``."""
    places, pairs = split_places(words)
    report = report_path(pairs, "models")
    if pairs:
        raise ConfigError(
            f"{next(iter(pairs))}: no such option; known: json. Words choose by name: phalanx models unet"
        )

    from ..config.compose import config_folder
    from ..profiling.catalog import catalog
    from ..runtime.files import write_report

    found = catalog(places, config_folder() / "model")
    if not (found.decoders or found.detectors or found.models or found.encoders):
        raise ConfigError(f"{' '.join(places)}: no architecture or encoder has such a name; phalanx models lists all")
    print(found.to_text())
    if report is not None:
        write_report(report, "models", found.to_json())
