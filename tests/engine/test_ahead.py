"""The host runs ahead of the device by a step, here on a CPU: same weights, log and messages as by waiting for each."""

import re
import time
from dataclasses import asdict

import pytest
import torch
from tests.engine.stopping import Stopped, stopping
from tests.engine.test_ends import told
from tests.engine.test_nonfinite import NAN, everything, poisoned
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from phalanx.engine.ema import Average
from phalanx.engine.fit import fit
from phalanx.engine.loop import Trainer
from phalanx.engine.oom import Statistics
from phalanx.engine.step import Stepper
from phalanx.errors import TrainingError
from phalanx.runs.checkpoint import restore_optimizer
from phalanx.runtime.device import Device
from phalanx.runtime.distributed import launch
from phalanx.tasks.segment import Segment

pytestmark = pytest.mark.usefixtures("one_thread")


def choose(patch, ahead):
    """As on a GPU; without ``ahead`` each step is waited for, by the same fused optimizer."""
    patch.setattr("phalanx.engine.loop.runs_ahead", lambda device: True)
    if not ahead:
        patch.setattr("phalanx.engine.step.skips_on_device", lambda optimizer: False)


def an_epoch(config, records, task, ahead, **changes):
    """A trainer after an epoch, with what it logged, or the error that ended it."""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        choose(patch, ahead)
        trainer = Trainer(config, config.runs, task(config, records, []))
    assert trainer.take_step.ahead == ahead
    for name, value in changes.items():
        setattr(trainer.take_step, name, value)
    trainer.began = trainer.saved = time.monotonic()
    trainer.told, trainer.error = [], None
    trainer.log = lambda event, step, **values: trainer.told.append((event, step, values))
    try:
        trainer.train_epoch()
    except TrainingError as error:
        trainer.error = str(error)
    return trainer


def same(one, two):
    assert (one.told, one.error) == (two.told, two.error)
    assert asdict(one.state) == asdict(two.state)
    before, after = everything(one), everything(two)
    assert before.keys() == after.keys()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []
    rates = [[group["lr"] for group in trainer.optimizer.param_groups] for trainer in (one, two)]
    assert rates[0] == rates[1]


@pytest.mark.parametrize(
    ("where", "when", "changes", "skipped"),
    [
        ("loss", (), {}, 0),
        ("loss", (3, 5), {"on_nan": "skip", "accumulate": 2}, 2),
        ("gradient", (2, 3, 5), {"on_nan": "halve"}, 3),  # the last of five steps among them
    ],
)
def test_an_epoch_ends_in_the_same_weights_log_and_messages(recipe, records, capsys, where, when, changes, skipped):
    """BatchNorm, whose statistics a skipped step has moved; clipping and the average are left out with it."""
    config = recipe(batch=2, model__norm="batch", optim__ema=0.5, optim__clip=0.1, **changes)
    trainers = [an_epoch(config, records[:10], poisoned(where, when), ahead) for ahead in (False, True)]
    same(*trainers)
    assert trainers[1].state.skipped == skipped
    lines = capsys.readouterr().out.splitlines()
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    assert len(lines) == 2 * skipped


@pytest.mark.parametrize("when", [pytest.param((2,), marks=pytest.mark.slow), (3,)])
def test_a_step_that_ends_training_has_the_same_message_and_changes_nothing(recipe, records, when):
    """Known during the next step, or after the last one."""
    config = recipe(batch=2, optim__ema=0.5)
    waited, ahead = (an_epoch(config, records[:6], poisoned("loss", when), ahead) for ahead in (False, True))
    assert re.search(
        rf"epoch 1, step {when[0]}, batch {when[0]}: the loss term dice .* Nothing of it is saved", ahead.error
    )
    assert ahead.error == waited.error
    weights = [{k: v for k, v in everything(t).items() if not k.endswith("|step")} for t in (waited, ahead)]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_poisoned_weights_end_training_with_the_same_message(recipe, records):
    class Poisoned(Segment):
        calls = 0

        def step(self, *arguments):
            self.calls += 1
            if self.calls == 2:
                next(self.network.parameters()).data[0] = NAN
            return super().step(*arguments)

    config = recipe(batch=2, on_nan="skip", model__norm="batch")
    errors = [an_epoch(config, records[:6], Poisoned, ahead).error for ahead in (False, True)]
    assert errors[0] == errors[1]
    assert re.match(r"epoch 1, step 2: the weights were not finite before it .first in core", errors[0])


@pytest.mark.parametrize("where", ["loss", pytest.param("gradient", marks=pytest.mark.slow)])
def test_with_fp16_the_scaler_skips_infinite_gradients_and_the_flag_infinite_losses(recipe, records, where):
    """The scaler on the CPU, where nothing overflows by itself."""
    config, found = recipe(batch=2, on_nan="skip"), []
    for ahead in (False, True):
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        device = Device(torch.device("cpu"), "bf16")
        found.append(an_epoch(config, records[:8], poisoned(where, (2,)), ahead, scaler=scaler, device=device))
    same(*found)
    assert found[1].state.skipped == (where == "loss")
    assert [trainer.take_step.scaler.state_dict() for trainer in found] == [found[0].take_step.scaler.state_dict()] * 2
    assert found[1].take_step.scaler.get_scale() == 1024  # halved once, doubled once


def interrupted(config, records, task, steps, deadline):
    """A run that was killed at each of some steps, then stopped because its time was up, and continued to its end."""
    for step in steps:
        with pytest.raises(Stopped):
            fit(config, 0, records, stopping(step, task()))
    if deadline:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("phalanx.engine.step.is_over", lambda _: True)
            with pytest.raises(TrainingError, match="unfinished: max_hours"):
                fit(config, 0, records, task())
    return fit(config, 0, records, task())


@pytest.mark.parametrize(
    ("steps", "epochs"), [((3,), 1), pytest.param((2, 3, 1, 4), 3, marks=pytest.mark.slow)]
)  # of three an epoch, counted from where it continued
def test_a_run_killed_and_out_of_time_ends_in_the_same_bits(recipe, records, monkeypatch, steps, epochs):
    config = recipe(epochs=epochs, checkpoint_minutes=1e-9, max_hours=1.0, model__norm="batch")
    with pytest.MonkeyPatch.context() as patch:
        choose(patch, ahead=False)
        whole = fit(config, 0, records, Segment)
    choose(monkeypatch, ahead=True)
    folder = interrupted(config.model_copy(update={"name": "ahead"}), records, lambda: Segment, steps, epochs > 1)
    for name in ("final/weights.safetensors", "best/weights.safetensors", "last/optimizer.safetensors", "oof.csv"):
        if (whole / name).exists():
            assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert told(folder) == told(whole)


class Waits(TorchDispatchMode):
    """Collects operations after which the host knows a number of the device."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "equal", "is_nonzero"):
            self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


def test_weights_change_without_a_wait_for_the_device(recipe, records, monkeypatch):
    waits, update = Waits(), Stepper.update

    def watched(*arguments):
        with waits:
            update(*arguments)

    monkeypatch.setattr(Stepper, "update", watched)
    config = recipe(batch=2, model__norm="batch", optim__clip=0.1, on_nan="skip")
    assert an_epoch(config, records[:6], poisoned("loss", (2,)), True).state.skipped == 1
    assert waits.seen == []


@pytest.mark.parametrize(("name", "ahead"), [("adamw", True), ("adam", True), ("sgd", False), ("adamp", False)])
def test_an_optimizer_that_cannot_skip_on_the_device_keeps_its_wait(recipe, records, monkeypatch, name, ahead):
    choose(monkeypatch, ahead=True)
    config = recipe(optim__name=name)
    trainer = Trainer(config, config.runs, Segment(config, records[:4], []))
    assert trainer.take_step.ahead is ahead
    assert {bool(group.get("fused")) for group in trainer.optimizer.param_groups} == {ahead}


def test_on_a_cpu_the_optimizer_is_fused_and_nothing_runs_ahead(recipe, records):
    trainer = Trainer(recipe(), recipe().runs, Segment(recipe(), records[:4], []))
    assert not trainer.take_step.ahead
    assert all(group["fused"] for group in trainer.optimizer.param_groups)


def test_steps_of_a_fused_optimizer_are_restored_where_it_counts_them():
    network = nn.Linear(2, 1, device="meta")
    optimizer = torch.optim.AdamW(network.parameters())
    for fused, device in ((None, "cpu"), (True, "meta")):
        optimizer.param_groups[0]["fused"] = fused
        restore_optimizer(network, optimizer, {"weight|step": torch.tensor(3.0), "bias|step": torch.tensor(3.0)})
        assert {state["step"].device.type for state in optimizer.state.values()} == {device}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))


def test_the_average_moves_as_usual_or_stays_by_a_flag_on_the_device():
    net, averages = network(), [Average(network(), 0.9) for _ in range(3)]
    for step, skip in enumerate([False, True, False], 1):
        net.train()(torch.randn(4, 1, 8, 8))
        with torch.no_grad():
            net[0].weight += step
        before = {key: value.clone() for key, value in averages[1].network.state_dict().items()}
        averages[0].update(net, step)
        averages[1].update(net, step, torch.tensor(False))
        averages[2].update(net, step, torch.tensor(skip))
        assert not torch.equal(before["0.weight"], averages[1].network[0].weight)
        assert averages[2].network[1].num_batches_tracked == (step if not skip else step - 1)
        if skip:
            assert all(torch.equal(before[k], v) for k, v in averages[2].network.state_dict().items())
    states = [average.network.state_dict() for average in averages]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_the_average_follows_what_is_loaded_and_looks_its_tensors_up_once(monkeypatch):
    net, average = network(), Average(network(), 0.5)
    average.update(net, 1)
    for one in (net, average.network):
        one.load_state_dict({key: torch.full_like(value, 2) for key, value in one.state_dict().items()})
    with torch.no_grad():
        net[0].bias.fill_(4.0)
    monkeypatch.setattr(nn.Module, "state_dict", lambda *_, **__: pytest.fail("looked up again"))
    average.update(net, 1)
    assert average.network[0].bias.tolist() == pytest.approx([4 - 2 * 2 / 11] * 3)


@pytest.mark.parametrize("changes", [{}, {"model__norm": "batch"}])
def test_a_step_replaces_no_tensor_that_the_average_has_looked_up(recipe, records, changes):
    config = recipe("fpn", batch=2, **changes)
    torch.manual_seed(0)
    trainer = Trainer(config, config.runs, Segment(config, records[:2], []))
    before = {key: id(value) for key, value in trainer.network.state_dict(keep_vars=True).items()}
    trainer.began = trainer.saved = time.monotonic()
    trainer.train_epoch()
    assert {key: id(value) for key, value in trainer.network.state_dict(keep_vars=True).items()} == before


def test_norm_statistics_are_restored_by_a_flag_on_the_device_though_they_are_not_finite():
    net = network()
    statistics = Statistics(net)
    net.train()(torch.randn(4, 1, 8, 8))
    statistics.save()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net(torch.full((4, 1, 8, 8), NAN))
    assert not net[1].running_mean.isfinite().any()
    assert all(torch.equal(value, before[key]) for key, value in statistics.before(net).items())
    moved = [buffer.clone() for buffer in statistics.buffers]
    statistics.restore_if(torch.tensor(False))
    for buffer, value in zip(statistics.buffers, moved, strict=True):
        torch.testing.assert_close(buffer, value, rtol=0, atol=0, equal_nan=True)
    statistics.restore_if(torch.tensor(True))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def in_two_processes(device, config, records, out):
    """An epoch of which one process poisons its second forward."""
    from phalanx.runtime.distributed import Ranks

    torch.set_num_threads(1)
    task = poisoned("loss", (2,)) if Ranks().rank else Segment
    for ahead in (False, True):
        trainer = an_epoch(config, records, task, ahead)
        torch.save((everything(trainer), asdict(trainer.state), trainer.told), f"{out}/{Ranks().rank}{ahead}.pt")


@pytest.mark.slow
def test_several_processes_skip_together_what_one_of_them_sees(recipe, records, tmp_path):
    config = recipe(batch=4, on_nan="skip", model__norm="batch")
    launch(["cpu"] * 2, in_two_processes, config, records[:12], str(tmp_path))
    waited, ahead, other = (torch.load(tmp_path / f"{n}.pt", weights_only=False) for n in ("0False", "0True", "1True"))
    assert waited[1:] == ahead[1:] == (ahead[1], other[2])
    assert ahead[1]["skipped"] == 1
    for key, value in ahead[0].items():
        assert torch.equal(value, waited[0][key]), key
        assert torch.equal(value, other[0][key]), key
