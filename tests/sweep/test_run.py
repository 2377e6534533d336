"""A sweep: what it trains, what it shares, what it keeps, and what it does with a row that fails."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from phalanx.cli import main
from phalanx.errors import DataError
from phalanx.sweep import trials
from phalanx.sweep.results import RESULTS, changed, read_results
from phalanx.sweep.table import read_table


def sweep(hands, *words):
    return main(["sweep", *words, "scale=tiny", f"data.root={hands}"])


def test_a_sweep_trains_what_is_missing_once(place, hands, capsys):
    assert sweep(hands, "one", "seeds=0") == 1
    told = capsys.readouterr().out
    assert "failed: one/broken seed 0 fold 0: loss.stages[0].weights.dise: no such term; did you mean dice?" in told
    assert "one/same seed 0 fold 0: Dice" in told
    assert told.count("the recipe of one/plain") == 1
    assert len(list(Path("runs/sweep/tiny/hands").iterdir())) == 2  # plain and faster
    found = {result.row: result for result in read_results()}
    assert set(found) == {"plain", "same", "faster"}
    assert found["same"].value == found["plain"].value != found["faster"].value
    assert sorted(path.name for path in (RESULTS / "tiny/hands/one").iterdir()) == [
        "faster.seed0.fold0.json", "plain.seed0.fold0.json", "same.seed0.fold0.json",
    ]  # fmt: skip

    plain = found["plain"]
    folder = next(
        p for p in Path("runs/sweep/tiny/hands").glob("*/fold0") if f"lr: {0.01}" in (p / "config.yaml").read_text()
    )
    score = json.loads((folder / "oof_score.json").read_text())
    assert (plain.metric.name, plain.value) == ("dice", score["dice"])
    assert plain.images == dict.fromkeys(score["per_patient"], 2)
    for name, dice in score["per_patient"].items():
        assert sum(plain.patients[name]) / len(plain.classes) == pytest.approx(dice, abs=1e-5)
    for number, label in enumerate(plain.classes):
        mean = sum(values[number] for values in plain.patients.values()) / len(plain.patients)
        assert mean == pytest.approx(score["classes"][label]["dice"], abs=1e-5)
    assert plain.command == "phalanx sweep one scale=tiny rows=plain seeds=0 fold=0"
    assert str(hands) not in json.dumps(plain.recipe) + plain.command
    assert not (folder / "last").exists()
    assert (folder / "final").is_dir()

    before = {path: path.stat().st_mtime_ns for path in RESULTS.rglob("*.json")}
    assert sweep(hands, "two", "rows=plain,faster", "seeds=0") == 0  # another table with the same recipes
    assert sweep(hands, "one", "rows=plain,same,faster", "seeds=0") == 0
    told = capsys.readouterr().out
    assert "the recipe of one/plain" in told
    assert told.count("as it was") == 3
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert len(list(Path("runs/sweep/tiny/hands").iterdir())) == 2


@pytest.mark.slow
def test_a_run_killed_before_its_result_was_written_is_not_trained_again(place, hands, monkeypatch):
    class Killed(Exception):
        pass

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(trials, "curve", kill)
        with pytest.raises(Killed):
            sweep(hands, "one", "rows=plain", "seeds=0")
    final = next(Path("runs/sweep").rglob("final/weights.safetensors"))
    when = final.stat().st_mtime_ns
    assert not RESULTS.exists()
    assert sweep(hands, "one", "rows=plain", "seeds=0") == 0
    assert final.stat().st_mtime_ns == when
    assert len(read_results()) == 1


@pytest.mark.slow
def test_on_several_devices_the_results_are_the_same(place, trained, hands, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert sweep(hands, "one", "rows=plain,faster", "seeds=0") == 0
    alone = {result.row: result for result in read_results()}
    shutil.rmtree("results")
    capsys.readouterr()
    assert sweep(hands, "one", "seeds=0", "devices=cpu,cpu", "runs=a place/it's here") == 1  # nothing trained there
    printed = capsys.readouterr().out
    alone["same"] = replace(alone["plain"], row="same", overrides=[*alone["plain"].overrides, "optim.lr=1e-2"])
    several = {result.row: result for result in read_results()}
    assert set(several) == {"plain", "same", "faster"}
    for row, result in several.items():
        assert replace(result, seconds=0, command="") == replace(alone[row], seconds=0, command=""), row
    titles = ["one/plain seed 0 fold 0: Dice", "one/same seed 0 fold 0: Dice", "one/faster seed 0 fold 0: Dice"]
    at = [printed.index(title) for title in [*titles, "failed: one/broken seed 0 fold 0: loss.stages[0]"]]
    assert at == sorted(at)  # in the order of the table
    assert printed.count("the recipe of one/plain") == 1
    assert "one/faster seed 0 fold 0 cpu | " in printed


def test_without_a_data_set_every_row_fails_for_that_reason(place, capsys):
    assert main(["sweep", "one", "scale=tiny", "seeds=0", "data.root=nowhere"]) == 1
    assert capsys.readouterr().out.count("nowhere") == 4


@pytest.mark.slow
def test_a_row_whose_words_changed_is_stale_and_trained_again(place, trained, hands, capsys):
    assert sweep(hands, "one", "rows=faster", "seeds=0") == 0
    file = place / "configs/sweep/one.yaml"
    file.write_text(file.read_text().replace("optim.lr=2e-2", "optim.lr=3e-2"))
    table = read_table("one")
    config = table.recipe(table.row("faster"), "tiny", 0)
    assert changed(read_results()[0], config) == "optim.lr was 0.02, now it is 0.03"
    assert main(["claims", "out=results.md"]) == 0
    assert "faster.seed0.fold0.json`: optim.lr was 0.02, now it is 0.03" in Path("results.md").read_text()
    assert sweep(hands, "one", "rows=faster", "seeds=0") == 0
    (result,) = read_results()
    assert changed(result, config) is None
    result.recipe["optim"].pop("layer_decay")  # as if the option had come later
    assert changed(result, config) is None
    result.recipe["optim"]["of_old"] = 1
    assert "of_old" in (changed(result, config) or "")
    result.recipe.clear()
    assert "missing" in (changed(result, config) or "")


def test_mistakes_in_the_recipe_are_told_before_anything_is_trained(place, trained, hands, capsys):
    file = place / "configs/sweep/one.yaml"
    file.write_text(file.read_text().replace("optim.lr=2e-2", "optim.lrr=2e-2").replace("dise", "dice"))
    assert sweep(hands, "one", "rows=plain,faster", "seeds=0") == 1
    told = capsys.readouterr().out
    assert told.startswith("failed: one/faster seed 0: configs/sweep/one.yaml, faster at scale tiny: optim.lrr")
    assert len(read_results()) == 1


def test_a_result_that_is_none_or_lies_elsewhere_is_refused(tmp_path, invented):
    import numpy as np

    result = invented("a", 0, np.zeros((2, 3)))
    result.write(tmp_path)
    assert read_results(tmp_path) == [result]
    path = result.path(tmp_path)
    path.rename(path.with_name("b.seed0.fold0.json"))
    with pytest.raises(DataError, match="move it there"):
        read_results(tmp_path)
    path.with_name("b.seed0.fold0.json").write_text("{}")
    with pytest.raises(DataError, match="not a result of a sweep"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["oen"], "oen: no configs/sweep/oen.yaml; did you mean one?"),
        ([], "expected one table, several, or all: one, two"),
        (["one", "two", "rows=plain"], "rows= goes with one"),
        (["one", "rows=plane"], "rows=plane: no such row in one; did you mean plain?"),
        (["one", "seeds=0..1"], "seeds=0..1: expected at most 100 whole numbers"),
        (["one", "max_hours=2"], "max_hours: a sweep trains each row on one device, to the end"),
        (["one", "devices=0,1", "device=cpu"], "devices: for several devices; device= is for one"),
        (["one", "devices=gpu"], "devices: gpu: expected numbers of GPUs, as in 0,1, or cpu,cpu"),
        (["one", "epochs=3"], "epochs: would make another recipe"),
        (["one", "scale=tinny"], "scale=tinny: no configs/experiment/claims_tinny.yaml; did you mean tiny?"),
        (["one", "--row", "plain"], "row: would make another recipe"),
    ],
)
def test_a_misspelt_sweep_is_refused(place, words, message, capsys):
    assert main(["sweep", "scale=tiny", *words] if "scale=tinny" not in words else ["sweep", *words]) == 2
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


def test_folds_are_those_of_the_recipe(place, hands, capsys):
    assert sweep(hands, "one", "rows=plain", "seeds=0", "fold=all") == 1
    assert "fold=all: a sweep needs held-out images" in capsys.readouterr().out
    assert sweep(hands, "one", "rows=plain", "seeds=0", "fold=2") == 1
    assert "fold 2 of 2" in capsys.readouterr().out
