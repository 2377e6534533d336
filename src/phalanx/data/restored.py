"""Restored images: a folder of `phalanx restore`, in which each image has its source, label, fold and noise.

A network that restored an image of a fold was trained on the training part of that fold alone. So only the classifier
of the same fold may be trained on the image, and only if no patient that it holds out was seen by the network.
"""

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ..config import PREPROCESSING, ClassifyData
from ..errors import ConfigError, DataError, brief
from ..runtime.files import format_mark, sha256_file
from ..runtime.reading import LARGE, as_hash, as_mapping, as_real, as_whole, fault, read_mapping, read_rows
from ..runtime.spelling import nfc
from .digests import State, current_digest, state_of
from .records import Record

TABLE, FOLDS, ABOUT, IMAGES = "restored.csv", "folds.csv", "restored.json", "images"
REMEDY = "restore it from a copy, or make the folder again with phalanx restore"
SEEN = ("size", *PREPROCESSING)  # options of data that must be those of the network


class RestoredImage(NamedTuple):
    """A row of restored.csv.

    Attributes:
        image: name of the restored image; ``source`` that of the image it was made from.
        classes: labels of the source, with a bar between.
        group: patient.
        fold: folder of the network's fold, as fold0 or all.
        number: of the copy; each has noise of its own.
        noise: standard deviation, as a fraction of full scale.
        run: of the network, with the SHA-256 of its weights.
        source_sha256, sha256: of the files.
    """

    image: str
    source: str
    classes: str
    group: str
    fold: str
    number: int
    noise: float
    run: str
    weights: str
    source_sha256: str
    sha256: str


@dataclass(frozen=True)
class Restored:
    """A folder of restored images, whole.

    Attributes:
        folds: group and fold number of each image that the networks were trained on or held out.
        about: of restored.json.
    """

    folder: Path
    rows: tuple[RestoredImage, ...]
    folds: Mapping[str, tuple[str, int]]
    about: Mapping[str, Any]

    @cached_property
    def by_image(self) -> dict[str, RestoredImage]:
        """Rows by the name of the restored image."""
        return {row.image: row for row in self.rows}

    @cached_property
    def names_of_folds(self) -> tuple[str, ...]:
        """Folders of the folds that have images."""
        return tuple(sorted({row.fold for row in self.rows}))

    def path(self, row: RestoredImage) -> Path:
        """The file of a row."""
        return self.folder / IMAGES / row.fold / row.image

    def trained_on(self, fold: str) -> set[str]:
        """Names of the images that the network of a fold may have been trained on: all that it did not hold out."""
        return {name for name, (_, number) in self.folds.items() if f"fold{number}" != fold}


def read_restored(folder: Path) -> Restored:
    """A folder of ``phalanx restore``; its tables are read once per state of them.

    Raises:
        DataError: it is not such a folder, or is damaged.
    """
    if not (folder / ABOUT).is_file():
        raise DataError(f"data.restored={folder}: has no {ABOUT}; make it with phalanx restore RUN out={folder}")
    return _read(folder, tuple(state_of(folder / name) for name in (ABOUT, TABLE, FOLDS)))


@lru_cache(maxsize=8)
def _read(folder: Path, state: tuple[State, ...]) -> Restored:
    about = read_mapping(folder / ABOUT, LARGE, REMEDY)
    try:
        if about.get("format") != format_mark("restored").split('"')[3]:
            raise ValueError("is of another format")
        hashes = as_mapping(about.get("files"), "files")
        for name in (TABLE, FOLDS):
            if sha256_file(folder / name) != as_hash(hashes.get(name)):
                raise ValueError(f"records another {name}")
        for key in SEEN:
            if key not in as_mapping(about.get("data"), "data"):
                raise ValueError(f"does not record data.{key}")
    except (ValueError, OSError) as error:
        raise fault(folder / ABOUT, str(error), REMEDY) from None
    header, *rows = read_rows(folder / TABLE, LARGE, REMEDY) or [[]]
    first, *folds = read_rows(folder / FOLDS, LARGE, REMEDY) or [[]]
    if tuple(header) != RestoredImage._fields or first != ["image_name", "group", "fold"]:
        raise fault(folder / TABLE, "has other columns than this version writes", REMEDY)
    try:
        found = tuple(_parsed(row) for row in rows)
        of = {nfc(name): (nfc(group), int(fold)) for name, group, fold in folds}
    except (ValueError, TypeError):
        raise fault(folder / TABLE, "has a row that is not one of a restored image", REMEDY) from None
    return Restored(folder, found, of, about)


def _parsed(row: Sequence[str]) -> RestoredImage:
    made = RestoredImage(*row)  # type: ignore[arg-type]
    if "/" in made.image or made.image.startswith(".") or not re.fullmatch("fold[0-9]+|all", made.fold):
        raise ValueError
    return made._replace(
        image=nfc(made.image), source=nfc(made.source), group=nfc(made.group), number=as_whole(int(made.number)),
        noise=as_real(float(made.noise), 0),
    )  # fmt: skip


def rows_csv(rows: Sequence[RestoredImage]) -> str:
    """The text of restored.csv; noise has every digit."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(RestoredImage._fields)
    table.writerows((*row[:6], repr(row.noise), *row[7:]) for row in rows)
    return text.getvalue()


def source_of(name: str, data: Any) -> str:
    """The image whose label an image has: of a restored one its source, else itself."""
    if getattr(data, "restored", None) is None:
        return name
    row = read_restored(data.restored).by_image.get(name)
    return name if row is None else row.source


def restored_records(data: ClassifyData, records: Sequence[Record]) -> list[Record]:
    """The restored images, of all folds, whose sources are among the labelled images; with patient and label of these.

    Raises:
        DataError: the folder is damaged, of another data set, of another input, or older than a source.
        ConfigError: no source is among the records.
    """
    if data.restored is None:
        return []
    found = read_restored(data.restored)
    for key in SEEN:
        was, now = found.about["data"][key], getattr(data, key)
        if was != now:
            raise DataError(
                f"data.restored={data.restored}: was made with data.{key}={was}, and the recipe has {now}; restore "
                f"with data.{key}={now}, as a second resampling would mark restored images"
            )
    by_name = {record.name: record for record in records}
    if clash := next((row.image for row in found.rows if row.image in by_name), None):
        raise DataError(f"data.restored={data.restored}: {clash} is also the name of an image of the data set")
    made = []
    for row in found.rows:
        source = by_name.get(row.source)
        if source is None:  # in quarantine, or of another data set
            continue
        if current_digest(source.image) != row.source_sha256:
            raise DataError(f"{source.image}: changed since it was restored; make {data.restored} again")
        made.append(source._replace(name=row.image, image=found.path(row)))
    if not made:
        raise ConfigError(
            f"data.restored={data.restored}: none of its {len(found.rows)} images was made from an image of this set"
        )
    return made


def restored_of_fold(
    data: ClassifyData, fold: int | None, records: Sequence[Record], held_out: Sequence[Record]
) -> list[Record]:
    """The restored images that the classifier of a fold may be trained on, each as it was when it was made.

    Args:
        fold: None: of a fit on everything.
        records: all labelled images.

    Raises:
        ConfigError: the folder has no image by a network of this fold.
        DataError: a leak: the network was trained on, or an image made from, a patient who is held out here. Or an
            image that is missing or altered.
    """
    if data.restored is None:
        return []
    found, name = read_restored(data.restored), "all" if fold is None else f"fold{fold}"
    if name not in found.names_of_folds:
        raise ConfigError(
            f"data.restored={data.restored}: has no image by a network of {name}, only of "
            f"{', '.join(found.names_of_folds)}; train the denoiser's {name}, and restore again"
        )
    rows = found.by_image
    made = [one for one in restored_records(data, records) if rows[one.name].fold == name]
    _refuse_leaks(found, name, records, held_out)
    for one in made:
        if not one.image.is_file() or current_digest(one.image) != rows[one.name].sha256:
            raise DataError(f"{one.image}: is missing or altered since it was restored; {REMEDY}")
    return made


def _refuse_leaks(found: Restored, fold: str, records: Sequence[Record], held_out: Sequence[Record]) -> None:
    """Raises DataError if the network of a fold saw a held-out patient, by the groups of now and of then."""
    seen = found.trained_on(fold) | {row.source for row in found.rows if row.fold == fold}
    groups: Collection[str] = {record.group for record in records if record.name in seen}
    groups = {*groups, *(found.folds[name][0] for name in seen if name in found.folds)}
    names = seen & {record.name for record in held_out}
    leaked = min(names, default=None) or next((one.name for one in held_out if one.group in groups), None)
    if leaked is not None:
        raise DataError(
            f"data.restored={found.folder}: the network of {fold} was trained on {brief(leaked)} or on its patient, "
            "who is held out here. Give both runs the same folds: the same folds=, seed=, data.folds_file= and "
            "data.groups_file="
        )


def restored_csv(folder: Path, records: Sequence[Record]) -> str:
    """The rows of the restored images among the records, for a run to remember."""
    by_image = read_restored(folder).by_image
    return rows_csv([by_image[record.name] for record in records if record.name in by_image])
