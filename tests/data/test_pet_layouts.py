"""Synthetic pets as the default data set of each task: which disease has which truth, by command and by recipe."""

import pytest

from phalanx.cli import main
from phalanx.config.compose import compose
from phalanx.data.objects import shapes_of
from phalanx.data.quarantine import kept_records
from phalanx.data.root import resolve_root
from phalanx.errors import ConfigError
from phalanx.phantom.kinds import KINDS, data_of

TINY = {"data.phantom.patients": "6", "data.phantom.size": "128"}
MORE = "{disease:%s,test_patients:1,test_diseased:0,diseased:0.5}"


@pytest.fixture
def here(tmp_path, monkeypatch):
    from pathlib import Path

    (tmp_path / "configs").symlink_to(Path("configs").resolve())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("experiment", "disease"),
    [("pet_boxes", "ab04"), ("pet_boxes_hips", "mu04"), ("pet_boxes_fractures", "mu02"),
     ("pet_boxes_liver_convnextv2", "ab01")],
)  # fmt: skip
def test_a_recipe_without_root_reads_the_synthetic_set_of_its_disease(here, experiment, disease):
    config = compose({"experiment": experiment, "data.phantom.options": MORE % disease, **TINY})
    data = resolve_root(config.data)
    records = kept_records(data)
    found = [shapes_of(record, data) for record in records]
    assert sum(map(len, found)) > 0
    if experiment == "pet_boxes_fractures":
        assert any(not each for each in found)  # images without objects are there, too
    else:
        assert all(found)
    if config.model.architecture == "mask_rcnn":
        assert all(one.outlines for each in found for one in each)


def test_a_data_set_with_boxes_has_the_recipe_of_its_name(here):
    assert compose({"data": "pet_boxes", "data.root": "."}).model.architecture == "faster_rcnn"
    with pytest.raises(ConfigError, match=r"has boxes, .* as in experiment=teeth_tooth_faster"):
        compose({"data": "teeth_tooth", "data.root": "."})


@pytest.mark.parametrize(
    ("experiment", "disease", "expected"),
    [
        ("pet", "ab04", "is labelled with boxes, and data.layout=masks reads masks; give one of ab01, ch02"),
        (
            "pet_boxes",
            "ab01",
            "is labelled with masks, and data.layout=boxes reads boxes; give one of ab04, ch05",
        ),
        ("pet_boxes", "ab99", "must be one of ab01"),
    ],
)
def test_a_disease_without_the_truth_that_is_read_is_refused_before_anything_is_made(
    here, experiment, disease, expected
):
    config = compose({"experiment": experiment, "data.phantom.options": f"{{disease:{disease}}}", **TINY})
    with pytest.raises(ConfigError, match=expected) as caught:
        resolve_root(config.data)
    assert "\n" not in str(caught.value)
    assert not (here / "data").exists()


def test_the_synthetic_set_of_another_kind_has_no_csv_of_boxes():
    with pytest.raises(ConfigError, match="root: name the data set's folder"):
        compose({"experiment": "pet_boxes", "data.phantom.kind": "hand"})


def test_phantom_names_the_recipe_that_fits(here, capsys):
    for disease, data in (("ab01", "pet"), ("mu04", "pet_boxes"), ("mu02", "pet_boxes_fractures")):
        options = KINDS["pet"].options(out="x", patients=1, disease=disease)
        assert data_of("pet", options) == data
    assert main(["phantom", "pet", "disease=mu02", "patients=1", "test_patients=1", "test_diseased=0", "size=128",
                 "out=set"]) == 0  # fmt: skip
    assert "bash train.sh data=pet_boxes_fractures data.root=set data.size=128" in capsys.readouterr().out
