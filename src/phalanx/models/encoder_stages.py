"""How deep in the encoder a weight lies, for any encoder: frozen stages and learning rates by depth ask this."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .segmenter import input_channels


def encoder_stages(network: nn.Module, size: int) -> dict[str, int]:
    """Stage (from 1, at the image) of each parameter of the network's encoder, by its full name.

    A parameter's stage is that of the first of the encoder's feature maps that depends on it, so nothing needs to
    be known of the encoder's parts. Parameters that no feature map depends on count to the last stage. Weights of a
    network with parallel branches (HRNet) nearly all lie in the stage of the first map that the branches join in.

    Args:
        size: side of the images.
    """
    prefix, encoder = next((n, module) for n, module in network.named_modules() if n.split(".")[-1] == "encoder")
    shadow = copy.deepcopy(encoder).to("meta").train()  # the graph alone: nothing is computed
    features = shadow(torch.empty(1, input_channels(encoder), size, size, device="meta"))
    maps = [part for part in _tensors(features) if part.grad_fn is not None]
    first: dict[int, int] = {}
    stage = 0
    for feature in maps:
        found = _leaves(feature) - first.keys()
        stage += bool(found)  # several maps of one part, as a plain and a normed one, are one stage
        first |= dict.fromkeys(found, stage)
    return {f"{prefix}.{name}": first.get(id(p), stage) for name, p in shadow.named_parameters()}


def _tensors(features: Any) -> list[Tensor]:
    if isinstance(features, Tensor):
        return [features]
    return [tensor for part in features for tensor in _tensors(part)] if isinstance(features, (list, tuple)) else []


def _leaves(value: Tensor) -> set[int]:
    """Ids of the parameters that a value depends on."""
    seen, found, waiting = set(), set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [before for before, _ in node.next_functions]
    return found
