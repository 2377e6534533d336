"""Runs the kernels of norms under Triton's interpreter (TRITON_INTERPRET=1) and prints their errors as JSON lines.

Tiles are shrunk, so that small maps take the paths of large ones. An error is relative to the largest value.
"""

import json
import sys

import torch
import torch.nn.functional as F

from phalanx.models import norm_layout, norm_ops  # noqa: F401  registers the operations
from phalanx.models.norm_reference import ACTIVATIONS

SLOPE = 0.1
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WHOLE, STAGED = {True: 8192, False: 4096}, {True: 0, False: 0}
NAMES = ("y", "x", "weight", "bias")


def definition(x, weight, bias, groups, act):
    """By PyTorch in float64."""
    if groups:
        z = F.group_norm(x, groups, weight, bias, 1e-5)
    else:
        z = F.layer_norm(x.movedim(1, -1), (x.shape[1],), weight, bias, 1e-5).movedim(-1, 1)
    return ACTIVATIONS[act](z, SLOPE)


def kernels(x, weight, bias, groups, act):
    """By the operation; 0 groups are layer norm over the channels."""
    if groups:
        return torch.ops.phalanx.group_norm_act(x, weight, bias, groups, 1e-5, act, SLOPE)[0]
    return torch.ops.phalanx.channel_norm_act(x, weight, bias, 1e-5, act, SLOPE)[0]


def gradients(function, x, weight, bias, dy, groups, act):
    leaves = [value for value in (x, weight, bias) if value is not None]
    for leaf in leaves:
        leaf.requires_grad_()
    y = function(x, weight, bias, groups, act)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


def maps(shape, kind, layout, offset):
    x = (torch.randn(shape, dtype=torch.float64) * 2 + offset).to(kind)
    if layout == "last":
        return x.to(memory_format=torch.channels_last)
    return x[:, :, ::2] if layout == "sparse" else x


def check(shape, groups, act, kind, layout, affine=True, offset=1.0, repeat=False):
    """Errors of output and gradients, and whether strides are kept."""
    x, dy = (maps(shape, TYPES[kind], layout, value) for value in (offset, 0.0))
    weight = torch.randn(shape[1]) + 1 if affine else None
    bias = torch.randn(shape[1]) if affine else None

    def copies(kind):
        return [v if v is None else v.detach().to(kind or v.dtype).clone() for v in (x, weight, bias, dy)]

    found = gradients(kernels, *copies(None), groups, act)
    wanted = gradients(definition, *copies(torch.float64), groups, act)
    if repeat:
        assert all(map(torch.equal, found, gradients(kernels, *copies(None), groups, act)))
    assert [value.dtype for value in found[:2]] == [x.dtype] * 2
    if layout != "sparse":
        assert found[0].stride() == found[1].stride() == x.stride()
    pairs = zip(NAMES, found, wanted, strict=False)
    return {name: float((a.double() - b).abs().max() / b.abs().max().clamp_min(1e-3)) for name, a, b in pairs}


def cases():
    """Shape, groups, activation, type, layout; other options; values of a group that one program holds."""
    for act in ACTIVATIONS:  # all kernels call the same functions
        yield ((1, 4, 3, 5), 1, act, "float32", "plain"), {}, WHOLE
    for kind in ("bfloat16", "float16"):
        for groups, layout, whole in ((3, "plain", WHOLE), (3, "last", STAGED), (0, "last", WHOLE)):
            yield ((1, 6, 3, 3), groups, "silu", kind, layout), {}, whole
    for groups in (1, 3, 0):  # several tiles along channels and pixels
        for layout in ("plain", "last"):
            yield (
                ((1, 6, 5, 14), groups, "silu", "float32", layout),
                {"repeat": groups == 1 and layout == "plain"},
                STAGED,
            )
    for groups, whole in ((3, WHOLE), (3, STAGED), (0, WHOLE)):
        yield ((1, 12, 1, 1), groups, "relu", "float32", "plain"), {}, whole
        yield ((2, 6, 2, 3), groups, "leaky_relu", "float32", "last"), {"affine": False}, whole
        yield ((1, 6, 4, 3), groups and 6, "gelu", "float32", "sparse"), {}, whole  # as many groups as channels
        yield ((2, 6, 7), groups, "hardswish", "float32", "plain"), {}, whole
        yield ((1, 6, 2, 3, 2), groups, "relu6", "float32", "plain"), {}, whole
        yield ((1, 6, 5, 5), groups, "none", "float32", "plain"), {"offset": 300.0}, whole


def main():
    norm_layout.TILE, norm_layout.ROW, norm_layout.PROGRAMS = 32, 4, 8
    for arguments, options, whole in cases():
        torch.manual_seed(0)
        norm_layout.WHOLE = whole
        line = {"case": [*arguments, options, whole is WHOLE], "type": arguments[3], **options}
        print(json.dumps(line | {"errors": check(*arguments, **options)}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
