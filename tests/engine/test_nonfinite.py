"""A step that is not finite changes nothing, and its message names what was seen; poison is put in everywhere."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tests.engine.stopping import Stopped
from torch import nn

from phalanx.engine.fit import fit
from phalanx.engine.loop import Trainer
from phalanx.engine.nonfinite import (  # fmt: skip
    PATIENCE,
    Part,
    Transfer,
    check_weights,
    gradient_norms,
    gradient_trouble,
    loss_trouble,
    skip_step,
)
from phalanx.engine.order import BatchOrder
from phalanx.engine.state import State
from phalanx.errors import TrainingError
from phalanx.runs import checkpoint
from phalanx.runtime.device import Device
from phalanx.tasks.segment import Segment

NAN, INF = float("nan"), float("inf")


def part(number=0, loss=1.0, names=("a.png", "b.png"), why=None):
    values = {"dice": torch.full((2,), 0.5), "loss/bce": torch.tensor([0.25, 0.5])}
    return Part(number, list(names), torch.tensor(loss), values, lambda: why)


def trouble(*parts):
    return loss_trouble(parts, [p.loss.item() for p in parts])


def to_host(parts):
    transfer = Transfer(parts, ("dice", "loss/bce"), torch.tensor(3.5))
    transfer.begin()
    return transfer.read()


def test_all_numbers_come_at_once_and_exactly():
    losses, sums, norm = to_host([part(loss=0.1), part(loss=NAN)])
    assert losses[0] == torch.tensor(0.1).item()
    assert losses[1] != losses[1]
    assert sums == [2.0, 1.5]
    assert norm == 3.5
    assert to_host([]) == ([], [0, 0], 3.5)


@pytest.mark.parametrize(("loss", "norm", "watched", "bad"), [
    (1.0, 2.0, True, False), (NAN, 2.0, True, True), (INF, 2.0, False, True), (1.0, INF, True, True),
    (1.0, NAN, False, False),
])  # fmt: skip
def test_the_device_knows_without_the_host_whether_a_step_is_finite(loss, norm, watched, bad):
    """Without ``norm`` for fp16, whose scaler looks at the gradient."""
    transfer = Transfer([part(), part(loss=loss)], ("dice",), torch.tensor(norm))
    assert transfer.trouble(norm=watched).tolist() is bad


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_loss_names_batch_and_images_and_what_the_task_finds(bad):
    text = trouble(part(4, why="not asked for"), part(5, bad, ["c.png", "d.png"], "the depth of d.png is not finite"))
    assert text == "batch 6: the depth of d.png is not finite (images: c.png, d.png)"


def test_a_loss_that_is_not_finite_though_its_terms_are():
    assert trouble(part(0, INF)) == ("batch 1: the loss is not finite though its terms are (images: a.png, b.png)")


def test_a_finite_loss_is_no_trouble():
    assert trouble(part(0), part(1)) is None
    assert trouble() is None


@pytest.mark.parametrize(("batches", "which"), [(1, "batch 7"), (2, "batches 7 to 8")])
def test_a_gradient_names_its_tensor_and_all_images_of_the_step(batches, which):
    network = nn.Linear(2, 1)
    network.weight.grad, network.bias.grad = torch.zeros(1, 2), torch.tensor([INF])
    norms = gradient_norms(network.named_parameters())
    network.zero_grad()  # the message comes a step later
    assert gradient_trouble(norms, 6, batches, ["a.png", "b.png"]) == (
        f"{which}: the gradient is not finite, first in bias (images: a.png, b.png)"
    )


def test_norms_are_those_of_each_gradient_and_of_all_and_their_sum_may_be_too_large():
    network = nn.Linear(2, 1)
    network.weight.grad, network.bias.grad = torch.tensor([[3.0, 4.0]]), None
    norms = gradient_norms(network.named_parameters())
    assert (norms.names, norms.each.tolist(), norms.total.item()) == (["weight"], [5.0], 5.0)
    assert norms.total == torch.nn.utils.get_total_norm([network.weight.grad])
    network.weight.grad, network.bias.grad = torch.tensor([[1.5e19, 0.0]]), torch.tensor([1.5e19])
    norms = gradient_norms(network.named_parameters())
    assert not norms.total.isfinite()
    assert "though that of each parameter is (images: a" in gradient_trouble(norms, 0, 1, ["a"])


def test_weights_end_training_whatever_is_asked_for():
    network = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    check_weights(network.state_dict(), "step 4")
    network[1].running_var.fill_(INF)
    with pytest.raises(TrainingError, match=r"step 4: the weights were not finite before it \(first in 1\.running_var"):
        check_weights(network.state_dict(), "step 4")


def test_stop_says_how_to_go_on():
    with pytest.raises(TrainingError, match=r"^epoch 2, step 8, batch 3: x\. Nothing of it is saved.*on_nan=skip"):
        skip_step(f"{State(epoch=1, step=7).place}, batch 3: x", "stop", State())


def test_skip_counts_and_halve_halves_until_it_is_no_accident():
    state = State()
    for number in range(1, PATIENCE):
        skip_step("x", "halve" if number < 3 else "skip", state)
        assert state.skipped == state.skipped_in_row == number
    assert state.lr_factor == 0.25
    with pytest.raises(TrainingError, match=f"{PATIENCE} steps in a row"):
        skip_step("x", "skip", state)


def poisoned(where, when=(3,)):
    """A task that is poisoned at its forwards number ``when``: in the loss, the gradient, or the patient attributes."""

    class Poisoned(Segment):
        calls = 0

        def step(self, network, batch):
            self.calls += 1
            if self.calls not in when:
                return super().step(network, batch)
            if where == "metadata":
                keep, self.attributes = self.attributes, {"train": self.attributes["train"].clone()}
                self.attributes["train"][batch.rows[0]] = INF
                result = super().step(network, batch)
                self.poisoned, self.attributes = self.attributes, keep
                return result
            result = super().step(network, batch)
            if where == "gradient":
                return result._replace(loss=result.loss + 0 * (result.loss - result.loss.detach()).sqrt())
            result.terms["dice"][0, 4] = NAN
            return result._replace(loss=result.loss * NAN)

        def inputs(self, batch):
            if where != "metadata":
                return super().inputs(batch)
            keep, self.attributes = self.attributes, self.poisoned
            found = super().inputs(batch)
            self.attributes = keep
            return found

    return Poisoned


def began(config, records, task=Segment):
    """A trainer before its first step."""
    torch.manual_seed(0)
    trainer = Trainer(config, config.runs, task(config, records, []))
    trainer.began = trainer.saved = 0.0
    trainer.told = []
    trainer.log = lambda event, step, **values: trainer.told.append((event, step))
    return trainer


def everything(trainer):
    """All tensors that a step may change."""
    found = {
        **trainer.network.state_dict(),
        **{f"mean {k}": v for k, v in trainer.average.network.state_dict().items()},
    }
    found |= checkpoint.optimizer_tensors(trainer.network, trainer.optimizer)
    return {key: value.clone() for key, value in found.items()}


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_left_out_leaves_every_tensor_as_it_was(recipe, records, where, monkeypatch):
    """With BatchNorm, whose statistics the poisoned forward has moved; the second half of an accumulated step."""
    config = recipe("fpn", batch=1, accumulate=2, model__norm="batch", on_nan="skip", optim__ema=0.5)
    one, two = (began(config, records[:length], poisoned(where, when=(4,))) for length in (2, 4))
    monkeypatch.setattr(BatchOrder, "_keys", lambda batches: [(batches.epoch, i) for i in range(batches.images)])
    for trainer in (one, two):
        trainer.train_epoch()
    before, after = everything(one), everything(two)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert (two.state.step, two.state.batch, two.state.images, two.state.skipped) == (2, 4, 2, 1)
    assert two.state.loss_sum == one.state.loss_sum
    assert two.told == [("skipped", 2)]


def test_the_halved_rate_and_the_count_survive_a_kill(recipe, records):
    """Killed at its fifth forward, after the second was left out; the average is the network's, as ema is 0."""

    def task(*steps, stop=None):
        class Task(poisoned("loss", steps)):
            def step(self, *arguments):
                if self.calls + 1 == stop:
                    raise Stopped
                return super().step(*arguments)

        return Task

    changes = {"batch": 2, "checkpoint_minutes": 1e-9, "on_nan": "halve", "epochs": 2}
    make = lambda name: recipe("fpn", **changes).model_copy(update={"name": name})  # noqa: E731
    whole = fit(make("whole"), 0, records, task(2))
    with pytest.raises(Stopped):
        fit(make("killed"), 0, records, task(2, stop=5))
    killed = fit(make("killed"), 0, records, task())
    for name in ("final/weights.safetensors", "last/optimizer.safetensors", "oof.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    state = checkpoint.load(killed / "last")[1]
    assert (state["skipped"], state["lr_factor"], state["step"]) == (1, 0.5, 6)
    plain = fit(make("plain"), 0, records, Segment)
    rates = [[line["lr"] for line in lines(f) if line["event"] == "epoch"] for f in (plain, whole)]
    assert rates[1] == [rate / 2 for rate in rates[0]]


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_poisoned_weights_are_named_and_never_saved_even_with_skip(recipe, records):
    class Poisoned(Segment):
        calls = 0

        def step(self, *arguments):
            self.calls += 1
            if self.calls == 3:  # as a faulty driver would
                next(self.network.parameters()).data[0] = NAN
            return super().step(*arguments)

    config = recipe("fpn", batch=2, checkpoint_minutes=1e-9, on_nan="skip", epochs=2)
    with pytest.raises(TrainingError, match=r"step 3: the weights were not finite before it .first in core"):
        fit(config, 0, records, Poisoned)
    folder = config.runs / "r" / "fold0"
    for place in folder.glob("*/*.safetensors"):
        assert all(torch.isfinite(v).all() for v in load_file(place).values()), place
    assert fit(config, 0, records, Segment) == folder


def test_with_fp16_a_gradient_that_overflows_is_the_scalers_business_and_a_loss_is_ours(recipe, records):
    """The scaler on the CPU, where nothing overflows by itself."""
    for where, skipped in (("gradient", 0), ("loss", 1)):
        trainer = began(recipe("fpn", batch=2, on_nan="skip"), records[:6], poisoned(where, when=(2,)))
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        trainer.take_step.scaler, trainer.take_step.device = scaler, Device(torch.device("cpu"), "bf16")
        trainer.train_epoch()
        assert trainer.state.skipped == skipped
        assert trainer.state.step == 3
        assert scaler.get_scale() == 512  # it saw the bad step in both cases
        assert all(torch.isfinite(value).all() for value in everything(trainer).values())


def test_an_epoch_of_which_nothing_is_left_ends_training(recipe, records):
    config = recipe("fpn", batch=2, on_nan="skip")
    with pytest.raises(TrainingError, match="every step of epoch 1 was skipped"):
        fit(config, 0, records, poisoned("loss", when=range(9)))


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("loss", r"epoch 2, step 3, batch 1: the loss term dice of class finger-5 in image\d+_[LR]\.png is not finite"),
        pytest.param(
            "gradient",
            r"epoch 2, step 3, batch 1: the gradient is not finite, first in [\w.]+ \(images: image",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_stop_keeps_the_last_whole_state(recipe, records, where, says):
    config = recipe("fpn", batch=3, checkpoint_minutes=1e-9)
    with pytest.raises(TrainingError, match=says):
        fit(config, 0, records, poisoned(where))
    tensors, state = checkpoint.load(config.runs / "r" / "fold0" / "last")
    assert state["step"] == 2
    assert all(torch.isfinite(value).all() for part in tensors.values() for value in part.values())
    on = config.model_copy(update={"on_nan": "skip"})  # the very remedy that the message names
    folder = fit(on, 0, records, poisoned(where, when=(1,)))
    assert [line["step"] for line in lines(folder) if line["event"] == "skipped"] == [3]


def test_poisoned_metadata_is_named(recipe, records):
    config = recipe("fpn", batch=3, model__metadata="[age]")
    with pytest.raises(TrainingError, match=r"the metadata of image\d+_[LR]\.png given to the network is not finite"):
        fit(config, 0, records, poisoned("metadata"))
