"""Grad-CAM (Selvaraju et al., 2017): where in an image the evidence of a classifier for a class is.

The gradient of the class's logit, averaged over a feature map, weights its channels; what remains positive of their sum
is the heat. Formula and hooks are those of the grad-cam library. Its scaling is not used: it subtracts the smallest
heat, which makes energies incomparable, and stretches the map over the padding of the grid.
"""

import math
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..data.images import Grid
from ..errors import ConfigError
from ..models.classifier import Classifier
from ..models.feature_cells import Cells, cells_of
from ..models.feature_map import is_channels_last

INSTALL_HINT = "install it with: pip install 'phalanx[cam]'"
PLACED = "place the features of other networks, such as a ResNet, a ConvNeXt, a Swin or a ViT"


class Split(nn.Module):
    """A classifier with a module at its last features, before pooling. The weights are shared."""

    def __init__(self, network: Classifier):
        super().__init__()
        self.network, self.features = network, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Logits float[B, C] of standardised images."""
        network, encoder = self.network, cast(Any, self.network.encoder)
        found = self.features(encoder.forward_features(images))
        # cloned, for what follows may work in place, and the hooks' tensors would change
        return network.of_features(found.clone())


class Explained(NamedTuple):
    """A classifier whose heat maps can be computed.

    Attributes:
        network: images to logits.
        layer: the module whose output has the features.
        name: of the layer.
        prefix: tokens before those of patches: the class token and registers.
        channels_last: whether features are [B, n, n, K]; tokens are [B, prefix + n * n, K], maps else [B, K, n, n].
        tokens: whether the layer's output are tokens.
        cells: where the features are in the input.
    """

    network: nn.Module
    layer: nn.Module
    name: str
    prefix: int
    channels_last: bool
    tokens: bool
    cells: Cells

    def as_map(self, values: Tensor) -> Tensor:
        """The layer's output, or its gradient, as maps [B, K, n, n]."""
        if self.tokens:
            values = values[:, self.prefix :]
            n = math.isqrt(values.shape[1])
            return values.reshape(len(values), n, n, -1).permute(0, 3, 1, 2)
        return values.permute(0, 3, 1, 2) if self.channels_last else values


def explained(network: Classifier, size: int, channels: int, name: str = "model.encoder") -> Explained:
    """A classifier with the layer that its heat is computed at.

    Of maps it is the last one before pooling. Of a transformer with a class token it is the first norm of the last
    block, ``blocks[-1].norm1``: the features after it reach the logits through the class token alone, so that the other
    tokens have no gradient there.

    Args:
        size: of the input, which is square.
        channels: of the input.
        name: of the network in messages.

    Raises:
        ConfigError: the network has no layer whose features have places in the image.
    """
    encoder: Any = network.encoder
    images = torch.rand(1, channels, size, size, generator=torch.Generator().manual_seed(0))
    parameter = next(network.parameters())
    images = images.to(device=parameter.device, dtype=parameter.dtype)
    split = Split(network)
    split.eval()
    try:
        with torch.no_grad():
            found = encoder.forward_features(images)
            same = isinstance(found, Tensor) and torch.allclose(split(images), network(images), rtol=1e-3, atol=1e-5)
    except Exception as error:  # also assertions and lookups of third parties
        reason = f"its features before pooling cannot be taken ({type(error).__name__})"
        raise ConfigError(f"{name}: {reason}; Grad-CAM can {PLACED}") from None
    if not isinstance(found, Tensor) or found.ndim not in (3, 4):
        raise ConfigError(f"{name}: its last features are not one map; Grad-CAM can {PLACED}")
    if found.ndim == 4 and same:
        last = is_channels_last(encoder, found)
        if found.shape[1 if last else 2] == 1:
            raise ConfigError(f"{name}: has one cell of features at data.size={size}, so heat has no place; enlarge it")
        cells = cells_of(encoder, images, found.shape[1 if last else 2])
        return Explained(split, split.features, "features", 0, last, tokens=False, cells=cells)
    blocks = getattr(encoder, "blocks", None)
    layer = getattr(blocks[-1], "norm1", None) if isinstance(blocks, nn.Sequential | nn.ModuleList) and blocks else None
    if found.ndim == 3 and isinstance(layer, nn.Module):
        prefix = _prefix(network, layer, images)
        if prefix is not None:
            cells = Cells.even(math.isqrt(found.shape[1] - int(getattr(encoder, "num_prefix_tokens", 0) or 0)))
            return Explained(network, layer, "blocks[-1].norm1", prefix, channels_last=False, tokens=True, cells=cells)
    elif found.ndim == 3 and same and not getattr(encoder, "num_prefix_tokens", 0) and _is_square(found.shape[1]):
        cells = cells_of(encoder, images, math.isqrt(found.shape[1]))
        return Explained(split, split.features, "features", 0, channels_last=False, tokens=True, cells=cells)
    raise ConfigError(f"{name}: none of its layers has features with places in the image; Grad-CAM can {PLACED}")


def _prefix(network: Classifier, layer: nn.Module, images: Tensor) -> int | None:
    """How many tokens come before those of the patches; None if the rest do not fill a square."""
    outputs: list[Any] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        with torch.no_grad():
            network(images)
    finally:
        hook.remove()
    if len(outputs) != 1 or not isinstance(outputs[0], Tensor) or outputs[0].ndim != 3:
        return None
    count = outputs[0].shape[1]
    named = int(getattr(network.encoder, "num_prefix_tokens", 0) or 0)
    patches = getattr(getattr(network.encoder, "patch_embed", None), "num_patches", None)
    if patches == count:  # the class token joins the others later
        return 0
    return named if _is_square(count - named) else None


def _is_square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count


def load_library() -> Any:
    """The class of the grad-cam library. Raises ConfigError if it is not installed."""
    try:
        from pytorch_grad_cam import GradCAM
    except ImportError as error:
        raise ConfigError(f"the package grad-cam cannot be loaded ({error}); {INSTALL_HINT}") from None
    return GradCAM


def activation_maps(found: Explained, images: Tensor, classes: np.ndarray) -> np.ndarray:
    """Heat float[B, n, n] of images on the network's grid, at the resolution of its features; not negative.

    Args:
        images: standardised, float[B, channels, S, S].
        classes: int[B], the class of each image whose evidence is sought.

    Raises:
        ConfigError: the library is not installed, or no gradient reaches the layer.
    """
    library: Any = load_library()
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class Unscaled(library):  # the library's maps before its scaling
        heat: np.ndarray

        def get_cam_image(
            self, images: Any, layer: Any, targets: Any, activations: Any, grads: Any, eigen_smooth: bool = False
        ) -> np.ndarray:
            if grads is None:
                raise ConfigError(f"{found.name}: no gradient of a class reaches this layer; Grad-CAM can {PLACED}")
            self.heat = super().get_cam_image(images, layer, targets, activations, grads, eigen_smooth)
            return self.heat

    trained = [one for one in found.network.parameters() if one.requires_grad]
    cam = Unscaled(found.network, [found.layer], found.as_map)
    for one in trained:  # their gradients are not needed: that of the images is enough to reach the layer
        one.requires_grad_(False)
    try:
        with torch.enable_grad():
            cam(images.detach().requires_grad_(), [ClassifierOutputTarget(int(c)) for c in classes])
    finally:
        cam.activations_and_grads.release()
        for one in trained:
            one.requires_grad_(True)
    return np.maximum(cam.heat, 0)


def heat_map(maps: np.ndarray, grid: Grid, cells: Cells | None = None) -> np.ndarray:
    """Heat float32[H, W], 0 to 1, on an image's own pixels: the mean of the folds' maps, each scaled by its maximum.

    Args:
        maps: float[F, n, n] of F networks, over the whole grid. Heat on its padding is cut off. A map without heat
            counts as 0; if all are, so is the result.
        grid: of the image.
        cells: where the cells of the maps have their centres; evenly spaced by default.
    """
    long = max(grid.height, grid.width)
    cells = Cells.even(maps.shape[-1]) if cells is None else cells
    rows, columns = (_between(cells, maps.shape[-1], size, long) for size in (grid.height, grid.width))
    total = np.zeros((grid.height, grid.width), np.float64)
    for one in maps:
        heat = rows @ one.astype(np.float64) @ columns.T
        if (top := heat.max()) > 0:
            total += heat / top
    return (total / top if (top := total.max()) > 0 else total).astype(np.float32)


def _between(cells: Cells, count: int, size: int, long: int) -> np.ndarray:
    """Weights float64[size, count] of linear interpolation between cells, for the pixels of a side; constant beyond
    the first and the last centre.

    Args:
        long: pixels of the image's longer side, which the grid's side shows.
    """
    place = ((np.arange(size) + 0.5) / long - cells.first) / cells.step
    return np.stack([np.interp(place, np.arange(count), one) for one in np.eye(count)], axis=1)


class Inside(NamedTuple):
    """How much of an image's heat is in a mask.

    Attributes:
        share: the fraction of the energy inside, where energy is heat that sums to 1 over the image; NaN without heat.
        area: the mask's fraction of the image.
    """

    share: float
    area: float

    @property
    def ratio(self) -> float:
        """1 if heat and mask have nothing to do with each other; NaN of an empty mask or without heat."""
        return self.share / self.area if self.area else math.nan


def energy_inside(heat: np.ndarray, mask: np.ndarray) -> Inside:
    """The fraction of heat float[H, W] inside a mask bool[H, W]: the energy-based pointing game (Wang et al., 2020)."""
    heat = np.maximum(heat.astype(np.float64), 0)
    total = heat.sum()
    return Inside(float(heat[mask].sum() / total) if total > 0 else math.nan, float(mask.mean()))
