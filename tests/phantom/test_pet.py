import csv
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from phalanx.config import Phantom, SegmentData
from phalanx.errors import ConfigError, DataError
from phalanx.phantom.dataset import Order
from phalanx.phantom.pet import FILES, PetOptions, make_pet
from phalanx.phantom.pet_plan import DISEASES, animals_of_test, plan_animals
from phalanx.phantom.pet_truth import box_of

SMALL = {"patients": 8, "test_patients": 4, "test_diseased": 3, "size": 128, "seed": 3, "workers": 1, "progress": False}
KEYS = {
    "image",
    "split",
    "patient",
    "class",
    "true_class",
    "wrong_label",
    "objects",
    "letter",
    "turn",
    "species",
    "view",
}


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


def planned(disease: str, patients: int, seed: int = 0, wrong: float = 0.02, diseased: float | None = None):
    study = DISEASES[disease]
    order = Order("pet", patients, 256, seed, animals_of_test(patients, None, 40), 1, False, (128, 1024))
    return plan_animals(order, study.fraction if diseased is None else diseased, 40, wrong)


@pytest.fixture(scope="module", params=["ab01", "ch02", "ch05", "mu04", "mu02"])
def made(request, tmp_path_factory):
    """A small set of each study: (disease, folder, manifest)."""
    out = tmp_path_factory.mktemp("phantom") / request.param
    options = {**SMALL, "disease": request.param, "diseased": 0.5, "wrong_labels": 0.15}
    return request.param, out, make_pet(out, **options)


def test_the_manifest_lists_every_file_and_every_image_is_a_picture(made):
    disease, out, manifest = made
    assert json.loads((out / "manifest.json").read_text()) == manifest
    assert (manifest["disease"], manifest["truth"]) == (disease, DISEASES[disease].truth)
    listed = {"manifest.json", "train.csv", "train.json", "test/answers.csv", "test/answers.json"}
    for row in manifest["images"]:
        assert set(row) >= KEYS
        file = f"{row['patient']}/{row['image']}.png"
        listed.add(f"{row['split']}/images/{file}")
        image = read(out / row["split"] / "images" / file)
        assert (image.shape, image.dtype) == ((128, 128), np.uint8)
        assert image.std() > 15
        if manifest["truth"] == "masks":
            listed.add(f"train/labels/{file}" if row["split"] == "train" else f"test/answers/{file}")
    assert set(files(out)) == listed
    assert all(FILES.fullmatch(path) for path in listed)


def test_tables_and_coco_agree_with_the_manifest(made):
    _, out, manifest = made
    for split, table, annotations in (
        ("train", "train.csv", "train.json"),
        ("test", "test/answers.csv", "test/answers.json"),
    ):
        rows = [row for row in manifest["images"] if row["split"] == split]
        with (out / table).open(newline="") as file:
            found = list(csv.DictReader(file))
        coco = json.loads((out / annotations).read_text())
        names = {c["id"]: c["name"] for c in coco["categories"]}
        assert [(i["file_name"], i["patient"]) for i in coco["images"]] == [
            (f"{row['patient']}/{row['image']}.png", row["patient"]) for row in rows
        ]
        boxes = [(row["image"], item["class"], tuple(item["box"])) for row in rows for item in row["objects"]]
        listed = {i["id"]: Path(i["file_name"]).stem for i in coco["images"]}
        assert boxes == [
            (listed[a["image_id"]], names[a["category_id"]], (x, y, x + w, y + h))
            for a in coco["annotations"]
            for x, y, w, h in [a["bbox"]]
        ]
        if manifest["truth"] == "masks":
            assert [(r["image_name"], r["class"], r["patient"]) for r in found] == [
                (row["image"], row["class"], row["patient"]) for row in rows
            ]
            continue
        corners = ("x_min", "y_min", "x_max", "y_max")
        assert [(r["image_name"], r["class"], tuple(int(r[c]) for c in corners)) for r in found if r["class"]] == boxes
        empty = {r["image_name"] for r in found if not r["class"]}
        assert empty == {row["image"] for row in rows if not row["objects"]}
        assert all(not r[c] for r in found if not r["class"] for c in corners)


def test_boxes_lie_in_the_image_and_have_an_area(made):
    for row in made[2]["images"]:
        for item in row["objects"]:
            x0, y0, x1, y1 = item["box"]
            assert 0 <= x0 < x1 <= 128
            assert 0 <= y0 < y1 <= 128


def test_wrong_labels_are_counted_and_only_in_train(made):
    rows = made[2]["images"]
    train = [row for row in rows if row["split"] == "train"]
    wrong = [row for row in rows if row["wrong_label"]]
    assert len(wrong) == round(0.15 * len(train)) > 0
    assert all(row["split"] == "train" for row in wrong)
    assert all((row["class"] != row["true_class"]) == row["wrong_label"] for row in rows)


def test_classes_of_objects_are_those_of_the_image(made):
    disease, _, manifest = made
    for row in manifest["images"]:
        labels = [item["class"] for item in row["objects"]]
        if disease == "mu02":
            assert labels == ["fracture"] * (row["class"] == "diseased")
        elif disease != "mu04":
            assert labels == [row["class"]]
        else:
            assert 1 <= len(labels) <= 2
            truth = [item["true_class"] for item in row["objects"]]
            assert ("diseased" in truth) == (row["true_class"] == "diseased")
            assert (labels != truth) == row["wrong_label"]


def test_a_label_map_has_one_class_whose_box_and_area_are_listed(made):
    _, out, manifest = made
    if manifest["truth"] != "masks":
        return
    for row in manifest["images"]:
        folder = out / ("train/labels" if row["split"] == "train" else "test/answers") / row["patient"]
        labels = read(folder / f"{row['image']}.png")
        assert set(np.unique(labels)) == {0, 1 + ("normal", "diseased").index(row["class"])}
        assert np.count_nonzero(labels) == row["area"] == row["objects"][0]["area"]
        ys, xs = np.nonzero(labels)
        x0, y0, x1, y1 = row["objects"][0]["box"]
        assert x0 <= xs.min() <= x0 + 2
        assert y0 <= ys.min() <= y0 + 2
        assert x1 - 2 <= xs.max() + 1 <= x1 + 1
        assert y1 - 2 <= ys.max() + 1 <= y1 + 1


def test_an_animal_is_in_one_split_with_one_truth(made):
    rows = made[2]["images"]
    for key in ("split", "true_class"):
        assert len({(row["patient"], row[key]) for row in rows}) == 12
    assert max(Counter(row["patient"] for row in rows).values()) > 1


@pytest.mark.parametrize("disease", list(DISEASES))
def test_train_has_the_ratio_of_the_source_and_test_forty_diseased(disease):
    people = planned(disease, 600)
    train, test = ([a for a in people if a.split == split] for split in ("train", "test"))
    fraction = sum(a.images for a in train if a.sick) / sum(a.images for a in train)
    assert fraction == pytest.approx(DISEASES[disease].fraction, abs=0.001)
    sick = sum(a.images for a in test if a.sick)
    assert sick >= 40
    assert sick <= max(40, 0.001 * 600 + DISEASES[disease].fraction * sum(a.images for a in test) + 1)
    assert any(not a.sick for a in test)
    assert len({a.group for a in people}) == len(people)


def test_the_fraction_is_an_option_and_wrong_labels_too():
    people = planned("ab01", 100, wrong=0.1, diseased=0.2)
    train = [a for a in people if a.split == "train"]
    images = sum(a.images for a in train)
    assert sum(a.images for a in train if a.sick) == round(0.2 * images)
    assert sum(len(a.wrong) for a in people) == round(0.1 * images)
    assert not any(a.wrong for a in people if a.split == "test")
    assert not any(a.sick for a in planned("ab01", 100, diseased=0.0) if a.split == "train")


@pytest.mark.parametrize("disease", ["ab01", "mu04"])
def test_same_seed_same_files_on_any_number_of_workers(tmp_path, disease):
    options = {**SMALL, "patients": 3, "test_patients": 2, "test_diseased": 1, "disease": disease}
    make_pet(tmp_path / "one", **options)
    make_pet(tmp_path / "two", **{**options, "workers": 2})
    make_pet(tmp_path / "other", **{**options, "seed": 4})
    assert files(tmp_path / "one") == files(tmp_path / "two")
    one, other = files(tmp_path / "one"), files(tmp_path / "other")
    assert not {v for k, v in one.items() if k.endswith("png")} & {v for k, v in other.items() if k.endswith("png")}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patients": 0}, "patients=0"),
        ({"patients": "many"}, "patients='many'"),
        ({"size": 64}, "size=64"),
        ({"size": 2048}, "size=2048"),
        ({"seed": -1}, "seed=-1"),
        ({"test_patients": 0}, "test_patients=0"),
        ({"disease": "ab02"}, "disease='ab02': must be one of ab01"),
        ({"disease": 3}, "disease=3"),
        ({"diseased": 1.5}, "diseased=1.5"),
        ({"diseased": "all"}, "diseased='all'"),
        ({"test_diseased": -1}, "test_diseased=-1"),
        ({"test_diseased": 40}, "test_diseased=40: the 4 test animals have"),
        ({"wrong_labels": -0.1}, "wrong_labels=-0.1"),
        ({"workers": 0}, "workers=0"),
    ],
)
def test_impossible_options_are_refused_in_one_line(tmp_path, options, words):
    with pytest.raises(ConfigError) as caught:
        make_pet(tmp_path / "set", **(SMALL | options))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        make_pet(tmp_path / "set", **SMALL)
    assert files(tmp_path) == {"set/mine.txt": b"mine"}


def test_options_of_the_command_are_the_function_s():
    names = set(PetOptions.model_fields)
    assert names == {*make_pet.__kwdefaults__, "out", "patients", "size", "seed"} - {"progress"}
    for name, value in make_pet.__kwdefaults__.items():
        if name != "progress":
            assert PetOptions.model_fields[name].default == value


def test_a_recipe_names_the_study_and_the_set_is_made_once(tmp_path, monkeypatch):
    from phalanx.data.masks import train_records
    from phalanx.data.root import resolve_root

    monkeypatch.chdir(tmp_path)
    options = {"disease": "ch02", "test_diseased": 1, "test_patients": 1}
    phantom = Phantom(kind="pet", patients=2, size=128, seed=5, options=options)
    data = SegmentData(name="pet", classes=["normal", "diseased"], layout="masks", size=128, phantom=phantom,
                       masks={"masks": "train/labels"})  # fmt: skip
    root = resolve_root(data).root
    assert root is not None
    assert root.name == "pet-2p-128px-seed5-diseasech02-test_diseased1-test_patients1"
    before = (root / "manifest.json").stat().st_mtime_ns
    again = resolve_root(data)
    assert (root / "manifest.json").stat().st_mtime_ns == before
    rows = [row for row in json.loads((root / "manifest.json").read_text())["images"] if row["split"] == "train"]
    assert [(Path(r.name).stem, r.group) for r in train_records(again)] == [(r["image"], r["patient"]) for r in rows]


def test_a_box_has_whole_corners_around_its_outline():
    assert box_of(np.array([(1.2, 2.0), (3.4, 5.5)]), 10) == [1, 2, 4, 6]
    assert box_of(np.array([(-3.0, 9.5), (2.0, 12.0)]), 10) == [0, 9, 2, 10]


@pytest.mark.parametrize("value", [-1, "nan", "A/b", True, [1], 2_000_000, "", None])
def test_an_option_in_a_recipe_is_a_number_or_a_word(value):
    with pytest.raises(ValidationError, match="must be"):
        Phantom(kind="pet", options={"disease": value})


def test_numbers_and_words_of_options_stay_what_they_are():
    assert Phantom(options={"a": 0.5, "b": "1e-3", "c": "ab01"}).options == {"a": 0.5, "b": 0.001, "c": "ab01"}
