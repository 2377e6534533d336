"""The tables of claims: every row makes a recipe, and every published word of a config is in a row."""

import json
import re
from functools import cache

import pytest

from phalanx.config import validate_as
from phalanx.config.compose import compose, config_folder
from phalanx.errors import ConfigError
from phalanx.sweep.results import recipe_of
from phalanx.sweep.table import Ballot, Table, read_table, runs_at, scales, table_names

TABLES = {name: read_table(name) for name in table_names()}
PUBLISHED = r"(?i)# published: (yes|no|adding|worse)|published \(competition|competition report"
ROWS = [(table, row) for table in TABLES.values() for row in table.rows]


def configs(recipe):
    """The recipes of the trainings behind a row."""
    return list(recipe.configs()) if isinstance(recipe, Ballot) else [recipe]


def test_there_are_tables_and_both_scales():
    assert len(TABLES) > 10
    assert {"small", "full"} <= set(scales())


def test_a_recipe_is_what_its_command_trains():
    """Its seed, too, which is set after Hydra has composed the rest."""
    table = TABLES["pet"]
    for seed in (0, 3):
        row = table.row("weights")
        assert (
            table.recipe(row, "small", seed)
            == compose(table.words(row, "small", seed))
            != table.recipe(row, "small", seed + 1)
        )


@cache
def recipes(name, scale):
    """The recipes of a table's rows at a scale, by name; composing one takes a tenth of a second."""
    table = TABLES[name]
    return {row.name: table.recipe(row, scale, 3) for row in table.rows if runs_at(row, scale)}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(
    "scale", [pytest.param(scale, marks=() if scale == "small" else pytest.mark.slow) for scale in scales()]
)
def test_every_row_makes_a_recipe_of_its_own_at_every_scale_it_names(name, scale):
    table, made = TABLES[name], recipes(name, scale)
    assert all(config.seed == 3 for recipe in made.values() for config in configs(recipe))
    kept = {name: json.dumps(recipe_of(recipe)) for name, recipe in made.items()}
    assert len(set(kept.values())) == len(kept)
    for row in table.rows:
        if runs_at(row, scale) and row.baseline:
            assert row.baseline in made


def test_the_baseline_is_shared():
    """Tables that begin with the scale's own recipe train it once."""
    dumps = [json.dumps(recipe_of(made)) for name in TABLES for made in recipes(name, "small").values()]
    assert max(map(dumps.count, dumps)) >= 5


def test_every_loss_and_augmentation_that_was_published_is_in_a_row():
    """But for the base recipe's own, which joins two rows of the augmentation table."""
    words = {word for _, row in ROWS for word in row.overrides}
    for group in ("loss", "augment"):
        for path in sorted((config_folder() / group).glob("*.yaml")):
            if re.search(PUBLISHED, path.read_text()) and path.stem != "affine":
                assert f"{group}={path.stem}" in words, path


def test_every_model_with_a_published_number_of_its_own_is_in_a_row():
    """A number for an encoder or a decoder alone is told in the files of several models; one of them has a row."""
    words = {word for _, row in ROWS for word in row.overrides}
    heads = {path.stem: path.read_text().split("arch:")[0] for path in (config_folder() / "model").glob("*.yaml")}
    own = {name for name, head in heads.items() if re.search(r"published|no help", head)}
    own -= {name for name in own if re.search(r"no published|published for", " ".join(heads[name].split()))}
    assert len(own) > 10
    assert {f"model={name}" for name in own} <= words


def table(**changes):
    rows = [{"name": "a", "source": "s"}, {"name": "b", "source": "s", "baseline": "a", "outcome": "worked"} | changes]
    return validate_as(Table, {"name": "t", "title": "T", "why": "w", "rows": rows})


def test_published_gain_is_a_difference_of_values_or_told():
    assert table().published_gain(table().row("b")) is None
    told = table(published="elastic")
    assert told.published_gain(told.row("b")) == 0.0025
    encoders = TABLES["encoders"]
    assert encoders.published_gain(encoders.row("hrnet_w32")) == pytest.approx(0.9581 - 0.9570)
    assert encoders.published_gain(encoders.row("hrnet_w18")) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "c"}, "b: its baseline 'c' is not another row"),
        ({"baseline": "b"}, "b: its baseline 'b' is not another row"),
        ({"baseline": None}, "b needs both 'baseline' and 'outcome'"),
        ({"name": "a", "baseline": None, "outcome": None}, "a appears twice"),
        ({"published": "drop_bright"}, "b worked, but its published numbers say that it lost"),
        ({"scales": ["smal"]}, "'smal' is not a scale; did you mean small?"),
        ({"at": {"huge": []}}, "'huge' is not a scale"),
        ({"published": "elastik"}, "b: published: 'elastik' is not in configs/published.yaml; did you mean elastic?"),
        ({"outcome": "maybe"}, "outcome='maybe'"),
        ({"override": []}, "no such option; did you mean overrides?"),
        ({"baseline": None, "outcome": None, "classes": ["Ulna"]}, "has no gain and no classes"),
        ({"baseline": None, "outcome": None, "published": "elastic"}, "has no gain and no classes"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        table(**changes)


def test_a_mistake_in_an_override_names_table_and_row():
    bad = table(overrides=["optim.lrr=1"])
    with pytest.raises(ConfigError, match=r"configs/sweep/t\.yaml, b at scale small: optim\.lrr: no such option"):
        bad.recipe(bad.row("b"), "small", 0)


def test_a_file_that_is_no_table_is_refused(tmp_path, monkeypatch):
    (tmp_path / "configs" / "sweep").mkdir(parents=True)
    (tmp_path / "configs" / "config.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    for text, message in (
        ("[", "is not plain YAML"),
        ("- 1", "contains no options"),
        ("rows: []", "title: missing"),
    ):
        (tmp_path / "configs" / "sweep" / "t.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_table("t")
    with pytest.raises(ConfigError, match=r"no configs/sweep/tt\.yaml; did you mean t"):
        read_table("tt")
