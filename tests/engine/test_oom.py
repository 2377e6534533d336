"""Out of memory: a network that holds two images at most stands in for a small GPU."""

import gc
import json
import weakref

import pytest
import torch
from tests.engine.doubles import SGD, InDouble, distance, start_of
from tests.engine.stopping import Stopped

from phalanx.augment.device import WarpMaps
from phalanx.data.dataset import Batch, Unwarped
from phalanx.engine.fit import fit
from phalanx.engine.loop import Trainer
from phalanx.engine.oom import Replay, out_of_memory
from phalanx.engine.step import Stepper
from phalanx.errors import TrainingError
from phalanx.runs import checkpoint
from phalanx.runtime.distributed import Ranks
from phalanx.tasks.segment import Segment


def small_gpu(limit, *, stop=None, error=torch.OutOfMemoryError, kind=Segment):
    """A task whose network wants more memory than there is for more than ``limit`` images at a time."""

    class Task(kind):
        tried, alive = (), ()

        def step(self, network, batch):
            count = len(batch.images)
            self.tried = (*self.tried, count)
            if len(self.tried) == stop:
                raise Stopped
            if count > limit:
                raise error("CUDA out of memory. Tried to allocate 2.00 GiB")
            result = super().step(network, batch)
            self.alive = (*self.alive, weakref.ref(result.loss))
            return result

    return Task


def after_an_epoch(config, records, task):
    torch.manual_seed(0)
    trainer = Trainer(config, config.runs, task(config, records, []))
    trainer.began = trainer.saved = 0.0
    trainer.told = []
    trainer.log = lambda event, step, **values: trainer.told.append((event, step, values))
    trainer.train_epoch()
    return trainer


@pytest.mark.parametrize(("batch", "accumulate", "limit"), [(4, 1, 2), (4, 2, 1), (3, 2, 2)])
def test_steps_are_those_of_enough_memory(recipe, records, batch, accumulate, limit):
    """Seven images; of the steps' gradient, by plain descent, nothing is left but float error."""
    config = recipe(accumulate=accumulate, batch=batch, **SGD)
    large = after_an_epoch(config, records[:7], InDouble)
    small = after_an_epoch(config, records[:7], small_gpu(limit, kind=InDouble))
    ends = [trainer.network.state_dict() for trainer in (small, large)]
    assert distance(*ends, start_of(config, records[:7])) < 1e-9
    assert max(small.task.tried[len(small.told) :]) <= max(limit, 1)
    assert small.state.micro_batch in (limit, limit // 2 or 1)
    for field in ("step", "batch", "images"):
        assert getattr(small.state, field) == getattr(large.state, field)
    assert small.state.loss_sum == pytest.approx(large.state.loss_sum, rel=1e-6)
    assert {(event, step) for event, step, _ in small.told} == {("memory", 1)}


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_nothing_of_the_abandoned_step_is_left(recipe, records, error, monkeypatch, capsys):
    """Backward fails at its very end, in the step's second batch; BatchNorm's statistics were moved twice by then."""
    if error is RuntimeError:
        error = lambda text: RuntimeError("DefaultCPUAllocator: can't allocate memory")  # noqa: E731
    config = recipe(batch=2, accumulate=2, model__norm="batch", epochs=1)
    seen = {}
    halving = Stepper.shrink

    def look(stepper, state):
        halving(stepper, state)
        gc.collect()
        seen["gradients"] = [p.grad for p in stepper.network.parameters() if p.grad is not None]
        seen["graphs"] = [ref for ref in stepper.task.alive if ref() is not None]
        seen["statistics"] = {
            k: v.clone() for k, v in stepper.network.state_dict().items() if "running" in k or "num_" in k
        }

    monkeypatch.setattr(Stepper, "shrink", look)
    monkeypatch.setattr(Trainer, "save", lambda trainer: None)
    torch.manual_seed(0)
    before = Segment(config, records[:4], []).network.state_dict()

    class Second(small_gpu(9)):
        def step(self, network, batch):
            result = super().step(network, batch)
            if len(self.tried) == 2:

                def fail(gradient):
                    handle.remove()
                    raise error("CUDA out of memory. Tried to allocate 2.00 GiB")

                handle = next(network.parameters()).register_hook(fail)
            return result

    trainer = after_an_epoch(config, records[:4], Second)
    assert trainer.task.tried == (2, 2, 1, 1, 1, 1)
    assert seen["gradients"] == seen["graphs"] == []
    assert len(seen["statistics"]) > 9
    assert all(torch.equal(value, before[key]) for key, value in seen["statistics"].items())
    out = capsys.readouterr().out
    assert out.count("out of memory; micro-batch halved to 1, effective batch unchanged; BatchNorm's") == 1


@pytest.mark.slow
def test_a_killed_run_goes_on_in_the_smaller_pieces(recipe, records):
    make = lambda name: recipe(  # noqa: E731
        "fpn", batch=4, checkpoint_minutes=1e-9, epochs=2
    ).model_copy(update={"name": name})
    whole = fit(make("whole"), 0, records, small_gpu(2))
    with pytest.raises(Stopped):
        fit(make("killed"), 0, records, small_gpu(2, stop=6))
    tried = small_gpu(2)
    killed = fit(make("killed"), 0, records, tried)
    for name in ("final/weights.safetensors", "last/optimizer.safetensors", "oof.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert checkpoint.load(killed / "last")[1]["micro_batch"] == 2
    for folder in (whole, killed):
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert [(line["step"], line["micro_batch"]) for line in lines if line["event"] == "memory"] == [(1, 2)]


def test_at_one_image_it_says_what_to_lower(recipe, records):
    config = recipe(batch=3)
    with pytest.raises(
        TrainingError, match=r"out of memory with one image per forward.*data\.size.*phalanx plan"
    ) as caught:
        fit(config, 0, records, small_gpu(0))
    for key in ("data.crop", "model.activation_checkpointing=true", "precision=bf16"):
        assert key in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_other_errors_pass():
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_other_errors_of_a_step_are_not_tried_again(recipe, records):
    with pytest.raises(RuntimeError, match="CUDA out of memory"):  # a plain RuntimeError: somebody else's words
        fit(recipe(batch=4), 0, records, small_gpu(2, error=RuntimeError))


def test_parts_are_the_batch_in_order_and_keep_their_kind():
    batch = Batch(torch.rand(5, 1, 2, 2), torch.rand(5, 4, 2, 2), torch.arange(5))
    maps = WarpMaps(*(torch.arange(5)[:, None] + 10 * number for number in range(5)))
    for whole in (batch, Unwarped(*batch, maps)):
        for most, sizes in ((2, [2, 2, 1]), (5, [5]), (1, [1] * 5), (9, [5])):
            parts = list(whole.split(most))
            assert [len(part.rows) for part in parts] == sizes
            assert {type(part) for part in parts} == {type(whole)}
            assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
            if isinstance(whole, Unwarped):
                assert torch.equal(torch.cat([part.maps.left for part in parts]), maps.left)


def test_a_replay_asks_for_each_batch_once_and_only_when_needed():
    asked = []

    def feed():
        for number in range(3):
            asked.append(number)
            yield number

    replay = Replay(feed())
    first = iter(replay)
    assert (next(first), next(first), asked) == (0, 1, [0, 1])
    assert list(replay) == [0, 1, 2] == list(replay) == asked == replay.seen


class Troubled(InDouble):
    """The second of two processes lacks memory for two images, and meets NaN in the second step."""

    calls = 0

    def step(self, network, batch):
        if Ranks().rank == 1 and len(batch.rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        result = super().step(network, batch)
        if Ranks().rank == 1:
            self.calls += 1
            if self.calls == 3:
                result.terms["dice"][0, 2] = float("nan")
                return result._replace(loss=result.loss * float("nan"))
        return result


class SecondIsBad(InDouble):
    """The same in one process with all the memory: the second step is not finite."""

    calls = 0

    def step(self, network, batch):
        self.calls += 1
        result = super().step(network, batch)
        return result._replace(loss=result.loss * float("nan")) if self.calls == 2 else result


@pytest.mark.slow
def test_processes_agree_on_what_one_of_them_meets(recipe, records):
    """Steps of four and two images: all take one at a time, all leave out the second step, and none waits for ever."""
    changes = SGD | {"batch": 4, "on_nan": "skip", "epochs": 2}
    several = recipe(devices="cpu,cpu", ddp="true", **changes).model_copy(update={"name": "several"})
    folder, alone = fit(several, 0, records, Troubled), fit(recipe(**changes), 0, records, SecondIsBad)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    told = [(line["event"], line["step"]) for line in lines if line["event"] in ("memory", "skipped")]
    assert told == [("memory", 1), ("memory", 1), ("skipped", 2)]
    assert "loss term dice of class finger-3 in image" in next(e["text"] for e in lines if e["event"] == "skipped")
    assert checkpoint.load(folder / "last")[1]["micro_batch"] == 1
    ours, theirs = (checkpoint.load_weights(place / "final")[0] for place in (folder, alone))
    assert distance(ours, theirs, start_of(recipe(**changes), records)) < 1e-9
