"""Terms and derivatives of a whole batch from its sums over pixels, in a few operations on numbers per class."""

from typing import NamedTuple

import torch
from torch import Tensor

from .plan import LEAST_INDEX, Plan


class Finished(NamedTuple):
    """Terms from their sums. Further terms follow in ``add_up``.

    Attributes:
        values: each term of ``Plan.names``, unweighted, and the hard Dice: by PyTorch float64[.., B, C, G, 1] in parts,
            by a kernel the weighted sum float64[B, C] and float[T + 1, B, C].
        truth: pixels of the truth, float64 of B C elements; None if no further term needs them.
        rates: derivatives of the loss by q of a wrong pixel without and with truth, float[2, B, C, G, 1]: those by FP
            and FN, to which PyTorch's path adds BCE's; None without region terms.
    """

    values: list[Tensor]
    truth: Tensor | None
    rates: Tensor | None


def finish(sums: Tensor, plan: Plan) -> Finished:
    """Terms and derivatives from sums float64[S, B, C, G, 1], in a few small operations.

    Args:
        sums: as ``Plan.sizes`` counts them.
    """
    region = plan.region
    pixelwise, rest, wrong, *more = torch.addcmul(plan.least, sums, plan.scale).split_with_sizes(plan.sizes)
    if plan.uneven:
        wrong = wrong + more[0]  # alpha FP + beta FN, as alpha q + (beta - alpha) FN
    total = rest + wrong
    index = wrong / total
    values, rates = [pixelwise] if plan.pixelwise else [], None
    if region is not None:
        slopes = torch.addcmul(region.constant, region.slope, index)
        if region.powers is not None:
            base = index.clamp(min=LEAST_INDEX)
            raised = base**region.powers
            slopes.mul_(raised / base * region.powers * (index >= LEAST_INDEX))
            index = torch.where(region.powers == 1, index, raised)
        rates = torch.addcdiv(region.pixelwise, slopes, total).sum(1, dtype=plan.one.dtype)
    return Finished([*values, index], more[-1] if plan.more else None, rates)
