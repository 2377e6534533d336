"""The command that makes synthetic data sets."""

from collections.abc import Sequence

from ..errors import ConfigError
from .args import split_places

PHANTOM = """\
phalanx phantom KIND patients=N size=S seed=K out=DIR [test_patients=M] [workers=W] [key=value ...]

Makes a synthetic data set.

  hand                   X-rays of hands with overlapping bones, two per patient
  ultrasound             fetal ultrasound with labels of five organs, four to eight images per patient
  brain                  MRI slices in folders of healthy, glioma, meningioma, pituitary, two to six per patient
  pet                    dogs and cats with an organ that is normal or diseased, one to four images per animal

  patients=80            training patients
  test_patients=M        test patients (default: a quarter of the training patients); of hands, half of them are rotated
  size=512               height and width of the images in pixels, 128 to 2048; ultrasound, pet: 256, 128 to 1024;
                         brain: 256, 128 to 512
  seed=0                 the same seed gives the same files
  out=DIR                must not exist
  workers=W              processes (default: all cores); the files do not depend on it

Fractions for ultrasound; their counts are exact in each split:

  marked=0.3             of the images with organs: calipers and results are burnt in, which give the class away
  ambiguous=0.15         of all images: no organ, though most resemble one
  two_organs=0.25        of all images: two organs
  three_organs=0.05      of all images: three organs; the others have one
  wrong_labels=0.01      of the training images: the row in train.csv is wrong
  missing_labels=0       of the cells of train.csv: empty

Options of brain:

  confound=0             fraction of each class's patients that come from a source of the class's own
  duplicates=0.05        copies of training images in test, over the other test images
  wrong_labels=0.02      fraction of training images in another class's folder
  ratio=1,1,1,1          patients per class, healthy first
  planes=real            real: pituitary tumours mostly sagittal and coronal; same: planes do not depend on the class

Options of pet:

  disease=ab01           label maps: ab01 liver, ch02 trachea; boxes: ab04 bladder, ch05 heart, mu04 hip joints, mu02
                         fractures of long bones
  diseased=F             fraction of diseased images (default: that of the source, see docs/data.md)
  test_diseased=40       diseased images of test, at least; by default there are at least as many test animals
  wrong_labels=0.02      fraction of training images with a wrong label
"""


def phantom(words: Sequence[str]) -> None:
    """``phalanx phantom``."""
    from ..phantom.kinds import KINDS, data_of

    places, pairs = split_places(words)
    if len(places) != 1 or places[0] not in KINDS:
        raise ConfigError(f"{' '.join(places) or 'nothing'}: expected: phalanx phantom {'|'.join(KINDS)} out=DIR ...")
    if "out" not in pairs:
        raise ConfigError("out=DIR: missing; name the folder to make")

    from ..config.words import typed

    kind = KINDS[places[0]]
    options = typed(kind.options, pairs)
    kind.make(**dict(options))
    print(
        f"{options.out}: made; train on it with: bash train.sh data={data_of(places[0], options)} "
        f"data.root={options.out} data.size={options.size}"
    )
