"""The classification task: what it learns, what it writes, how it continues, what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.engine.stopping import MEASURED, Stopped, stopping
from tests.labelled import CLASSES, make_folders, make_table, words

from phalanx.cli import main
from phalanx.config.compose import compose
from phalanx.data.labels import labels_of
from phalanx.data.quarantine import kept_records
from phalanx.engine.fit import fit
from phalanx.errors import ConfigError, DataError, TrainingError
from phalanx.runs.reader import FoldRun
from phalanx.submission.probabilities import Probabilities
from phalanx.tasks.classify import Classify, accuracy_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("labelled")
    return {"folders": make_folders(place / "folders"), "table": make_table(place / "table")}


def config_of(sets, layout, runs, **changes):
    return compose(words(sets[layout], layout, runs=runs, **changes))


def lines(folder: Path) -> list[dict]:
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in FoldRun(folder).log()]


@pytest.mark.parametrize("layout", ["folders", pytest.param("table", marks=pytest.mark.slow)])
def test_it_learns_what_its_classes_show(tmp_path, layout, capsys):
    """By the path of a user: training, out-of-fold scores, prediction, vote and score."""
    root, runs = tmp_path / "set", tmp_path / "runs"
    (make_folders if layout == "folders" else make_table)(root, train=48)
    more = {"epochs": 12, "augment": "none", "batch": 8, "name": layout}
    assert main(["train", *(f"{k}={v}" for k, v in words(root, layout, runs=runs, **more).items()), "fold=0,1"]) == 0
    for fold in (0, 1):
        run = FoldRun(runs / layout / f"fold{fold}")
        assert run.result is not None
        assert run.result.metric.name == "macro_auc"
        assert run.result.value > 0.9
        assert run.per_image.keys() == {image for image, number in run.folds.items() if number == fold}
        made = Probabilities.read(run.folder / "oof.csv")
        assert made.classes == tuple(CLASSES)
        assert made.head == ("softmax" if layout == "folders" else "sigmoid")
    out = {name: tmp_path / f"{name}.csv" for name in ("mean", "zero", "soft", "hard")}
    common = [f"runs={runs}", "device=cpu", "progress=false"]
    assert main(["infer", f"experiment={layout}", f"out={out['mean']}", "tta=vflip", *common]) == 0
    assert main(["infer", f"experiment={runs / layout / 'fold0'}", f"out={out['zero']}", *common]) == 0
    truth = root / ("test" if layout == "folders" else "answers.csv")
    members = f"members={out['mean']},{out['zero']},{runs / layout / 'fold1'}"
    for mode in ("soft", "hard"):
        assert main(["ensemble", f"mode={mode}", members, f"out={out[mode]}", *common, "allow_misaligned=true"]) == 0
        assert main(["score", str(out[mode]), str(truth), f"json={tmp_path / mode}_score.json"]) == 0
        assert json.loads((tmp_path / f"{mode}_score.json").read_text())["metrics"]["accuracy"]["value"] > 0.6
    read = {name: Probabilities.read(path).values for name, path in out.items()}
    assert read["mean"].shape == (6, 3)
    assert set(np.unique(read["hard"])) <= {0.0, 1.0}
    assert main(["compare", str(out["mean"]), str(out["zero"]), str(truth)]) == 0
    capsys.readouterr()
    assert main(["compare", str(runs / layout), str(runs / layout), f"json={tmp_path / 'same.json'}"]) == 0
    assert "accuracy: " in capsys.readouterr().out
    same = json.loads((tmp_path / "same.json").read_text())["macro_auc"]
    assert same["difference"] == 0
    assert same["tied"]


def test_the_mean_of_folds_and_views_is_that_of_their_probabilities(sets, tmp_path):
    from phalanx.predict.classify import open_classifier

    config = config_of(sets, "table", tmp_path, epochs=1)
    records = kept_records(config.data)
    for fold in (0, 1):
        fit(config, fold, records, Classify)
    of = {
        name: open_classifier(str(tmp_path / name), runs=tmp_path, device="cpu", tta=tta).predict(
            records[:5], 2, progress=False
        )
        for name, tta in (("base", ["hflip"]), ("base/fold0", []), ("base/fold1", []))
    }
    flipped = [
        open_classifier(str(tmp_path / f"base/fold{k}"), runs=tmp_path, device="cpu", tta=["hflip"]) for k in (0, 1)
    ]
    mean = np.mean([one.predict(records[:5], 5, progress=False) for one in flipped], axis=0)
    assert np.allclose(of["base"], mean, atol=1e-6)
    assert not np.allclose(of["base"], (of["base/fold0"] + of["base/fold1"]) / 2, atol=1e-6)
    assert ((of["base"] >= 0) & (of["base"] <= 1)).all()


@pytest.mark.parametrize(
    ("layout", "changes"),
    [
        ("table", {"loss": "asl", "mix": "{mixup_alpha:0.4,cutmix_alpha:1.0}", "model__dropout": 0.2}),
        ("folders", {"loss": "ldam_drw", "loss__ldam__drw_epoch": 1, "accumulate": 2, "batch": 2}),
    ],
)
def test_stopped_and_continued_ends_the_same_bit_for_bit(sets, tmp_path, layout, changes):
    def make(name):
        return config_of(sets, layout, tmp_path, name=name, checkpoint_minutes=1e-9, epochs=3, **changes)

    records = kept_records(make("whole").data)
    whole = fit(make("whole"), 0, records, Classify)
    for step in (2, 4, 3, 1):
        with pytest.raises(Stopped):
            fit(make("stopped"), 0, records, stopping(step, Classify))
    folder = fit(make("stopped"), 0, records, Classify)
    for name in (
        "final/weights.safetensors",
        "best/weights.safetensors",
        "oof.csv",
        "last/optimizer.safetensors",
        "labels.csv",
    ):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    ours, theirs = ([line for line in lines(one) if line["event"] not in ("start",)] for one in (folder, whole))
    assert ours == theirs
    assert sum(line["event"] == "weights" for line in theirs) == ("drw" in str(changes))


def test_a_finished_fold_is_left_and_a_damaged_one_made_again(sets, tmp_path, capsys):
    config = config_of(sets, "table", tmp_path, epochs=1)
    records = kept_records(config.data)
    folder = fit(config, 0, records, Classify)
    before = (folder / "oof.csv").read_bytes()
    fit(config, 0, records, Classify)
    assert "finished" in capsys.readouterr().out
    (folder / "oof.csv").unlink()
    fit(config, 0, records, Classify)
    assert "oof.csv is missing; made again" in capsys.readouterr().out
    assert (folder / "oof.csv").read_bytes() == before


def test_a_label_that_changed_is_refused_in_both_layouts(tmp_path):
    table, folders = make_table(tmp_path / "table"), make_folders(tmp_path / "folders")
    sets = {"table": table, "folders": folders}
    for layout in sets:
        config = config_of(sets, layout, tmp_path / "runs", name=layout, epochs=1, metric="accuracy")
        fit(config, 0, kept_records(config.data), Classify)
    text = (table / "train.csv").read_text(encoding="utf-8")
    (table / "train.csv").write_text(text.replace("001.png,P0,1,0,1", "001.png,P0,0,0,1"), encoding="utf-8")
    image = next((folders / "train/up").iterdir())
    image.rename(folders / "train/flat" / image.name)
    for layout in sets:
        config = config_of(sets, layout, tmp_path / "runs", name=layout, epochs=1, metric="accuracy")
        (tmp_path / "runs" / layout / "fold0/done.json").unlink()
        with pytest.raises(TrainingError, match="changed"):
            fit(config, 0, kept_records(config.data), Classify)


def test_head_only_training_leaves_the_encoder(sets, tmp_path):
    config = config_of(sets, "folders", tmp_path, epochs=1, optim__freeze="{stages:1}")
    torch.manual_seed(config.seed)
    records = kept_records(config.data)
    start = Classify(config, records[:8], []).network.state_dict()
    folder = fit(config, None, records, Classify)
    from phalanx.runs.checkpoint import load_weights

    found = load_weights(folder / "final")
    assert found is not None
    changed = {key.split(".")[0] for key, value in found[0].items() if not torch.equal(value, start[key])}
    assert changed == {"head"}


def test_missing_labels_count_neither_in_loss_nor_in_accuracy():
    logits = torch.tensor([[3.0, -3.0, 5.0], [1.0, 1.0, 1.0]])
    labels = torch.tensor([[1.0, 0.0, float("nan")], [float("nan")] * 3])
    assert accuracy_of(logits, labels, "sigmoid", 0.5).tolist() == [1.0, 0.0]
    assert accuracy_of(logits, labels, "sigmoid", 0.97).tolist() == [0.5, 0.0]
    assert accuracy_of(logits.sigmoid(), labels, "sigmoid", 0.97, logits=False).tolist() == [0.5, 0.0]
    assert accuracy_of(logits, torch.tensor([[0.0, 0, 1], [1, 0, 0]]), "softmax", 0.5).tolist() == [1.0, 1.0]


def test_weights_of_classes_are_those_of_the_training_part(sets, tmp_path):
    config = config_of(sets, "table", tmp_path, loss="bce", loss__class_weights="inverse")
    records = kept_records(config.data)
    labels = labels_of(records[:9], config.data)
    task = Classify(config, records[:9], records[9:])
    positives = (labels == 1).sum(0)
    negatives = (labels == 0).sum(0)
    found = task.loss.weights_at(0)
    assert np.allclose(np.array(found.positive) / np.array(found.negative), negatives / positives)


def test_a_metric_that_cannot_be_computed_is_refused_at_once(sets, tmp_path):
    config = config_of(sets, "folders", tmp_path)
    records = kept_records(config.data)
    one = [record for record in records if record.labels.name == "up"]
    rest = [record for record in records if record not in one]
    with pytest.raises(DataError, match="macro_auc: is not defined on the 8 held-out images"):
        Classify(config, rest + one[:0], one)
    assert Classify(config.model_copy(update={"metric": "accuracy"}), records, one)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"loss": "bce"}, "is for model.head=sigmoid"),
        ({"loss": "bce_dice"}, "loss.stages: no such option"),
        ({"model": "fpn_b3"}, "model.arch: no such option"),
        ({"model.head": "argmax"}, "model.head"),
        ({"optim": "adam_plateau", "optim.monitor": "null"}, "a training step has no macro_auc"),
        ({"augment.device": "cuda"}, "only task=segment warps on the GPU"),
        ({"task": "clasify"}, "no such task; did you mean classify?"),
        ({"metric": "auc"}, "metric"),
        ({"data.layout": "coco"}, "its layout is coco, of task=segment"),
        ({"data": "hand"}, "its layout is competition, of task=segment"),
    ],
)
def test_recipes_that_cannot_be_are_refused_in_a_line(sets, tmp_path, changes, fault):
    with pytest.raises(ConfigError) as caught:
        compose(words(sets["folders"], "folders", runs=tmp_path) | changes)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_choose_a_recipe_that_classifies():
    found = compose({"data": "brain", "epochs": "3"})
    assert (found.task, found.name, found.epochs) == ("classify", "brain", 3)
    assert compose({"experiment": "brain"}).task == "classify"
    with pytest.raises(ConfigError, match="task"):
        compose({"data": "brain", "experiment": "base"})
    assert compose({"experiment": "ultrasound", "data.root": "/d"}).data.layout == "table"


def test_a_plateau_watches_the_inner_split(sets, tmp_path):
    config = config_of(
        sets, "folders", tmp_path, optim="adam_plateau", optim__monitor="{split:inner,folds:2}", epochs=2
    )
    folder = fit(config, 0, kept_records(config.data), Classify)
    monitored = set((folder / "monitored.csv").read_text().split()[1:])
    run = FoldRun(folder)
    assert monitored
    assert all(run.folds[name] != 0 for name in monitored)
    assert len(run.log("monitor")) == 2


def test_data_commands_know_labels(sets, tmp_path, capsys):
    root = f"data.root={sets['table']}"
    common = ["data=ultrasound", root, f"data.classes=[{','.join(CLASSES)}]"]
    out = tmp_path / "folds.csv"
    assert main(["folds", *common, "folds=3", "stratify=label", f"out={out}"]) == 0
    assert "not labelled slant" in capsys.readouterr().out
    rows = [line.split(",") for line in out.read_text().splitlines()[1:]]
    assert len({tuple(row[1:]) for row in rows}) == 12  # a patient is in one fold
    assert main(["folds", *common, "stratify=sex", f"out={tmp_path / 'no.csv'}"]) == 2
    assert "stratify=label" in capsys.readouterr().err
    assert main(["selection", *common]) == 0
    assert "24" in capsys.readouterr().out
    assert main(["check", *common, f"json={tmp_path / 'check.json'}", "progress=false"]) == 0
    assert "24 train, 6 test images: 0 errors" in capsys.readouterr().out
    assert main(["eda", *common, f"out={tmp_path / 'eda'}"]) == 0
    assert json.loads((tmp_path / "eda" / "eda.json").read_text())["images"] == {"train": 24, "test": 6}


def test_tuning_of_masks_refuses_a_run_that_classifies(sets, tmp_path, capsys):
    config = config_of(sets, "table", tmp_path, epochs=1)
    fit(config, 0, kept_records(config.data), Classify)
    assert main(["tune", "members=base", f"runs={tmp_path}"]) == 2
    assert "task=classify" in capsys.readouterr().err
