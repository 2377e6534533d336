"""`phalanx config`: every value of the resolved recipe, and where it is from."""

import json

import pytest

from phalanx.cli import main
from phalanx.config import dotted_keys, flatten
from phalanx.config.base import nearest_key
from phalanx.config.compose import compose, config_folder
from phalanx.config.origin import DEFAULT, resolve


@pytest.mark.parametrize("name", [path.stem for path in (config_folder() / "experiment").glob("*.yaml")][::6])
def test_every_value_is_where_it_is_said_to_be(name):
    """A value that is a default by its source has the default of its class, and no other file has it."""
    pairs = {"experiment": name, "seed": "7", "data.root": "somewhere"}
    found = resolve(pairs)
    assert {one.key: one.value for one in found.origins} == flatten(compose(pairs).model_dump(mode="json"))
    sources = {one.key: one.source for one in found.origins}
    assert sources["seed"] == "command line"
    assert sources["model.encoder"].startswith("configs/")
    assert set(sources.values()) <= {*found.files, DEFAULT, "command line", f"name of experiment={name}"}
    text = (config_folder() / "experiment" / f"{name}.yaml").read_text()
    if "\nepochs:" in text:
        assert sources["epochs"] == f"configs/experiment/{name}.yaml"


def test_the_last_file_wins_and_the_command_line_over_it(capsys, tmp_path):
    words = ["experiment=demo_fpn", "optim.ema=.9", "model.encoder=resnet18"]
    assert main(["config", *words, f"json={tmp_path}/c.json"]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert lines["optim.lr"] == ["optim.lr", "0.0015", "configs/experiment/demo_fpn.yaml"]
    assert lines["optim.ema"] == ["optim.ema", "0.9", "command", "line"]
    assert lines["model.encoder"] == ["model.encoder", "resnet18", "command", "line"]
    assert lines["model.arch"] == ["model.arch", "fpn", "configs/model/fpn_light.yaml"]
    assert lines["batch"] == ["batch", "2", "default"]
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["recipe"]["optim.lr"] == {"value": 0.0015, "source": "configs/experiment/demo_fpn.yaml"}


def test_sections_and_changes_alone(capsys):
    assert main(["config", "experiment=demo_fpn", "optim", "lr", "changed=true"]) == 0
    keys = [line.split()[0] for line in capsys.readouterr().out.splitlines()[:-2]]
    assert keys
    assert all(key.startswith("optim.") for key in keys)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["experiment=demo_fpm"], "did you mean demo_fpn?"),
        (["lr=3"], "lr: no such option; did you mean optim.lr?"),
        (["optm"], "optm: the recipe has no such section or key"),
        (["changed=1"], "changed=1: expected true or false"),
    ],
)
def test_wrong_words_are_refused(capsys, words, says):
    assert main(["config", *words]) == 2
    assert says in capsys.readouterr().err


def test_a_leaf_is_told_its_shallowest_section():
    known = dotted_keys(type(compose({})))
    assert nearest_key("lr", known) == "; did you mean optim.lr?"
    assert nearest_key("size", known) == "; did you mean data.size?"
    assert nearest_key("optm.lr", known) == "; did you mean optim.lr?"
