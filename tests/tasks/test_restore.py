"""Restoration: a denoiser is trained, its images have provenance, and only the classifier of its fold may see them."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.engine.stopping import Stopped, stopping
from tests.labelled import CLASSES, make_folders, make_table, words

from phalanx.cli import main
from phalanx.config.compose import compose
from phalanx.data.quarantine import kept_records
from phalanx.data.restored import TABLE, read_restored, restored_of_fold
from phalanx.data.rules import select_labelled
from phalanx.data.selection import Selection
from phalanx.engine.fit import fit
from phalanx.errors import DataError, TrainingError
from phalanx.predict.restore import noise_source, psnr
from phalanx.runs.checkpoint import load_weights
from phalanx.runs.reader import FoldRun
from phalanx.tasks.classify import Classify
from phalanx.tasks.restore import Restore

pytestmark = pytest.mark.usefixtures("one_thread")


def restoring(root: Path, layout: str, **changes: object) -> dict[str, str]:
    """Words of a tiny denoiser on such a set."""
    base = {
        "task": "restore", "model": "unet_denoiser", "loss": "mse", "augment": "flip", "name": "denoiser",
        "model.options": "{encoder_depth: 3, decoder_channels: [16, 8, 8]}", "data.restore.classes": "[up]",
        "model.norm": "group",
    }  # fmt: skip
    common = words(root, layout) | {key: str(value) for key, value in base.items()}
    for key in ("model.head", "model.encoder", "metric"):
        common.pop(key)
    return common | {key.replace("__", "."): str(value) for key, value in changes.items()}


def call(command: str, pairs: dict[str, str], *more: str) -> int:
    return main([command, *(f"{key}={value}" for key, value in pairs.items()), *more])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set, a denoiser of both folds, trained on one class, and its images."""
    place = tmp_path_factory.mktemp("restored")
    root = make_folders(place / "set")
    assert call("train", restoring(root, "folders", runs=place / "runs"), "fold=0,1") == 0
    run = place / "runs" / "denoiser"
    assert main(["restore", str(run), f"out={place / 'restored'}", "device=cpu", "progress=false", "times=3"]) == 0
    return place


def recipe(made: Path, runs: Path, **changes: object):
    return compose(words(made / "set", "folders", runs=runs, data__restored=made / "restored", **changes))


def test_an_untrained_denoiser_returns_the_image_and_training_lowers_the_error(made):
    import torch

    from phalanx.models.denoiser import build_denoiser

    config = compose(restoring(made / "set", "folders", runs=made))
    network = build_denoiser(config.model, size=32)
    noisy = torch.rand(2, 1, 32, 32)
    assert torch.equal(network(noisy), noisy)
    means = [line["loss/mse"] for line in FoldRun(made / "runs" / "denoiser" / "fold0").log("epoch")]
    assert means[-1] < means[0]


def test_the_score_is_the_psnr_of_the_images_as_they_are_saved(made):
    fold = FoldRun(made / "runs" / "denoiser" / "fold0")
    held_out = {name for name, number in fold.folds.items() if number == 0}
    labels = {path.name: path.parent.name for path in (made / "set" / "train").rglob("*.png")}
    assert fold.per_image.keys() == {name for name in held_out if labels[name] == "up"}
    assert fold.result.value == pytest.approx(np.mean([*fold.per_image.values()]))
    clean = np.full((8, 8), 100, np.uint8)
    assert psnr(clean + 10, clean) == pytest.approx(20 * np.log10(255 / 10))
    assert psnr(clean, clean) == pytest.approx(100)


def test_a_stopped_denoiser_ends_in_the_same_bits(made, tmp_path):
    records = None
    found = []
    for name, stop in (("whole", None), ("stopped", 2)):
        config = compose(restoring(made / "set", "folders", runs=tmp_path, name=name, checkpoint_minutes=0))
        records = records or kept_records(config.data)
        if stop:
            with pytest.raises(Stopped):
                fit(config, 0, records, stopping(stop, Restore))
        fit(config, 0, records, Restore)
        found.append(
            (load_weights(tmp_path / name / "fold0" / "final")[1], FoldRun(tmp_path / name / "fold0").result.value)
        )
    assert found[0] == found[1]


def test_every_image_has_its_provenance(made):
    rows = list(csv.DictReader((made / "restored" / TABLE).open(encoding="utf-8")))
    run = made / "runs" / "denoiser"
    labels = {path.name: path.parent.name for path in (made / "set" / "train").rglob("*.png")}
    for fold in (0, 1):
        folds = FoldRun(run / f"fold{fold}").folds
        ours = [row for row in rows if row["fold"] == f"fold{fold}"]
        wanted = {name for name, number in folds.items() if number != fold and labels[name] == "up"}
        assert {row["source"] for row in ours} == wanted
        assert len(ours) == 3 * len(wanted)
        assert {row["weights"] for row in ours} == {FoldRun(run / f"fold{fold}").weights_digest()}
        assert {row["classes"] for row in ours} == {"up"}
        assert {float(row["noise"]) for row in ours} == {0.1, 0.2, 0.3}
        for row in ours:
            image = cv2.imread(str(made / "restored" / "images" / row["fold"] / row["image"]), cv2.IMREAD_UNCHANGED)
            assert (image.shape, image.dtype) == ((32, 32), np.uint8)
    first, second = (noise_source(0, "a.png", number).standard_normal(4) for number in (0, 1))
    assert not np.allclose(first, second)


def test_a_classifier_is_trained_on_the_images_of_its_fold_alone(made, tmp_path):
    config = recipe(made, tmp_path, epochs=1)
    records = kept_records(config.data)
    fit(config, 0, records, Classify)
    folder = tmp_path / "base" / "fold0"
    used = list(csv.DictReader((folder / TABLE).open(encoding="utf-8")))
    all_rows = read_restored(made / "restored").rows
    assert {row["image"] for row in used} == {row.image for row in all_rows if row.fold == "fold0"}
    held_out = {name for name, number in FoldRun(folder).folds.items() if number == 0}
    assert not held_out & {row["source"] for row in used}
    assert FoldRun(folder).per_image.keys() == held_out  # a restored image is never held out
    patients = FoldRun(folder).patients
    assert all(row["group"] == patients[row["source"]] for row in used)
    chosen = Selection.read(folder / "selection.csv").by_image
    assert {(chosen[row["image"]].source, chosen[row["image"]].rule) for row in used} == {("restored", "restored")}
    labels = {row[0]: row[1:] for row in csv.reader((folder / "labels.csv").open(encoding="utf-8"))}
    assert all(labels[row["image"]] == ["1", "0", "0"] for row in used)
    assert fit(config, 0, records, Classify) == folder  # finished: left alone


def test_images_of_a_network_that_saw_a_held_out_patient_are_refused(made, tmp_path, capsys):
    config = recipe(made, tmp_path, seed=3)  # other folds
    records = kept_records(config.data)
    with pytest.raises(DataError, match=r"the network of fold0 was trained on .* held out here\. Give both runs"):
        fit(config, 0, records, Classify)
    config = recipe(made, tmp_path)
    held_out = [record for record in records if read_restored(made / "restored").folds[record.name][1] == 0]
    assert restored_of_fold(config.data, 0, records, held_out)
    sibling = next(record for record in records if record not in held_out)
    moved = [*held_out[1:], held_out[0]._replace(group=sibling.group)]  # another image of a patient that it saw
    with pytest.raises(DataError, match="or on its patient"):
        restored_of_fold(config.data, 0, records, moved)
    pairs = words(made / "set", "folders", runs=tmp_path, data__restored=made / "restored")
    assert call("train", pairs, "fold=all") == 2
    assert "no image by a network of all, only of fold0, fold1" in capsys.readouterr().err


def test_monitored_patients_are_not_trained_on_in_any_form(made, tmp_path):
    more = {"optim.early_stop": 9, "optim.monitor": "{split: inner, folds: 3}", "epochs": 1, "metric": "accuracy"}
    config = recipe(made, tmp_path, **more)
    fit(config, 0, kept_records(config.data), Classify)
    folder = tmp_path / "base" / "fold0"
    monitored = {FoldRun(folder).patients[name] for name in (folder / "monitored.csv").read_text().split()[1:]}
    used = list(csv.DictReader((folder / TABLE).open(encoding="utf-8")))
    assert used
    assert not monitored & {row["group"] for row in used}


def test_a_damaged_or_changed_folder_is_refused(made, tmp_path):
    folder = tmp_path / "restored"
    shutil.copytree(made / "restored", folder)
    config = recipe(made, tmp_path / "runs")
    config.data.restored = folder
    records = kept_records(config.data)
    with pytest.raises(Stopped):
        fit(config, 0, records, stopping(2, Classify))
    image = next((folder / "images" / "fold0").iterdir())
    content = image.read_bytes()
    image.write_bytes(cv2.imencode(".png", np.zeros((32, 32), np.uint8))[1].tobytes())
    with pytest.raises(DataError, match="missing or altered"):
        fit(config, 0, records, Classify)
    image.write_bytes(content)
    # another folder that is whole: of other noise
    shutil.rmtree(folder)
    run = made / "runs" / "denoiser"
    again = ["restore", str(run), f"out={folder}", "device=cpu", "progress=false", "times=3"]
    assert main([*again, "seed=1"]) == 0
    with pytest.raises(TrainingError, match=r"restored\.csv"):
        fit(config, 0, records, Classify)
    shutil.rmtree(folder)
    assert main(again) == 0  # the same images again: the run continues
    fit(config, 0, records, Classify)
    table = (folder / TABLE).read_text()
    (folder / TABLE).write_text(table.replace(",0.1,", ",0.2,"))
    with pytest.raises(DataError, match=r"records another restored\.csv"):
        read_restored(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__size": 64}, "was made with data.size=32, and the recipe has 64"),
        ({"data__colour": "true"}, "restored: those images are grey"),
        ({"data__contrast": "clahe"}, "restored: a second change of contrast would mark those images"),
        ({"data__restored": "nowhere"}, "make it with phalanx restore"),
        ({"data__balance": "{up: 2, down: 1}"}, "balance: 'down' is not a class; known: flat"),
        ({"data__balance": "{}"}, "balance: names no class"),
    ],
)
def test_what_does_not_fit_is_one_line(made, tmp_path, capsys, changes, message):
    pairs = words(made / "set", "folders", runs=tmp_path, data__restored=made / "restored")
    assert call("train", pairs | {k.replace("__", "."): str(v) for k, v in changes.items()}) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_check_knows_them_and_calls_none_a_duplicate(made, tmp_path):
    from phalanx.checks.labels import check

    config = recipe(made, tmp_path)
    before = check(config.data.model_copy(update={"restored": None}), workers=1, progress=False)
    after = check(config.data, workers=1, progress=False)
    added = set(after.findings) - set(before.findings)
    assert [(one.severity, one.kind) for one in added] == [("note", "restored")]
    assert after.images == before.images
    assert after.groups == before.groups
    broken = tmp_path / "broken"
    shutil.copytree(made / "restored", broken)
    next((broken / "images" / "fold1").iterdir()).unlink()
    found = check(config.data.model_copy(update={"restored": broken}), workers=1, progress=False)
    assert [one.kind for one in found.findings if one.severity == "error"] == ["bad-restored"]


def test_restore_writes_nothing_if_it_cannot(made, tmp_path, capsys):
    run = str(made / "runs" / "denoiser")
    common = ["device=cpu", "progress=false"]
    for more, message in (
        ([f"out={made / 'restored'}"], "exists"),
        ([f"out={made / 'set' / 'train' / 'up' / 'more'}"], "lies among the images of the data set"),
        ([f"out={tmp_path / 'x'}", "classes=upp"], "is not a class; did you mean up"),
        ([f"out={tmp_path / 'x'}", "times=0"], "times"),
        ([], "expected RUN out=DIR"),
    ):
        assert main(["restore", run, *more, *common]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(["infer", f"experiment={run}", f"out={tmp_path / 'a.csv'}"]) == 2
    assert "phalanx restore" in capsys.readouterr().err


def test_the_shortcut_is_asked_of_images_that_nobody_saw(made, tmp_path, capsys):
    """The numbers of two networks that learnt next to nothing: only the path is tested here."""
    records, names = None, {"none": {}, "healthy": {"data__restored": made / "restored"}}
    for name, more in names.items():
        config = compose(words(made / "set", "folders", runs=tmp_path, name=name, epochs=1, **more))
        records = records or kept_records(config.data)
        fit(config, 0, records, Classify)
    denoiser = str(made / "runs" / "denoiser" / "fold0")
    common = ["class=up", f"runs={tmp_path}", "device=cpu", "progress=false", "permutations=99"]
    out, picture = tmp_path / "shortcut.json", tmp_path / "sheet.png"
    more = [f"json={out}", f"picture={picture}"]
    assert main(["shortcut", denoiser, "healthy=healthy", "none=none", *common, *more]) == 0
    assert "against none: " in capsys.readouterr().out
    found = json.loads(out.read_text())
    held_out = [name for name, number in FoldRun(made / "runs" / "denoiser" / "fold0").folds.items() if number == 0]
    assert sum(found["images"].values()) == found["spectrum"]["images"] == len(held_out)
    # a plain image is called as the submission of the fold calls it
    fold = FoldRun(tmp_path / "none" / "fold0")
    rows = list(csv.reader((fold.folder / "oof.csv").open(encoding="utf-8")))[1:]
    labels = {record.name: record.labels.name for record in records}
    called = [np.argmax([float(cell) for cell in row[1:]]) == 0 for row in rows if labels[row[0]] == "up"]
    assert found["classifiers"]["none"]["healthy_plain"]["value"] == pytest.approx(np.mean(called))
    assert cv2.imread(str(picture)) is not None
    capsys.readouterr()
    for given, message in (
        (["healthy=none", "none=healthy"], "healthy=none: was trained with no restored images, not of up"),
        (["healthy=none", "none=nobody"], "no trained run of that name"),
        (["healthy=healthy", "none=healthy"], "the same run is given twice"),
        (["healthy=healthy", "none=none", "class=down"], "class=down: is not a class"),
    ):
        assert main(["shortcut", denoiser, *given, *[c for c in common if c.split("=")[0] not in str(given)]]) == 2
        assert message in capsys.readouterr().err


def test_a_table_and_several_classes_per_image(tmp_path):
    root = make_table(tmp_path / "set")
    runs, out = tmp_path / "runs", tmp_path / "restored"
    more = {"data.restore.classes": "null", "epochs": 1, "runs": runs}
    assert call("train", restoring(root, "table", **more), "fold=0") == 0
    assert main(["restore", str(runs / "denoiser"), f"out={out}", "device=cpu", "progress=false", "times=1"]) == 0
    config = compose(words(root, "table", runs=runs, data__restored=out, epochs=1))
    fit(config, 0, kept_records(config.data), Classify)
    labels = {row[0]: row[1:] for row in csv.reader((runs / "base" / "fold0" / "labels.csv").open(encoding="utf-8"))}
    rows = read_restored(out).rows
    assert {row.classes for row in rows} >= {"", "up"} or any("|" in row.classes for row in rows)
    assert all(labels[row.image] == labels[row.source] for row in rows)


def test_balance_gives_the_stated_ratio_exactly(made, tmp_path):
    config = compose(words(made / "set", "folders", runs=tmp_path, data__balance="{up: 8}"))
    records = kept_records(config.data)
    table = select_labelled(records, config.data)
    labels = {record.name: record.labels.name for record in records}
    shown = {name: sum(row.weight for row in table.rows if labels[row.image] == name) for name in CLASSES}
    assert shown["up"] == pytest.approx(8 * shown["flat"])
    assert shown["flat"] == pytest.approx(shown["slant"])
    assert min(row.weight for row in table.rows) == 1
    assert {row.rule for row in table.rows if labels[row.image] == "up"} == {"balance"}
    # restored images count: the mean over the folds of what an epoch shows
    config = recipe(made, tmp_path, data__balance="{up: 8}")
    table, found = select_labelled(records, config.data).by_image, read_restored(made / "restored")
    totals = dict.fromkeys(CLASSES, 0.0)
    for fold in (0, 1):
        for name in found.trained_on(f"fold{fold}"):
            totals[labels[name]] += table[name].weight
        totals["up"] += sum(table[row.image].weight for row in found.rows if row.fold == f"fold{fold}")
    assert totals["up"] == pytest.approx(8 * totals["flat"])
    assert json.loads((made / "restored" / "restored.json").read_text())["trained_on"] == ["up"]
