import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from phalanx.errors import ConfigError, DataError
from phalanx.phantom.brain import BrainOptions, copied, draw_image, make_brain
from phalanx.phantom.brain_contrast import SEQUENCES, TISSUES
from phalanx.phantom.brain_grid import make_grid
from phalanx.phantom.brain_head import cavity, draw_head, skin
from phalanx.phantom.brain_lesion import CLASSES, TUMOURS, draw_lesion
from phalanx.phantom.brain_plan import BrainPatient, apportion, draw_anatomy, plan_patients
from phalanx.phantom.brain_scanner import LOOKS, SOURCES

KEYS = {
    "image", "split", "patient", "class", "true_class", "slice", "plane", "sequence", "source", "duplicate_of",
    "duplicate_kind", "wrong_label", "lesion_area",
}  # fmt: skip


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def path(out: Path, row: dict) -> Path:
    return out / row["split"] / row["class"] / f"{row['image']}.png"


def read(file: Path) -> np.ndarray:
    return cv2.imread(str(file), cv2.IMREAD_UNCHANGED)


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    """A set of 14 train and 6 test patients at 128, with its manifest."""
    out = tmp_path_factory.mktemp("phantom") / "brains"
    options = {"patients": 14, "test_patients": 6, "size": 128, "seed": 7, "duplicates": 0.2, "wrong_labels": 0.06}
    return out, make_brain(out, workers=1, progress=False, **options)


@pytest.fixture(scope="module")
def drawn():
    """Two patients of each tumour at 128: (with the tumour, without it, mask) of each slice."""
    images = []
    for index, label in enumerate(TUMOURS * 2):
        person = BrainPatient(index, f"P{index:04d}", "train", label, SOURCES[index % 4], 4, {}, {})
        anatomy = draw_anatomy(person, "real", 3)
        for shot in anatomy.shots[:2]:
            image, mask = draw_image(anatomy, shot, person, 128, 3, lesion=True)
            images.append((image, draw_image(anatomy, shot, person, 128, 3, lesion=False)[0], mask > 0))
    return images


def test_folders_are_classes_and_the_manifest_lists_every_file(brains):
    out, manifest = brains
    assert json.loads((out / "manifest.json").read_text()) == manifest
    assert manifest["classes"] == list(CLASSES)
    rows = manifest["images"]
    assert all(set(row) == KEYS for row in rows)
    assert len({row["image"] for row in rows}) == len(rows)
    listed = {str(path(out, row).relative_to(out)) for row in rows}
    listed |= {f"masks/{row['image']}.png" for row in rows if row["lesion_area"]}
    assert set(files(out)) == listed | {"manifest.json"}
    for row in rows:
        image = read(path(out, row))
        assert image.shape == (128, 128)
        assert image.dtype == np.uint8
        assert image.std() > 10
        patient, number = row["image"].split("-")
        if not row["duplicate_of"]:
            assert (patient, int(number)) == (row["patient"], row["slice"])
        assert (row["lesion_area"] > 0) == (row["true_class"] != "healthy")
    assert {row["true_class"] for row in rows if row["split"] == "train"} == set(CLASSES)
    assert all(2 <= n <= 6 for n in Counter(row["patient"] for row in rows if not row["duplicate_of"]).values())


def test_a_patient_has_one_class_and_one_source(brains):
    for key in ("true_class", "source"):
        pairs = {(row["patient"], row[key]) for row in brains[1]["images"]}
        assert len(pairs) == 20, key


def test_same_seed_same_files_on_any_number_of_workers(tmp_path):
    options = {"patients": 3, "test_patients": 1, "size": 128, "seed": 3, "duplicates": 0.5, "progress": False}
    make_brain(tmp_path / "one", workers=1, **options)
    make_brain(tmp_path / "two", workers=2, **options)
    make_brain(tmp_path / "other", workers=1, **{**options, "seed": 4})
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert not set(files(tmp_path / "one").values()) & set(files(tmp_path / "other").values())


def test_wrong_labels_are_as_many_as_asked_for_and_only_in_train(brains):
    rows = brains[1]["images"]
    train = [row for row in rows if row["split"] == "train"]
    wrong = [row for row in rows if row["wrong_label"]]
    assert len(wrong) == round(0.06 * len(train)) > 1
    assert all(row["split"] == "train" and row["class"] != row["true_class"] for row in wrong)
    assert all(row["class"] == row["true_class"] for row in rows if not row["wrong_label"])


def test_duplicates_are_as_many_as_asked_for_and_the_only_patients_in_both_splits(brains):
    out, manifest = brains
    rows = {row["image"]: row for row in manifest["images"]}
    copies = [row for row in rows.values() if row["duplicate_of"]]
    tested = [row for row in rows.values() if row["split"] == "test" and not row["duplicate_of"]]
    assert len(copies) == round(0.2 * len(tested)) > 2
    assert len({row["duplicate_of"] for row in copies}) == len(copies)
    assert abs(sum(row["duplicate_kind"] == "exact" for row in copies) - len(copies) / 2) <= 0.5
    for row in copies:
        source = rows[row["duplicate_of"]]
        assert (row["split"], source["split"], row["patient"]) == ("test", "train", source["patient"])
        assert row["image"].split("-")[0] not in {other["patient"] for other in rows.values()}
        assert not source["wrong_label"]
        a, b = read(path(out, row)), read(path(out, source))
        assert (path(out, row).read_bytes() == path(out, source).read_bytes()) == (row["duplicate_kind"] == "exact")
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.97
    assert not {r["patient"] for r in tested} & {r["patient"] for r in rows.values() if r["split"] == "train"}


def test_without_faults_none_are_planted():
    people = plan_patients(30, 9, (1, 1, 1, 1), 0.0, 0.0, 0.0, 5)
    assert not any(person.wrong or person.copies for person in people)


@pytest.mark.parametrize("kind", ["reencoded", "rescaled"])
def test_near_duplicates_are_near(brains, kind):
    image = read(path(brains[0], brains[1]["images"][0]))
    other = copied(image, kind, np.random.default_rng(0))
    assert other.shape == image.shape
    assert 0 < np.abs(image.astype(float) - other).mean() < 6


@pytest.mark.parametrize("confound", [0.0, 0.5, 0.9, 1.0])
def test_sources_are_bound_to_classes_as_often_as_asked_for(confound):
    people = plan_patients(400, 200, (1, 1, 1, 1), confound, 0.0, 0.0, 2)
    for split, size in (("train", 100), ("test", 50)):
        for k, name in enumerate(CLASSES):
            counts = Counter(p.source for p in people if p.split == split and p.label == name)
            assert sum(counts.values()) == size
            free = size - round(confound * size)
            others = [counts[source] for source in SOURCES if source != SOURCES[k]]
            assert all(abs(n - free / 4) < 1 for n in others)


def test_ratio_is_kept_and_no_class_is_lost():
    assert apportion(110, (8, 1, 1, 1)) == [80, 10, 10, 10]
    assert apportion(10, (8, 1, 1, 1)) == [7, 1, 1, 1]
    assert apportion(5, (100, 1, 1, 1)) == [2, 1, 1, 1]
    assert apportion(3, (1, 1, 1, 1)) == [1, 1, 1, 0]
    assert apportion(7, (1, 0, 1, 0)) == [4, 0, 3, 0]
    people = plan_patients(110, 22, (8, 1, 1, 1), 0.0, 0.0, 0.0, 2)
    assert Counter(p.label for p in people if p.split == "test") == dict(zip(CLASSES, (16, 2, 2, 2), strict=True))


def test_masks_are_where_the_tumour_changes_the_image(drawn):
    for with_tumour, without, mask in drawn:
        change = np.abs(with_tumour.astype(float) - without)
        near = cv2.dilate(mask.astype(np.uint8), np.ones((41, 41), np.uint8)) > 0
        assert mask.sum() >= 0.0004 * mask.size
        assert change[mask].mean() > 4 * change[~near].mean()
    # the place of the greatest change is nearly always the tumour
    inside = [mask.ravel()[np.argsort(-np.abs(a.astype(float) - b).ravel())[:20]].mean() for a, b, mask in drawn]
    assert np.mean(inside) > 0.6


def test_masks_are_in_the_head(drawn):
    for _, without, mask in drawn:
        head = cv2.morphologyEx((without > 28).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((15, 15), np.uint8))
        assert head[mask].mean() > 0.97


def test_a_tumour_grows_and_shrinks_across_its_slices():
    middle, ends = [], []
    for index in range(6):
        person = BrainPatient(index, f"P{index:04d}", "train", TUMOURS[index % 3], "A", 5, {}, {})
        anatomy = draw_anatomy(person, "real", 9)
        series = [shot for shot in anatomy.shots if shot.view == anatomy.shots[0].view]
        areas = [np.count_nonzero(draw_image(anatomy, s, person, 128, 9, lesion=True)[1]) for s in series]
        assert all(areas)
        ends.append((areas[0] + areas[-1]) / 2)
        middle.append(areas[len(areas) // 2])
    assert np.mean(np.array(middle) > np.array(ends)) > 0.6
    assert sum(middle) > 1.2 * sum(ends)


def test_healthy_slices_are_where_tumours_could_be():
    # else the place of the slice would give the class away
    kinds = Counter()
    for index in range(40):
        person = BrainPatient(index, f"P{index:04d}", "train", "healthy", "A", 2, {}, {})
        kinds[draw_anatomy(person, "real", 1).lesion.kind] += 1
    assert set(kinds) == set(TUMOURS)
    assert min(kinds.values()) > 5


def test_planes_follow_the_class_or_do_not():
    def planes(label: str, mode: str) -> float:
        people = [BrainPatient(i, f"P{i:04d}", "train", label, "A", 2, {}, {}) for i in range(25)]
        return float(np.mean([draw_anatomy(p, mode, 1).shots[0].view.plane == "axial" for p in people]))

    assert planes("glioma", "real") - planes("pituitary", "real") > 0.15
    assert planes("glioma", "same") == planes("pituitary", "same")


def test_the_head_contains_the_brain_and_tumours_are_in_it():
    rng = np.random.default_rng(0)
    head = draw_head(rng)
    for plane in ("axial", "coronal", "sagittal"):
        grid = make_grid(plane, 0.0, 0.0, (0.0, 0.0), 220.0, 64)
        inside = cavity(grid)
        assert 0.1 < (inside < 0).mean() < 0.7
        assert np.all(skin(grid, head, inside)[inside < 0] < 0)
    for kind in TUMOURS:
        lesions = [draw_lesion(rng, kind) for _ in range(10)]
        assert all(abs(lesion.centre[0]) < (5 if kind == "pituitary" else 75) for lesion in lesions)


def test_every_sequence_knows_the_same_tissues():
    assert set(TISSUES) == set(SEQUENCES)
    assert len({frozenset(table) for table in TISSUES.values()}) == 1
    assert all(sum(look.sequences) == pytest.approx(1) for look in LOOKS.values())


def test_a_small_image_is_a_large_one_made_smaller():
    person = BrainPatient(1, "P0001", "train", "meningioma", "A", 3, {}, {})
    anatomy = draw_anatomy(person, "real", 2)
    small, large = (draw_image(anatomy, anatomy.shots[0], person, size, 2, lesion=True)[0] for size in (128, 384))
    assert np.corrcoef(cv2.resize(large, (128, 128), interpolation=cv2.INTER_AREA).ravel(), small.ravel())[0, 1] > 0.97


def corners(image: np.ndarray) -> list[float]:
    """Background only: the upper corners and the sides of the image, where there is air in every plane."""
    image = image.astype(np.float32)
    values = []
    for part in (image[:12, :12], image[:12, -12:], image[:2], image[10:60, :2], image[10:60, -2:]):
        values += [np.log1p(part.mean()), np.log1p(part.std()), (part == 0).mean()]
    return values


def test_the_source_is_seen_in_the_background(brains):
    from sklearn.neighbors import KNeighborsClassifier

    out, manifest = brains
    rows = [row for row in manifest["images"] if not row["duplicate_of"]]
    x = np.array([corners(read(path(out, row))) for row in rows])
    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    train = np.array([row["split"] == "train" for row in rows])
    source = np.array([row["source"] for row in rows])
    assert KNeighborsClassifier(3).fit(x[train], source[train]).score(x[~train], source[~train]) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(("confound", "low", "high"), [(0.9, 0.85, 1.0), (0.0, 0.40, 0.60)])
def test_borders_give_the_class_away_only_if_confounded(tmp_path, confound, low, high):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    # not by cross-validation: sources are balanced exactly, so a left-out patient's own class is rarer in the rest
    options = {"patients": 60, "test_patients": 60, "size": 128, "seed": 1, "duplicates": 0.0, "wrong_labels": 0.0}
    rows = make_brain(tmp_path / "set", workers=1, progress=False, confound=confound, **options)["images"]
    x = np.array([corners(read(path(tmp_path / "set", row))) for row in rows])
    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    y, train = np.array([row["true_class"] for row in rows]), np.array([row["split"] == "train" for row in rows])
    p = LogisticRegression(C=0.1, max_iter=500).fit(x[train], y[train]).predict_proba(x[~train])
    assert low <= roc_auc_score(y[~train], p, multi_class="ovr") <= high


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patients": 0}, "patients=0"),
        ({"size": 64}, "size=64"),
        ({"size": 1024}, "size=1024"),
        ({"seed": -1}, "seed=-1"),
        ({"test_patients": 0}, "test_patients=0"),
        ({"confound": 1.5}, "confound=1.5"),
        ({"duplicates": -0.1}, "duplicates=-0.1"),
        ({"wrong_labels": "few"}, "wrong_labels='few'"),
        ({"ratio": (1, 1, 1)}, "ratio="),
        ({"ratio": (0, 0, 0, 0)}, "ratio="),
        ({"ratio": (1, 1, -1, 1)}, "ratio="),
        ({"ratio": (1, 1, float("nan"), 1)}, "ratio="),
        ({"planes": "axial"}, "planes='axial'"),
        ({"workers": 0}, "workers=0"),
    ],
)
def test_impossible_options_are_refused_in_one_line(tmp_path, options, words):
    with pytest.raises(ConfigError) as caught:
        make_brain(tmp_path / "set", **({"patients": 2, "size": 128, "seed": 0, "progress": False} | options))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        make_brain(tmp_path / "set", patients=1, size=128, seed=0, progress=False)
    assert files(tmp_path) == {"set/mine.txt": b"mine"}


def test_options_of_the_command_are_the_function_s():
    names = set(BrainOptions.model_fields)
    assert names == {*make_brain.__kwdefaults__, "out", "patients", "size", "seed"} - {"progress"}
    for name, value in make_brain.__kwdefaults__.items():
        if name not in ("progress", "ratio"):
            assert BrainOptions.model_fields[name].default == value
    assert tuple(BrainOptions.model_fields["ratio"].default) == make_brain.__kwdefaults__["ratio"]


def test_a_killed_process_leaves_nothing_that_the_next_does_not_remove(tmp_path):
    program = (
        "import sys; from pathlib import Path; from phalanx.phantom.brain import make_brain;"
        "make_brain(Path(sys.argv[1]), patients=30, size=256, seed=1, workers=1, progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "set")])
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.rglob("*.png")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / "set").exists()
    assert list(tmp_path.iterdir())
    options = {"patients": 1, "test_patients": 1, "size": 128, "seed": 1, "workers": 1, "progress": False}
    make_brain(tmp_path / "set", **options)
    make_brain(tmp_path / "other", **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "set"]
    assert files(tmp_path / "set") == files(tmp_path / "other")
