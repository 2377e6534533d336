"""Steps as graphs, here simulated on a CPU: the same training, bit for bit, as by steps without them."""

import functools
from collections import Counter

import pytest
import torch
from tests.engine.simulated_graph import SimulatedGraph
from tests.engine.stopping import Stopped, stopping
from tests.engine.test_ahead import an_epoch, choose, same
from tests.engine.test_oom import small_gpu

from phalanx.engine.fit import fit
from phalanx.engine.graph import _reason, obstacle
from phalanx.errors import TrainingError
from phalanx.losses.lovasz_batched import REPLAYS, BatchedLovasz, RecordedRoom, room_for
from phalanx.runtime.capture import recorded_checks
from phalanx.runtime.device import Device
from phalanx.runtime.distributed import launch
from phalanx.tasks.segment import Segment

pytestmark = pytest.mark.usefixtures("one_thread")


def both(config, records, task=Segment, ahead=True, task_of=None):
    """A trainer after an epoch without graphs and one with them."""
    return [
        an_epoch(config.model_copy(update={"cuda_graphs": graphs}), records, task_of() if task_of else task, ahead)
        for graphs in (False, True)
    ]


@pytest.mark.parametrize("ahead", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("model", "changes", "told"),
    [
        ("fpn", {"batch": 2}, ["record"] + ["replay"] * 3),  # four of two, one of one; the first is a step like others
        pytest.param(
            "unet",
            {"batch": 2, "accumulate": 2, "model__drop_path": 0.5},
            ["record"] + ["replay"] * 3,
            marks=pytest.mark.slow,
        ),
        ("unet", {"batch": 1, "accumulate": 4, "model__norm": "batch"}, ["record"] + ["replay"] * 8),
        ("fpn", {"batch": 9}, []),  # one shape that never comes twice
    ],
)
def test_an_epoch_is_that_without_graphs(simulated, recipe, records, model, changes, told, ahead):
    config = recipe(model, optim__ema=0.5, optim__clip=0.1, augment="affine", **changes)
    same(*both(config, records[:9], ahead=ahead))
    assert simulated == told


class BadImages(Segment):
    """Loss or gradient are not finite with one of three images, known by their content as a graph must know it."""

    where = "loss"

    def step(self, network, batch):
        found = super().step(network, batch)
        sums = torch.tensor([int(self.training_set[0, i][0].sum()) for i in (1, 4, 7)])
        bad = torch.isin(batch.images.flatten(1).sum(1), sums).any()
        if self.where == "gradient":
            zero = found.loss - found.loss.detach()
            return found._replace(loss=found.loss + 0 * (zero + ~bad).sqrt())
        found.terms["dice"][0, 4] = torch.where(bad, torch.nan, found.terms["dice"][0, 4])
        return found._replace(loss=found.loss * torch.where(bad, torch.nan, 1.0))


class BadGradients(BadImages):
    where = "gradient"


@pytest.mark.parametrize("ahead", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("task", "changes"), [(BadImages, {"on_nan": "skip", "accumulate": 2}), (BadGradients, {"on_nan": "halve"})]
)
def test_steps_that_are_not_finite_are_skipped_with_the_same_messages(
    simulated,
    recipe,
    records,
    task,
    changes,
    ahead,
):
    """Numbers and terms of a replay are read when the next one has been launched."""
    config = recipe(batch=1, model__norm="batch", optim__ema=0.5, **changes)
    found = both(config, records[:10], task, ahead)
    same(*found)
    assert found[1].state.skipped == 3
    assert simulated == ["record"] + ["replay"] * 9
    texts = [values["text"] for event, _, values in found[1].told if event == "skipped"]
    assert all("the loss term dice of class" in text or "first in" in text for text in texts)


STAGES = "[{weights:{bce:0.5,dice:0.5},until:{epochs:1}},{weights:{bce:1.0},until:{epochs:1}},{weights:{dice:1.0}}]"


def ends(folder):
    names = ("final/weights.safetensors", "last/weights.safetensors", "last/optimizer.safetensors", "oof.csv")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def trained(config, records, fold):
    return [
        ends(fit(config.model_copy(update={"name": f"r{graphs}", "cuda_graphs": graphs}), fold, records, Segment))
        for graphs in (False, True)
    ]


@pytest.mark.parametrize(
    ("model", "changes", "recordings"),
    [
        ("unet", {"loss__stages": STAGES, "epochs": 3, "validate_every": 0}, 3),
        pytest.param(
            "unet",
            {"optim__freeze": "{stages:3,epochs:1}", "epochs": 2, "validate_every": 0, "model__norm": "batch"},
            2,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "unet", {"epochs": 2, "validate_every": 1}, 2, marks=pytest.mark.slow
        ),  # which may need its memory
    ],
)
def test_a_graph_is_recorded_anew_when_the_loss_or_what_learns_changes(
    simulated,
    recipe,
    records,
    model,
    changes,
    recordings,
):
    config = recipe(model, batch=2, **changes)
    plain, graphs = trained(config, records, 0) if config.validate_every else trained(config, records[:6], None)
    assert plain == graphs
    assert len(plain) > 2
    told = Counter(simulated)
    assert (told["record"], told["drop"]) == (recordings, recordings)
    assert told["replay"] > told["record"]


def test_memory_that_runs_out_ends_in_the_same_micro_batches(simulated, recipe, records):
    found = both(recipe(batch=2), records, task_of=lambda: small_gpu(1))
    same(*found)
    assert found[1].state.micro_batch == 1
    assert simulated == ["record"] + ["replay"] * 9  # of twelve images, two before memory ran out, and the first piece


def without_graphs(found, reason):
    """Two equal trainings, of which the second said why it goes on without graphs."""
    event, _, values = found[1].told.pop(0)
    assert event == "graphs"
    assert values == {"text": f"cuda_graphs=true: steps are computed without graphs, since {reason}"}
    same(*found)


def test_a_graph_that_memory_does_not_suffice_for_is_not_recorded(simulated, recipe, records):
    class Task(Segment):
        def step(self, network, batch):
            found = super().step(network, batch)
            if recorded_checks() is not None:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return found

    found = both(recipe(batch=2, model__norm="batch"), records[:7], Task)
    without_graphs(found, "memory does not suffice for one")
    assert found[1].state.micro_batch == 0
    assert simulated == []


def test_a_step_that_lacks_memory_beside_a_graph_starts_again_without_one(simulated, recipe, records):
    """The last, smaller batch of each step, which has no graph."""

    class Task(Segment):
        def step(self, network, batch):
            found = super().step(network, batch)
            if len(batch.rows) == 1 and simulated.count("record") > simulated.count("drop"):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return found

    found = both(recipe(batch=2, accumulate=2, model__norm="batch"), records[:7], Task)
    without_graphs(found, "memory does not suffice beside one")
    assert found[1].state.micro_batch == 0
    assert simulated == ["record", "replay", "replay", "drop"]


def test_what_reads_the_host_for_each_image_has_no_graph(simulated, recipe, records):
    found = both(recipe(model__metadata="[age]"), records[:6])
    without_graphs(found, "a step needs the host (Cannot copy out of meta tensor; no data!)")


def test_on_a_cpu_it_says_that_there_are_no_graphs(recipe, records):
    without_graphs(both(recipe(batch=2), records[:4]), "this run trains on cpu, which has none")


def test_activation_checkpointing_has_no_graph(recipe):
    device = torch.device("cuda")
    assert obstacle(recipe(), device) is None
    assert "model.activation_checkpointing=true" in obstacle(recipe(model__activation_checkpointing=True), device)


def test_a_recording_that_fails_ends_training_with_what_to_do():
    with pytest.raises(TrainingError, match=r"^cuda_graphs=true: CUDA could not .*continues with cuda_graphs=false$"):
        _reason(RuntimeError("CUDA error: operation failed due to a previous error during capture"))
    assert _reason(RuntimeError("called a synchronizing CUDA operation")).startswith("a step needs the host")


def test_with_fp16_the_scale_is_read_where_it_changes(simulated, recipe, records):
    found = []
    for graphs in (False, True):
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        device = Device(torch.device("cpu"), "bf16")
        found.append(
            an_epoch(recipe(batch=2, cuda_graphs=graphs), records[:8], Segment, True, scaler=scaler, device=device)
        )
    same(*found)
    assert found[1].take_step.scaler.get_scale() == 4096
    assert simulated == ["record"] + ["replay"] * 3


def test_batches_that_are_warped_on_the_device_are_warped_by_the_graph(simulated, recipe, records, monkeypatch):
    monkeypatch.setattr("phalanx.tasks.segment.check_warp_device", lambda *_: None)
    same(*both(recipe(batch=2, augment="affine", augment__device="cuda"), records[:8]))
    assert simulated == ["record"] + ["replay"] * 3


@pytest.mark.slow
def test_a_compiled_network_is_recorded_too(simulated, recipe, records, monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=lambda graph, _: graph.forward))
    plain, _ = both(recipe(batch=2), records[:6])
    same(plain, both(recipe(batch=2, model__compile=True), records[:6])[1])
    assert simulated == (["record"] + ["replay"] * 2) * 2


LOVASZ = "[{weights:{bce:0.5,lovasz:0.5}}]"


def test_active_pixels_that_have_no_room_in_a_graph_are_computed_again_without_it(
    simulated,
    recipe,
    records,
    monkeypatch,
):
    """There is room for no more than before, and each batch has other images: both happen, room and no room."""
    monkeypatch.setattr("phalanx.losses.stages.path_of", lambda device: "batched")
    monkeypatch.setattr("phalanx.losses.lovasz_batched.room_for", lambda count: count + 1)
    config = recipe("unet", batch=1, accumulate=2, loss__stages=LOVASZ, model__norm="batch", optim__ema=0.5)
    same(*both(config, records[:8]))
    told = Counter(simulated)
    assert told["drop"] > 0
    assert told["replay"] > told["record"] > 1


def test_room_of_a_graph_grows_after_it_was_too_small_and_shrinks_when_half_would_do():
    term, shape = BatchedLovasz(), (2, 3)
    room = RecordedRoom(term, shape, 20_000)
    assert (room.judge(1), room.judge(0), room.judge(-1)) == ("right", "wrong", "wrong")
    assert term.least == {shape: 20_000}
    room = RecordedRoom(term, shape, 64_000)
    assert {room.judge(63_000) for _ in range(REPLAYS - 2)} == {"right"}
    assert room.judge(40_000) == "right"
    assert room.judge(63_000) == "right"  # with 24,000 pixels in one of them
    room = RecordedRoom(term, shape, 256_000)
    assert [room.judge(255_000) for _ in range(REPLAYS)] == ["right"] * (REPLAYS - 1) + ["wasteful"]
    assert term.room == term.least == {shape: room_for(1000)}


@pytest.mark.parametrize("epochs", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(simulated, recipe, records, monkeypatch, epochs):
    """Of three steps per epoch, killed while it records and after."""
    choose(monkeypatch, ahead=True)
    config = recipe("fpn", epochs=epochs, checkpoint_minutes=1e-9, model__norm="batch", validate_every=2)
    fold, records = (0, records) if epochs > 1 else (None, records[:6])
    whole = ends(fit(config, fold, records, Segment))
    config = config.model_copy(update={"cuda_graphs": True, "name": "killed"})
    for call in (2, 5):
        with pytest.raises(Stopped):
            fit(config, fold, records, stopping(call, Segment))
    assert ends(fit(config, fold, records, Segment)) == whole
    assert simulated.count("replay") >= epochs


def in_two_processes(device, config, records, out):
    """An epoch without graphs and one with them."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("phalanx.engine.graph.obstacle", lambda config, device: None)
        patch.setattr("phalanx.engine.graph.graph_on", SimulatedGraph)
        same(*both(config, records))
    assert SimulatedGraph.told == ["record"] + ["replay"] * 2


@pytest.mark.slow
def test_several_processes_have_a_graph_each(recipe, records, tmp_path):
    launch(["cpu"] * 2, in_two_processes, recipe(batch=4, model__norm="batch"), records[:12], str(tmp_path))
