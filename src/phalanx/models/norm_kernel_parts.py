"""What Triton kernels of norms share: activations, their derivatives, and the scale and offset of channels."""

import triton
import triton.language as tl


@triton.jit
def activated(z, slope, ACT: tl.constexpr):
    """The activation of z."""
    if ACT == "relu":
        z = tl.where(z < 0, 0.0, z)  # NaN stays
    elif ACT == "relu6":
        z = tl.where(z < 0, 0.0, tl.where(z > 6, 6.0, z))
    elif ACT == "silu":
        z = z * tl.sigmoid(z)
    elif ACT == "leaky_relu":
        z = tl.where(z < 0, z * slope, z)
    elif ACT == "gelu":
        z = 0.5 * z * (1.0 + tl.erf(z * 0.7071067811865476))
    elif ACT == "gelu_tanh":
        z = z * tl.sigmoid(1.5957691216057308 * (z + 0.044715 * z * z * z))
    elif ACT == "hardswish":
        z = z * tl.where(z < -3, 0.0, tl.where(z > 3, 6.0, z + 3)) / 6
    elif ACT == "sigmoid":
        z = tl.sigmoid(z)
    return z


@triton.jit
def derivative(z, slope, ACT: tl.constexpr):
    """The derivative of the activation at z, at kinks as PyTorch has it."""
    if ACT == "relu":
        d = tl.where(z <= 0, 0.0, 1.0)
    elif ACT == "relu6":
        d = tl.where((z > 0) & (z < 6), 1.0, 0.0)
    elif ACT == "silu":
        p = tl.sigmoid(z)
        d = p * (1.0 + z * (1.0 - p))
    elif ACT == "leaky_relu":
        d = tl.where(z > 0, 1.0, slope)
    elif ACT == "gelu":
        d = 0.5 * (1.0 + tl.erf(z * 0.7071067811865476)) + z * 0.3989422804014327 * tl.exp(-0.5 * z * z)
    elif ACT == "gelu_tanh":
        t, q = 1.5957691216057308 * z, z * z
        p = tl.sigmoid(t * (1.0 + 0.044715 * q))
        d = p * (1.0 + t * (1.0 - p) * (1.0 + 0.134145 * q))
    elif ACT == "hardswish":
        d = tl.where(z < -3, 0.0, tl.where(z > 3, 1.0, z / 3 + 0.5))
    elif ACT == "sigmoid":
        p = tl.sigmoid(z)
        d = p * (1.0 - p)
    else:
        d = tl.full(z.shape, 1.0, tl.float32)
    return d


@triton.jit
def scale_and_offset(w_ptr, b_ptr, c, known, AFFINE: tl.constexpr):
    """Scale and offset of channels c; 1 and 0 without weights."""
    if AFFINE:
        w = tl.load(w_ptr + c, known, 0.0).to(tl.float32)
        b = tl.load(b_ptr + c, known, 0.0).to(tl.float32)
    else:
        w = tl.full(c.shape, 1.0, tl.float32)
        b = tl.zeros(c.shape, tl.float32)
    return w, b
