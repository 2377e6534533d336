"""Frozen stages: what rests, what learns, thawing at an epoch's end, exact continuation."""

import pytest
import torch
from safetensors.torch import load_file
from tests.engine.stopping import Stopped, stopping

from phalanx.config import Freeze
from phalanx.engine.fit import fit
from phalanx.engine.freeze import check_freeze, freeze
from phalanx.errors import ConfigError
from phalanx.models.encoder_stages import encoder_stages
from phalanx.tasks.segment import Segment


@pytest.fixture
def network(recipe, records):
    torch.manual_seed(0)
    return Segment(recipe("fpn", model__norm="batch"), records, []).network


def test_frozen_stages_keep_weights_and_statistics_and_the_others_learn(network):
    stages = encoder_stages(network, 64)
    freeze(network.train(), Freeze(stages=2), stages, epoch=5)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(2):
        logits, points, _ = network(torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8))
        (logits.square().mean() + points.logits.square().mean()).backward()
        optimizer.step()
    resting = {name.rpartition(".")[0] for name, stage in stages.items() if stage <= 2}
    learning = {name.rpartition(".")[0] for name, stage in stages.items() if stage > 2}
    changed = {
        key.rpartition(".")[0] for key, value in network.state_dict().items() if not torch.equal(value, before[key])
    }
    assert len(resting) > 3
    assert not changed & resting
    assert learning - changed == set()
    statistics = {key for key in before if "running_mean" in key and key.rpartition(".")[0] in resting}
    assert statistics


def test_thawed_all_learn_and_no_part_rests(network):
    stages = encoder_stages(network, 64)
    config = Freeze(stages=3, epochs=2)
    for epoch, rests in ((0, True), (1, True), (2, False), (3, False)):
        freeze(network.train(), config, stages, epoch)
        assert all(p.requires_grad for p in network.parameters()) != rests
        assert all(module.training for module in network.modules()) != rests


def test_more_stages_than_the_encoder_has_are_refused(network):
    stages = encoder_stages(network, 64)
    check_freeze(Freeze(stages=5), stages)
    with pytest.raises(ConfigError, match=r"^optim\.freeze\.stages=6: this encoder has 5 stages"):
        check_freeze(Freeze(stages=6), stages)


def test_stopped_before_and_after_thawing_it_ends_the_same_bit_for_bit(recipe, records):
    """With drop path, rates by depth and recomputed blocks: all that a step may draw or depend on."""

    def make(name):
        config = recipe(
            "unet", model__encoder="tu-test_convnext", model__drop_path=0.5, model__norm="batch", epochs=4,
            optim__freeze="{stages:2,epochs:2}", optim__layer_decay=0.5, optim__encoder_lr_factor=0.5,
            checkpoint_minutes=1e-9,
            model__options="{decoder_channels:[16,16,16,16,16]}",
        )  # fmt: skip
        return config.model_copy(update={"name": name})

    whole = fit(make("whole"), 0, records, Segment)
    for step in (2, 5, 2):  # three batches an epoch: frozen, at the thaw and behind it
        with pytest.raises(Stopped):
            fit(make("stopped"), 0, records, stopping(step))
    config = make("stopped")
    config.model.activation_checkpointing = True  # only speed and memory: a run may go on with it
    folder = fit(config, 0, records, Segment)
    for name in ("final/weights.safetensors", "last/optimizer.safetensors", "last/model.safetensors", "oof.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    moments = load_file(folder / "last" / "optimizer.safetensors")
    steps = {key: int(value) for key, value in moments.items() if key.endswith("|step")}
    assert {steps[key] for key in steps if ".stem" in key} == {6}  # two epochs of four
    assert {steps[key] for key in steps if "decoder" in key} == {12}
