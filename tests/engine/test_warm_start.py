"""Warm start: whose weights, which fold's, what is refused, what is kept of it."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.engine.stopping import Stopped, stopping

from phalanx.data.records import train_records
from phalanx.engine.fit import fit
from phalanx.engine.warm_start import begin, start_folder
from phalanx.errors import ConfigError, TrainingError
from phalanx.models.build import build
from phalanx.runs import checkpoint
from phalanx.runs.checkpoint import load_weights
from phalanx.tasks.segment import Segment


@pytest.fixture
def begun(recipe, runs, tmp_path):
    """A recipe that begins with a finished run of the shared ones, in a folder of its own."""
    shutil.copytree(runs, tmp_path / "runs")

    def make(start, model="fpn", **changes):
        return recipe(model, model__init_from=start, **changes)

    return make


def task_of(config):
    """A task with its network alone."""
    task = Segment.__new__(Segment)
    task.config = config
    task.network = build(config.model, classes=len(config.data.classes), size=config.data.size)
    return task


def held_out(records, folder):
    """Images of a fold, by the run's own list."""
    import csv

    with (folder / "folds.csv").open(newline="") as file:
        names = {row["image_name"] for row in csv.DictReader(file) if f"fold{row['fold']}" == folder.name}
    return [record for record in records if record.name in names]


def test_a_run_begins_with_the_final_weights_of_the_same_fold_and_keeps_their_hash(begun):
    config = begun("fpn")
    torch.manual_seed(0)
    task = task_of(config)
    found = begin(task, config, config.runs / "new" / "fold1", 1, [])
    weights, digest = load_weights(config.runs / "fpn" / "fold1" / "final")
    assert found == {"start": str(config.runs / "fpn" / "fold1"), "weights": digest, "left_out": []}
    assert all(torch.equal(value, weights[key]) for key, value in task.network.state_dict().items())


def test_a_point_head_is_put_on_a_run_without_one_and_taken_off_again(begun, tmp_path):
    config = begun("fpn")
    plain = config.model_copy(deep=True)
    plain.model.pointrend = None
    weights, _ = load_weights(config.runs / "fpn" / "fold0" / "final")
    without = task_of(plain)
    assert begin(without, plain, plain.runs / "new", 0, [])["left_out"] == []
    for key, value in without.network.state_dict().items():
        assert torch.equal(value, weights[key.replace("core.", "core.segmenter.", 1)]), key

    folder = config.runs / "plain" / "fold0"
    shutil.copytree(config.runs / "fpn" / "fold0", folder)
    shutil.rmtree(folder / "final")
    values = yaml.safe_load((folder / "config.yaml").read_text())
    values["model"]["pointrend"], values["loss"]["options"]["point"] = None, None
    for stage in values["loss"]["stages"]:
        stage["weights"].pop("point", None)
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    checkpoint.save(folder / "final", {"weights": without.network.state_dict()}, {})
    config.model.init_from = "plain"
    task = task_of(config)
    fresh = {key: value.clone() for key, value in task.network.state_dict().items()}
    left = begin(task, config, config.runs / "new", 0, [])["left_out"]
    assert left == [key for key in fresh if key.startswith("core.head.")] != []
    for key, value in task.network.state_dict().items():
        assert torch.equal(value, fresh[key] if key in left else weights[key]), key


def test_other_classes_need_new_heads_and_get_them(begun):
    config = begun("fpn")
    config.data.classes = config.data.classes[:5]
    fresh = task_of(config)
    before = {key: value.clone() for key, value in fresh.network.state_dict().items()}
    with pytest.raises(
        ConfigError, match=r"trained on 29 classes \(finger-1, \.\.\.\), this recipe has 5 .*reinit_head=true"
    ):
        begin(fresh, config, config.runs / "new", 0, [])
    config.model.reinit_head = True
    found = begin(fresh, config, config.runs / "new", 0, [])
    weights, _ = load_weights(config.runs / "fpn" / "fold0" / "final")
    for key, value in fresh.network.state_dict().items():
        new = key.startswith(("core.head.", "core.segmenter.head."))
        assert (key in found["left_out"]) == new
        assert torch.equal(value, before[key] if new else weights[key]), key
    assert any(key.startswith("core.head.") for key in found["left_out"])


def test_the_same_number_of_other_classes_is_no_match(begun):
    config = begun("unet", "unet")
    config.data.classes = config.data.classes[::-1]
    with pytest.raises(ConfigError, match="trained on 29 classes"):
        begin(task_of(config), config, config.runs / "new", 0, [])


def test_another_network_is_refused_naming_the_key(begun):
    config = begun("unet", "fpn")
    with pytest.raises(ConfigError, match=r"model\.init_from=unet: another network .*model\.arch=unet there, fpn here"):
        begin(task_of(config), config, config.runs / "new", 0, [])
    config = begun("unet", "unet", model__norm="batch")
    with pytest.raises(ConfigError, match=r"model\.norm=group there, batch here"):
        begin(task_of(config), config, config.runs / "new", 0, [])


def test_weights_that_have_seen_what_is_held_out_are_refused(begun, records):
    config = begun("fpn")
    other = config.runs / "fpn" / "fold1"
    task = task_of(config)
    seen = held_out(records, config.runs / "fpn" / "fold0")
    assert begin(task, config, config.runs / "new", 1, held_out(records, other))
    with pytest.raises(
        TrainingError, match=rf"was trained on {len(seen)} images that this fold holds out, such as image"
    ):
        begin(task, config, config.runs / "new", 1, seen)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fpm", r"model\.init_from=fpm: no run of that name"),
        ("fpn", r"model\.init_from=fpn: has no all; name the folder of"),
    ],
)
def test_a_run_that_is_not_there_says_what_is(begun, name, message):
    with pytest.raises(ConfigError, match=message):
        start_folder(name, begun("fpn").runs, None)


def test_a_begun_run_goes_on_without_the_one_it_began_with(begun, hands):
    """Stopped before its first checkpoint it needs it still, and the same; behind it no more."""
    records = train_records(hands)
    config = begun("unet", "unet", epochs=1).model_copy(update={"name": "new"})

    with pytest.raises(Stopped):
        fit(config, 0, records, stopping(1))
    folder = config.runs / "new" / "fold0"
    record = json.loads((folder / "start.json").read_text())
    assert record["weights"] == load_weights(config.runs / "unet" / "fold0" / "final")[1]
    (folder / "start.json").write_text(json.dumps(record | {"weights": "other"}))
    with pytest.raises(TrainingError, match=r"fold0: began with other weights than .*fold0 holds now; give another"):
        fit(config, 0, records, Segment)
    (folder / "start.json").write_text(json.dumps(record))
    fit(config, 0, records, Segment)
    final = load_file(folder / "final" / "weights.safetensors")
    (folder / "done.json").unlink()
    shutil.rmtree(folder / "final")
    shutil.rmtree(config.runs / "unet")
    fit(config, 0, records, Segment)
    again = load_file(folder / "final" / "weights.safetensors")
    assert all(torch.equal(value, again[key]) for key, value in final.items())
