"""Training with a confidence filter, shares of labels and the marker loss: what counts, how it continues, bad input."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tests.engine.stopping import MEASURED, Stopped, stopping
from tests.labelled import CLASSES, make_table, words

from phalanx.cli import main
from phalanx.config.compose import compose
from phalanx.data.quarantine import kept_records
from phalanx.engine.fit import fit
from phalanx.errors import ConfigError, DataError, TrainingError
from phalanx.runs.reader import FoldRun
from phalanx.submission.probabilities import Probabilities
from phalanx.tasks.classify import Classify, filtered

pytestmark = pytest.mark.usefixtures("one_thread")
MARKER = {"loss__marker": "{kind:heatmap}", "data__table__regions": "regions"}
SHARES = {
    "loss": "ce", "model__head": "softmax", "data__targets": "shares", "data__negative": "none",
    "data__classes": "[up,flat,slant,none]",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Images with several labels, and a region each but for every sixth: the bars, a bit per class alike."""
    root = make_table(tmp_path_factory.mktemp("marker") / "set")
    (root / "regions").mkdir()
    for path in sorted((root / "train/images").rglob("*.png")):
        number = int(path.stem)
        if number % 6:
            bars = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 150
            bits = sum(1 << k for k in range(3) if (number * 5 + number // 7) >> k & 1)
            cv2.imwrite(str(root / f"regions/{path.stem}.png"), (bars * bits).astype(np.uint8))
    return root


def config_of(root, runs, **changes):
    return compose(words(root, "table", runs=runs, **({"data__size": 64} | changes)))


def lines(folder):
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in FoldRun(folder).log()]


@pytest.mark.parametrize(
    "changes",
    [
        {"loss__min_confidence": 0.52, **MARKER},
        pytest.param(
            {"loss__min_confidence": 0.3, "accumulate": 2, "batch": 2, **SHARES, "data__table__regions": "regions",
             "loss__marker": "{kind:outside,weight:0.5}"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["sigmoid", "softmax"],
)  # fmt: skip
def test_stopped_and_continued_ends_the_same_bit_for_bit(made, tmp_path, changes):
    def make(name):
        return config_of(made, tmp_path, name=name, checkpoint_minutes=1e-9, **changes)

    records = kept_records(make("whole").data)
    whole = fit(make("whole"), 0, records, Classify)
    for step in (2, 3):
        with pytest.raises(Stopped):
            fit(make("stopped"), 0, records, stopping(step, Classify))
    folder = fit(make("stopped"), 0, records, Classify)
    for name in ("final/weights.safetensors", "oof.csv", "last/optimizer.safetensors", "labels.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    ours, theirs = ([line for line in lines(one) if line["event"] != "start"] for one in (folder, whole))
    assert ours == theirs
    filters = [line for line in theirs if line["event"] == "filter"]
    assert len(filters) == 2
    assert all(line["samples"] == 12 for line in filters)
    kind = "heatmap" if "heatmap" in str(changes) else "outside"
    assert all(line[f"loss/{kind}"] > 0 for line in theirs if line["event"] == "epoch")
    assert main(["infer", "experiment=whole", f"runs={tmp_path}", "device=cpu", f"images={made / 'test/images'}",
                 f"out={tmp_path / 'made.csv'}", "progress=false"]) == 0  # fmt: skip
    assert len(Probabilities.read(tmp_path / "made.csv").images) == 6


def task_of(root, tmp_path, **changes):
    config = config_of(root, tmp_path, augment="none", **changes)
    records = kept_records(config.data)
    torch.manual_seed(0)
    return Classify(config, records[:12], records[12:])


def batch_of(task, rows):
    return task.training_set.collate([task.training_set[(0, row)] for row in rows])


def gradient(task, batch):
    """Loss and gradient of a batch with the network in evaluation, so that images do not depend on each other."""
    task.network.eval().zero_grad()
    step = task.step(task.network, batch)
    step.loss.backward()
    parts = [p.grad.flatten() for p in task.network.parameters() if p.grad is not None]
    return step, torch.cat(parts)


def test_only_confident_images_have_a_gradient(made, tmp_path):
    from phalanx.engine.nonfinite import Part
    from phalanx.engine.step import Stepper

    plain = task_of(made, tmp_path)
    batch = batch_of(plain, range(8))
    with torch.no_grad():
        logits = plain.network.eval()(plain.network.standardised(batch.images))
    p = logits.sigmoid()
    confidence = torch.where(batch.labels.isnan(), 1.0, p.maximum(1 - p)).amin(1)
    least = float(confidence.sort().values[3:5].mean())
    sure = confidence >= least
    assert sure.sum() == 4
    task = task_of(made, tmp_path, loss__min_confidence=least)
    task.network.load_state_dict(plain.network.state_dict())
    step, _ = gradient(task, batch)
    assert step.values["counted"].tolist() == sure.float().tolist()
    stepper = Stepper.__new__(Stepper)
    stepper.parameters = list(task.network.named_parameters())
    from phalanx.runtime.distributed import Ranks

    stepper.ranks = Ranks()
    stepper.mean_of_counted([Part(0, [""] * 8, step.loss, step.values, lambda: None)], 8)
    found = torch.cat([p.grad.flatten() for p in task.network.parameters() if p.grad is not None])
    _, expected = gradient(plain, batch_of(plain, np.flatnonzero(sure.numpy()).tolist()))
    assert torch.allclose(found, expected, atol=1e-6)
    assert step.loss.item() == pytest.approx(
        (plain.loss(logits, batch.labels, 0).per_image * sure).sum().item() / 8, abs=1e-6
    )


def test_none_confident_is_zero_and_said(made, tmp_path, capsys):
    task = task_of(made, tmp_path, loss__min_confidence=0.999)
    step, found = gradient(task, batch_of(task, range(4)))
    assert step.loss == 0
    assert (found == 0).all()
    folder = fit(config_of(made, tmp_path, name="none", epochs=1, loss__min_confidence=0.999), 0,
                 kept_records(task.config.data), Classify)  # fmt: skip
    said = capsys.readouterr().out
    assert "warning: confidence filter: 12 of 12 samples dropped, so epoch 1 taught nothing; lower" in said
    event = next(line for line in lines(folder) if line["event"] == "filter")
    assert (event["dropped"], event["samples"]) == (12, 12)
    assert filtered(3, 68 / 480, 480)["text"] == "confidence filter: 412 of 480 samples dropped"


@pytest.mark.parametrize("half", [2, 4])
def test_the_size_of_micro_batches_changes_nothing(made, tmp_path, half):
    """A layer norm in place of the batch norms, which depend on the micro-batch."""
    folders = []
    for batch, accumulate in ((8, 1), (half, 8 // half)):
        config = config_of(made, tmp_path, name=f"b{half}_{batch}", batch=batch, accumulate=accumulate, epochs=2,
                           loss__min_confidence=0.51, model__norm="group", **MARKER)  # fmt: skip
        folders.append(fit(config, 0, kept_records(config.data), Classify))
    one, other = ([line for line in lines(folder) if line["event"] == "filter"] for folder in folders)
    assert one == other
    values = [Probabilities.read(folder / "oof.csv").values for folder in folders]
    assert np.allclose(*values, atol=1e-3)


@pytest.mark.parametrize("encoder", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("kind", ["heatmap", "outside"])
@pytest.mark.parametrize("bits", ["any", "bits"])
def test_the_marker_loss_reaches_the_encoder_of_a_cnn_and_a_vit(made, tmp_path, encoder, kind, bits):
    more = {"model__encoder": encoder, "loss__marker": f"{{kind:{kind}}}", "data__table__regions": "regions"}
    task = task_of(made, tmp_path, **more, data__table__region_kind=bits)
    step, _ = gradient(task, batch_of(task, range(8)))
    value = step.values[f"loss/{kind}"]
    assert value[[0, 6]].tolist() == [0, 0]  # without a file
    assert (value[1:6].isfinite()).all()
    assert value.sum() > 0
    task.network.zero_grad()
    images = task.network.standardised(batch_of(task, range(8)).images)
    _, maps = task.network(images, maps=True)
    task.marker(maps, batch_of(task, range(8))).sum().backward()
    grads = [
        p.grad for name, p in task.network.named_parameters() if name.startswith("encoder.") and p.grad is not None
    ]
    assert any(g.abs().max() > 0 for g in grads)
    assert torch.allclose(task.network(images, maps=True)[0], task.network(images), atol=1e-5)


def test_regions_are_warped_as_their_images(made, tmp_path):
    config = config_of(made, tmp_path, augment="affine", **MARKER)
    records = kept_records(config.data)
    task = Classify(config, records[:12], records[12:])
    moved = 0
    for row in (1, 2, 3, 4, 5):
        batches = [batch_of_epoch(task, row, epoch) for epoch in (0, 1, 2)]
        for batch in batches:
            bars, region = batch.images[0, 0] > 120, (batch.regions[0, 0] & 1).bool()
            if region.any():
                assert (bars & region).sum() > 0.6 * region.sum()
        moved += not torch.equal(batches[0].regions, batches[1].regions)
    assert moved


def batch_of_epoch(task, row, epoch):
    return task.training_set.collate([task.training_set[(epoch, row)]])


def test_a_changed_region_refuses_to_continue(made, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(made, root)
    config = config_of(root, tmp_path / "runs", epochs=1, **MARKER)
    folder = fit(config, 0, kept_records(config.data), Classify)
    (folder / "done.json").unlink()
    (root / "regions/001.png").write_bytes((root / "regions/002.png").read_bytes())
    with pytest.raises(TrainingError, match="changed"):
        fit(config, 0, kept_records(config.data), Classify)
    cv2.imwrite(str(root / "regions/001.png"), np.zeros((20, 48), np.uint8))
    with pytest.raises(DataError, match=r"001\.png: is 20 x 48, and its image is 48 x 48; make it from"):
        fit(config.model_copy(update={"name": "size"}), 0, kept_records(config.data), Classify)
    cv2.imwrite(str(root / "regions/001.png"), np.full((48, 48), 8, np.uint8))
    bits = config_of(root, tmp_path / "runs", name="bits", data__table__region_kind="bits", **MARKER)
    with pytest.raises(DataError, match="has the value 8, but 3 classes have 3 bits"):
        fit(bits, 0, kept_records(bits.data), Classify)
    shutil.rmtree(root / "regions")
    with pytest.raises(DataError, match="no such folder of regions"):
        fit(config.model_copy(update={"name": "none"}), 0, kept_records(config.data), Classify)
    (root / "regions").mkdir()
    with pytest.raises(DataError, match="has no region of any training image"):
        fit(config.model_copy(update={"name": "empty"}), 0, kept_records(config.data), Classify)
    assert not (tmp_path / "runs/empty/fold0/config.yaml").exists()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"loss__min_confidence": 1.5}, "loss.min_confidence"),
        ({"loss__min_confidence": 0.5}, "no prediction is below 0.5"),
        ({"loss__min_confidence": 0.9, "mix": "{mixup_alpha:0.2}"}, "leave loss.min_confidence or mix out"),
        ({"loss__marker": "{kind:heatmap}"}, "needs the measured regions"),
        ({"loss__marker": "{kind:elsewhere}"}, "loss.marker.kind"),
        ({"loss__marker": "{kind:outside,weight:0}"}, "loss.marker.weight"),
        ({"data__table__regions": "regions"}, "only loss.marker uses them"),
        ({"data__table__region_kind": "bits"}, "there are none"),
        ({**MARKER, "mix": "{cutmix_alpha:1}"}, "leave loss.marker or mix out"),
        ({"data__targets": "shares"}, "needs a class for images without a label"),
        ({**SHARES, "loss": "bce", "model__head": "sigmoid"}, "is for model.head=softmax"),
        ({"data__negative": "up"}, "only targets=shares uses it"),
        ({**SHARES, "data__table__label": "label"}, "needs a table with a column per class"),
    ],
)
def test_recipes_that_cannot_be_are_refused_in_a_line(made, tmp_path, changes, fault):
    with pytest.raises(ConfigError) as caught:
        config_of(made, tmp_path, **changes)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shares_of_labels_are_the_targets_and_several_labels_the_truth(made, tmp_path):
    task = task_of(made, tmp_path, **SHARES)
    batch = batch_of(task, range(12))
    rows = {record.name: row for record, row in zip(task.training_set.records, batch.labels, strict=True)}
    assert [rows[name].tolist() for name in ("002.png", "003.png")] == [[0, 1, 0, 0], [1, 1, 1, 0]]
    whole = ~batch.labels.isnan().any(1)
    assert (batch.labels[whole, 3] == (batch.labels[whole, :3].sum(1) == 0)).all()
    shares = batch.labels / batch.labels.sum(1, keepdim=True)
    step = task.step(task.network.eval(), batch)
    logits = task.network(batch.images)
    expected = torch.where(whole, -(shares.nan_to_num() * logits.log_softmax(1)).sum(1), 0.0)
    assert torch.allclose(step.values["loss/ce"], expected, atol=1e-5)
    folder = fit(config_of(made, tmp_path, epochs=1, **SHARES), 0, kept_records(task.config.data), Classify)
    score = json.loads((folder / "oof_score.json").read_text())
    assert list(score["classes"]) == CLASSES
    assert Probabilities.read(folder / "oof.csv").classes == (*CLASSES, "none")
