"""The text files of a data set, damaged: annotations, sheets, quarantine, folds, and the tables of a run's images."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openpyxl
import pytest
from pycocotools import mask as api
from tests.fuzz.harness import Format, fuzz, seconds_of_a_test

from phalanx.checks.annotation import inspect_annotation
from phalanx.checks.files import find
from phalanx.checks.inspection import Inspection
from phalanx.checks.run import sheet
from phalanx.config import SegmentData, validate_as
from phalanx.data import folds, layouts
from phalanx.data.images import Grid
from phalanx.data.metadata import mismatch, read_metadata, rows_of
from phalanx.data.quarantine import read_quarantine
from phalanx.data.records import Record
from phalanx.data.selection import Selection
from phalanx.runtime.files import keep_text

CLASSES = ["a", "요골"]
PATIENTS = ["환자0", "ID001", "007"]
SHAPE = (12, 16)
NAMES = [
    "coco polygons", "coco runs", "coco compressed", "polygons", "sheet csv", "sheet xlsx", "sheet xml", "quarantine",
    "fold file", "selection", "attributes",
]  # fmt: skip


def data(root: Path, layout: str) -> SegmentData:
    return validate_as(SegmentData, {"name": "t", "root": root, "classes": CLASSES, "size": 32, "layout": layout})


def read_set(layout: str) -> Callable[[Path], Any]:
    """What training and the check read of a data set's annotations."""

    def read(root: Path) -> Any:
        config = data(root, layout)
        for record, split in find(config)[0]:
            inspection = Inspection(record, split, np.full((len(CLASSES), 6), np.nan), SHAPE)
            if record.labels is not None:
                inspect_annotation(inspection, config, np.zeros((384, 512), np.uint8))
        records = layouts.train_records(config)
        for record in records:
            layouts.check(record, config)
            layouts.truth(record, config, Grid(*SHAPE, 32))
        return [record.name for record in records]

    return read


def coco(segmentations: list[Any]) -> bytes:
    images = [
        {"id": 1, "file_name": "P0/im0.png", "height": SHAPE[0], "width": SHAPE[1]},
        {"id": "2", "file_name": "P1/im1.png", "height": None, "width": None, "license": 3},
    ]
    annotations = [
        {"id": i, "image_id": 1 + i % 2, "category_id": 3, "segmentation": one, "iscrowd": 0, "bbox": [1, 1, 5, 5]}
        for i, one in enumerate(segmentations)
    ]
    categories = [{"id": 3, "name": "a", "supercategory": "hand"}, {"id": 4, "name": "요골"}]
    value = {"images": images, "annotations": annotations, "categories": categories}
    return json.dumps(value, ensure_ascii=False).encode()


def workbook() -> bytes:
    book, content = openpyxl.Workbook(), io.BytesIO()
    page = book.active
    for row in (
        ["환자 목록"],
        ["번호", "ID", "나이", "성별", "키"],
        *([i, p, 30, "남", 170.5] for i, p in enumerate(PATIENTS)),
    ):
        page.append(row)
    page.merge_cells("A1:E1")
    book.create_sheet("2").append(["ID", "몸무게"])
    book.save(content)
    return content.getvalue()


def read_sheet(root: Path) -> Any:
    list(sheet(root, set(PATIENTS)))
    table = read_metadata(root, PATIENTS)
    if table is None:
        return None
    mismatch(table, PATIENTS)
    return rows_of(table, PATIENTS).to_csv()


def read_parts(root: Path) -> Any:
    """The parts of a workbook, damaged before they are packed."""
    with zipfile.ZipFile(root / "meta_data.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((root / "parts").rglob("*.*")):
            archive.write(path, path.relative_to(root / "parts"))
    return read_sheet(root)


def records() -> list[Record]:
    pairs = [(f"im{i} #{i}.png", PATIENTS[i % 3]) for i in range(6)]
    return [Record(name, group, Path(group) / name, None) for name, group in pairs]


def read_selection(root: Path) -> Any:
    found = Selection.read(root / "selection.csv")
    return found.to_csv(), found.to_text(every=True), found.trained_weights


def formats(place: Path) -> list[Format]:
    """One for each kind of file, with what the commands read it by."""
    ok, picture = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8))
    assert ok
    png = picture.tobytes()
    mask = np.zeros(SHAPE, np.uint8, order="F")
    mask[3:8, 4:11] = 1
    compressed = {"size": list(SHAPE), "counts": api.encode(mask)["counts"].decode()}
    flat = np.concatenate([[0], mask.T.ravel()])
    runs = {"size": list(SHAPE), "counts": np.diff([0, *np.flatnonzero(np.diff(flat)), mask.size]).tolist()}
    outline = [[2.5, 2, 9, 2, 9.25, 8, 2, 8]]
    found = [
        Format(
            name,
            {"train.json": coco(segmentations), "images/P0/im0.png": png, "images/P1/im1.png": png},
            read_set("coco"),
            damaged=["train.json"],
            text=True,
        )
        for name, segmentations in (
            ("coco polygons", [outline, outline * 2]),
            ("coco runs", [runs, runs]),
            ("coco compressed", [compressed, compressed, outline]),
        )
    ]
    items = [
        {"label": "a", "points": [[2, 2], [9, 2], [9.5, 8]]},
        {"label": "요골", "points": [[[2, 2], [9, 2], [9, 8]]] * 2},
    ]
    annotations = json.dumps({"annotations": items}, ensure_ascii=False).encode()
    found.append(
        Format(
            "polygons",
            {"train/outputs_json/P0/im0.json": annotations, "train/DCM/P0/im0.png": png},
            read_set("competition"),
            damaged=["train/outputs_json/P0/im0.json"],
            text=True,
        )
    )
    lines = ["환자 목록,,,", "번호,환자 ID,나이,키(cm)", *(f'{i},{p},30,"170.5"' for i, p in enumerate(PATIENTS))]
    found.append(Format("sheet csv", {"meta_data.csv": "\n".join(lines).encode()}, read_sheet, text=True))
    book = workbook()
    found.append(Format("sheet xlsx", {"meta_data.xlsx": book}, read_sheet))
    with zipfile.ZipFile(io.BytesIO(book)) as archive:
        parts = {f"parts/{name}": archive.read(name) for name in archive.namelist()}
    xml = [name for name in parts if "/xl/" in name and "theme" not in name]
    found.append(Format("sheet xml", parts, read_parts, damaged=xml, text=True))
    names = [record.name for record in records()]
    text = "# left out\n" + "".join(f"{name} # too bright # 요골\r\n" for name in names[:3])
    found.append(
        Format("quarantine", {"q.txt": text.encode()}, lambda root: read_quarantine(root / "q.txt", names), text=True)
    )
    folds.write(place / "f.csv", records(), {record.name: i % 3 for i, record in enumerate(records())})
    table = (place / "f.csv").read_bytes()
    found.append(
        Format("fold file", {"f.csv": table}, lambda root: folds.read(root / "f.csv", records(), 3), text=True)
    )
    rows = 'image_name,weight,source,rule,reason\na.png,1.0,annotation,,\nb.png,0.0,none,quarantine,"old, ""x"""\n'
    found.append(Format("selection", {"selection.csv": rows.encode()}, read_selection, text=True))
    kept = "image_name,sex,age\na.png,1.0,30.0\n"
    found.append(
        Format(
            "attributes",
            {"attributes.csv": kept.encode()},
            lambda root: keep_text(root / "attributes.csv", kept, "this run began with another attributes.csv"),
            text=True,
            sealed=True,
        )
    )
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_read_or_refused_by_one_line(tmp_path: Path, name: str) -> None:
    form = next(form for form in formats(tmp_path) if form.name == name)
    report = fuzz(form, tmp_path, seconds=seconds_of_a_test(slow=False))
    assert not report.findings, "\n".join(report.findings)
    assert report.accepted
    assert report.refused


def test_all_formats_are_tried(tmp_path: Path) -> None:
    assert [form.name for form in formats(tmp_path)] == NAMES
