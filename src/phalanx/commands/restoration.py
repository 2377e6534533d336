"""Commands of restoration augmentation: making the images, and testing what they teach."""

from collections.abc import Sequence

from ..errors import ConfigError
from .args import report_path, split_places

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


SHORTCUT = """\
phalanx shortcut DENOISER healthy=RUN none=RUN [all=RUN] [others=A,B] [truth=LABELS] [json=FILE] [picture=FILE.png]

Did a classifier that was trained with restored images of the healthy learn that "looks restored" means healthy? The
denoiser of each fold restores images that the fold holds out, and the classifiers of the same fold are asked:

  acceptance             restored healthy images that are called healthy
  turned                 diseased images that are called healthy once they are restored, and are not before; less the
                         same of each other run, paired by image, with a 95% interval over patients
  frequencies            can restored images be told from plain ones by their radial power spectrum alone? And does the
                         probability of healthy follow how restored a plain image looks?

  DENOISER               a run of task=restore
  healthy=RUN            trained with restored images of the healthy alone
  none=RUN               trained without restored images
  all=RUN                trained with restored images of every class
  others=A,B             further controls, as plain copies or class weights
  class=healthy          the class that is no disease
  truth=DIR|FILE.csv     labels of the test images, which are asked then instead of the held-out ones
  picture=FILE.png       images beside their restored copies         rows=6
  json=FILE              write all numbers
  seed=0                 of noise and permutations                   permutations=199
  data.root=DIR          the data set, if it was moved since training
  runs=runs batch=32 device=auto precision=auto progress=true
"""


def shortcut(words: Sequence[str]) -> None:
    """``phalanx shortcut``."""
    places, pairs = split_places(words)
    if len(places) != 1:
        raise ConfigError(f"expected one DENOISER, got {' '.join(places) or 'nothing'}; see phalanx shortcut --help")
    report = report_path(pairs, "shortcut")

    from ..config.words import typed
    from ..ensemble.restoration import ShortcutOptions, find_shortcut
    from ..runtime.files import write_report

    options = typed(ShortcutOptions, pairs)
    found = find_shortcut(places[0], options)
    print(found.to_text(), *([options.picture] if options.picture else []), sep="\n")
    if report is not None:
        write_report(report, "shortcut", found.to_json())
