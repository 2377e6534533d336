"""A whole tiny training with all trackers, and their files read back."""

import json

import pytest
from tests.tracking import readers
from tests.tracking.test_logger import ALL, same_as_the_lines

from phalanx.cli import main
from phalanx.config.compose import config_folder


@pytest.mark.slow
def test_train_with_every_tracker(tiny, tmp_path, monkeypatch, capsys):
    """Two folds one after the other in one process, then the same command again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(config_folder())
    words = ["train", *tiny("unet", fold="0,1", name="r", runs="runs", epochs=2, validate_every=1),
             "tracking=[tensorboard,wandb,mlflow]"]  # fmt: skip
    assert main(words) == 0
    assert "failed" not in capsys.readouterr().out
    for fold in ("fold0", "fold1"):
        folder = tmp_path / "runs" / "r" / fold
        same_as_the_lines(folder, *ALL)
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        events = {line["event"] for line in lines}
        epoch = next(line for line in lines if line["event"] == "epoch")
        wanted = {"loss", "loss/bce", "loss/dice", "dice", "lr", "images_per_second", "waiting", "memory_gib"}
        assert wanted <= epoch.keys()
        assert 0.5 * (epoch["loss/bce"] + epoch["loss/dice"]) == pytest.approx(epoch["loss"], rel=1e-4)
        assert epoch["images_per_second"] > 0 < epoch["memory_gib"]
        assert lines[-1]["event"] == "held_out"
        assert lines[-1].keys() >= {"out_of_fold/dice"}
        assert {"start", "epoch", "validate"} <= events
        assert "tracking" not in events
    assert {run.info.run_name for run in readers.mlflow_runs(tmp_path / "runs")[1]} == {"r/fold0", "r/fold1"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["configs", "runs", "submissions"]
    assert main([*words[:-1], "tracking=tensorboard"]) == 0  # a runtime key; the folds are finished
    plain = ["name=plain" if word == "name=r" else word for word in words[:-1]]
    assert main(plain) == 0
    for fold in ("fold0", "fold1"):
        weights = [tmp_path / "runs" / name / fold / "final" / "weights.safetensors" for name in ("r", "plain")]
        assert weights[0].read_bytes() == weights[1].read_bytes()
