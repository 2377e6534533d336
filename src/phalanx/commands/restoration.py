"""Commands of restoration augmentation: making the images, and testing what they teach."""

from collections.abc import Sequence

from ..errors import ConfigError
from .args import split_places

RESTORE = """\
phalanx restore RUN out=DIR [classes=healthy|all] [times=5] [key=value ...]

Makes training images by a denoiser, a run of task=restore: to each training image of each fold it adds Gaussian noise,
and the network of that fold removes it. Images that a fold holds out are not restored by its network. Writes
DIR/images/fold<k>/*.png and DIR/restored.csv: image, source, classes, group, fold, number, noise, run, weights and the
digests of both files. Train on them with data.restored=DIR: each fold takes the images of its own network.

  out=DIR                a new folder, written whole or not at all, outside the images of the data set
  classes=healthy        classes to restore, as a,b, or all (default: those that the network was trained on)
  times=5                copies per image; the levels of noise are taken in turn (default: one copy per level)
  seed=0                 of the noise
  data.root=DIR          the data set, if it was moved since training
  runs=runs batch=16 device=auto precision=auto progress=true
"""


def restore(words: Sequence[str]) -> None:
    """``phalanx restore``."""
    places, pairs = split_places(words)
    if len(places) != 1 or "out" not in pairs:
        raise ConfigError(f"expected RUN out=DIR, got {' '.join(words) or 'nothing'}; see phalanx restore --help")

    from ..config.words import typed
    from ..predict.restored_set import RestoreOptions, restore_run

    print(restore_run(places[0], typed(RestoreOptions, pairs)))
