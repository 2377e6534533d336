"""The encoder stage of each parameter, for any encoder; frozen stages and layer-wise learning rates need it."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .segmenter import input_channels


def encoder_stages(network: nn.Module, size: int) -> dict[str, int]:
    """Encoder stage (1 is nearest to the image) of each parameter of the network's encoder, by its full name.

    A parameter's stage is the number of the first feature map that depends on it. So no knowledge of the encoder's
    modules is needed. Parameters that no feature map depends on belong to the last stage. In a network with parallel
    branches (HRNet), nearly all are in the stage of the first map after the branches merge.

    Args:
        size: side of the images.
    """
    prefix, encoder = next((n, module) for n, module in network.named_modules() if n.split(".")[-1] == "encoder")
    meta = copy.deepcopy(encoder).to("meta").train()  # builds the graph, computes nothing
    features = meta(torch.empty(2, input_channels(encoder), size, size, device="meta"))
    maps = [part for part in _tensors(features) if part.grad_fn is not None]
    first: dict[int, int] = {}
    stage = 0
    for feature in maps:
        found = _leaves(feature) - first.keys()
        stage += bool(found)  # several maps of one module, such as a plain and a normalised one, are one stage
        first |= dict.fromkeys(found, stage)
    return {f"{prefix}.{name}": first.get(id(p), stage) for name, p in meta.named_parameters()}


def _tensors(features: Any) -> list[Tensor]:
    if isinstance(features, Tensor):
        return [features]
    return [tensor for part in features for tensor in _tensors(part)] if isinstance(features, (list, tuple)) else []


def _leaves(value: Tensor) -> set[int]:
    """Ids of the parameters that a tensor depends on."""
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
