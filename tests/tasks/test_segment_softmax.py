"""Segmentation by a softmax: what it learns, predicts and votes, how it continues, what it refuses."""

import json

import numpy as np
import pytest
import torch
from tests.engine.stopping import MEASURED, Stopped, stopping
from tests.label_maps import CLASSES, make, words

from phalanx.cli import main
from phalanx.config import Augment
from phalanx.config.compose import compose
from phalanx.data.images import Grid, read_grey
from phalanx.data.mask_files import read_labels
from phalanx.data.quarantine import kept_records
from phalanx.data.records import scan
from phalanx.engine.fit import fit
from phalanx.errors import ConfigError
from phalanx.predict.members import FoldMember
from phalanx.predict.views import trained_views, views_of
from phalanx.runs.reader import FoldRun
from phalanx.runtime.device import open_device
from phalanx.submission.table import Submission
from phalanx.tasks.segment import Segment

pytestmark = pytest.mark.usefixtures("one_thread")
TRUTH = ("data=pet", "data.masks.patients=test/answers.csv")
POINTS = {
    "model__pointrend": "{points:64,hidden:16,layers:1,subdivision_points:64}",
    "loss__stages": "[{weights:{ce:1,dice:0.5,point:0.5}}]",
}  # fmt: skip


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return make(tmp_path_factory.mktemp("maps") / "set")


@pytest.fixture(scope="module")
def trained(maps, tmp_path_factory):
    """A folder with two finished runs of two folds: ``plain`` and, with PointRend, ``points``."""
    runs = tmp_path_factory.mktemp("softmax") / "runs"
    for name, more in (("plain", {}), ("points", POINTS)):
        pairs = words(maps, runs=runs, name=name, epochs=3, predict__oof_prob="true", **more)
        assert main(["train", *(f"{k}={v}" for k, v in pairs.items()), "fold=0,1"]) == 0
    return runs


def config_of(maps, runs, **changes):
    return compose(words(maps, runs=runs, **changes))


def drawn(csv):
    """Class numbers uint8[H, W] of each image of a CSV; no pixel has two classes."""
    found = Submission.read(csv)
    assert found.classes == tuple(CLASSES)  # background is not written
    assert found.head == "softmax"
    masks = {image: found.stack(image).masks(found.sizes[image]) for image in found.images}
    assert max(one.sum(0).max() for one in masks.values()) <= 1
    return {image: (one * [[[1]], [[2]]]).sum(0) for image, one in masks.items()}


def mean_softmax(runs, names, maps, flip=False):
    """The mean of the networks' probabilities [3, S, S] of the test images, by torch alone."""
    records, total = scan(maps / "test" / "images"), {}
    for name in names:
        member = FoldMember(runs / name, weights="final", device=open_device("cpu", "32"), changes={})
        for record in records:
            image = read_grey(record.image)
            picture = torch.from_numpy(Grid.of(image, 32).place(image))[None, None]
            with torch.inference_mode():
                p = member.network.final(picture).softmax(1)
                if flip:
                    p = (p + member.network.final(picture.flip(3)).softmax(1).flip(3)) / 2
            total[record.name] = total.get(record.name, 0) + p[0].double().numpy() / len(names)
    return total


def enlarged(p, shape):
    """Probabilities on the grid at an image's size."""
    rows, columns = Grid(*shape, 32).content
    part = torch.from_numpy(p[:, :rows, :columns])[None]
    square = torch.nn.functional.pad(part, (0, 32 - columns, 0, 32 - rows), mode="replicate")  # the border goes on
    whole = torch.nn.functional.interpolate(square, (max(shape),) * 2, mode="bilinear", align_corners=False)[0]
    return whole[:, : shape[0], : shape[1]].numpy()


def test_the_log_has_the_iou_of_each_class_over_the_pixels_of_all_held_out_images(trained, maps):
    run = FoldRun(trained / "plain" / "fold0")
    member = FoldMember(run.folder, weights="final", device=open_device("cpu", "32"), changes={})
    shared, either = np.zeros(2), np.zeros(2)
    for record in kept_records(config_of(maps, trained).data):
        if run.folds[record.name] == 0:
            image, labels = read_grey(record.image), read_labels(record.labels)
            grid = Grid.of(image, 32)
            with torch.inference_mode():
                logits = member.network.final(torch.from_numpy(grid.place(image))[None, None])[0]
            sampled = grid.sample(labels)
            padded = np.pad(sampled, [(0, 32 - side) for side in sampled.shape])
            pair = logits.argmax(0).numpy(), padded
            one, other = (np.stack([side == c for c in (1, 2)]) for side in pair)
            shared, either = shared + (one & other).sum((1, 2)), either + (one | other).sum((1, 2))
    last = run.log("validate")[-1]
    assert [last[f"held_out/iou/class/{name}"] for name in CLASSES] == pytest.approx((shared / either).tolist())
    assert next(key for key in last if "/class/" in key) == "held_out/dice/class/normal"  # classes rank by the first


@pytest.mark.parametrize(("name", "tta"), [("plain", None), ("points", "hflip")])
def test_masks_are_the_likeliest_class_of_the_mean_of_folds_and_views(trained, maps, tmp_path, name, tta):
    out = tmp_path / "out.csv"
    more = [f"tta={tta}"] if tta else []
    call = [f"experiment={name}", f"runs={trained}", f"out={out}", "device=cpu", "progress=false", *more]
    assert main(["infer", *call]) == 0
    expected = mean_softmax(trained, [f"{name}/fold0", f"{name}/fold1"], maps, flip=tta is not None)
    for image, found in drawn(out).items():
        p = enlarged(expected[image], found.shape)
        sure = np.sort(p, 0)[-1] - np.sort(p, 0)[-2] > 1e-4
        assert np.array_equal(found[sure], p.argmax(0)[sure])
        assert sure.mean() > 0.99


def test_soft_and_hard_votes_exclude_classes_and_mixed_heads_are_told_apart(trained, maps, tmp_path, capsys):
    files = []
    for name in ("plain/fold0", "plain/fold1", "points/fold0"):
        files.append(tmp_path / f"{len(files)}.csv")
        call = [f"experiment={trained / name}", f"out={files[-1]}", "maps=true"]
        assert main(["infer", *call, "device=cpu", "progress=false"]) == 0
    soft, hard = tmp_path / "soft.csv", tmp_path / "hard.csv"
    common = ["device=cpu", "progress=false", "allow_misaligned=true"]
    folders = ",".join(str(one.with_suffix(".maps")) for one in files)
    assert main(["ensemble", "mode=soft", f"members={folders}", f"out={soft}", *common]) == 0
    expected = mean_softmax(trained, ["plain/fold0", "plain/fold1", "points/fold0"], maps)
    for image, found in drawn(soft).items():  # of maps stored in 8 bits
        p = enlarged(expected[image], found.shape)
        sure = np.sort(p, 0)[-1] - np.sort(p, 0)[-2] > 0.02
        assert np.array_equal(found[sure], p.argmax(0)[sure])
    members = ",".join(map(str, files))
    assert main(["ensemble", "mode=hard", f"members={members}", f"out={hard}", *common]) == 0
    votes = [drawn(one) for one in files]
    for image, found in drawn(hard).items():
        counts = np.stack([sum(one[image] == c for one in votes) for c in (1, 2)])
        assert np.array_equal(found, np.where(counts.max(0) >= 2, counts.argmax(0) + 1, 0))
    capsys.readouterr()
    for call, message in (
        (["ensemble", "mode=hard", f"members={members}", f"out={tmp_path / 'q.csv'}", "quorum=1"], "quorum=1: the mem"),
        (["infer", f"experiment={trained / 'plain'}", f"out={tmp_path / 'q.csv'}", "threshold=0.4"], "threshold: "),
        (["tune", "members=plain,points", f"runs={trained}"], "there are no thresholds to tune"),
    ):
        assert main([*call, *([] if call[0] == "tune" else common[:2])]) == 2, call
        assert message in capsys.readouterr().err
    assert not (tmp_path / "q.csv").exists()


def test_out_of_fold_rows_are_scored_as_masks_and_windows_agree(trained, maps, tmp_path):
    folder = trained / "plain" / "fold0"
    found = drawn(folder / "oof.csv")
    score = json.loads((folder / "oof_score.json").read_text())
    assert set(found) == set(score["per_image"])
    out = tmp_path / "w.csv"
    call = [f"experiment={folder}", f"out={out}", "device=cpu", "progress=false"]
    assert main(["infer", *call, "input_size=64", "window={size: 32, stride: 16}"]) == 0
    assert len(drawn(out)) == 4
    assert main(["score", str(out), str(maps / "test" / "answers"), *TRUTH, f"json={tmp_path / 's.json'}"]) == 0
    assert main(["compare", str(out), str(out), str(maps / "test" / "answers"), *TRUTH]) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"data__balance": "{diseased: 1}", "loss__class_weights": "one_minus_share", "augment__copies_only": "true"},
        pytest.param(
            {**POINTS, "data__balance": "{diseased: 1}", "data__balance_epoch": "same"}, marks=pytest.mark.slow
        ),
        pytest.param(
            {"loss__stages": "[{weights:{ce:1},until:{epochs:1}},{weights:{focal:1,lovasz:1}}]", "accumulate": 2},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_stopped_and_continued_ends_the_same_bit_for_bit(maps, tmp_path, changes):
    def config(name):
        return config_of(maps, tmp_path, name=name, checkpoint_minutes=1e-9, epochs=2, batch=3, **changes)

    records = kept_records(config("whole").data)
    whole = fit(config("whole"), 0, records, Segment)
    for step in (2, 3):
        with pytest.raises(Stopped):
            fit(config("stopped"), 0, records, stopping(step))
    folder = fit(config("stopped"), 0, records, Segment)
    for name in ("final/weights.safetensors", "best/weights.safetensors", "oof.csv", "last/optimizer.safetensors"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    log = [
        [
            {k: v for k, v in line.items() if k not in MEASURED}
            for line in FoldRun(one).log()
            if line["event"] != "start"
        ]
        for one in (folder, whole)
    ]
    assert log[0] == log[1]
    weighed = [line for line in log[1] if line["event"] == "class_weights"]
    assert len(weighed) == ("class_weights" in str(changes))


def test_class_weights_are_of_the_training_fold_alone_and_printed(maps, tmp_path, capsys):
    config = config_of(maps, tmp_path, epochs=1, loss__class_weights="inverse", loss__count="before")
    folder = fit(config, 0, kept_records(config.data), Segment)
    (event,) = [line for line in FoldRun(folder).log() if line["event"] == "class_weights"]
    counts = dict.fromkeys(("background", *CLASSES), 0)
    for record in kept_records(config.data):
        if FoldRun(folder).folds[record.name] != 0:
            grid = Grid(48, 40, 32)
            found = np.unique(grid.sample(read_labels(record.labels)), return_counts=True)
            for value, number in zip(*found, strict=True):
                counts[list(counts)[value]] += int(number)
    assert event["counts"] == counts
    assert event["weights"] == pytest.approx({name: 1 / number for name, number in counts.items()})
    assert "class weights (inverse of training pixels counted once, " in capsys.readouterr().out


def test_weights_on_top_of_balancing_warn(maps, tmp_path, capsys):
    config = config_of(
        maps, tmp_path, epochs=1, validate_every=0, loss__class_weights="inverse", data__balance="{diseased: 1}"
    )
    fit(config, 0, kept_records(config.data), Segment)
    assert "warning: loss.class_weights on top of data.balance" in capsys.readouterr().out


def test_held_out_images_are_neither_repeated_nor_augmented(maps, tmp_path):
    config = config_of(maps, tmp_path, epochs=1, data__balance="{diseased: 1}", augment="pet")
    records = kept_records(config.data)
    folder = fit(config, 0, records, Segment)
    rows = (folder / "oof.csv").read_text().splitlines()[1:]
    held_out = [record.name for record in records if FoldRun(folder).folds[record.name] == 0]
    assert len(rows) == 2 * len(held_out)
    task = Segment(config, records[:4], records[4:8], weights=np.array([3.0, 1, 1, 1]))
    assert task.evaluated["held_out"].augment == type(config.augment)()
    assert len(task.evaluated["held_out"]) == 4


def test_a_fold_without_a_class_is_refused_by_a_rule_and_fine_without(maps, tmp_path):
    records = [r for r in kept_records(config_of(maps, tmp_path).data) if int(r.name[1:4]) % 4]
    config = config_of(maps, tmp_path, epochs=1, validate_every=0, loss__class_weights="one_minus_share")
    with pytest.raises(ConfigError, match="one_minus_share: 'diseased' has no training pixels in this fold"):
        fit(config, 0, records, Segment)
    assert not (tmp_path / "base").exists()
    fit(config_of(maps, tmp_path, epochs=1, validate_every=0, loss__class_weights="[1,2,3]"), 0, records, Segment)


def test_copies_alone_need_copies(maps, tmp_path):
    config = config_of(maps, tmp_path, augment__copies_only="true")
    with pytest.raises(ConfigError, match="copies_only: an epoch shows no image twice"):
        fit(config, 0, kept_records(config.data), Segment)


def test_copies_alone_leave_no_views_that_look_like_them(maps, tmp_path, capsys):
    """Flipped images were diseased ones in training, so a flipped view of any image looks diseased."""
    words = {"augment__copies_only": "true", "augment__flip": 0.5, "data__balance": "{diseased: 1}"}
    config = config_of(maps, tmp_path, **words, predict__tta="[hflip]")
    with pytest.raises(ConfigError, match="another view of any image looks like their class"):
        fit(config, 0, kept_records(config.data), Segment)
    for tta in ([], ["hflip"]):
        assert trained_views("r", config.augment, tta) == views_of(tta)
        assert ("warning: r: tta=hflip: " in capsys.readouterr().out) == bool(tta)
    trained_views("r", Augment(flip=0.5), ["hflip"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__classes": "[background, normal]"}, "'background' is channel 0 of model.head=softmax already"),
        ({"data__masks__kind": "classes"}, "those of data.layout=masks may overlap; with data.overlap=last"),
        ({"predict__threshold": 0.4}, "predict.threshold: model.head=softmax predicts the likeliest class"),
        ({"loss__class_weights": "[1, 2]"}, "class_weights: 2 number.s. for 3 classes; one each"),
        ({"loss__class_weights": "[1, -2, 3]"}, "class_weights"),
        ({"loss__class_weights": "[0, 0, 0]"}, "class_weights"),
        ({"loss__class_weights": "{ill: 2}"}, "'ill' is not a class; known: background, diseased, normal, others"),
        ({"loss__class_weights": "inverse", "model__head": "sigmoid"}, "inverse: counts the pixels of"),
        ({"loss__class_weights": "[1, 2, 3]", "model__head": "sigmoid"}, "a list is for classes that"),
        ({"loss__beta": 0.9}, "beta: only class_weights=effective_number uses it"),
        ({"loss__count": "before"}, "count: only a rule of class_weights counts"),
        ({"data__balance_epoch": "same"}, "balance_epoch: only balance uses it"),
        ({"data__balance": "{ill: 1}"}, "balance: 'ill' is not a class"),
        ({"augment__copies_only": "true", "augment__device": "cuda"}, "copies_only: warps some images"),
        (
            {"data__masks__group_pattern": "A(.)", "data__masks__group": "image"},
            "patients: names the patients, as another",
        ),
        ({"data__masks__group_pattern": "A"}, "group_pattern: needs one group"),
    ],
)
def test_recipes_that_contradict_themselves_are_one_line(maps, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        config_of(maps, tmp_path, **changes)
    assert "\n" not in str(error.value)
