"""The loop: what a step is, what continues, what is refused."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from tests.engine.doubles import SGD, InDouble, distance, start_of
from tests.engine.stopping import MEASURED, Stopped, stopping

from phalanx.config.compose import compose, split_words
from phalanx.data import folds as folding
from phalanx.data.records import train_records
from phalanx.data.selection import Selection
from phalanx.engine.fit import fit
from phalanx.engine.loop import Trainer
from phalanx.errors import ConfigError, DataError, TrainingError
from phalanx.runs.folder import agreed_folds
from phalanx.runs.reader import FoldRun
from phalanx.scoring.score import DICE
from phalanx.tasks.segment import Segment

STAGES = "[{weights:{bce:0.5,dice:0.5,point:0.5},until:{epochs:2}},{weights:{bce:0.5,lovasz:0.5,point:1.0}}]"


pytestmark = pytest.mark.usefixtures("one_thread")


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All but the record of who holds the folder, which each call renews."""
    found = [p for p in folder.rglob("*") if p.is_file() and p.name != ".holder"]
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes()) for p in found}


def weights_after_an_epoch(config, records):
    torch.manual_seed(0)
    trainer = Trainer(config, config.runs, InDouble(config, records, []))
    trainer.began = trainer.saved = 0.0
    trainer.save = lambda: None
    trainer.train_epoch()
    return trainer.network.state_dict(), trainer.state


@pytest.mark.parametrize(("batch", "accumulate"), [(2, 2), (1, 4)])
def test_accumulated_steps_are_those_of_one_large_batch(recipe, records, batch, accumulate):
    """Seven images: a step of four and one of three, whose micro-batches differ in size."""
    config = recipe(batch=4, **SGD)
    large, one = weights_after_an_epoch(config, records[:7])
    small, other = weights_after_an_epoch(recipe(batch=batch, accumulate=accumulate, **SGD), records[:7])
    assert distance(small, large, start_of(config, records[:7])) < 1e-9
    assert (one.step, one.images, one.batch) == (2, 7, 2)
    assert (other.step, other.images, other.batch) == (2, 7, -(-7 // batch))
    assert other.loss_sum == pytest.approx(one.loss_sum, rel=1e-6)  # float32 when it reaches the log
    assert other.sums == pytest.approx(one.sums, rel=1e-6)


@pytest.fixture(scope="module")
def stopped_often(tiny, hands, tmp_path_factory):
    """Recipes by name of a run with everything that has state, and the folder of one that was never stopped."""
    runs = tmp_path_factory.mktemp("stopped") / "runs"
    changes = {"accumulate": 2, "batch": 1, "checkpoint_minutes": 1e-9, "loss__stages": STAGES, "augment": "affine"}
    config = compose(split_words(tiny("fpn", runs=runs, name="r", epochs=4, **changes)))

    def make(name):
        return config.model_copy(update={"name": name})

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return make, fit(make("whole"), 0, train_records(hands), Segment)
    finally:
        torch.set_num_threads(before)


def test_stopped_and_continued_ends_the_same_bit_for_bit(stopped_often, records, capsys):
    make, whole = stopped_often
    config = make("stopped")
    for step in (2, 7, 6, 1, 9):  # six images an epoch: within a step, after an epoch, at once
        with pytest.raises(Stopped):
            fit(config, 0, records, stopping(step))
    folder = fit(config, 0, records, Segment)
    assert "continues at step" in capsys.readouterr().out
    for name in ("final/weights.safetensors", "best/weights.safetensors", "oof.csv", "last/optimizer.safetensors"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert told(folder) == told(whole)
    assert sum(line["event"] == "stage" for line in told(folder)) == 1


def test_with_metadata_and_helping_heads_a_stopped_run_ends_the_same_bit_for_bit(recipe, records):
    """Traits are forgotten at random, and several losses are added up."""

    def make(name):
        changes = {"model__arch": "residual_unet", "model__encoder": "resenc", "model__metadata": "[sex,age,weight]"}
        options = "{features:4,max_features:16}"
        config = recipe("unet", checkpoint_minutes=1e-9, epochs=2, model__options=options, **changes)
        return config.model_copy(update={"name": name})

    whole = fit(make("whole"), 0, records, Segment)
    for step in (2, 1):
        with pytest.raises(Stopped):
            fit(make("stopped"), 0, records, stopping(step))
    folder = fit(make("stopped"), 0, records, Segment)
    for name in ("final/weights.safetensors", "oof.csv", "attributes.csv", "last/optimizer.safetensors"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert told(folder) == told(whole)


@pytest.fixture
def gpu_stands_in(monkeypatch):
    """The CPU computes what a recipe leaves to the GPU."""
    monkeypatch.setattr("phalanx.tasks.segment.check_warp_device", lambda name, device: None)


def test_a_run_that_warps_on_the_device_continues_bit_for_bit(recipe, records, gpu_stands_in):
    """Killed or not, and whatever the workers: the same weights."""

    def make(name, workers):
        config = recipe("fpn", batch=2, checkpoint_minutes=1e-9, augment="affine", augment__device="cuda", epochs=2)
        return config.model_copy(update={"name": name, "workers": workers})

    whole = fit(make("whole", 0), 0, records, Segment)
    with pytest.raises(Stopped):
        fit(make("stopped", 2), 0, records, stopping(3))
    stopped = fit(make("stopped", 2), 0, records, Segment)
    for name in ("final/weights.safetensors", "oof.csv", "last/optimizer.safetensors"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize("crop", ["null", 32])
def test_the_network_sees_the_same_images_wherever_they_are_warped(recipe, records, gpu_stands_in, crop):
    def seen(where):
        config = recipe("unet", augment="affine", augment__device=where, data__crop=crop, epochs=2)
        task, images = Segment(config, records, []), []
        trainer = Trainer(config, config.runs, task)
        trainer.began = trainer.saved = 0.0
        trainer.network.register_forward_pre_hook(lambda _, given: images.append(given[0].clone()))
        trainer.train_epoch()
        return torch.cat(images).int()

    here, there = seen("cpu"), seen("cuda")
    assert here.shape[-1] == (64 if crop == "null" else crop)
    assert (here - there).abs().max() <= 1


def test_a_warp_on_a_gpu_that_is_not_there_is_refused_before_anything_is_written(recipe, records):
    config = recipe(augment__device="cuda")
    message = r"augment\.device=cuda: warps on the GPU that trains, and this run trains on cpu; use augment\.device=cpu"
    with pytest.raises(ConfigError, match=message):
        fit(config, 0, records, Segment)
    assert not config.runs.exists()


def test_the_log_tells_an_epoch_once_however_often_it_is_stopped(stopped_often, records, monkeypatch):
    """Stopped between the epoch's line in the log and the checkpoint behind it, and right after that checkpoint."""
    make, whole = stopped_often
    config, save = make("between"), Trainer.save

    def stop_at_epochs_end(when):
        def call(trainer):
            if when == "after":
                save(trainer)
            if trainer.state.batch == 0:
                raise Stopped
            if when == "before":
                save(trainer)

        return call

    for when in ("before", "after", "before"):
        monkeypatch.setattr(Trainer, "save", stop_at_epochs_end(when))
        with pytest.raises(Stopped):
            fit(config, 0, records, Segment)
    monkeypatch.setattr(Trainer, "save", save)
    folder = fit(config, 0, records, Segment)
    assert (folder / "final/weights.safetensors").read_bytes() == (whole / "final/weights.safetensors").read_bytes()
    assert told(folder) == told(whole)


def told(folder: Path) -> list[dict]:
    """The log without times and starts."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in lines if line["event"] != "start"]


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_a_step_and_not_the_result(stopped_often, records, capsys):
    make, whole = stopped_often
    config = make("damaged")
    with pytest.raises(Stopped):
        fit(config, 0, records, stopping(10))
    folder = config.runs / "damaged" / "fold0"
    broken = folder / "last" / "optimizer.safetensors"
    broken.write_bytes(broken.read_bytes()[:-100])
    fit(config, 0, records, Segment)
    assert "optimizer.safetensors was cut off or altered" in capsys.readouterr().out
    assert (folder / "final/weights.safetensors").read_bytes() == (whole / "final/weights.safetensors").read_bytes()


def test_finished_is_left_as_it_is(runs, tiny, capsys):
    from phalanx.cli import main

    before = files(runs)
    assert main(["train", *tiny("unet", fold="0,1", name="unet", runs=runs)]) == 0
    out = capsys.readouterr().out
    assert "fold0: finished, out of fold dice" in out
    assert "fold1: finished, out of fold dice" in out
    assert files(runs) == before


def test_a_run_keeps_what_is_needed_to_judge_it(runs):
    folder = runs / "fpn" / "fold0"
    assert {"config.yaml", "folds.csv", "environment.json", "log.jsonl", "oof.csv", "oof.json", "oof_score.json",
            "done.json", "last", "best", "final"} <= {p.name for p in folder.iterdir()}  # fmt: skip
    assert json.loads((folder / "oof.json").read_text())["format"] == "phalanx-submission-1"
    score = json.loads((folder / "oof_score.json").read_text())
    result = FoldRun(folder).result
    assert (result.metric, result.value, result.images) == (DICE, score["dice"], 6)
    assert score["metric"] == {"name": "dice", "higher_is_better": True, "decimals": 4}
    assert score["images"] == 6


def test_images_or_folds_that_changed_are_refused(recipe, records):
    config = recipe()
    first = config.runs / "r" / "fold0" / "folds.csv"
    folding.write(first, records, folding.draw(records, 2, 0))
    assert agreed_folds(config.runs / "r" / "fold1", config, records)
    for changed, given in ((config, records[2:]), (recipe(seed=3), records)):
        if given is records:
            assert folding.draw(records, 2, 3) != folding.draw(records, 2, 0)
        with pytest.raises(TrainingError, match=r"fold0/folds\.csv: this run began with other images or folds"):
            agreed_folds(config.runs / "r" / "fold1", changed, given)


def test_no_patient_is_both_trained_on_and_held_out(runs):
    rows = FoldRun(runs / "fpn" / "fold0").folds
    patient = {
        line.split(",")[0]: line.split(",")[1] for line in (runs / "fpn/fold0/folds.csv").read_text().splitlines()
    }
    held_out = {line.split(",")[0] for line in (runs / "fpn/fold0/oof.csv").read_text().splitlines()[1:]}
    assert held_out == {name for name, fold in rows.items() if fold == 0}
    assert not {patient[n] for n in held_out} & {patient[n] for n in rows if n not in held_out}


def test_everything_as_training_set_holds_nothing_out(recipe, records):
    folder = fit(recipe(epochs=1), None, records, Segment)
    assert folder.name == "all"
    assert (folder / "final").is_dir()
    assert not (folder / "oof.csv").exists()
    assert not (folder / "best").exists()


@pytest.mark.parametrize("changes", [{"device": "cuda:77"}, {"model__encoder": "resnet81"}, {"folds": 50}])
def test_nothing_is_written_before_all_is_known_to_fit(recipe, records, changes):
    config = recipe(**changes)
    with pytest.raises(ConfigError):
        fit(config, 0, records, Segment)
    assert not list(config.runs.rglob("*"))


def test_an_image_that_breaks_later_stops_with_its_name(recipe, records, tmp_path):
    """Not kept in memory, an image is read when its turn comes, in a loader process."""
    import shutil

    root = tmp_path / "hands"
    shutil.copytree(records[0].image.parents[3], root)
    moved = [r._replace(image=root / r.image.relative_to(records[0].image.parents[3])) for r in records]
    config = recipe(data__cache_gb=0, workers=1)
    moved[0].image.write_bytes(b"")
    with pytest.raises(DataError, match=f"{moved[0].name}: the file is empty"):
        fit(config, None, moved, Segment)


def test_state_survives_json_exactly():
    from phalanx.engine.state import State

    state = State(epoch=3, loss_sum=0.1 + 0.2, sums={"dice": 1 / 3}, best=0.25)
    assert State(**json.loads(json.dumps(asdict(state)))) == state


def test_an_oversampled_run_continues_to_the_same_bits_and_keeps_its_weights(recipe, records, hands):
    """Factors as images come 2.5 times: two or three times an epoch, and the last batch is cut where it falls."""
    from phalanx.data.metadata import read_metadata

    sex = read_metadata(hands)["sex"]
    changes = {"data__oversample__sex__female": 2.5, "checkpoint_minutes": 1e-9, "augment": "affine", "epochs": 3}
    make = lambda name: recipe("unet", **changes).model_copy(update={"name": name})  # noqa: E731
    whole = fit(make("whole"), 1, records, Segment)
    for step in (3, 5):
        with pytest.raises(Stopped):
            fit(make("stopped"), 1, records, stopping(step))
    folder = fit(make("stopped"), 1, records, Segment)
    for name in ("final/weights.safetensors", "oof.csv", "selection.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    weights = Selection.read(folder / "selection.csv").trained_weights  # of the whole set, whatever the fold
    folds = FoldRun(folder).folds
    assert weights == {record.name: 2.5 if sex[record.group] == "female" else 1 for record in records}
    assert set(weights.values()) == {1, 2.5}
    start = next(json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines())
    assert start["images"] == math.ceil(sum(weight for name, weight in weights.items() if folds[name] != 1))
    assert (folder / "oof.csv").read_text().count("\n") == 1 + 29 * sum(fold == 1 for fold in folds.values())


def test_zero_is_off(recipe, records, monkeypatch):
    """No validation while training, so no `best`; no checkpoint but at the end of an epoch."""
    saves, save = [], Trainer.save
    monkeypatch.setattr(Trainer, "save", lambda trainer: (saves.append(trainer.state.batch), save(trainer)))
    monkeypatch.setattr("time.monotonic", iter(range(0, 10**9, 10**5)).__next__)  # days between any two looks
    folder = fit(recipe(epochs=2, validate_every=0, checkpoint_minutes=0), 0, records, Segment)
    assert saves == [0, 0]
    assert not (folder / "best").exists()
    assert not [line for line in told(folder) if line["event"] == "validate"]
    assert FoldRun(folder).result.value >= 0


@pytest.mark.parametrize(
    "words",
    [{"optim__average_best": 2}, {"optim__early_stop": 2, "optim__monitor": "{split:held_out}"},
     {"optim__schedule": "plateau", "optim__monitor": "{split:inner}"}],
)  # fmt: skip
def test_what_goes_by_validation_needs_it(recipe, words):
    with pytest.raises(ConfigError, match="needs validation during training; give validate_every=1 or more"):
        recipe(validate_every=0, **words)
