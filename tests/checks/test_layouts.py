"""`phalanx check` on COCO JSON and PNG masks: the same hands, the same faults as in the competition's layout."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as api

from phalanx.checks.run import check
from phalanx.config.compose import compose
from phalanx.data.layouts import train_records
from phalanx.data.polygons import rasterise, read_annotations
from phalanx.data.quarantine import kept_records, write_quarantine
from phalanx.masks.planes import unpack
from phalanx.phantom.anatomy import HAND_CLASSES
from phalanx.phantom.hand import make_hands

SIDE = 160
RIVALS = ("Pisiform", "Trapezoid")
COCO = {"data.layout": "coco", "data.coco.test": "test.json"}
CLASSES = {"data.layout": "masks", "data.masks.kind": "classes"}
LABELS = {"data.layout": "masks", "data.masks.kind": "labels"}


@pytest.fixture(scope="module")
def hands(tmp_path_factory) -> Path:
    """Nine patients without planted faults, as ``plain``, ``coco``, ``classes`` and ``labels``."""
    top = tmp_path_factory.mktemp("layouts")
    plain = top / "plain"
    make_hands(plain, patients=9, test_patients=1, size=SIDE, seed=3, workers=1, progress=False)
    coco = {"images": [], "annotations": [], "categories": [{"id": i, "name": n} for i, n in enumerate(HAND_CLASSES)]}
    for number, image in enumerate(sorted((plain / "train/DCM").rglob("*.png"))):
        group, name = image.parent.name, image.name
        for folder in ("coco/images", "classes/train/images", "labels/train/images"):
            (top / folder / group).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, top / folder / group)
        polygons = read_annotations(plain / f"train/outputs_json/{group}/{image.stem}.json", HAND_CLASSES)
        about = {"id": number, "file_name": f"{group}/{name}", "height": SIDE, "width": SIDE}
        coco["images"].append(about)
        coco["annotations"] += [
            {"image_id": number, "category_id": c, "segmentation": [(points + 0.5).ravel().tolist()]}
            for c, points in polygons
        ]
        planes = rasterise(polygons, (SIDE, SIDE), len(HAND_CLASSES))
        labels = np.zeros((SIDE, SIDE), np.uint8)
        (top / "classes/train/masks" / group / image.stem).mkdir(parents=True)
        (top / "labels/train/masks" / group).mkdir(parents=True, exist_ok=True)
        for c, mask in enumerate(unpack(planes, len(HAND_CLASSES))):
            stem = top / "classes/train/masks" / group / image.stem
            cv2.imwrite(str(stem / f"{HAND_CLASSES[c]}.png"), mask.astype(np.uint8) * 255)
            labels[mask] = c + 1
        cv2.imwrite(str(top / "labels/train/masks" / group / name), labels)
    (top / "coco/train.json").write_text(json.dumps(coco))
    test = sorted((plain / "test/DCM").rglob("*.png"))
    tested = [{"id": i, "file_name": f"{path.parent.name}/{path.name}"} for i, path in enumerate(test)]
    (top / "coco/test.json").write_text(json.dumps({"images": tested}))
    for path in test:
        for folder in ("coco/images", "classes/test/images", "labels/test/images"):
            (top / folder / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, top / folder / path.parent.name)
    return top


@pytest.fixture
def top(hands, tmp_path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(hands, tmp_path / "top")
    return tmp_path / "top"


def data(root: Path, layout: dict[str, str], **more: object):
    return compose({"data.root": str(root)} | layout | {k.replace("__", "."): str(v) for k, v in more.items()}).data


def found(root: Path, layout: dict[str, str], **more: object) -> set[tuple[str, str, str]]:
    """(severity, kind, name of the spoilt image or of the file) of all findings but notes."""
    report = check(data(root, layout, **more), workers=1, progress=False)
    return {(f.severity, f.kind, f.image or Path(f.file).name) for f in report.findings if f.severity != "note"}


def images(root: Path, folder: str = "images") -> list[Path]:
    """Training images of different patients."""
    return sorted(min(group.glob("*.png")) for group in (root / folder).iterdir())[:8]


def redraw(root: Path, change) -> None:
    value = json.loads((root / "train.json").read_text())
    change(value)
    (root / "train.json").write_text(json.dumps(value))


@pytest.mark.parametrize("layout", [COCO, CLASSES, LABELS], ids=["coco", "classes", "labels"])
def test_sound_sets_are_left_alone(hands, layout):
    name = layout.get("data.masks.kind", "coco")
    report = check(data(hands / name, layout), workers=1, progress=False)
    assert report.images == {"train": 18, "test": 2}
    assert [f for f in report.findings if f.severity != "note"] == []


def test_exchanged_and_absent_classes_are_found_in_every_layout(top):
    image = images(top / "coco")[2]
    number = [HAND_CLASSES.index(name) for name in RIVALS]
    tip = HAND_CLASSES.index("finger-12")

    def exchange(value):
        row = next(i["id"] for i in value["images"] if i["file_name"].endswith(image.name))
        for item in value["annotations"]:
            if item["image_id"] == row and item["category_id"] in number:
                item["category_id"] = sum(number) - item["category_id"]
        value["annotations"] = [
            item for item in value["annotations"] if (item["image_id"], item["category_id"]) != (row, tip)
        ]

    redraw(top / "coco", exchange)
    stem = top / "classes/train/masks" / image.parent.name / image.stem
    a, b = (stem / f"{name}.png" for name in RIVALS)
    a.rename(stem / "x")
    b.rename(a)
    (stem / "x").rename(b)
    (stem / "finger-12.png").unlink()
    path = top / "labels/train/masks" / image.parent.name / image.name
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    table = np.arange(256, dtype=np.uint8)
    table[[number[0] + 1, number[1] + 1, tip + 1]] = number[1] + 1, number[0] + 1, 0
    cv2.imwrite(str(path), table[labels])
    wanted = {("error", "swapped-labels", image.name), ("error", "absent", image.name)}
    for layout in (COCO, CLASSES, LABELS):
        assert found(top / layout.get("data.masks.kind", "coco"), layout) == wanted


def test_faults_of_a_coco_file_are_told_all_at_once(top):
    root = top / "coco"
    a, b, c, d, e, f, g, h = images(root)

    def change(value):
        row = {Path(i["file_name"]).name: i for i in value["images"]}
        own = {p: [x for x in value["annotations"] if x["image_id"] == row[p.name]["id"]] for p in images(root)}
        own[a][0]["category_id"] = 99
        own[b][0]["segmentation"] = [[1, 2, 3]]
        row[d.name]["width"] = SIDE // 2
        own[e][0]["segmentation"] = {"size": [SIDE, SIDE], "counts": "7"}
        own[f][0]["image_id"] = 777
        row[g.name]["height"] = "tall"
        value["images"].append(row[h.name] | {"id": 888})
        value["annotations"].append({"image_id": row[h.name]["id"]})
        value["categories"].append({"id": 99, "name": "Elbow"})

    redraw(root, change)
    c.unlink()
    (root / "images/ID777").mkdir()
    cv2.imwrite(str(root / "images/ID777/new.png"), np.random.default_rng(0).integers(0, 255, (SIDE, SIDE), np.uint8))
    assert found(root, COCO) >= {
        ("error", "unknown-label", a.name),
        ("error", "bad-polygon", b.name),
        ("error", "no-image", c.name),
        ("error", "other-frame", d.name),
        ("error", "bad-mask", e.name),
        ("error", "no-image", "train.json"),
        ("error", "bad-size", g.name),
        ("error", "doubled-name", h.name),
        ("error", "bad-annotation", h.name),
        ("warning", "unlisted", "new.png"),
    }


def test_run_length_masks_and_polygons_of_coco_measure_alike(top):
    def change(value):
        for item in value["annotations"]:
            runs = api.merge(api.frPyObjects(item["segmentation"], SIDE, SIDE))
            item["segmentation"] = {"size": [SIDE, SIDE], "counts": runs["counts"].decode()}

    redraw(top / "coco", change)
    assert found(top / "coco", COCO) == set()


def test_faults_of_masks_are_told_all_at_once(top):
    root = top / "classes"
    a, b, c, d, e = images(root, "train/images")[:5]
    masks = [root / "train/masks" / path.parent.name / path.stem for path in (a, b, c, d, e)]
    (masks[0] / "Ulna.png").write_bytes(b"no picture")
    (masks[1] / "Ulna.png").rename(masks[1] / "Elbow.png")
    shutil.rmtree(masks[2])
    cv2.imwrite(str(masks[3] / "Ulna.png"), np.full((SIDE, SIDE // 2), 255, np.uint8))
    e.unlink()
    faults = found(root, CLASSES)
    assert faults >= {
        ("error", "bad-mask", a.name),
        ("error", "unknown-label", b.name),
        ("error", "unannotated", c.name),
        ("error", "other-frame", d.name),
        ("error", "no-image", "Ulna.png"),
    }
    assert ("error", "unannotated", c.name) not in found(root, CLASSES, data__skip_unlabelled="true")


def test_label_maps_with_strange_values(top):
    root = top / "labels"
    a, b, c = (root / "train/masks" / path.parent.name / path.name for path in images(root, "train/images")[:3])
    labels = cv2.imread(str(a), cv2.IMREAD_UNCHANGED)
    labels[5, 5] = 77
    cv2.imwrite(str(a), labels)
    cv2.imwrite(str(b), np.dstack([labels, labels // 2, labels]))
    cv2.imwrite(str(c), np.zeros_like(labels))
    told = found(root, LABELS)
    assert told >= {("error", "unknown-label", a.name), ("error", "bad-mask", b.name)}
    assert ("warning", "no-annotation", c.name) in told


def test_images_are_compared_in_every_layout(top):
    for layout, folder, test in ((COCO, "images", "images"), (CLASSES, "train/images", "test/images")):
        root = top / layout.get("data.masks.kind", "coco")
        a, b, c = images(root, folder)[:3]
        tested = sorted((root / test).rglob("*.png"))[-1]
        shutil.copy(a, b)
        shutil.copy(tested, c)
        assert found(root, layout) >= {("error", "duplicate", b.name), ("error", "test-image-in-train", c.name)}


@pytest.mark.parametrize("layout", [COCO, CLASSES], ids=["coco", "classes"])
def test_training_leaves_out_what_the_check_put_into_quarantine(top, layout):
    root = top / layout.get("data.masks.kind", "coco")
    if layout is COCO:
        redraw(root, lambda value: value["annotations"][0].update(segmentation=[[1, 2, 3, 4]]))
    else:
        stem = next((root / "train/masks").rglob("Ulna.png"))
        stem.rename(stem.with_name("Elbow.png"))
    bad = check(data(root, layout), workers=1, progress=False).bad_images()
    assert len(bad) == 1
    with pytest.raises(ValueError, match=r"no area|not a class"):
        train_records(data(root, layout))
    write_quarantine(top / "q.txt", bad)
    kept = kept_records(data(root, layout, data__quarantine=top / "q.txt"))
    assert len(kept) == 17
    assert not bad.keys() & {record.name for record in kept}


def test_images_without_a_patient(top):
    root = top / "coco"
    assert found(root, COCO, data__coco__group="person") >= {("error", "no-patient", images(root)[0].name)}
    root = top / "classes"
    image = images(root, "train/images")[0]
    image.rename(root / "train/images" / image.name)
    assert ("error", "no-patient", image.name) in found(root, CLASSES)
