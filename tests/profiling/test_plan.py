"""What a recipe costs, against counts by hand and against what really is kept in memory."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from phalanx.cli import main
from phalanx.config.compose import compose, split_words
from phalanx.errors import ConfigError
from phalanx.losses.stages import StagedLoss
from phalanx.models.build import build
from phalanx.profiling import plan
from phalanx.profiling.memory import Ledger, estimate_step, state_bytes
from phalanx.tasks.segment import loss_of


@pytest.fixture
def recipe(tiny):
    return lambda model="fpn", **changes: compose(split_words(tiny(model, name="r", **changes)))


def network(config):
    torch.manual_seed(0)
    return build(config.model, classes=29, size=config.data.size)


def estimate(config, size=64, batch=2, precision="32", gpu=False):
    return estimate_step(config, network(config), size=size, batch=batch, precision=precision, gpu=gpu)


def test_the_ledger_books_what_lives_and_what_lived_at_most():
    """Megabytes by hand: a square keeps its input, a sum keeps none."""
    with FakeTensorMode(), Ledger() as ledger:
        x = torch.empty(2**18, requires_grad=True)  # 1
        assert ledger.live == 2**20
        y = x * x  # 2
        z = y.sqrt()  # 3: keeps its result
        del y  # 2
        assert ledger.live == 2 * 2**20
        view = z.view(512, 512)[:4]
        assert ledger.live == 2 * 2**20
        total = z.sum()
        del z, view
        assert ledger.live == 2 * 2**20 + 4
        total.backward()
        assert x.grad is not None
        del total
        assert ledger.live == 2 * 2**20  # x and its gradient
        assert ledger.peak >= 4 * 2**20
        with ledger.scaled(10):
            kept = torch.empty(2**18)
        assert ledger.live == 12 * 2**20
        del kept, x
    assert ledger.live == 0


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("fpn", {}),
        ("unet", {"model__norm": "batch", "accumulate": 2}),
        ("fpn", {"model__activation_checkpointing": True}),
    ],
)
def test_the_estimate_is_what_a_ledger_of_the_real_step_counts(recipe, model, changes):
    """The same books kept over real steps, one a stage: real weights, real losses on the full grid."""
    config = recipe(model, batch=2, **changes)
    loss, peaks = StagedLoss(config.loss, config.data.classes), []
    for stage in range(len(config.loss.stages)):
        net = network(config)
        with Ledger() as ledger:
            for _ in range(config.accumulate):
                images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
                planes = torch.randint(0, 256, (2, 4, 64, 64), dtype=torch.uint8)
                step(net, loss, stage, images, planes, config.accumulate).backward()
        peaks.append(ledger.peak)
    assert estimate(config) - state_bytes(config, net) == pytest.approx(max(peaks), rel=0.02)


@pytest.mark.parametrize("precision", [pytest.param("bf16", marks=pytest.mark.slow), "fp16"])
def test_blocks_are_computed_again_in_the_precision_of_forward(recipe, precision):
    plain, again = (recipe("fpn", model__activation_checkpointing=on) for on in (False, True))
    assert estimate(again, precision=precision, gpu=True) < estimate(plain, precision=precision, gpu=True)


def step(net, loss, stage, images, planes, accumulate):
    return loss_of(loss, stage, net(images), planes).total / accumulate


def test_memory_grows_and_shrinks_with_what_should_change_it(recipe):
    plain = recipe("unet")
    base = estimate(plain)
    net = network(plain)
    state = state_bytes(plain, net)
    assert estimate(plain, batch=4) - state > 1.5 * (base - state)
    assert estimate(recipe("unet", model__activation_checkpointing=True)) < base
    assert estimate(recipe("unet", optim__name="sgd")) < base
    assert estimate(plain, precision="bf16") < base
    assert estimate(plain, precision="bf16", gpu=True) > estimate(plain, precision="bf16")
    moments = 2 * sum(p.nbytes for p in net.parameters())
    assert state == 2 * sum(v.nbytes for v in net.state_dict().values()) + moments


def test_multiply_adds_are_those_of_the_convolutions_counted_by_hand(recipe):
    config = recipe("unet")
    net = network(config).eval()
    by_hand, names = {}, {module: name for name, module in net.named_modules()}

    def count(module, inputs, output):
        part = names[module].split(".")[1]
        each = module.weight[0].numel()  # products of an output value
        by_hand[part] = by_hand.get(part, 0) + output.numel() * each

    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        net.predict(torch.zeros(1, 1, 64, 64, dtype=torch.uint8))
    assert plan.multiply_adds(network(config), 64) == by_hand
    counts = plan.parameters(network(config))
    assert sum(counts.values()) == sum(p.numel() for p in net.parameters())
    assert counts["head"] == 29 * (16 * 9 + 1)


@given(st.integers(0, 300), st.integers(-5, 400))
def test_the_largest_that_fits_is_found_from_any_guess(most, guess):
    assert plan.largest(lambda number: number <= most, guess) == most


@pytest.mark.parametrize("vram", [0.02, 0.3, 2.0])
def test_what_is_said_to_fit_fits_and_one_more_does_not(recipe, monkeypatch, vram):
    """On a made-up cost that is no straight line, as peaks are not."""

    def cost(config, net, *, size, batch, precision, gpu):
        assert (precision, gpu) == ("bf16", True)
        return max(2e7 + 900 * size**2 * batch, 1500 * size**2 * batch)

    monkeypatch.setattr(plan, "estimate_step", cost)
    found = plan.make_plan(recipe("unet", batch=3), vram=vram, measure=False)
    assert found.how == "estimated for a GPU"
    assert set(found.batches) == {64, 512, 1024, 2048}

    def fits(size, batch):
        return cost(None, None, size=size, batch=batch, precision="bf16", gpu=True) <= 0.9 * vram * 2**30

    for size, batch in found.batches.items():
        assert batch == 0 or fits(size, batch)
        assert not fits(size, batch + 1)
    assert found.largest_size == 0 or fits(found.largest_size, 3)
    assert not fits(found.largest_size + 32, 3)


def test_the_command_tells_it_and_writes_every_number(tiny, tmp_path, capsys):
    file = tmp_path / "plan.json"
    assert main(["plan", *tiny("fpn"), "measure=true", "--json", str(file)]) == 0
    text, found = capsys.readouterr().out, json.loads(file.read_text())
    assert "measured on this CPU" in text
    assert f"{sum(found['parameters'].values()):,}" in text
    assert set(found["parameters"]) == set(found["multiply_adds"]) == {"encoder", "decoder", "head", "point head"}
    assert found["peak"] > found["state"] > 0
    assert found["vram"] is None
    assert main(["plan", *tiny("fpn")]) == 0
    assert "estimated for a CPU" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["vram=much"], "vram=much: expected the GPU's memory in GiB"),
        (["vram=-3"], "vram=-3: expected the GPU's memory in GiB"),
        (["measure=yes"], "measure=yes: expected true or false"),
        (["fpn_b3"], "fpn_b3: expected key=value"),
        (["--jsn", "x"], "jsn: no such option"),
    ],
)
def test_what_it_cannot_read_is_refused(words, message, capsys):
    assert main(["plan", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_not_measured(recipe):
    with pytest.raises(ConfigError, match="there is no GPU here to measure on"):
        plan.make_plan(recipe(), vram=24, measure=True)


@pytest.mark.parametrize(
    ("changes", "images"), [({"accumulate": 4}, 2), pytest.param({}, 1, marks=pytest.mark.slow), ({"ddp": "false"}, 2)]
)
def test_of_several_devices_one_is_planned(recipe, changes, images):
    """Two images a micro-batch: two devices share a step of two, and a step of eight leaves each its micro-batches."""
    options = {"batch": 2, "devices": "cpu,cpu", "ddp": "true"} | changes
    assert plan.make_plan(recipe(**options), vram=None, measure=False).batch == images


def test_the_published_recipe_fits_the_gpu_it_was_trained_on():
    """A V100 with 32 GB in fp16, at batch 2; what the search leaves free counted."""
    config = compose({"experiment": "published_final", "precision": "fp16", "data.root": "."})
    found = plan.make_plan(config, vram=None, measure=False)
    assert (found.size, found.batch, found.precision) == (2048, 2, "fp16")
    assert "estimated for a GPU" in found.how
    assert 16 * plan.GIB < found.peak < (1 - plan.SPARE) * 32 * plan.GIB
