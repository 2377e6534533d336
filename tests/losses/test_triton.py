"""The Triton kernels: under Triton's interpreter, compiled ahead for GPUs, and as operations of PyTorch."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

pytest.importorskip("triton")

from phalanx.losses.pixel_region import DEFAULTS
from phalanx.losses.plan import make_plan

ROOT = Path(__file__).parents[2]


def interpreted(extent):
    """Lines printed by triton_cases.py."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    words = [sys.executable, "-m", "tests.losses.triton_cases", extent]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_counts(lines):
    """A step of BCE, Dice and points, and one of BCE, Lovasz and points."""
    for line in lines:
        (operations,) = line["counts"]  # the same for any batch and number of classes
        assert operations <= (80 if "lovasz" in line["weights"] else 60)
    assert len(lines) == 2


def test_the_interpreter_computes_what_tiles_do_in_few_operations():
    check_counts(interpreted("quick"))


@pytest.mark.slow
def test_all_classes_types_and_options_under_the_interpreter():
    check_counts(interpreted("all"))


def spilled(kernel, types, constants, capability, warps):
    """Bytes of registers that a kernel spills, if compiled for a GPU of this capability by the bundled assembler."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas
    from triton.compiler import ASTSource

    signature = dict.fromkeys(kernel.arg_names, "i32") | types | dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
    ptx = compiled.asm["ptx"]
    target = re.search(r"\.target (\w+)", ptx)[1]
    words = [get_ptxas(capability).path, "-v", f"--gpu-name={target}", "-o", os.devnull, "/dev/stdin"]
    done = subprocess.run(words, input=ptx, capture_output=True, text=True, check=True)
    found = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
    assert found
    return sum(int(number) for pair in found for number in pair)


def kernels_of(kind, *, gamma, focal, options):
    """Kernel, types, constants and warps of all kernels for logits of one type."""
    from phalanx.losses import lovasz_triton as lovasz
    from phalanx.losses import pixel_region_triton as maps

    logits = {"logits": f"*{kind}", "planes": "*u8", "stride_b": "i64"}
    tables = {"table": "*fp32", "rates": "*fp32", "upstream": "*fp32"}
    terms = {"GAMMA": gamma, "BCE": True, "FOCAL": focal, "REGION": True, "SMOOTHED": options}
    tile = {"CT": 8, "BLOCK": maps.TILE // 8}
    yield maps.sums_kernel, logits | {"table": "*fp32", "sums": "*fp32"}, terms | tile, maps.WARPS
    yield maps.gradient_kernel, logits | tables | {"gradient": f"*{kind}", "out_b": "i64"}, terms | tile, maps.WARPS
    doubles = dict.fromkeys(("family", "weights", "losses", "truths"), "*fp64")
    small = {"BCE": True, "FOCAL": focal, "REGION": 2, "POWERS": options, "LANES": maps.LANES}
    yield maps.finish_kernel, doubles | dict.fromkeys(("sums", "values", "rates"), "*fp32"), small, 4
    yield lovasz.errors_kernel, logits | {"errors": "*fp32"}, tile, maps.WARPS
    key = {"SHIFT": 23, "BLOCK": lovasz.BLOCK}
    longs = dict.fromkeys(("found", "keys", "passed", "starts", "places"), "*i64")
    yield lovasz.keys_kernel, {"found": "*i64", "keys": "*i64", "errors": "*fp32", "planes": "*u8"}, key, 4
    of_steps = {name: kind for name, kind in longs.items() if name != "found"}
    yield lovasz.steps_kernel, of_steps | doubles_of_steps(), key, 4
    added = {"gradient": f"*{kind}", "steps": "*fp32", "places": "*i64", "upstream": "*fp32"}
    yield lovasz.add_kernel, added, {"BLOCK": lovasz.BLOCK}, 4


def doubles_of_steps():
    return dict.fromkeys(("truth", "factors", "products"), "*fp64") | {"steps": "*fp32"}


@pytest.mark.parametrize("capability", [80, 90])
def test_no_register_is_spilled(capability, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for kernel, types, constants, warps in kernels_of("bf16", gamma=2.0, focal=False, options=False):
        assert spilled(kernel, types, constants, capability, warps) == 0, kernel.fn.__name__


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("kind", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 1.5, 2.0])
def test_no_register_is_spilled_with_any_option(capability, kind, gamma, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for focal in (False, True):
        for kernel, types, constants, warps in kernels_of(kind, gamma=gamma, focal=focal, options=True):
            assert spilled(kernel, types, constants, capability, warps) == 0, kernel.fn.__name__


class Captured(Exception):
    """Raised instead of running a captured graph, for which there is no GPU."""


def test_the_operations_are_captured_in_one_graph():
    targets = []

    def backend(graph, _):
        targets.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")

        def run(*_):
            raise Captured

        return run

    from phalanx.losses import pixel_region_triton as maps

    plan = make_plan({"bce": 0.5, "dice": 0.5}, DEFAULTS, (), (1.0,) * 11, 2, 64, torch.device("cpu"), torch.float32)

    @torch.compile(fullgraph=True, backend=backend)
    def forward_and_gradient(logits, planes, upstream):
        found, source = maps.map_values(logits, planes, plan)
        return maps.add_up(found, [], plan)[0], maps.map_gradient(
            logits, source, plan, found.rates, upstream, flat=False
        )

    with pytest.raises(Captured):
        forward_and_gradient(torch.randn(2, 11, 8, 8), torch.zeros(2, 2, 8, 8, dtype=torch.uint8), torch.ones(()))
    assert [name for name in targets if "phalanx" in name] == [
        "phalanx.pixel_region_forward.default",
        "phalanx.pixel_region_backward.default",
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fakes_have_the_shapes_types_and_layouts_of_the_results(dtype):
    from phalanx.losses import lovasz_triton as lovasz
    from phalanx.losses import pixel_region_triton as maps

    with FakeTensorMode():
        gpu = torch.device("cuda")
        logits = torch.empty(2, 11, 8, 6, device=gpu, dtype=dtype).to(memory_format=torch.channels_last)
        planes = torch.empty(2, 2, 8, 6, device=gpu, dtype=torch.uint8)
        table = torch.empty(12, 11, device=gpu)
        family, weights = (torch.empty(*shape, 11, device=gpu, dtype=torch.float64) for shape in ((1, 3), (3, 1)))
        flags = 2.0, True, False
        losses, values, rates, truth = maps.pixel_region_forward(
            logits, planes, table, family, weights, *flags, False, False
        )
        gradient = maps.pixel_region_backward(logits, planes, table, rates, rates[0, 0, 0], *flags, True, False, False)
        errors = lovasz.lovasz_errors(logits, planes)
        keys = lovasz.lovasz_keys(torch.empty(7, 2, device=gpu, dtype=torch.int64), errors, planes, 0, 11)
        starts, doubles = (
            torch.empty(23, device=gpu, dtype=torch.int64),
            torch.empty(22, device=gpu, dtype=torch.float64),
        )
        products, steps, places = lovasz.lovasz_steps(keys, keys, starts, doubles, doubles, 0, 48)
        lovasz.lovasz_add(gradient, steps, places, rates[0, 0, 0])
    shapes = [
        tuple(found.shape) for found in (losses, values, rates, truth, gradient, errors, keys, products, steps, places)
    ]
    assert shapes == [(2, 11), (3, 2, 11), (2, 2, 11), (1, 2, 11), (2, 11, 8, 6), (22, 48), (7,), (7,), (7,), (7,)]
    assert (gradient.dtype, steps.dtype, products.dtype) == (dtype, torch.float32, torch.float64)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
