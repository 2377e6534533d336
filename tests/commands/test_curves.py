"""``phalanx curves`` over real runs of each task, finished and killed, and what a validation measures by class."""

import csv
import json
import shutil

import cv2
import pytest
from tests import boxed, labelled
from tests.engine.stopping import Stopped, stopping

from phalanx.cli import main
from phalanx.config.compose import compose
from phalanx.data.quarantine import kept_records
from phalanx.engine.fit import fit
from phalanx.runs.reader import FoldRun
from phalanx.tasks.segment import Segment

pytestmark = pytest.mark.usefixtures("one_thread")


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_finished_run_has_its_curves_and_the_command_makes_them_again(runs, tmp_path):
    place = tmp_path / "runs"
    shutil.copytree(runs, place)
    folders = [place / "unet" / f"fold{fold}" for fold in (0, 1)]
    before = [[(folder / name).read_bytes() for name in ("curves.csv", "curves.png")] for folder in folders]
    for folder in folders:
        assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
        rows, log = table(folder / "curves.csv"), FoldRun(folder).log()
        assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
        for event, keys in (("epoch", ("loss", "loss/bce", "lr", "dice")), ("validate", ("held_out/dice",))):
            for line in (line for line in log if line["event"] == event):
                row = rows[line["epoch"] - 1]
                assert [float(row[key]) for key in keys] == pytest.approx([line[key] for key in keys], rel=1e-8)
        assert float(rows[-1]["out_of_fold/dice"]) == pytest.approx(FoldRun(folder).result.value)
        for name in ("curves.csv", "curves.png"):
            (folder / name).unlink()
    assert main(["curves", "unet", f"runs={place}"]) == 0
    again = [[(folder / name).read_bytes() for name in ("curves.csv", "curves.png")] for folder in folders]
    assert [one[0] for one in again] == [one[0] for one in before]
    assert all(picture.startswith(b"\x89PNG") for _, picture in again)


def test_runs_and_folds_over_each_other(runs, tmp_path, capsys):
    out = tmp_path / "both.png"
    words = ["curves", "unet", str(runs / "fpn" / "fold1"), f"runs={runs}", f"out={out}", "classes=Radius,Ulna"]
    assert main(words) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    rows = table(tmp_path / "both.csv")
    assert [(row["run"].rpartition("/")[2], row["fold"]) for row in rows[::6]] == [
        ("unet", "1"), ("unet", "2"), ("fold1", "1")
    ]  # fmt: skip
    assert main(words) == 0  # which replaces its own
    (tmp_path / "both.csv").write_text("precious")
    assert main(words) == 2
    assert (tmp_path / "both.csv").read_text() == "precious"


def test_a_killed_run_has_its_curves(recipe, hands, capsys):
    config = recipe("unet", epochs=4, validate_every=1)
    with pytest.raises(Stopped):
        fit(config, 0, kept_records(config.data, report=False), stopping(8))
    folder = config.runs / "r" / "fold0"
    assert [row["epoch"] for row in table(folder / "curves.csv")] == ["1", "2"]
    assert main(["curves", str(folder)]) == 0
    assert (folder / "curves.png").is_file()
    assert main(["curves", "r", f"runs={config.runs}"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected RUN"),
        (["nix"], "no trained run of that name"),
        (["unet", "outt=a.png"], "outt: no such option; did you mean out?"),
        (["unet", "fpn", "out=a.jpg"], "expected the name of a picture"),
        (["unet", "classes=Radus"], "classes=Radus: not in the logs; did you mean Radius?"),
    ],
)
def test_wrong_words_are_one_line(runs, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["curves", *words, *([f"runs={runs}"] if words else [])]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda log: log.unlink(), "no such file"),
        (lambda log: log.write_text('{"event": 3}\n'), "line 1 is not an event"),
        (lambda log: log.write_text(log.read_text().splitlines(keepends=True)[0]), "no epoch of it has ended yet"),
    ],
)
def test_a_damaged_log_is_one_line(runs, tmp_path, capsys, damage, message):
    shutil.copytree(runs / "unet" / "fold0", tmp_path / "unet" / "fold0")
    damage(tmp_path / "unet" / "fold0" / "log.jsonl")
    assert main(["curves", str(tmp_path / "unet")]) == 2
    assert message in capsys.readouterr().err


def test_a_segmentation_measures_classes_and_poses(runs):
    line = FoldRun(runs / "unet" / "fold0").log("validate")[-1]
    classes = {key: value for key, value in line.items() if key.startswith("held_out/dice/class/")}
    assert len(classes) == 29
    assert sum(classes.values()) / 29 == pytest.approx(line["held_out/dice"], rel=1e-5)


def test_a_classification_and_a_detection_measure_classes(tmp_path, capsys):
    folders = labelled.make_folders(tmp_path / "labels")
    boxes = boxed.make_polygons(tmp_path / "boxes")
    for name, pairs in (
        ("c", labelled.words(folders, "folders", runs=tmp_path / "runs", name="c", epochs=2, validate_every=1)),
        ("d", boxed.words(boxes, runs=tmp_path / "runs", name="d", epochs=2, validate_every=1)),
    ):
        config = compose(pairs)
        assert (
            main(["train", "fold=0", "progress=true", *(f"{k}={v}" for k, v in pairs.items() if k != "progress")]) == 0
        )
        out = capsys.readouterr().out
        assert out.count("images     trained on") == out.count("loss      ") == 1
        folder = tmp_path / "runs" / name / "fold0"
        line = FoldRun(folder).log("validate")[-1]
        figures = ("auc", "recall") if name == "c" else ("map50",)
        for figure in figures:
            found = {key.split("/", 3)[3]: value for key, value in line.items() if f"/{figure}/class/" in key}
            assert found.keys() == set(config.data.classes)
            assert f"  {figures[0]}, by class: " in out
        rows = table(folder / "curves.csv")
        assert [row["epoch"] for row in rows] == ["1", "2"]
        assert (folder / "curves.png").is_file()
        assert main(["curves", str(tmp_path / "runs" / name)]) == 0
        capsys.readouterr()
    assert main(["curves", "c", "d", f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'out.png'}"]) == 2
    assert "runs of different metrics cannot be drawn over each other" in capsys.readouterr().err


def test_rotated_and_upright_images_have_a_figure_each(recipe, hands, tmp_path):
    """Of a set in which the hands of some patients lie on their side."""
    root, side = tmp_path / "turned", 128
    shutil.copytree(hands, root)
    turned = sorted((root / "train" / "DCM").iterdir())[::2]
    for path in (image for patient in turned for image in patient.iterdir()):
        cv2.imwrite(str(path), cv2.rotate(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), cv2.ROTATE_90_CLOCKWISE))
        labels = root / "train" / "outputs_json" / path.parent.name / f"{path.stem}.json"
        found = json.loads(labels.read_text())
        for one in found["annotations"]:
            one["points"] = [[side - 1 - y, x] for x, y in one["points"]]
        labels.write_text(json.dumps(found))
    config = recipe("unet", epochs=2, validate_every=1, data__root=root)
    folder = fit(config, 0, kept_records(config.data, report=False), Segment)
    for line in FoldRun(folder).log("validate"):
        groups = {key.rpartition("/")[2]: value for key, value in line.items() if "/group/" in key}
        assert groups.keys() == {"rotated", "upright"}
        assert min(groups.values()) <= line["held_out/dice"] <= max(groups.values())
    assert "held_out/dice/group/rotated" in table(folder / "curves.csv")[0]


STAGES = "[{weights:{bce:0.5,dice:0.5},until:{epochs:2}},{weights:{bce:1,lovasz:0.5}}]"


def test_more_epochs_of_a_finished_run_are_offered_in_words_that_work(tiny, tmp_path, capsys):
    runs = tmp_path / "runs"

    def command(**changes):
        return ["train", *tiny("unet", fold=0, name="r", runs=runs, epochs=3, loss__stages=STAGES, **changes)]

    assert main(command()) == 0
    longer = [word if not word.startswith("epochs=") else "epochs=5" for word in command()]
    capsys.readouterr()
    assert main(longer) == 2
    text = capsys.readouterr().err
    assert "is trained to the end of its 3 epochs" in text
    words = [word.strip("'") for word in text.strip().partition("keys: ")[2].split()]
    assert words[:3] == ["name=r_5", "model.init_from=r", "epochs=2"]
    pairs = dict(word.split("=", 1) for word in longer[1:]) | dict(word.split("=", 1) for word in words)
    again = ["train", *(f"{key}={value}" for key, value in pairs.items())]
    assert main(again) == 0
    folder = runs / "r_5" / "fold0"
    terms = [sorted(key for key in line if key.startswith("loss/")) for line in FoldRun(folder).log("epoch")]
    assert terms == [["loss/bce", "loss/lovasz"]] * 2  # from the last stage on
    start = json.loads((folder / "start.json").read_text())
    assert start["start"] == str(runs / "r" / "fold0")
    capsys.readouterr()
    assert main(longer) == 2  # the same words again: they name the run that exists
    assert "name=r_5 model" in capsys.readouterr().err
    fewer = [word if not word.startswith("epochs=") else "epochs=2" for word in command()]
    assert main(fewer) == 2
    assert "was started with epochs=3, now it is 2" in capsys.readouterr().err
