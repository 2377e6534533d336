"""A user's mistake gets one clear line with the place and the remedy, exit code 2, and nothing half-written."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from phalanx.cli import main
from phalanx.runtime.fence import RECORD


def listing(folder: Path) -> dict[str, bytes]:
    """Everything below a folder; folders as well. Who held a run folder last may change, as it is held while its recipe
    is read, but not whether it is held."""
    found = {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}
    records = {name for name in found if Path(name).name == RECORD}
    return found | {name: str(json.loads(found[name])["held"]).encode() for name in records}


@pytest.fixture
def here(tmp_path, monkeypatch, hands):
    """An empty working folder with a copy of the hands, which a test may spoil."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(hands, tmp_path / "hands")
    return tmp_path


@pytest.fixture
def refused(here, capsys):
    """Calls a command that must fail as it should; returns its one line."""

    def call(*words: object) -> str:
        capsys.readouterr()
        before = listing(here)
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert code == 2, said
        lines = said.err.strip().splitlines()
        assert len(lines) == 1, said.err
        assert lines[0].startswith(f"phalanx {words[0]}: ")
        assert "Traceback" not in said.err + said.out
        assert listing(here) == before
        return lines[0]

    return call


@pytest.fixture
def train(refused, tiny, here):
    return lambda **changes: refused("train", *tiny("unet", **({"data__root": here / "hands", "name": "x"} | changes)))


def first(here: Path, kind: str) -> Path:
    """The first training image ("png") or annotation ("json")."""
    return min((here / "hands" / "train").rglob(f"*.{kind}"), key=lambda path: path.name)


def change_annotation(here: Path, **changes: object) -> Path:
    """Alters the fourth annotation of the first file."""
    path = first(here, "json")
    value = json.loads(path.read_text())
    value["annotations"][3] |= changes
    path.write_text(json.dumps(value))
    return path


# what is said on the command line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epoch": 5}, "epoch: no such option; did you mean epochs?"),
        ({"optim__lrr": 1}, "optim.lrr: no such option; did you mean lr?"),
        ({"model__pointrend": "{point:3}"}, "model.pointrend.point: no such option; did you mean points?"),
        ({"model__" + "a" * 300: 1}, "no such option, none has a name of more than 200 bytes"),
        ({"name": "환" * 67}, "name: has more than 200 bytes"),
        ({"optimizer": "adamw_cosine"}, "optimizer: no such option; did you mean optim?"),
        ({"augment": "afine"}, "augment=afine: no configs/augment/afine.yaml; did you mean affine?"),
        ({"experiment": "bass"}, "experiment=bass: no configs/experiment/bass.yaml; did you mean base?"),
        ({"data": "hands"}, "data=hands: no configs/data/hands.yaml; did you mean hand?"),
        ({"epochs": "many"}, "epochs='many': "),
        ({"epochs": 0}, "epochs=0: "),
        ({"epochs": "1,2"}, "epochs"),
        ({"data__size": 100}, "data.size=100: "),
        ({"optim__lr": -1}, "optim.lr=-1: "),
        ({"fold": 7, "folds": 5}, "fold=7: fold 7 of 5; there are 0..4"),
        ({"fold": "3..1"}, "fold=3..1: an empty range"),
        ({"fold": "first"}, "fold=first: expected one fold"),
        ({"folds": 50}, "folds=50: only 6 patients; give folds= at most that"),
        ({"data__pairs": "[[Radius,Ulnar]]"}, "data.pairs: 'Ulnar' is not a class; did you mean Ulna?"),
        ({"data__classes": "[Radius,Radius]"}, "data.classes: a name appears twice"),
        ({"loss__stages": "[{weights:{bec:1.0}}]"}, "loss.stages[0].weights.bec: no such term; did you mean bce?"),
        ({"loss__stages": "[{weights:{bce:1.0,point:1.0}}]"}, "set model.pointrend"),
        ({"model__arch": "fpm"}, "model.arch=fpm: no such decoder; did you mean fpn?"),
        ({"model__encoder": "resnet19"}, "model.encoder=resnet19: no such encoder; did you mean resnet1"),
        ({"model__encoder": "tu-test_resnett"}, "timm has no such model; did you mean test_resnet?"),
        ({"device": "gpu"}, "device=gpu: expected auto, cpu, cuda"),
        ({"device": "cpu", "precision": "fp16"}, "precision=fp16: only on a GPU"),
        ({"augment__pixel": "[{name:GausNoise,p:1}]"}, "GausNoise"),
        ({"data__folds_file": "folds.csv"}, "folds.csv: no such fold file; make it with `phalanx folds"),
    ],
)
def test_an_impossible_word_of_train(train, changes, says):
    assert says in train(**changes)


@pytest.mark.parametrize("words", [["fold0"], ["fold=0", "fold=1"], ["fold=0", "--fold", "1"]])
def test_a_word_that_is_no_option(refused, words):
    line = refused("train", *words)
    assert "expected key=value" in line or "given twice" in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["score"], "expected FILE.csv TRUTH"),
        (["score", "a.csv"], "no ground truth: name it, or a data set with annotations"),
        (["compare", "a.csv"], "expected A B TRUTH"),
        (["score", "a.csv", "b.csv", "--jsn", "x"], "jsn: no such option; did you mean json?"),
        (["score", "a.csv", "hands", "--json"], "--json: needs a value"),
        (["score", "a.csv", "nowhere"], "nowhere: no such file or folder of ground truth"),
        (["score", "a.csv", "hands"], "a.csv: "),
        (["phantom", "hand", "--patients", "2"], "out=DIR: missing"),
        (["phantom", "foot", "--out", "x"], "foot: expected: phalanx phantom hand"),
        (["phantom", "hand", "--out", "x", "--patiens", "2"], "patiens: no such option; did you mean patients?"),
        (["phantom", "hand", "--out", "x", "--patients", "two"], "patients='two': input should be a valid integer"),
        (["phantom", "hand", "--out", "x", "--patients", "0"], "patients=0"),
        (["phantom", "hand", "--out", "x", "--size", "64"], "size=64"),
        (["phantom", "hand", "--out", "hands"], "hands: exists already"),
        (["folds", "data=hand"], "out=FILE.csv: missing"),
        (["picture", "a.csv", "hands", "hands"], "out=FILE.png"),
        (["infer"], "experiment=: name the run"),
        (["infer", "experiment=a", "treshold=0.5"], "treshold: no such option; did you mean threshold?"),
        (["infer", "experiment=a", "threshold=2"], "threshold=2: "),
        (["infer", "experiment=a", "threshold=["], "threshold=[: not a value"),
        (["infer", "experiment=a,b", "out=x.csv"], "out=: fits one run"),
        (["ensemble", "members=a,b"], "mode: missing; give it as mode=..."),
        (["ensemble", "mode=sotf", "members=a"], "mode='sotf': "),
        (["ensemble", "mode=soft"], "members: missing"),
        (["ensemble", "mode=hard", "members=a,b", "size=512"], "size=512: expected height x width"),
        (["ensemble", "mode=hard", "members=a.csv"], "a.csv: no such submission file"),
        (["demo", "quik=true"], "quik=true: the demo takes job=hand|ultrasound|brain|pet and quick=true"),
    ],
)
def test_an_impossible_word_of_another_command(refused, words, says):
    assert says in refused(*words)


# what lies on disk


def test_no_data_folder(train):
    assert "data.root=nowhere: no such folder; expected <root>/train/DCM" in train(data__root="nowhere")


def test_another_layout(train, here):
    (here / "hands" / "train" / "DCM").rename(here / "hands" / "train" / "images")
    assert "hands/train/DCM: no such folder; expected the layout" in train()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: b"", "the file is empty; restore it, or remove it with its annotation"),
        (lambda data: data[: len(data) // 2], "cut off"),
        (lambda data: b"GIF, they say", "not a readable image; restore it"),
    ],
)
def test_an_image_that_cannot_be_read(train, here, spoil, says):
    path = first(here, "png")
    path.write_bytes(spoil(path.read_bytes()))
    line = train()
    assert f"hands/train/DCM/{path.parent.name}/{path.name}: " in line
    assert says in line


@pytest.mark.parametrize("text", ["", "{", "[]", '{"annotation": []}', '{"annotations": 3}', "\ufeff{}"])
def test_broken_json(train, here, text):
    path = first(here, "json")
    path.write_text(text)
    line = train()
    assert re.search(rf"{path.parent.name}/{path.name}: (not an annotation file|is not JSON)", line)
    assert "Repair or remove it" in line


def test_an_unknown_label(train, here):
    path = change_annotation(here, label="finger-99")
    line = train()
    assert f"{path.name}: annotation 3: unknown label 'finger-99'" in line
    assert "Correct the label, or add it to data.classes" in line


def test_a_polygon_of_two_points(train, here):
    path = change_annotation(here, points=[[1, 2], [3, 4]])
    line = train()
    assert f"{path.name}: annotation 3 (finger-4): a polygon of 2 points has no area; redraw it or delete" in line


def test_points_that_are_no_numbers(train, here):
    path = change_annotation(here, points=[[1, "two"], [3, 4], [5, 6]])
    assert f"{path.name}: annotation 3 (finger-4): 'points' must be a list of [x, y] numbers" in train()


def test_an_image_without_annotation(train, here):
    path = first(here, "json")
    path.unlink()
    line = train()
    assert f"{path.name}: no such annotation file" in line
    assert "data.skip_unlabelled=true" in line


def test_an_image_name_twice(train, here):
    path = first(here, "png")
    other = here / "hands" / "train" / "DCM" / "ID999"
    other.mkdir()
    shutil.copy(path, other)
    assert f"the name {path.name} is also that of" in train()


def test_two_images_with_one_annotation(train, here):
    path = first(here, "png")
    shutil.copy(path, path.with_suffix(".tif"))
    assert f"shares its annotation {path.stem}.json with" in train()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layout": "coco"}, "hands/train.json: no such COCO file; data.coco.train and data.coco.test name them"),
        ({"layout": "masks"}, "hands/train/masks: no such folder; data.root, data.masks.images and data.masks.masks"),
        ({"layout": "cocoa"}, "data.layout='cocoa': input should be 'competition', 'coco' or 'masks'"),
        ({"coco.group": "image"}, "data.coco: only for data.layout=coco; the layout is competition"),
        ({"layout": "masks", "masks.vaules": "{Ulna:1}"}, "data.masks.vaules: no such option; did you mean values?"),
        (
            {"layout": "masks", "masks.values": "{Ulnar:1}"},
            "data.masks.values: 'Ulnar' is not a class; did you mean Ulna?",
        ),
        ({"crop": 96}, "data.crop: 96 is larger than the image (data.size=64)"),
        ({"blackout": -1}, "data.blackout=-1: "),
        ({"background": "grey"}, "data.background='grey': input should be 'keep' or 'contour'"),
    ],
)
def test_data_options_that_do_not_fit_the_set(train, changes, says):
    assert says in train(**{f"data.{key}": value for key, value in changes.items()})


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_a_mask_with_a_value_that_is_no_class(train, here, cache):
    """Before anything is written, whether images are kept in memory or read anew each epoch."""
    folder = here / "hands" / "train"
    for path in (folder / "DCM").rglob("*.png"):
        mask = folder / "masks" / path.relative_to(folder / "DCM")
        mask.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(mask), np.full((128, 128), 30 if path == first(here, "png") else 29, np.uint8))
    options = {"data.layout": "masks", "data.masks.images": "train/DCM", "data.cache": cache}
    line = train(**options)
    assert "the value 30 is not a class; known: 0 for none, and 1..29. Correct the mask" in line


@pytest.mark.parametrize("content", [b"", b"no image at all" * 20])
def test_a_dicom_file_that_cannot_be_read(train, here, content):
    path = first(here, "png")
    path.unlink()
    path.with_suffix(".dcm").write_bytes(content)
    assert f"{path.with_suffix('.dcm').name}: " in train()


def test_folds_that_split_a_patient(train, here):
    names = sorted((p.name, p.parent.name) for p in (here / "hands/train/DCM").rglob("*.png"))
    rows = [f"{name},{group},{i % 2}" for i, (name, group) in enumerate(names)]
    (here / "folds.csv").write_text("\n".join(["image_name,group,fold", *rows]) + "\n")
    assert "is in two folds; keep a patient in one" in train(data__folds_file="folds.csv")


def test_fold_files_are_never_overwritten(refused, here):
    (here / "mine.csv").write_text("image_name,group,fold\n")
    assert "mine.csv: exists; folds never change once made" in refused("folds", "out=mine.csv", "data.root=hands")


# runs, members and submissions


@pytest.fixture
def predicted(runs, here, capsys):
    """Submission of the run ``unet``."""
    words = [f"runs={runs}", f"data.root={here / 'hands'}", "device=cpu", "progress=false", "out=unet.csv"]
    assert main(["infer", "experiment=unet", *words]) == 0
    return here / "unet.csv"


@pytest.mark.parametrize(("name", "says"), [("unett", "did you mean unet?"), ("zzz", "known: fpn, unet")])
def test_a_run_that_is_not_there(refused, runs, name, says):
    ensemble = [["ensemble", f"mode={mode}", f"members=fpn,{name}"] for mode in ("soft", "hard")]
    for words in (["infer", f"experiment={name}"], ["infer", f"experiment=fpn,{name}"], *ensemble):
        line = refused(*words, f"runs={runs}")
        assert f"{name}: no trained run of that name" in line
        assert says in line


def test_a_run_that_is_not_finished(refused, runs, here):
    shutil.copytree(runs / "unet", here / "runs" / "unet")
    shutil.rmtree(here / "runs" / "unet" / "fold1" / "final")
    line = refused("infer", "experiment=unet")
    assert "runs/unet/fold1: not finished; continue it by the command it was started with" in line


def test_a_test_image_that_cannot_be_read(refused, runs, here):
    path = min((here / "hands" / "test" / "DCM").rglob("*.png"))
    path.write_bytes(b"")
    words = [f"runs={runs}", "data.root=hands", "device=cpu", "progress=false", "out=new/x.csv", "maps=true"]
    (here / "new").mkdir()
    assert f"{path.name}: the file is empty" in refused("infer", "experiment=unet", *words)


def test_a_submission_of_another_name(refused, runs):
    line = refused("infer", "experiment=unet", f"runs={runs}", "data.root=hands", "device=cpu", "out=x.txt")
    assert "x.txt: a submission's name ends in .csv" in line


def test_a_soft_vote_with_a_csv(refused, predicted, runs):
    line = refused("ensemble", "mode=soft", f"members=fpn,{predicted}", f"runs={runs}")
    assert "unet.csv contains masks, not probabilities; vote CSVs with mode=hard" in line


def drop_image(csv: Path, target: Path) -> str:
    """Writes a submission without one image and without sidecar; returns the image."""
    header, *rows = csv.read_text().splitlines(keepends=True)
    gone = rows[-1].split(",")[0]
    target.write_text("".join([header, *[row for row in rows if not row.startswith(gone)]]))
    return gone


def test_members_with_different_images(refused, predicted, here):
    gone = drop_image(predicted, here / "fewer.csv")
    line = refused("ensemble", "mode=hard", "members=unet.csv,fewer.csv", "out=voted.csv")
    assert f"unet.csv and fewer.csv differ in images: 1 only in the first ('{gone}')" in line
    assert "predict the one that is wrong again" in line


def test_a_misspelt_class_in_a_csv(refused, predicted, here):
    (here / "other.csv").write_text(predicted.read_text().replace(",Radius,", ",Raduis,"))
    line = refused("score", "other.csv", "hands/test/answers_json", "data=hand", "size=128x128")
    assert "other.csv line " in line
    assert "unknown class 'Raduis' of 29 known; nearest: 'Radius'" in line


def test_a_score_of_other_images(refused, predicted, here):
    gone = drop_image(predicted, here / "fewer.csv")
    line = refused("score", "fewer.csv", "hands/test/answers_json", "data=hand", "size=128x128", "--json", "x.json")
    assert f"1 image(s) with ground truth are not in the submission, such as {gone.removesuffix('.png')}" in line
    assert "partial=true" in line
    assert "has no ground truth for" in refused("score", predicted, "hands/train/outputs_json")


def test_a_csv_without_sidecar_needs_a_size(refused, predicted, here):
    shutil.copy(predicted, here / "bare.csv")
    line = refused("score", "bare.csv", "hands/test/answers_json")
    assert "no sidecar bare.json); give it, as in size=2048x2048" in line


def test_a_csv_that_was_cut_off(refused, predicted):
    text = predicted.read_text()
    predicted.write_text(text[: len(text) // 2])
    assert "unet.csv: not the table its sidecar unet.json was written with" in refused(
        "score", predicted, "hands/test/answers_json"
    )


def test_a_changed_recipe(refused, runs, tiny, here):
    shutil.copytree(runs / "unet" / "fold0", here / "runs" / "unet" / "fold0")
    line = refused("train", *tiny("unet", name="unet", optim__lr=0.5))
    assert "runs/unet/fold0: was started with optim.lr=0.01, now it is 0.5. Give the new recipe another name=" in line


# as a process


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "fold=0", "data.root=nowhere", "device=cpu", "progress=false"], "data.root=nowhere: no such folder"),
        (["score", "nothing.csv", "hands"], "nothing.csv: "),
    ],
)
def test_the_process_exits_with_two_and_one_line(here, words, says):
    done = subprocess.run([sys.executable, "-m", "phalanx", *words], cwd=here, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert says in done.stderr
    assert [p.name for p in here.iterdir()] == ["hands"]
