"""The detection task: what it learns, what it writes, how it continues, what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.boxed import CLASSES, make_coco, make_polygons, make_table, words
from tests.engine.stopping import MEASURED, Stopped, stopping

from phalanx.cli import main
from phalanx.config.compose import compose
from phalanx.data.images import Grid
from phalanx.data.quarantine import kept_records
from phalanx.engine.fit import fit
from phalanx.errors import ConfigError, DataError, TrainingError
from phalanx.predict.views import views_of
from phalanx.runs.reader import FoldRun
from phalanx.runtime.distributed import Ranks
from phalanx.submission.boxes import BoxSubmission
from phalanx.tasks.detect import Detect

pytestmark = pytest.mark.usefixtures("one_thread")
ARCHITECTURES = ["faster_rcnn", "mask_rcnn", "retinanet", "fcos"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("boxed")
    return {
        "polygons": make_polygons(place / "polygons"),
        "boxes": make_table(place / "boxes"),
        "coco_boxes": make_coco(place / "coco"),
    }


def config_of(sets, layout, runs, **changes):
    return compose(words(sets[layout], layout, runs=runs, **changes))


def lines(folder: Path) -> list[dict]:
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in FoldRun(folder).log()]


def test_it_finds_the_objects_it_was_shown(tmp_path, capsys):
    """By the path of a user: training of both folds, out-of-fold scores, prediction of the test set, fused."""
    root, runs = make_polygons(tmp_path / "set", train=24), tmp_path / "runs"
    more = {"epochs": 14, "augment": "none", "name": "found", "validate_every": 7, "predict.tta": "[hflip]"}
    pairs = {**words(root, runs=runs), **{key: str(value) for key, value in more.items()}}
    assert main(["train", *(f"{k}={v}" for k, v in pairs.items()), "fold=0,1"]) == 0
    shown = capsys.readouterr().out
    assert "anchors fitted to them" in shown
    for fold in (0, 1):
        run = FoldRun(runs / "found" / f"fold{fold}")
        assert run.result is not None
        assert run.result.metric.name == "map50"
        assert run.result.value > 0.5, shown
        assert run.per_image.keys() == {image for image, number in run.folds.items() if number == fold}
        found = json.loads((run.folder / "oof_score.json").read_text())
        assert found["value"] == run.result.value
        assert 0 < found["threshold"] <= 1
        losses = [line["held_out/loss"] for line in run.log() if line["event"] == "validate"]
        assert losses[-1] < losses[0]
    out = tmp_path / "out.csv"
    assert main(["infer", "experiment=found", f"runs={runs}", f"out={out}", "device=cpu", "progress=false"]) == 0
    made = BoxSubmission.read(out)
    assert set(made.images) == {f"{i:03d}.png" for i in range(24, 28)}
    assert tuple(made.classes) == tuple(CLASSES)
    assert all(len(one.corners) <= 100 for one in made.boxes)
    capsys.readouterr()
    assert main(["infer", "experiment=found", f"runs={runs}", f"out={out}", "device=cpu", "progress=false"]) == 0
    assert "finished before" in capsys.readouterr().out


@pytest.mark.parametrize(
    "architecture",
    ["mask_rcnn", "fcos", *(pytest.param(name, marks=pytest.mark.slow) for name in ("faster_rcnn", "retinanet"))],
)
def test_stopped_and_continued_ends_the_same_bit_for_bit(sets, tmp_path, architecture):
    def make(name):
        return config_of(
            sets, "polygons", tmp_path, name=name, model=architecture, checkpoint_minutes=1e-9,
            model__norm="group", accumulate=2, batch=2, loss__focal="null",
        )  # fmt: skip

    records = kept_records(make("whole").data)
    whole = fit(make("whole"), 0, records, Detect)
    for step in (2, 1):
        with pytest.raises(Stopped):
            fit(make("stopped"), 0, records, stopping(step, Detect))
    folder = fit(make("stopped"), 0, records, Detect)
    for name in ("final/weights.safetensors", "best/weights.safetensors", "oof.csv", "last/optimizer.safetensors"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    ours, theirs = ([line for line in lines(one) if line["event"] != "start"] for one in (folder, whole))
    assert ours == theirs
    terms = {"faster_rcnn": "proposal", "mask_rcnn": "mask", "retinanet": "label", "fcos": "centerness"}
    epoch = next(line for line in theirs if line["event"] == "epoch")
    assert epoch[f"loss/{terms[architecture]}"] > 0


def test_the_validation_loss_is_the_same_each_time_and_however_it_is_batched(sets, tmp_path):
    config = config_of(sets, "polygons", tmp_path, epochs=1)
    records = kept_records(config.data)
    task = Detect(config, records[:8], records[8:])
    task.network.eval()
    found = []
    for batch in (3, 8):
        task.config = config.model_copy(update={"predict": config.predict.model_copy(update={"batch": batch})})
        task.loaders.clear()
        torch.manual_seed(batch)
        before = torch.get_rng_state()
        task.evaluate(task.network, "held_out", torch.device("cpu"), Ranks())
        assert torch.equal(torch.get_rng_state(), before)
        found.append(dict(task.measured))
    by_class = {f"map50/class/{name}" for name in config.data.classes}
    assert found[0].keys() == {"loss", *(f"loss/{name}" for name in task.terms), *by_class}
    assert all(abs(found[0][name] - found[1][name]) < 1e-5 for name in found[0])
    # and it is the loss of training: the same sum of terms, of batches as they are trained on
    assert found[0]["loss"] == pytest.approx(sum(found[0][f"loss/{name}"] for name in task.terms))


def test_a_finished_fold_is_left_and_a_damaged_one_made_again(sets, tmp_path, capsys):
    config = config_of(sets, "boxes", tmp_path, epochs=1)
    records = kept_records(config.data)
    folder = fit(config, 0, records, Detect)
    before = (folder / "oof.csv").read_bytes()
    fit(config, 0, records, Detect)
    assert "finished" in capsys.readouterr().out
    (folder / "oof.csv").unlink()
    fit(config, 0, records, Detect)
    assert "oof.csv is missing; made again" in capsys.readouterr().out
    assert (folder / "oof.csv").read_bytes() == before


def test_a_box_that_changed_is_refused(tmp_path):
    root = make_table(tmp_path / "set")
    config = compose(words(root, "boxes", runs=tmp_path / "runs", epochs=1))
    fit(config, 0, kept_records(config.data), Detect)
    file = root / "train.csv"
    first, name = next(line for line in file.read_text().splitlines() if ",block," in line).split(",block,", 1)
    x = name.split(",")[0]
    changed = file.read_text().replace(f"{first},block,{x},", f"{first},block,{float(x) + 1:g},", 1)
    file.write_text(changed, encoding="utf-8")
    (tmp_path / "runs/base/fold0/done.json").unlink()
    with pytest.raises(TrainingError, match="changed"):
        fit(config, 0, kept_records(config.data), Detect)


@pytest.mark.parametrize("layout", ["boxes", "coco_boxes"])
def test_other_layouts_train_and_score(sets, tmp_path, layout):
    config = config_of(sets, layout, tmp_path, epochs=1, metric="f1_iou")
    folder = fit(config, 1, kept_records(config.data), Detect)
    assert 0 <= json.loads((folder / "oof_score.json").read_text())["value"] <= 1


def test_class_weights_and_focal_change_the_box_heads_loss_alone(sets, tmp_path, capsys):
    records = None
    found = {}
    for name, more in (
        ("plain", {}),
        ("weights", {"loss__class_weights": "[3,0.5]"}),
        ("rule", {"loss__class_weights": "inverse"}),
        ("focal", {"loss__focal": 2}),
    ):
        config = config_of(sets, "polygons", tmp_path, **more)
        records = records or kept_records(config.data)
        torch.manual_seed(0)
        task = Detect(config, records[:9], records[9:])
        batch = task.training_set.collate([task.training_set[(0, i)] for i in (4, 5, 6)])
        torch.manual_seed(1)
        found[name] = {k: v.mean().item() for k, v in task.step(task.network, batch).values.items()}
    for name in ("weights", "rule", "focal"):
        assert found[name]["loss/label"] != found["plain"]["loss/label"]
        assert found[name]["loss/box"] == found["plain"]["loss/box"]
    assert found["focal"]["loss/label"] < found["plain"]["loss/label"]
    shown = capsys.readouterr().out
    assert "): block 3, disc 0.5" in shown
    assert "class weights (inverse of training objects as an epoch shows them" in shown


def test_an_image_without_objects_gives_a_finite_loss_in_every_architecture(sets, tmp_path):
    for architecture in ARCHITECTURES:
        config = config_of(sets, "polygons", tmp_path, model=architecture)
        records = kept_records(config.data)
        task = Detect(config, records, ())
        empty = [i for i, each in enumerate(task.training_set.shapes) if not each]
        assert empty
        batch = task.training_set.collate([task.training_set[(0, i)] for i in empty])
        step = task.step(task.network, batch)
        step.loss.backward()
        assert torch.isfinite(step.loss)
        assert (step.values["loss/box"] == 0).all()
        assert (step.values["foreground_accuracy"] == 1).all()


IMPOSSIBLE = {
    "weights are too few": ({"loss__class_weights": "[1]"}, "class_weights: 1 number(s) for 2 classes"),
    "a weight is negative": ({"loss__class_weights": "[1,-1]"}, "loss.class_weights"),
    "all weights are zero": ({"loss__class_weights": "[0,0]"}, "loss.class_weights"),
    "beta is not read": ({"loss__beta": 0.9}, "beta"),
    "one stage has no box head": ({"model": "fcos", "loss__focal": 2}, "box head"),
    "fcos has no anchors": ({"model": "fcos", "model__anchors": "[[8,8]]"}, "fcos has none"),
    "anchors do not fit the levels": ({"model__levels": "[8,16]", "model__anchors": "[[8,8]]"}, "as many for each"),
    "a level is there twice": ({"model__levels": "[8,8]"}, "list each stride once"),
    "boxes have no masks": ({"layout": "boxes", "model": "mask_rcnn"}, "needs outlines"),
    "a view is not one of boxes": ({"predict__tta": "[vflip]"}, "only hflip"),
    "compilation": ({"model__compile": True}, "compile"),
    "graphs": ({"cuda_graphs": True}, "cuda_graphs"),
    "training steps have no such metric": ({"optim__early_stop": 2}, "monitor split=inner"),
    "a label of no class": ({"data__labels": "{blob: [x]}"}, "'blob' is not a class"),
    "a class without labels": ({"data__labels": "{block: [x]}"}, "'disc'"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_recipes_are_one_line(sets, tmp_path, case, capsys):
    changes, expected = IMPOSSIBLE[case]
    layout = changes.get("layout", "polygons")
    more = {key: value for key, value in changes.items() if key != "layout"}
    pairs = words(sets[layout], layout, runs=tmp_path / "runs", **more)
    assert main(["train", *(f"{k}={v}" for k, v in pairs.items()), "fold=0"]) == 2
    error = capsys.readouterr().err.strip()
    assert expected in error
    assert "\n" not in error
    assert not (tmp_path / "runs").exists()


def test_a_fold_without_a_class_says_so_or_refuses_its_weights(tmp_path, capsys):
    root = make_polygons(tmp_path / "set", train=4, empty=0)
    for path in sorted((root / "train/outputs_json").rglob("*.json")):
        found = json.loads(path.read_text())
        path.write_text(json.dumps({"annotations": [one | {"label": "block"} for one in found["annotations"]]}))
    config = compose(words(root, runs=tmp_path))
    Detect(config, kept_records(config.data)[:2], kept_records(config.data)[2:])
    assert "none is of disc" in capsys.readouterr().out
    config = compose(words(root, runs=tmp_path, loss__class_weights="inverse"))
    with pytest.raises(ConfigError, match="'disc' has no object"):
        Detect(config, kept_records(config.data)[:2], ())


def test_training_or_scoring_without_any_object_is_refused(tmp_path):
    root = make_polygons(tmp_path / "set", train=8, empty=4)
    config = compose(words(root, runs=tmp_path))
    records = kept_records(config.data)
    with pytest.raises(DataError, match="none of the 4 training images has an object"):
        Detect(config, records[:4], ())
    with pytest.raises(DataError, match="metric=map50: is not defined on the 4 held-out images"):
        Detect(config, records[4:], records[:4])


def test_an_encoder_without_the_stride_is_one_line(sets, tmp_path):
    config = config_of(sets, "polygons", tmp_path, model__encoder="test_vit", model__levels="[8]")
    records = kept_records(config.data)
    with pytest.raises(ConfigError, match="test_vit has no map of stride 8; it has 16"):
        Detect(config, records, ())
    config = config_of(sets, "polygons", tmp_path, model__encoder="resnet1")
    with pytest.raises(ConfigError, match="no such network of timm"):
        Detect(config, records, ())


def test_a_mask_head_is_new_in_a_warm_start_and_left_out_again(sets, tmp_path):
    made = {}
    for name in ("faster_rcnn", "mask_rcnn"):
        config = config_of(sets, "polygons", tmp_path, model=name)
        made[name] = Detect(config, kept_records(config.data), ())
    faster, mask = made["faster_rcnn"], made["mask_rcnn"]
    found, new = faster.adapt_weights(dict(mask.network.state_dict()), mask.config)
    assert found.keys() == faster.network.state_dict().keys()
    assert new == ()
    found, new = mask.adapt_weights(dict(faster.network.state_dict()), faster.config)
    lacking = mask.network.state_dict().keys() - found.keys()
    assert lacking
    assert all(name.startswith(new) for name in lacking)


def test_flipped_views_exchange_the_sides(sets, tmp_path):
    """A network that predicts alike on both sides predicts the same boxes for the mirrored image, mirrored."""
    from phalanx.predict.detect import open_detector

    config = config_of(sets, "polygons", tmp_path, epochs=1, data__pairs="[[block,disc]]")
    records = kept_records(config.data)
    folder = fit(config, 0, records, Detect)
    plain = open_detector(str(folder), runs=tmp_path, device="cpu", tta=[])
    grid = Grid(64, 64, 64)
    image = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    image[..., 10:30, 5:25] = 200
    views = views_of(["hflip"])
    one = plain._boxes(image, [grid], views[:1])[0]
    other = plain._boxes(image.flip(-1), [grid], views[1:])[0]  # the mirrored view of the mirrored image is the same
    assert np.allclose(other.scores, one.scores, atol=1e-6)
    mirrored = np.column_stack([64 - one.corners[:, 2], one.corners[:, 1], 64 - one.corners[:, 0], one.corners[:, 3]])
    assert np.allclose(other.corners, mirrored, atol=1e-4)
    assert (other.classes == 1 - one.classes).all()


def test_balancing_repeats_images_of_rare_objects_and_weights_count_what_is_shown(tmp_path, capsys):
    root = make_polygons(tmp_path / "set", train=12, empty=0)
    for number, path in enumerate(sorted((root / "train/outputs_json").rglob("*.json"))):
        label = "disc" if number % 6 == 0 else "block"  # 2 of 12 images
        found = json.loads(path.read_text())
        path.write_text(json.dumps({"annotations": [one | {"label": label} for one in found["annotations"]]}))
    balanced = {"data__balance": "{disc:1}", "loss__class_weights": "inverse"}
    config = compose(words(root, runs=tmp_path, epochs=1, **balanced))
    records = kept_records(config.data)
    selection = Detect.select(config, records)
    assert {row.image: round(row.weight, 3) for row in selection.rows if row.weight != 1} == {
        "000.png": 5.0, "006.png": 5.0,
    }  # fmt: skip
    capsys.readouterr()
    for count, expected in (("after", [1, 1]), ("before", [0.6, 3])):
        config = compose(words(root, runs=tmp_path, epochs=1, **balanced, loss__count=count))
        task = Detect(config, records, (), weights=selection.weights(records))
        assert task.network.heads.class_weights[1:].tolist() == pytest.approx(expected)
        assert task.network.heads.class_weights[0] == 1
        assert "on top of data.balance" in capsys.readouterr().out
        assert task.opening[0][0] == "class_weights"
    folder = fit(config, None, records, Detect)
    assert FoldRun(folder).log("class_weights")


def test_a_loss_that_is_not_finite_names_its_image(sets, tmp_path):
    config = config_of(sets, "polygons", tmp_path)
    task = Detect(config, kept_records(config.data), ())
    batch = task.training_set.collate([task.training_set[(0, i)] for i in (4, 5)])
    terms = {name: torch.zeros(2) for name in task.terms}
    assert task.diagnose(batch, terms) is None
    terms["box"][1] = torch.nan
    assert task.diagnose(batch, terms) == "the loss term box of 005.png is not finite"
