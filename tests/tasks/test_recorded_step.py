"""A step as a CUDA graph records it needs nothing of the host: seen on tensors without data, which have none to give.

The second run counts: the first one makes the constants that later ones find.
"""

import json
from contextlib import nullcontext

import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from phalanx.augment.device import WarpMaps
from phalanx.config.compose import compose
from phalanx.data.dataset import Batch, Unwarped
from phalanx.losses import stages as stages_module
from phalanx.models import norm_paths
from phalanx.models.norm_paths import simulated_gpu
from phalanx.runtime.capture import recording
from phalanx.tasks.segment import Segment

META, SIDE, BATCH = torch.device("meta"), 64, 2
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique_dim", "_unique2", "bincount"}
WEIGHTS = {
    "bce, dice": {"bce": 0.5, "dice": 0.5},
    "focal, tversky": {"focal": 0.5, "tversky": 0.5},
    "lovasz": {"bce": 0.5, "lovasz": 0.5},
    "boundary": {"dice": 0.5, "boundary": 0.1},
}


class Host(TorchDispatchMode):
    """Collects operations that read the device on the host, or bring a tensor of the host to the device."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs, found)) if isinstance(leaf, torch.Tensor)]
        if function.overloadpacket.__name__ in WAITS or any(tensor.device.type != "meta" for tensor in tensors):
            self.seen.append(str(function))
        return found


class Launches:
    """In place of Triton's, whose kernels fill tensors that operations have made."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        return lambda *arguments, **options: None


class Rooms(dict):
    """Room for active pixels of every shape, as after a step."""

    def get(self, shape, default=None):
        return super().get(shape, 4096)


@pytest.fixture(params=["torch", "triton"])
def kernels(request, monkeypatch):
    """Either kind of kernels on tensors of a GPU, for which those without data stand."""
    if request.param == "triton":
        pytest.importorskip("triton")
        from phalanx.losses import lovasz_triton, pixel_region_triton
        from phalanx.models import norm_ops

        for module in (lovasz_triton, pixel_region_triton, norm_ops):
            monkeypatch.setattr(module, "wrap_triton", Launches)
    monkeypatch.setattr("phalanx.losses.paths.kernels", lambda: request.param)
    monkeypatch.setattr(norm_paths, "kernels", lambda: request.param)
    monkeypatch.setattr(norm_paths, "_on_gpu", "module")
    made = stages_module.map_terms

    def with_room(path):
        found = made(path)
        found["lovasz"].room = Rooms()
        return found

    monkeypatch.setattr(stages_module, "map_terms", with_room)
    autocast = torch.autocast
    monkeypatch.setattr(
        torch, "autocast", lambda kind, **more: nullcontext() if kind == "meta" else autocast(kind, **more)
    )
    with simulated_gpu():
        yield request.param


def batch_of(classes, warped):
    images = torch.zeros(BATCH, 1, SIDE, SIDE, dtype=torch.uint8, device=META)
    planes = images.expand(-1, -(-classes // 8), -1, -1).contiguous()
    rows = torch.arange(BATCH).to(META)
    if warped:
        return Batch(images, planes, rows)
    sizes = [(2, SIDE), (2, SIDE), (2, SIDE, 4), (4, SIDE)]
    maps = WarpMaps(
        *(torch.zeros(BATCH, *size, device=META) for size in sizes),
        torch.zeros(BATCH, dtype=torch.bool, device=META),
    )
    return Unwarped(images, planes, rows, maps)


def host_operations(config, records, warped=True):
    """What a recorded step asks of the host, and the number of its checks."""
    task = Segment(config, records[:2], [])
    network, batch = task.network.to(META).train(), batch_of(len(config.data.classes), warped)
    for _ in range(2):
        with Host() as host, recording() as checks:
            step = task.step(network, batch)
            step.loss.backward()
    assert sum(parameter.grad is not None for parameter in network.parameters()) > 0.9 * len(list(network.parameters()))
    return host.seen, len(checks)


def stages(weights, **points):
    return json.dumps([{"weights": weights | points}]).replace('"', "")


@pytest.mark.parametrize("terms", WEIGHTS)
def test_no_loss_and_no_point_needs_the_host(kernels, recipe, records, terms):
    config = recipe("fpn", loss__stages=stages(WEIGHTS[terms], point=1.0))
    assert host_operations(config, records) == ([], 1 if terms == "lovasz" else 0)


def test_neither_the_warp_on_the_device_nor_drop_path_needs_the_host(kernels, recipe, records):
    config = recipe("unet", model__drop_path=0.2, model__norm="batch")
    assert host_operations(config, records, warped=False) == ([], 0)


def test_what_needs_the_host_is_seen(kernels, recipe, records, monkeypatch):
    with pytest.raises(NotImplementedError, match="meta tensor; no data"):
        host_operations(recipe("unet", model__metadata="[age]"), records)
    config = recipe("unet", loss__stages=stages(WEIGHTS["lovasz"]))
    monkeypatch.setattr(Rooms, "get", lambda *_: None)  # so that pixels are counted
    with pytest.raises(NotImplementedError, match="nonzero"):
        host_operations(config, records)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    ["hrnet_w18_ocr", "hrnet_w18_unet", "mit_b0_segformer", "convnextv2_tiny_upernet", "convnextv2_tiny_manet",
     "fpn_b3",     "unetpp_b0", "mobilenetv3_lraspp", "mobilenetv3_deeplabv3", "residual_unet", "swin_unetr"],
)  # fmt: skip
def test_no_network_needs_the_host(kernels, recipe, records, model):
    words = {"model": model, "model.weights": "none", "data.root": str(recipe().data.root), "data.size": str(SIDE)}
    words |= {"model.pointrend": "null", "loss.stages": stages(WEIGHTS["bce, dice"])}
    assert host_operations(compose(words), records) == ([], 0)
