"""Compiles the kernels of norms ahead of time, and lists the registers and spills that the assembler reports."""

import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from phalanx.models import channel_norm_kernels, norm_kernels

MAPS = ("x_ptr", "y_ptr", "dy_ptr", "dx_ptr")
ASSEMBLERS = sorted((Path(triton.__file__).parent / "backends" / "nvidia" / "bin").glob("ptxas*"))


def source(name, half, constants, *, divisible):
    """The kernel with the types, and where `divisible`, the multiples of 16 that a launch would specialise it for."""
    kernel = getattr(channel_norm_kernels if name.startswith("pixel") else norm_kernels, name)
    types = {}
    for argument in kernel.arg_names:
        if argument in constants:
            types[argument] = "constexpr"
        elif argument in MAPS:
            types[argument] = f"*{half}"
        elif argument.endswith("_ptr"):
            types[argument] = "*fp32"
        else:
            types[argument] = "fp32" if argument in ("eps", "slope", "size") else "i32"
    places = {argument: (number,) for number, argument in enumerate(kernel.arg_names)}
    whole = [name for name, kind in types.items() if kind[0] == "*" or (divisible and name in ("C", "S", "sc", "ss"))]
    attributes = {places[name]: [["tt.divisibility", 16]] for name in whole if types[name] != "constexpr"}
    return ASTSource(kernel, types, {places[name]: value for name, value in constants.items()}, attributes)


def assembled(ptx):
    """The assembler's report; of those that Triton brings the first that knows the version of the code."""
    architecture = re.search(r"\.target (\w+)", ptx)[1]
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        for program in ASSEMBLERS:
            command = [str(program), "-v", f"-arch={architecture}", file.name, "-o", "/dev/null"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return done.stderr
    raise AssertionError(done.stderr)


def cases(act):
    """Kernels with the tiles of norm_layout: kernel, constants, warps."""
    nchw, nhwc = {"ss": 1}, {"sc": 1}
    norm = {"AFFINE": True, "ACT": act}
    for unit, channels, pixels in ((nchw, 1, 4096), (nchw, 256, 16), (nhwc, 64, 64)):
        tile = unit | {"BC": channels, "BS": pixels}
        yield "moments", tile | {"STEPS": 8}, 8
        yield "apply_norm", tile | norm, 8
        part = {"BS": pixels // 2} if unit is nhwc else {}
        yield "gradient_sums", tile | part | norm | {"STEPS": 8, "PIXEL": False}, 8
        yield "apply_gradient", tile | norm, 8
        part = {"BC": channels // 4, "BS": pixels} if channels == 256 else {"BC": channels, "BS": pixels // 4}
        yield "gradient_sums", tile | part | norm | {"STEPS": 8, "PIXEL": True}, 8
    for unit, channels, pixels in ((nchw, 32, 64), (nhwc, 1024, 4)):
        for name in ("pixel_norm", "pixel_gradient"):
            yield name, unit | norm | {"BC": channels, "BS": pixels}, 8
    for unit, channels, pixels, warps in (
        (nchw, 8, 1024, 16), (nchw, 1, 8192, 16), (nchw, 512, 16, 16), (nchw, 64, 1, 1),
        (nhwc, 16, 256, 16), (nhwc, 4, 1024, 16), (nhwc, 1024, 4, 16),
    ):  # fmt: skip
        for name in ("whole_group", "whole_gradient"):
            yield name, unit | norm | {"BC": channels, "BS": pixels}, warps
    yield "merge_moments", {"SPAN": 4096, "BJ": 1024}, 4
    yield "merge_gradients", {"AFFINE": True, "BC": 8, "BJ": 256}, 4


LARGEST = [
    ("gradient_sums", {"sc": 1, "BC": 64, "BS": 32, "STEPS": 8, "PIXEL": False}, 8),
    ("apply_gradient", {"sc": 1, "BC": 64, "BS": 64}, 8),
    ("pixel_gradient", {"sc": 1, "BC": 1024, "BS": 4}, 8),
    ("whole_gradient", {"ss": 1, "BC": 8, "BS": 1024}, 16),
    ("whole_gradient", {"sc": 1, "BC": 16, "BS": 256}, 16),
]


def main(acts, capabilities, types, which):
    """Prints kernel, GPU, type, activation, whether sizes are multiples of 16, registers, bytes spilled, whether maps
    are read in words of 8 or 16 bytes, and the constants."""
    for act in acts.split(","):
        norm = {"AFFINE": True, "ACT": act}
        largest = [(name, constants | norm, warps) for name, constants, warps in LARGEST]
        for name, constants, warps in largest if which == "largest" else cases(act):
            for word, capability in product(types.split(","), capabilities.split(",")):
                half, even = word.split("/")
                code = source(name, half, constants, divisible=even == "even")
                ptx = triton.compile(code, GPUTarget("cuda", int(capability), 32), {"num_warps": warps}).asm["ptx"]
                report = assembled(ptx)
                registers = re.findall(r"Used (\d+) registers", report)[0]
                spilled = sum(map(int, re.findall(r"(\d+) bytes spill", report)))
                wide = int(".v4." in ptx or ".v2." in ptx)
                print(name, capability, half, act, int(even == "even"), registers, spilled, wide, constants, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
