"""`phalanx diff`: two recipes, of runs, folds, files and experiments."""

import json

import pytest
from tests.standings.folders import make_run

from phalanx.cli import main
from phalanx.config.compose import config_folder
from phalanx.runtime.files import write_json


@pytest.fixture
def place(tmp_path):
    make_run(tmp_path / "a", {0: 0.9}, optim__lr=1e-3, progress="false")
    make_run(tmp_path / "b", {0: 0.9}, optim__lr=3e-4, model__pointrend__points="99")
    return tmp_path


def test_only_keys_that_change_a_result_are_shown(place, capsys):
    assert main(["diff", "a", "b", f"runs={place}", f"json={place}/d.json"]) == 0
    text = capsys.readouterr().out
    assert [line.split() for line in text.splitlines() if line.startswith("optim.lr")] == [
        ["optim.lr", "0.001", "0.0003"]
    ]
    assert "model.pointrend.points" in text
    assert "progress" not in text
    assert "same commit" in text
    found = json.loads((place / "d.json").read_text())["recipe"]
    assert found["optim.lr"] == [0.001, 0.0003]
    assert found["model.pointrend.points"] == [1024, 99]
    assert main(["diff", "a", "b", f"runs={place}", "all=true"]) == 0
    assert "progress" in capsys.readouterr().out


def test_commit_packages_and_machine_are_compared(place, capsys):
    about = {"threads": 2, "machine": "x86_64", "gpu": "H200", "commit": "d" * 40, "packages": {"torch": "2.0"}}
    write_json(place / "b/fold0/environment.json", about)
    assert main(["diff", str(place / "a/fold0"), str(place / "b/fold0/config.yaml")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["commit", "c" * 40, "d" * 40] in lines
    assert ["torch", "-", "2.0"] in lines
    assert any(line[:1] == ["machine"] and line[-1] == "H200" for line in lines)


def test_experiments_by_name_and_file(place, capsys):
    file = config_folder() / "experiment" / "demo_mobilenetv3.yaml"
    assert main(["diff", "demo_fpn", str(file)]) == 0
    text = capsys.readouterr().out
    assert "mobilenet_v2" in text
    assert "tu-mobilenetv3_large_100" in text
    assert main(["diff", "teeth_32_mask", "teeth_32_faster"]) == 0  # whose data set has to be named to be trained on
    assert "mask_rcnn" in capsys.readouterr().out
    assert main(["diff", "demo_fpn", "experiment/demo_fpn"]) == 0
    assert "The recipes are the same." in capsys.readouterr().out
    make_run(place / "demo_fpn", {0: 0.9}, batch=7)
    assert main(["diff", "demo_fpn", "experiment/demo_fpn", f"runs={place}"]) == 0  # a run comes before
    assert "batch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a"], "expected A B, got a"),
        (["a", "c"], "c: no run of that name in"),
        (["demo_fpm", "a"], "did you mean demo_fpn?"),
        (["experiment/none", "a"], "none: no configs/experiment/none.yaml"),
        (["a", "b", "al=true"], "al: no such option; did you mean all?"),
    ],
)
def test_what_cannot_be_compared_is_refused(place, capsys, words, says):
    assert main(["diff", *words, f"runs={place}"]) == 2
    assert says in capsys.readouterr().err
