"""The command that draws and measures where a classifier looks."""

from collections.abc import Sequence

from ..errors import ConfigError
from .args import split_places

CAM = """\
phalanx cam RUN [images=DIR | data.root=DIR] [class=predicted] [masks=DIR] [control=RUN] [count=16] out=DIR

Draws where in each image the evidence for a class is (Grad-CAM), by the mean of a run's folds, or by one fold. With
masks it measures the fraction of the heat's energy inside, the mask's fraction of the area and their ratio, which is 1
if heat and mask have nothing to do with each other, and compares the ratio with controls, in pairs of images, with 95%
intervals over patients. Writes gallery.png, cam.csv (one row per image and class) and cam.json. Needs the package
grad-cam: pip install 'phalanx[cam]'.

  RUN                    a run, its folder, or the folder of one fold (runs/NAME/fold0)
  images=DIR             the images, searched recursively
  data.root=DIR          the test images of another data set of the same layout. Default: those of the run's own
  class=predicted        the likeliest class of each image; label: each class that an image has; or the name of a class
  labels=FILE.csv|DIR    labels and patients of the images; not needed if they are in folders of the classes
  masks=DIR              PNG masks <image>.png, searched recursively; an image without one is drawn, but not measured
  control=RUN            a run trained by the same recipe on shuffled labels
  random=3               networks with random weights, per fold, as the other control; 0: none
  count=16               images in the gallery, from the highest to the lowest ratio
  seed=0                 of the random weights
  weights=final          or best, last
  batch=16 device=auto runs=runs progress=true
"""


def cam(words: Sequence[str]) -> None:
    """``phalanx cam``."""
    places, pairs = split_places(words)
    if len(places) != 1:
        raise ConfigError(f"expected one RUN, got {' '.join(places) or 'nothing'}; see phalanx cam --help")

    from ..config.words import typed
    from ..predict.cam import CamOptions, explain_run

    options = typed(CamOptions, pairs)
    print(explain_run(places[0], options))
