"""The network that finds burnt-in marks and text: a small U-Net whose weights come with the package.

It is trained by ``bench/overlays_train.py`` on marks drawn at random over synthetic screens.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

FILE = Path(__file__).parent / "overlay_network.npz"
WIDTHS = (8, 16, 24, 32)
STRIDE = 2 ** (len(WIDTHS) - 1)


def _block(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, padding=1, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(inplace=True),
        nn.Conv2d(outer, outer, 3, padding=1, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(inplace=True),
    )


class Network(nn.Module):
    """Logits [B, 2, H, W] of marks and of text from images [B, 3, H, W] (:func:`scaled`); sides divisible by 8."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (3, *WIDTHS)
        self.down = nn.ModuleList(_block(a, b) for a, b in zip(sizes, WIDTHS, strict=False))
        pairs = list(zip(WIDTHS[1:], WIDTHS, strict=False))[::-1]
        self.up = nn.ModuleList(_block(deep + flat, flat) for deep, flat in pairs)
        self.head = nn.Conv2d(WIDTHS[0], 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        levels = []
        x = images
        for k, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if k else x)
            levels.append(x)
        for block, level in zip(self.up, levels[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), level], 1))
        return self.head(x)


def scaled(images: Tensor) -> Tensor:
    """uint8[B, 3, H, W] as the network reads it."""
    return images.float() / 127.5 - 1


def save(network: Network, path: Path) -> None:
    """Writes the weights in half precision."""
    weights = {name: value.numpy() for name, value in network.state_dict().items() if "num_batches" not in name}
    np.savez_compressed(path, **{name: value.astype(np.float16) for name, value in weights.items()})


@cache
def load(path: Path = FILE) -> Network:
    """The trained network."""
    network = Network().eval()
    with np.load(path) as file:
        weights = {name: torch.from_numpy(file[name].astype(np.float32)) for name in file.files}
    network.load_state_dict(weights, strict=False)  # without the counters of batches
    return network


def probabilities(image: np.ndarray) -> np.ndarray:
    """float32[2, H, W]: of marks and of text, from uint8[H, W, 3]."""
    height, width = image.shape[:2]
    pad = ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0))
    padded = np.pad(image, pad, mode="edge").transpose(2, 0, 1)
    with torch.inference_mode():
        logits = load()(scaled(torch.from_numpy(np.ascontiguousarray(padded))[None]))[0]
    return logits.sigmoid().numpy()[:, :height, :width]
