"""What the bare `phalanx train` says before it makes a set, and when it begins; `phalanx models`."""

import json
import sys

import pytest

from phalanx.cli import OTHER_NAMES, main
from phalanx.commands import first_training
from phalanx.config import ClassifyConfig, DetectConfig, Phantom
from phalanx.config.compose import compose
from phalanx.profiling.catalog import count_parameters
from phalanx.profiling.duration import SetTime, TrainTime, time_set, time_training


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("phalanx.profiling.duration.time_set", lambda phantom: SetTime(100.0, 2, 5.0, 320))
    times = TrainTime(7200.0, 1.5, 0.5, 256, "CPU, 2 threads", "32")
    monkeypatch.setattr("phalanx.profiling.duration.time_training", lambda config, images: times)
    return tmp_path


def test_without_a_terminal_nothing_is_begun(here, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert main(["train"]) == 2
    out, err = capsys.readouterr()
    assert "160 synthetic patients" in out
    assert "about 2 h 0 min" in out
    assert "about 2 h 1 min" in out
    assert "nothing was begun: without a terminal to ask on, give yes=true" in err
    assert not any(here.iterdir())


@pytest.mark.parametrize(("answer", "begins"), [("", False), ("n", False), ("y", True), ("YES", True), (None, False)])
def test_a_terminal_is_asked(here, capsys, monkeypatch, answer, begins):
    def say(_):
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", say)
    assert first_training.announce(compose({}), agreed=False) is begins
    assert first_training.announce(compose({}), agreed=True)


def test_a_run_that_was_begun_goes_on_without_a_question(here, capsys):
    folder = here / "runs" / "base" / "fold0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("format: 2\n")
    assert first_training.announce(compose({}), agreed=False)
    assert capsys.readouterr().out == ""


def test_options_are_consent(tiny, tmp_path, monkeypatch, capsys):
    """Words of any kind train as before, with yes=true or without it."""
    monkeypatch.setattr(first_training, "announce", lambda *_, **__: pytest.fail("asked"))
    words = tiny("unet", fold="0,1", name="x", runs=tmp_path, epochs=1)
    assert main(["train", *words, "yes=true"]) == 0
    out = capsys.readouterr().out
    assert "x: 2 folds, dice " in out
    assert "95% interval" in out
    assert main(["train", *words]) == 0


def test_times_are_measured():
    found = time_set(Phantom(kind="hand", patients=8, size=128, seed=0))
    assert (found.timed, found.images) == (2, 16)
    assert found.seconds > 0
    for name, kind in (("demo_brain", ClassifyConfig), ("demo_pet_boxes", DetectConfig)):
        config = compose({"experiment": name, "device": "cpu"})
        assert isinstance(config, kind)
        one = time_training(config, 10)
        assert min(one.step, one.forward) > 0
        assert time_training(config.model_copy(update={"epochs": 50 * config.epochs}), 10).seconds > one.seconds


def test_models_lists_networks_with_published_scores(capsys, tmp_path):
    assert main(["models", "mit_b0", f"json={tmp_path}/m.json"]) == 0
    text = capsys.readouterr().out
    assert "Dice 0.9665 validation (SegFormer, encoder not stated)" in text
    found = json.loads((tmp_path / "m.json").read_text())
    (encoder,) = [one for one in found["encoders"] if one["name"] == "mit_b0"]
    assert encoder["parameters"] == count_parameters("mit_b0") > 3_000_000
    assert {"mit_b0_fpn", "mit_b0_segformer"} <= set(encoder["configs"])
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("unetplusplus", "retinanet", "efficientnet-b3", "tu-convnextv2_tiny"))
    assert main(["models", "nosuchnetwork"]) == 2
    assert "no architecture or encoder has such a name" in capsys.readouterr().err
    assert main(["models", "all=true"]) == 2


@pytest.mark.parametrize("word", sorted(OTHER_NAMES))
def test_names_of_other_programs_are_told_ours(capsys, word):
    assert main([word, "experiment=base"]) == 2
    assert f"it is phalanx {OTHER_NAMES[word]} here" in capsys.readouterr().err
