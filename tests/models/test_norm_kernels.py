"""Triton kernels of norms: under Triton's interpreter against float64, compiled ahead for two GPUs, and traced."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.library import opcheck

pytest.importorskip("triton")

from phalanx.models import norm_ops  # noqa: F401  registers the operations
from phalanx.models.norm_layout import Layout, group_tile, layout_of, next_power_of_2
from phalanx.models.norm_reference import ACTIVATIONS

HERE = Path(__file__).parent
ROUNDING = {"float32": 1e-5, "bfloat16": 2**-7, "float16": 2**-10}  # the interpreter cuts bfloat16, a GPU rounds


def run(script, *words, **environment):
    command = [sys.executable, "-W", "ignore", str(HERE / script), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.mark.slow
def test_kernels_are_the_definition_in_every_type_layout_and_activation():
    lines = [json.loads(line) for line in run("norm_kernel_checks.py", TRITON_INTERPRET="1")]
    assert {line["case"][2] for line in lines} == set(ACTIVATIONS)
    assert len(lines) > 35
    for line in lines:
        rounding = ROUNDING[line["type"]]
        # a mean of 300 deviations costs as many digits
        floor = 1e-4 if line.get("offset") else 1e-5
        limits = {"y": max(rounding, floor), "x": max(rounding, floor), "weight": floor, "bias": floor}
        assert {name for name, error in line["errors"].items() if not error <= limits[name]} == set(), line


def compiled(*words):
    return [line.split(maxsplit=8) for line in run("norm_kernel_cases.py", *words)]


def test_the_largest_kernels_spill_no_registers_on_two_gpus():
    found = compiled("gelu", "80,90", "bf16/even", "largest")
    assert {(name, gpu) for name, gpu, *_ in found} >= {("whole_gradient", "80"), ("gradient_sums", "90")}
    assert [line for line in found if line[6] != "0"] == []
    assert all(int(line[5]) <= 128 for line in found)


@pytest.mark.slow
@pytest.mark.parametrize("act", sorted(ACTIVATIONS))
def test_no_kernel_spills_registers(act):
    found = compiled(act, "80,90", "bf16/even,bf16/odd,fp16/even,fp32/even,fp32/odd", "all")
    assert len(found) > 300
    assert [line for line in found if line[6] != "0"] == []
    # maps are read in words of 16 bytes where their sizes allow it
    plain = [
        line for line in found if line[4] == "1" and "'BS': 1}" not in line[8] and line[0] in ("moments", "apply_norm")
    ]
    assert plain
    assert all(line[7] == "1" for line in plain)


def tensors(shape, kind=torch.float32, last=False):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=kind)
    x = x.to(memory_format=torch.channels_last) if last else x
    return [value.requires_grad_() for value in (x, torch.randn(shape[1]), torch.randn(shape[1]))]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_operations_declare_what_they_do(kind, last):
    """Schema, registration of gradients, and shapes, types and strides of outputs without values."""
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    x, weight, bias = tensors((2, 6, 3, 5), kind, last)
    opcheck(torch.ops.phalanx.group_norm_act, (x, weight, bias, 3, 1e-5, "silu", 0.0), test_utils=checks)
    opcheck(torch.ops.phalanx.group_norm_act, (x, None, None, 3, 1e-5, "silu", 0.0), test_utils=checks)
    opcheck(torch.ops.phalanx.channel_norm_act, (x, weight, bias, 1e-5, "relu", 0.0), test_utils=checks)
    statistics = [torch.randn(2, 3), torch.randn(2, 3)]
    values = [value.detach() for value in (torch.randn_like(x), x, weight, bias)]
    opcheck(torch.ops.phalanx.group_norm_act_backward, (*values, *statistics, 3, "relu", 0.0), test_utils=checks)
    statistics = [torch.randn(2, 15), torch.randn(2, 15)]
    opcheck(torch.ops.phalanx.channel_norm_act_backward, (*values, *statistics, "relu", 0.0), test_utils=checks)


@pytest.mark.parametrize("act", sorted(ACTIVATIONS))
@pytest.mark.parametrize("groups", [0, 1, 3, 6])
def test_on_a_cpu_the_operations_are_pytorch_s(act, groups):
    x, weight, bias = tensors((2, 6, 4, 5))
    dy = torch.randn_like(x)
    if groups:
        found = torch.ops.phalanx.group_norm_act(x, weight, bias, groups, 1e-5, act, 0.1)[0]
        z = F.group_norm(x, groups, weight, bias, 1e-5)
    else:
        found = torch.ops.phalanx.channel_norm_act(x, weight, bias, 1e-5, act, 0.1)[0]
        z = F.layer_norm(x.movedim(1, -1), (6,), weight, bias, 1e-5).movedim(-1, 1)
    wanted = ACTIVATIONS[act](z, 0.1)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    pairs = (torch.autograd.grad(y, [x, weight, bias], dy, retain_graph=True) for y in (found, wanted))
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_backward_saves_the_maps_as_they_are_and_nothing_of_their_size_besides():
    x, weight, bias = tensors((2, 6, 32, 32), torch.bfloat16)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: saved.append(value) or value, lambda value: value):
        torch.ops.phalanx.group_norm_act(x, weight, bias, 3, 1e-5, "silu", 0.0)
    assert sum(value.nbytes for value in saved) == x.nbytes + (6 + 6 + 6 + 6) * 4  # weight, bias, mean, deviation
    assert any(value.data_ptr() == x.data_ptr() for value in saved)


def test_frozen_scales_and_maps_without_gradient():
    x, weight, bias = tensors((2, 6, 3, 5))
    torch.ops.phalanx.group_norm_act(x.detach(), weight, bias, 3, 1e-5, "silu", 0.0)[0].sum().backward()
    assert weight.grad is not None
    grad = weight.grad.clone()
    torch.ops.phalanx.group_norm_act(x, weight.detach(), bias.detach(), 3, 1e-5, "silu", 0.0)[0].sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(weight.grad, grad)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 7), (2, 1392, 64, 64), (1, 24, 1024, 1024), (8, 40, 17, 300)])
@pytest.mark.parametrize("last", [False, True])
def test_tiles_are_powers_of_two_that_cover_a_map_and_fit_a_program(shape, last):
    x = torch.empty(shape, device="meta")
    at = layout_of(x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x)
    assert isinstance(at, Layout)
    for channels, pixels in (at.tile(), at.tile(4), at.pixel_tile()):
        assert channels * pixels <= 4096
        assert next_power_of_2(channels) == channels >= 1
        assert next_power_of_2(pixels) == pixels >= 1
    assert at.steps(at.tile()) in (1, 2, 4, 8)
    for groups in {1, shape[1]}:
        tile = group_tile(at, groups)
        assert tile.size == at.C * at.S // groups <= tile.channels * tile.pixels
        assert not tile.fits or tile.channels * tile.pixels <= 8192
        assert next_power_of_2(tile.warps) == tile.warps <= 16


TRACED = """
import sys, torch, triton
from triton.backends.compiler import GPUTarget
from torch._functorch.aot_autograd import aot_export_joint_simple
from phalanx.models import norm_ops

class Driver:
    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

triton.runtime.driver.set_active(Driver())

def step(x, weight, bias):
    y = torch.ops.phalanx.group_norm_act(x, weight, bias, 2, 1e-5, "silu", 0.0)[0]
    return (torch.ops.phalanx.channel_norm_act(y, weight, bias, 1e-5, "relu", 0.0)[0],)

values = [torch.randn(*shape).requires_grad_() for shape in ((1, 8, 4, 4), (8,), (8,))]
targets = [str(node.target) for node in aot_export_joint_simple(step, values, trace_joint=True).graph.nodes]
print(sum("triton_kernel_wrapper" in target for target in targets), any("phalanx" in target for target in targets))
"""


@pytest.mark.slow
def test_a_compiler_sees_the_kernels_of_forward_and_backward():
    """Traced with the kernels' own reads and writes, which torch finds by compiling them for a GPU."""
    command = [sys.executable, "-W", "ignore", "-c", TRACED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # one of each norm; backward two of group norm, three of layer norm
    assert (done.stdout.split(), done.returncode) == (["7", "False"], 0), done.stderr[-3000:]
