"""Published numbers stand once, in configs/published.yaml; whatever else gives one is compared with it."""

import re
from pathlib import Path

import pytest
import yaml

from phalanx.config.compose import compose, config_folder
from phalanx.errors import ConfigError
from phalanx.sweep.published import read_published
from phalanx.sweep.results import recipe_of
from phalanx.sweep.table import read_table, table_names

NUMBERS = read_published()
DICE = {f"{entry.dice:.4f}" for entry in NUMBERS.values() if entry.dice is not None}
GAINS = {f"{entry.gain:+.4f}" for entry in NUMBERS.values() if entry.gain is not None}
LOSSES = {"-0.0030"}  # the FPN's from validation to the public score, whose difference to Unet++'s is in the file
CITED = re.compile(r"(?<![\d.])(?:0)?\.([89]\d{2,3})(?!\d)")  # a Dice, to three or four digits
CITED_GAIN = re.compile(r"(?<![\w.])([+-])0?(\.00\d+)")
MODELS = sorted(path.stem for path in (config_folder() / "model").glob("*.yaml"))


def comments(path: Path) -> str:
    """The comment lines of a file, and of a sweep table also what it says of its rows."""
    text = path.read_text(encoding="utf-8")
    said = [line.partition("#")[2] for line in text.splitlines() if "#" in line]
    if path.parent.name == "sweep":
        table = yaml.safe_load(text)
        said += [table["title"], table["why"], *(row["source"] for row in table["rows"])]
    return "\n".join(said)


def dice_in(text: str) -> set[str]:
    return {f"0.{digits:<04}" for digits in CITED.findall(text)}


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(config_folder().rglob("*.yaml")) if p.name != "published.yaml"],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_no_other_number_is_called_published(path):
    text = comments(path)
    assert dice_in(text) <= DICE
    assert {f"{float(sign + digits):+.4f}" for sign, digits in CITED_GAIN.findall(text)} <= GAINS | LOSSES


def test_the_patterns_find_what_they_should():
    assert dice_in("(.9728 published), 0.967 and .8210; lr 1e-4, .95, p .5, 1.9728") == {"0.9728", "0.9670", "0.8210"}
    assert CITED_GAIN.findall("+.0025, -.0003; .003 to .004, 1e-.0002") == [("+", ".0025"), ("-", ".0003")]
    assert sum(len(dice_in(comments(p))) for p in config_folder().rglob("*.yaml")) > 80


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_numbers_of_its_own_and_no_others(name):
    head = comments(config_folder() / "model" / f"{name}.yaml")
    assert dice_in(head) == {f"{entry.dice:.4f}" for entry in NUMBERS.values() if name in entry.models}


def test_models_of_numbers_are_files():
    assert {name for entry in NUMBERS.values() for name in entry.models} <= set(MODELS)


def test_a_row_gives_its_own_number_in_its_source():
    checked = 0
    for name in table_names():
        table = read_table(name)
        for row in table.rows:
            number = table.published(row)
            if number and number.dice and dice_in(row.source):
                assert f"{number.dice:.4f}" in dice_in(row.source), row.name
                checked += 1
    assert checked > 20


def test_a_score_of_other_images_makes_no_gain():
    decoders, ensembles = read_table("decoders"), read_table("ensembles")
    assert decoders.published_gain(decoders.row("efficientnetv2_l_unetpp")) is None  # of one fold
    assert decoders.published_gain(decoders.row("hrnet_w48_ocr")) == pytest.approx(0.9755 - 0.9728)
    assert ensembles.published_gain(ensembles.row("a_model_per_fold")) == pytest.approx(0.9624 - 0.9736)
    assert ensembles.published_gain(ensembles.row("top_three")) == pytest.approx(0.0002)


def test_the_final_recipe_is_the_published_one():
    config = compose({"experiment": "published_final"})
    model, optim = config.model, config.optim
    assert (model.arch, model.encoder, model.pointrend) == ("fpn", "efficientnet-b3", None)
    assert (config.data.size, config.batch, config.accumulate, config.epochs) == (2048, 2, 1, 50)
    (stage,) = config.loss.stages
    assert stage.weights == {"bce": 0.3, "dice": 0.4, "focal": 0.3}
    assert (optim.name, optim.lr, optim.schedule, optim.warmup) == ("adamw", 1e-4, "cosine", 0.1)
    assert (optim.ema, optim.clip, model.norm) == (0.0, 0.0, "group")
    assert config.augment.elastic.p > 0
    assert (config.augment.flip, config.augment.warp, config.augment.pixel) == (0, 0, [])
    number = NUMBERS["final_single"]
    assert (number.score, f"{number.dice:.4f}") == ("private", "0.9729")


def test_the_votes_begin_from_the_final_recipe():
    table = read_table("ensembles")
    row = recipe_of(table.recipe(table.row("fpn_b3"), "full", 0))
    assert row == recipe_of(compose({"experiment": "published_final"}))


def test_a_file_of_numbers_that_says_nothing_is_refused(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/config.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"published\.yaml: no such file"):
        read_published()
    (tmp_path / "configs/published.yaml").write_text("a: {score: private, recipe: r}")
    with pytest.raises(ConfigError, match=r"published\.yaml: a: dice: or gain: or gap: is needed"):
        read_published()
