"""`phalanx cam`: what it writes, what its numbers and controls mean, what it refuses."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.labelled import CLASSES, make_folders, picture, words, write

from phalanx.cli import main
from phalanx.data.images import Grid
from phalanx.data.records import Record
from phalanx.models.feature_cells import Cells
from phalanx.predict.cam import CamOptions, find_cases, picked
from phalanx.predict.classify import open_classifier
from phalanx.predict.explain import Case, Figure, Located, energy_of, random_explainer
from phalanx.visualize.gradcam import Inside

pytest.importorskip("pytorch_grad_cam")
pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"data__size": 64, "model__options": "{output_stride:8}", "augment": "none", "batch": 8}
NAN = float("nan")


def mask_of(image: np.ndarray) -> np.ndarray:
    """Where the bars are."""
    return cv2.dilate((image > 100).astype(np.uint8), np.ones((5, 5), np.uint8)) * 255


def add_masks(root: Path, skip: int = 0) -> Path:
    """A mask of each test image but the first ones."""
    for path in sorted((root / "test").rglob("*.png"), key=lambda path: path.name)[skip:]:
        write(root / "masks" / path.name, mask_of(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)))
    return root / "masks"


def train(root: Path, runs: Path, name: str, fold: str = "0,1", **changes) -> None:
    pairs = words(root, "folders", runs=runs, name=name, **(SMALL | {"epochs": 1} | changes))
    assert main(["train", *(f"{key}={value}" for key, value in pairs.items()), f"fold={fold}"]) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A data set with masks of all test images but one, and runs of two folds: ``bars``, and ``other`` as a control."""
    place = tmp_path_factory.mktemp("cam")
    add_masks(make_folders(place / "set", train=12, test=9), skip=1)
    for name, seed in (("bars", 0), ("other", 7)):
        train(place / "set", place / "runs", name, seed=seed, metric="accuracy")
    return place


def call(made: Path, out: Path, *more: str, run: str = "bars") -> int:
    return main(["cam", run, f"out={out}", f"runs={made / 'runs'}", "device=cpu", "progress=false", *more])


def table_of(out: Path) -> list[dict[str, str]]:
    with (out / "cam.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_writes_a_table_its_means_and_a_gallery(made, tmp_path, capsys):
    out, control = tmp_path / "out", "control=other"
    assert call(made, out, "class=label", f"masks={made / 'set/masks'}", control, "count=4", "random=2") == 0
    text = capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"cam.csv", "cam.json", "gallery.png"}
    rows, facts = table_of(out), json.loads((out / "cam.json").read_text(encoding="utf-8"))
    assert [row["image"] for row in rows] == sorted(path.name for path in (made / "set/test").rglob("*.png"))
    assert all((made / "set/test" / row["class"] / row["image"]).is_file() for row in rows)
    # the table's data config names no pattern of patients in names: that of configs/data/brain.yaml
    assert {row["patient"] for row in rows} == {row["image"][:3] for row in rows}
    values = open_classifier(str(made / "runs/bars"), runs=Path(), device="cpu").predict(
        [Record(row["image"], "", made / "set/test" / row["class"] / row["image"], None) for row in rows], 4,
        progress=False,
    )  # fmt: skip
    for row, probabilities in zip(rows, values, strict=True):
        assert float(row["probability"]) == pytest.approx(probabilities[CLASSES.index(row["class"])], abs=2e-6)
    without = [row["image"] for row in rows if not row["area"]]
    assert without == [min(path.name for path in (made / "set/test").rglob("*.png"))]
    known = [row for row in rows if row["ratio"]]
    assert len(known) + facts["without_heat"] == facts["with_mask"] == 8
    for name in ("share", "area", "ratio"):
        column = [float(row[name]) for row in (rows if name == "area" else known) if row[name]]
        assert facts[name]["mean"] == pytest.approx(np.mean(column), abs=1e-5)
        low, high = facts[name]["interval"]
        assert low <= facts[name]["mean"] <= high
    for row in known:
        assert float(row["ratio"]) == pytest.approx(float(row["share"]) / float(row["area"]), rel=1e-3)
    assert facts["controls"].keys() == {"random", "shuffled"}
    for name, words_ in (("random", "random weights"), ("shuffled", "control other")):
        found = facts["controls"][name]
        assert found["above"] == (found["gain"]["interval"][0] > 0)
        assert f"{words_}: ratio {found['ratio']['mean']:.2f}" in text
        assert ("NOT above" in text.partition(words_)[2].partition("\n")[0]) == (not found["above"])
    assert (facts["run"], facts["rows"], facts["images"], len(facts["run_hashes"])) == ("bars", 9, 9, 2)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert call(made, out, "class=label", f"masks={made / 'set/masks'}", control, "count=4", "random=2") == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before  # and it may write there again


def test_a_run_is_no_better_than_itself(made):
    """Where both are the same, the gain is exactly zero, so it is not above."""
    one = Located.of([[Inside(0.5, 0.1), Inside(0.2, 0.1), None]], cases_of("abb", [1, 1, 0]))
    assert one.above(one).mean == 0
    assert not one.above(one).is_positive


def cases_of(patients: str, masked) -> list[Case]:
    return [
        Case(Record(f"{i}", patient, Path(), None), 0, 0.5, Path("m.png") if has else None)
        for i, (patient, has) in enumerate(zip(patients, masked, strict=True))
    ]


def test_images_without_heat_count_nowhere_and_draws_are_averaged():
    cases = cases_of("aabc", [1, 1, 1, 1])
    draws = [
        [Inside(0.4, 0.1), Inside(NAN, 0.1), Inside(NAN, 0.1), Inside(0.3, 0.1)],
        [Inside(0.2, 0.1), Inside(NAN, 0.1), Inside(0.1, 0.1), Inside(0.3, 0.1)],
    ]
    found = Located.of(draws, cases)
    assert np.allclose(found.values["ratio"], [3, NAN, 1, 3], equal_nan=True)
    assert found.without_heat == 1
    assert found.figures["ratio"].mean == pytest.approx(7 / 3)
    other = Located.of([[Inside(0.1, 0.1)] * 3 + [Inside(NAN, 0.1)]], cases)
    assert found.above(other).mean == pytest.approx((2 + 0) / 2)


def test_intervals_are_over_patients_and_one_patient_has_none():
    values = np.array([1.0, 1, 1, 5, 5, 5])
    by_image, by_patient = Figure.of(values, list("abcdef")), Figure.of(values, list("aaabbb"))
    assert by_image.mean == by_patient.mean == 3
    assert by_patient.interval == (1.0, 5.0)
    assert by_image.interval[0] > 1
    assert Figure.of(values, ["a"] * 6).interval is None
    assert not Figure.of(values, ["a"] * 6).is_positive
    assert Figure.of(values * NAN, list("abcdef")) == Figure(None, None)


def test_random_weights_are_those_of_the_seed_and_of_no_fold(made):
    run = open_classifier("bars", runs=made / "runs", device="cpu")
    one, same, other = (random_explainer(run, seed) for seed in (0, 0, 1))
    weights = [
        network.head.weight.detach().numpy() for explainer in (one, same, other) for network, _ in explainer.networks
    ]
    assert np.array_equal(weights[0], weights[2])
    assert np.array_equal(weights[1], weights[3])
    distinct = [*weights[:2], *weights[4:], *(fold.network.head.weight.detach().numpy() for fold in run.folds)]
    assert len({each.tobytes() for each in distinct}) == 6


def test_a_mask_of_another_size_is_resampled(tmp_path):
    write(tmp_path / "mask.png", cv2.resize(np.eye(4, dtype=np.uint8)[:2] * 255, (16, 8), interpolation=0))
    case = Case(Record("i", "p", Path(), None), 0, 0.5, tmp_path / "mask.png")
    maps = np.zeros((1, 4, 4))
    maps[0, 0, 0] = 1
    found = energy_of(case, maps, Grid(2, 4, 4), Cells.even(4))
    assert found.area == 0.25
    assert found.share == 1


def test_the_gallery_goes_from_the_highest_to_the_lowest_ratio():
    inside = [Inside(0.1, 0.1), None, Inside(0.4, 0.1), Inside(NAN, 0.1), Inside(0.2, 0.1)]
    assert picked(inside, 2) == [2, 0]
    assert picked(inside, 9) == [2, 4, 0]
    assert picked([None] * 5, 3) == [0, 2, 4]


def test_which_class_is_explained(made, tmp_path):
    run = open_classifier("bars", runs=made / "runs", device="cpu")

    def targets(**options):
        cases = find_cases(run, CamOptions(out=tmp_path, progress=False, **options))
        return [case.target for case in cases], cases

    by_label, cases = targets(target="label")
    assert [CLASSES[c] for c in by_label] == [case.record.image.parent.name for case in cases]
    values = run.predict([case.record for case in cases], 4, progress=False)
    assert targets()[0] == values.argmax(1).tolist()
    assert set(targets(target="flat")[0]) == {1}
    table = tmp_path / "labels.csv"
    text = "image_name,patient,up,flat,slant\n" + "".join(
        f"{case.record.name},p{i % 2},{int(i < 2)},1,0\n" for i, case in enumerate(cases)
    )
    table.write_text(text, encoding="utf-8")
    several, found = targets(target="label", labels=table)
    assert several == [0, 1, 0, 1, *([1] * 7)]
    assert {case.record.group for case in found} == {"p0", "p1"}


def test_one_fold_is_explained_alone(made, tmp_path):
    assert call(made, tmp_path / "one", "random=0", run=str(made / "runs/bars/fold1")) == 0
    facts = json.loads((tmp_path / "one/cam.json").read_text(encoding="utf-8"))
    assert list(facts["run_hashes"]) == [str(made / "runs/bars/fold1")]
    assert facts["with_mask"] == 0
    assert "controls" not in facts
    assert all(row["share"] == row["area"] == row["ratio"] == "" for row in table_of(tmp_path / "one"))


@pytest.mark.parametrize(
    ("words_", "fault"),
    [
        (["class=lesion"], "class=lesion: is not a class; known: flat, label, predicted, slant, up"),
        (["images=nowhere"], "nowhere: no such folder"),
        (["masks=nowhere"], "masks=nowhere: no such folder of PNG masks"),
        (["masks={set}/train"], "has no mask of any image; expected <image>.png"),
        (["control=other"], "control=: is compared by the energy inside masks; give masks=DIR"),
        (["control=bars", "masks={set}/masks"], "control=bars: shares its weights with bars"),
        (["control=none", "masks={set}/masks"], "none: no trained run of that name"),
        (["images={set}/test/up", "class=label"], "has no folder per class; give labels=FILE.csv"),
        (["images={set}/test", "data.root={set}"], "images= and data.root= both name images"),
        (["random=-1"], "random=-1"),
        (["mask=x"], "mask: no such option; did you mean masks?"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(made, tmp_path, capsys, words_, fault):
    capsys.readouterr()
    assert call(made, tmp_path / "out", *(word.format(set=made / "set") for word in words_)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert fault in lines[0]
    assert not (tmp_path / "out").exists()


def test_masks_of_other_proportions_and_foreign_files_are_refused(made, tmp_path, capsys):
    masks = shutil.copytree(made / "set/masks", tmp_path / "masks")
    write(min(masks.iterdir()), np.full((20, 48), 255, np.uint8))
    assert call(made, tmp_path / "out", f"masks={masks}") == 2
    assert "other proportions" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/gallery.png").write_bytes(b"mine")
    assert call(made, tmp_path / "mine") == 2
    assert "was not written by this program" in capsys.readouterr().err
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "mine").iterdir()] == [("gallery.png", b"mine")]


def test_without_the_library_it_says_what_to_install(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pytorch_grad_cam", None)
    assert call(made, tmp_path / "out") == 2
    assert "pip install 'phalanx[cam]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_trained_network_looks_at_the_bars_and_its_controls_do_not(tmp_path):
    """Bars in a corner: with true labels they are the evidence, with shuffled ones nothing is."""
    rng = np.random.default_rng(0)
    for root, shuffled in (("true", False), ("shuffled", True)):
        for split, count in (("train", 96), ("test", 30)):
            for i in range(count):
                name = CLASSES[i % 3]
                image = np.random.default_rng(i).integers(0, 40, (64, 64), np.uint8)
                top, left = (i * 7) % 40, (i * 13) % 40
                image[top : top + 24, left : left + 24] = picture([name], i, side=24)
                label = CLASSES[rng.integers(3)] if shuffled else name
                file = f"P{i:03d}-{i:03d}.png"
                write(tmp_path / root / split / label / file, image)
                if split == "test":
                    write(tmp_path / "masks" / file, mask_of(image))
        train(tmp_path / root, tmp_path / "runs", root, fold="0", epochs=20, metric="accuracy", optim__lr="3e-3")
    more = ["class=label", f"masks={tmp_path / 'masks'}", "control=shuffled", f"images={tmp_path / 'true/test'}"]
    assert call(tmp_path, tmp_path / "out", *more, run="true") == 0
    facts = json.loads((tmp_path / "out/cam.json").read_text(encoding="utf-8"))
    assert facts["ratio"]["interval"][0] > 1.5
    assert facts["controls"]["random"]["above"]
    assert facts["controls"]["shuffled"]["above"]
