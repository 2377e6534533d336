"""How a run ends: by a stop, by swa, by the mean of the best, by its time; each the same when interrupted."""

import json
import time
from pathlib import Path

import pytest
import torch
from tests.engine.stopping import MEASURED, Stopped, stopping

from phalanx.engine.fit import fit
from phalanx.engine.loop import Trainer
from phalanx.errors import ConfigError, TrainingError
from phalanx.runs import checkpoint
from phalanx.runtime.device import Device
from phalanx.tasks.segment import Segment

SAME = ("final/weights.safetensors", "best/weights.safetensors", "oof.csv", "last/optimizer.safetensors")


pytestmark = pytest.mark.usefixtures("one_thread")


def stop(*_):
    raise Stopped


def told(folder: Path) -> list[dict]:
    """The log without times and starts."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    kept = [line for line in lines if line["event"] != "start"]
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in kept]


def events(folder, name):
    return [line for line in told(folder) if line["event"] == name]


def weights(folder, name):
    return checkpoint.load_weights(folder / name)[0]


def whole_and_interrupted(config, records, steps, kind=Segment):
    """Folders of a run left alone, and of one stopped at each of ``steps`` counted from where it continued."""
    whole = fit(config, 0, records, kind)
    other = config.model_copy(update={"name": "interrupted"})
    for step in steps:
        with pytest.raises(Stopped):
            fit(other, 0, records, stopping(step, kind))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "finish", stop)  # trained to the end, and nothing written of it
        with pytest.raises(Stopped):
            fit(other, 0, records, kind)
    folder = fit(other, 0, records, kind)
    for name in SAME:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert told(folder) == told(whole)
    return whole, folder


def test_swa_with_restarts_ends_in_the_mean_of_the_last_epochs(recipe, records):
    changes = {"optim__name": "adamp", "optim__schedule": "cosine_restarts", "optim__restarts": "{cycles:3}"}
    config = recipe(
        "unet", model__norm="batch", epochs=4, checkpoint_minutes=1e-9, optim__swa="{start:0.5,lr:3e-3}", **changes
    )
    # three steps an epoch: in the first, right after swa's first epoch, and in the pass that estimates BatchNorm
    whole, _ = whole_and_interrupted(config, records, (2, 9, 5))
    assert [line["lr"] for line in events(whole, "epoch")][2:] == [3e-3, 3e-3]
    assert json.loads((whole / "final" / "state.json").read_text())["averaged"] == 2
    mean, last = weights(whole, "final"), checkpoint.load(whole / "last")[0]
    norm = next(key for key in mean if key.endswith("running_var"))
    plain = next(key for key in mean if key.endswith(".weight"))
    assert torch.equal(mean[plain], last["swa"][plain])
    assert not torch.equal(mean[plain], last["weights"][plain])
    assert not torch.allclose(mean[norm], last["swa"][norm])
    assert torch.isfinite(mean[norm]).all()


HELD_OUT, MONITORED = [0.1, 0.4, 0.6, 0.5, 0.2, 0.2, 0.2], [0.1, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]


class Told(Segment):
    """The monitored Dice stalls from the second epoch on, the held-out one is best in the third."""

    def evaluate(self, network, part, device, ranks):
        assert super().evaluate(network, part, device, ranks) is not None
        return (MONITORED if part == "monitored" else HELD_OUT)[
            len(events(self.config.runs / self.config.name / "fold0", "epoch")) - 1
        ]


def test_plateau_and_stop_by_an_inner_part_and_the_mean_of_the_best(recipe, records):
    changes = {"optim__schedule": "plateau", "optim__plateau": "{factor:0.5,patience:1}", "optim__early_stop": 4}
    changes |= {
        "optim__monitor": "{split:inner,folds:3}",
        "optim__average_best": 2,
        "optim__warmup": 0,
        "validate_every": 1,
    }
    config = recipe("unet", epochs=7, checkpoint_minutes=1e-9, **changes)
    whole, folder = whole_and_interrupted(config, records, (2, 5, 3), Told)
    assert [line["epoch"] for line in events(whole, "plateau")] == [4, 6]
    assert [line["lr"] for line in events(whole, "epoch")] == [1e-2] * 4 + [5e-3] * 2
    assert [(line["epoch"], line["reached"]) for line in events(whole, "stop")] == [(6, 2)]
    names = set((folder / "monitored.csv").read_text().splitlines()[1:])
    assert len(names) == 2  # a patient of three
    start = json.loads((folder / "log.jsonl").read_text().splitlines()[0])
    assert start["images"] == 4
    assert not names & {line.split(",")[0] for line in (folder / "oof.csv").read_text().splitlines()}
    assert json.loads((folder / "best" / "state.json").read_text())["top"] == [[0.6, 3], [0.5, 4]]
    assert not list((folder / "top").iterdir())
    assert (folder / "done.json").is_file()


def test_one_cycle_by_the_training_dice_continues_its_momentum(recipe, records):
    changes = {"optim__name": "sgdp", "optim__schedule": "one_cycle", "optim__early_stop": 50, "optim__warmup": 0.3}
    config = recipe("unet", epochs=3, checkpoint_minutes=1e-9, **changes)
    whole, _ = whole_and_interrupted(config, records, (2, 4))
    assert [line["monitored/dice"] for line in events(whole, "monitor")] == [
        line["dice"] for line in events(whole, "epoch")
    ]


def test_out_of_time_it_stops_whole_says_so_and_goes_on_to_the_same_bits(recipe, records, capsys, monkeypatch):
    """A clock that moves only when the engine looks at its deadline."""
    from phalanx.cli import main

    config = recipe("unet", epochs=3, validate_every=1)
    whole = fit(config, 0, records, Segment)
    config = config.model_copy(update={"name": "timed", "max_hours": 1.0})
    folder, saved = config.runs / "timed" / "fold0", []
    for looks in (3, 1, 4):
        left = iter([False] * looks + [True] * 2)
        monkeypatch.setattr("phalanx.engine.fit.is_over", lambda _, left=left: next(left))
        monkeypatch.setattr("phalanx.engine.loop.is_over", lambda _, left=left: next(left))
        with pytest.raises(TrainingError, match=r"timed/fold0: unfinished: max_hours=1 are over at step \d of 9"):
            fit(config, 0, records, Segment, deadline=0.0)
        saved.append(json.loads((folder / "last" / "state.json").read_text())["step"])
        assert not (folder / "final").exists()
        assert not (folder / "done.json").exists()
    assert saved == sorted(set(saved))
    monkeypatch.undo()

    words = ["infer", "experiment=timed", f"runs={config.runs}", f"out={config.runs}/timed.csv", "progress=false"]
    assert main(words) == 2
    assert "not finished" in capsys.readouterr().err
    assert main([*words, "weights=last"]) == 0
    assert f"note: {folder}: unfinished; predicts with the weights of its last checkpoint" in capsys.readouterr().out
    assert (config.runs / "timed.csv").is_file()

    fit(config, 0, records, Segment, deadline=time.monotonic() + 3600)
    for name in SAME:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert told(folder) == told(whole)
    fit(config, 0, records, Segment, deadline=0.0)  # a finished fold needs no time


def test_time_that_is_over_before_a_fold_begins_leaves_nothing_behind(tiny, tmp_path, capsys):
    from phalanx.cli import main

    words = tiny("unet", fold="0,1", runs=tmp_path / "runs", name="late", max_hours=1e-9)
    assert main(["train", *words]) == 2
    assert "late/fold0: unfinished: max_hours=1e-09 are over at its beginning" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_hours_may_change_between_two_calls(recipe, records):
    config = recipe("unet", epochs=2)
    with pytest.raises(Stopped):
        fit(config, 0, records, stopping(4))
    fit(config.model_copy(update={"max_hours": 5.0}), 0, records, Segment)


def test_what_needs_the_held_out_fold_is_refused_without_one_before_anything_is_written(recipe, records):
    config = recipe("unet", optim__average_best=2)
    with pytest.raises(ConfigError, match=r"optim\.average_best: fold=all holds nothing out"):
        fit(config, None, records, Segment)
    assert not list(config.runs.rglob("*"))


@pytest.mark.slow
def test_fp16_skips_steps_that_overflow_and_continues_its_scaler(recipe, records, monkeypatch):
    """On a CPU, which has a scaler too. Its first scale is far too large, and grows again while training goes on."""

    class Half(Device):
        def scaler(self):
            return torch.amp.GradScaler("cpu", init_scale=2.0**30, growth_interval=2)

    monkeypatch.setattr("phalanx.engine.loop.open_device", lambda *_: Half(torch.device("cpu"), "fp16"))
    config = recipe("unet", epochs=3, data__size=32, checkpoint_minutes=1e-9)
    whole, _ = whole_and_interrupted(config, records, (3, 4))
    scale = json.loads((whole / "last" / "state.json").read_text())["scaler"]["scale"]
    assert 1 < scale < 2.0**30
    steps = {key: value for key, value in checkpoint.load(whole / "last")[0]["optimizer"].items() if "step" in key}
    assert 0 < next(iter(steps.values())) < 9  # some of the steps were skipped
