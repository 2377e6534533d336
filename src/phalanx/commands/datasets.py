"""Commands that split, explore and check data sets, and choose images of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .args import split_places, switch

if TYPE_CHECKING:  # slow to load
    import numpy as np
    import pandas as pd

    from ..config import Config, Data
    from ..data.records import Record
    from ..data.selection import Selection

FOLDS = """\
phalanx folds data=NAME data.root=DIR out=folds/NAME.csv [stratify=sex,rotated] [folds=5] [seed=0]

Draws folds grouped by patient and writes them to a file for data.folds_file=FILE of phalanx train. Never overwrites a
file. Prints the images, the patients and the fraction of each stratum per fold.

  stratify=A,B           balance the folds by these: sex, age, height, weight of the metadata sheet, and rotated, which
                         is measured on the annotations; numbers are split into thirds, missing values are a stratum.
                         Of images with labels: stratify=label, by the classes that an image has
"""


def folds(words: Sequence[str]) -> None:
    """``phalanx folds``."""
    from ..config.compose import compose, split_words

    pairs = split_words(words)
    out = Path(pairs.pop("out", ""))
    if out.suffix != ".csv":
        raise ConfigError("out=FILE.csv: missing; name the fold file, as in out=folds/hand.csv")
    if out.exists():
        raise ConfigError(f"{out}: exists; folds never change once made. Give another name, or delete it yourself")
    columns = [name.strip() for name in pairs.pop("stratify", "").split(",") if name.strip()]
    config = compose(pairs)

    from ..data import folds as folding
    from ..data.quarantine import kept_records
    from ..data.root import resolve_root

    data = resolve_root(config.data)
    records = kept_records(data)
    named = _strata(records, data, columns) if columns else None
    drawn: folding.Folds | np.ndarray
    if named is not None:
        drawn = folding.draw_stratified(records, config.folds, config.seed, named)
    else:
        drawn = folding.draw_numbers(records, config.folds, config.seed)
    table = folding.balance(records, drawn, config.folds, named)
    folding.write(out, records, drawn)
    print(table)


def _strata(records: "Sequence[Record]", data: "Data", columns: list[str]) -> "pd.DataFrame":
    """What folds are balanced by, as text by image and column. Raises ConfigError for columns that a task has not."""
    from ..config import ClassifyData, DetectData, SegmentData

    if isinstance(data, SegmentData):
        from ..data.attributes import read_attributes, strata

        return strata(read_attributes(records, data, columns))
    if columns != ["label"]:
        raise ConfigError(f"stratify={','.join(columns)}: images with labels or boxes are balanced by stratify=label")
    if isinstance(data, DetectData):
        from ..data.objects import object_strata

        return object_strata(records, data)
    assert isinstance(data, ClassifyData)
    from ..data.labels import label_strata

    return label_strata(records, data)


EDA = """\
phalanx eda data=NAME data.root=DIR out=DIR [csv=FILE.csv] [workers=N] [progress=true]

Explores a data set: rotation of the hands, shift from train to test with effect sizes, bone area by metadata, overlaps
between classes, bright outliers and bands of noise. Of images with labels: images and patients per class, images per
patient, which classes occur together, missing labels, sizes, grey levels per class, and the classes per fold if
data.folds_file= is given. Of images with boxes: objects per image, class and patient, images without one, sizes and
shapes of the boxes, the best recall that the recipe's anchors allow, and the folds. Prints what it leaves out, and why.

  out=DIR                index.html, one page with all of it for a browser; tables (images shift size sex classes
                         overlap .csv), eda.json, plots (.png); of images with labels:
                         images patients classes cooccurrence sizes shift folds .csv; of images with boxes:
                         images objects classes groups anchors folds .csv
  csv=FILE.csv           also measure the rotation in these predictions, of the test set or out of fold; only of masks
  workers=N              processes (default: all cores)
"""


def eda(words: Sequence[str]) -> None:
    """``phalanx eda``."""
    from ..config.compose import compose, split_words

    pairs = split_words(words)
    out, csv = pairs.pop("out", ""), pairs.pop("csv", "")
    if not out:
        raise ConfigError("out=DIR: missing; name the folder for tables and plots, as in out=runs/eda")
    if csv and not Path(csv).is_file():
        raise ConfigError(f"csv={csv}: no such file; name a submission or an out-of-fold CSV")
    config = compose(pairs)

    from ..data.root import resolve_root
    from ..report.data_pages import INDEX, write_eda_page
    from ..report.write import check_page
    from .tasks import TASKS

    config.data = resolve_root(config.data)
    check_page(Path(out) / INDEX, "eda")
    print(TASKS[config.task].eda(config, Path(out), Path(csv) if csv else None))
    print(f"{write_eda_page(Path(out), config.data.name)}: all of it on one page; open it in a browser")


CHECK = """\
phalanx check data=NAME data.root=DIR [json=FILE] [page=FILE.html] [quarantine=FILE] [groups=FILE.csv]

Reads all images and annotations and lists problems: unreadable, blank or duplicate images, test images in train, near
duplicates of other patients' images, invalid polygons and masks, unknown or missing labels, swapped labels, bones of
unusual position or size, images or annotations without their counterpart, patients without metadata. Also notes rings,
implants, collimator edges and bands of noise. Of images with labels: folders and rows that fit nothing, the same
pixels with different labels, rare classes, and how many test images are copies of training images. The exit code is 1
if there are errors.

  data.layout=           competition, coco or masks, folders or table, with their options as for training
  json=check.json        file for the full list of problems
  page=FILE.html         the same as a page for a browser: one file, sorted and filtered in it
  quarantine=FILE        write the training images with errors to a new file, for data.quarantine=FILE of phalanx train
  groups=FILE.csv        of images with labels: write the patient of each, one for all patients who share an image,
                         exactly or nearly; data.groups_file=FILE then keeps copies in one fold
  data.quarantine=FILE   images to skip here as well, so that known problems are not listed again
  data.skip_unlabelled=true   images without annotation are not an error
  workers=N              processes (default: all cores)      progress=false   no progress bar
"""


def check(words: Sequence[str]) -> int:
    """``phalanx check``; returns 1 if there are errors."""
    places, pairs = split_places(words)
    if places:
        raise ConfigError(f"{places[0]}: expected key=value, as in data.root={places[0]}; see phalanx check --help")
    out = Path(pairs.pop("quarantine")) if "quarantine" in pairs else None
    if out is not None and out.exists():
        raise ConfigError(f"{out}: exists and may contain your edits; give another name, or delete it yourself")

    groups = Path(pairs.pop("groups")) if "groups" in pairs else None

    from ..config.compose import compose
    from ..data.groups import MARK, write_groups
    from ..runtime.files import check_report, refuse_foreign, write_report

    where = Path(pairs.pop("json", "check.json"))
    page = Path(pairs.pop("page")) if "page" in pairs else None
    if out is not None and out.resolve() == where.resolve():
        raise ConfigError(f"{out}: json= and quarantine= name the same file; give each its own")
    check_report(where, "check")
    if page is not None:
        from ..report.write import check_page

        if page.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"page={page}: is not an HTML file; name one, as in page=check.html")
        check_page(page, "check")
    if groups is not None:
        if groups.suffix != ".csv":
            raise ConfigError(f"groups={groups}: expected a file name that ends in .csv, as in groups=groups.csv")
        refuse_foreign(groups, MARK)
    config = compose(pairs)
    if groups is not None and config.task != "classify":
        raise ConfigError(f"groups={groups}: only for task=classify; this data set has masks")

    from ..data.quarantine import write_quarantine
    from ..data.root import resolve_root
    from .tasks import TASKS

    config.data = resolve_root(config.data)
    report = TASKS[config.task].check(config)
    print(report.to_text(), flush=True)  # first: on a full disk it is all that is left of the work
    write_report(where, "check", report.to_json())
    print(where)
    if page is not None:
        from ..report.data_pages import check_page_of
        from ..report.write import write_page

        write_page(page, check_page_of(report, config.data.name))
        print(f"{page}: the same for a browser")
    if groups is not None:
        write_groups(groups, report.groups)
        count = len(set(report.groups.values()))
        print(f"{groups}: {len(report.groups)} images of {count} patients; keep copies in one fold with "
              f"data.groups_file={groups}")  # fmt: skip
    bad = report.bad_images()
    if out is not None:
        write_quarantine(out, bad)
        print(f"{out}: {len(bad)} image(s); train without them with data.quarantine={out}")
    elif bad:
        print(f"{len(bad)} training image(s) have errors; quarantine=FILE lists them for data.quarantine=FILE")
    return 1 if report.counts["error"] else 0


QUARANTINE = """\
phalanx quarantine data=NAME data.root=DIR out=FILE data.drop.RULE=...

Writes the training images that a rule drops, with the reason for each, to a text file for review. Delete lines from it,
then train without the remaining images by data.quarantine=FILE. In phalanx train, data.drop=... applies the rule to the
training part of each fold only; a quarantined image is excluded from the scores as well.

  data.drop.bright=1.5                  drop if the fraction of pixels >= 240 is this many interquartile ranges above
                                        the upper quartile
  data.drop.dice.run=NAME               drop by the out-of-fold Dice in this finished run:
    data.drop.dice.worst=20             the 20 lowest, or
    data.drop.dice.below=0.9            all below 0.9
  out=FILE                              must not exist; lines of data.quarantine=OTHER are copied
"""


def quarantine(words: Sequence[str]) -> None:
    """``phalanx quarantine``."""
    from ..config import SegmentConfig
    from ..config.compose import compose_as, split_words

    pairs = split_words(words)
    out = Path(pairs.pop("out", ""))
    if not out.name:
        raise ConfigError("out=FILE: missing; name the file to write, as in out=quarantine.txt")
    if out.exists():
        raise ConfigError(f"{out}: exists and may contain your edits; give another name, or delete it yourself")
    pairs["name"] = "quarantine"  # not a run's name, so that the rule may read any run
    rules = [key for key in pairs if key.startswith("data.drop")]
    compose_as(SegmentConfig, {key: value for key, value in pairs.items() if key not in rules})  # else they are unknown
    config = compose_as(SegmentConfig, pairs)
    if config.data.drop is None:
        raise ConfigError(
            "data.drop: names no rule; give one, as in data.drop.bright=1.5; see phalanx quarantine --help"
        )

    from ..data.quarantine import write_quarantine

    rows = _select(config).left_out
    reasons = {rule: {row.image: row.reason for row in rows if row.rule == rule} for rule in ("quarantine", "drop")}
    write_quarantine(out, reasons["quarantine"] | reasons["drop"])
    before = f", {len(reasons['quarantine'])} from {config.data.quarantine}" if config.data.quarantine else ""
    print(f"{out}: {len(reasons['drop'])} image(s) by the rule{before}")
    print(f"review them, delete lines, and train with data.quarantine={out} instead of data.drop")


SELECTION = """\
phalanx selection data=NAME data.root=DIR [out=FILE.csv] [all=true] key=value ...

Lists which training images a recipe trains on, how often, with whose labels, and why: data.quarantine, data.drop,
data.skip_unlabelled, data.oversample and data.hard in one table, over the whole data set. Training writes the same
table into each fold's folder as selection.csv. Takes the keys of phalanx train; trains nothing.

  weight                 mean appearances per epoch; 0: never trained on. A dropped image is still predicted and scored
                         when it is held out; an image in quarantine is in no fold
  source                 of the labels: annotation, or none if no label of the image is read
  rule, reason           the key of data that decided, and what it found; ordinary images have neither

  out=FILE.csv           write all rows: image_name,weight,source,rule,reason
  all=true               print ordinary images too
"""


def selection(words: Sequence[str]) -> None:
    """``phalanx selection``."""
    from ..config.compose import compose, split_words

    pairs = split_words(words)
    every, out = switch(pairs, "all"), Path(pairs.pop("out")) if "out" in pairs else None

    from ..data.selection import HEADER
    from ..runtime.files import refuse_foreign, write_text

    if out is not None:
        if out.suffix != ".csv":
            raise ConfigError(f"out={out}: expected a file name that ends in .csv, as in out=selection.csv")
        refuse_foreign(out, ",".join(HEADER))
    # a new run may name any earlier one, also the default's
    found = _select(compose({"name": "selection"} | pairs))
    if out is not None:
        write_text(out, found.to_csv())
    print(found.to_text(every=every), *([out] if out else []), sep="\n")


def _select(config: "Config") -> "Selection":
    from ..config import ClassifyConfig, DetectConfig, RestoreConfig, SegmentConfig
    from ..data.quarantine import kept_records
    from ..data.root import resolve_root
    from ..data.rules import select_objects, select_restoring
    from ..tasks.mining import select_with_failures
    from ..tasks.selection import select_images

    config.data = resolve_root(config.data)
    records = kept_records(config.data, report=False)
    if isinstance(config, SegmentConfig):
        return select_images(config, records)
    if isinstance(config, RestoreConfig):
        return select_restoring(records, config.data)
    if isinstance(config, DetectConfig):
        return select_objects(records, config.data)
    assert isinstance(config, ClassifyConfig)
    return select_with_failures(config, records)
