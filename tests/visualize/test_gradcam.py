"""Grad-CAM against its written-out formula, on networks whose evidence is known, and in images of any shape."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from phalanx.config import ClassifyModel
from phalanx.data.images import Grid
from phalanx.errors import ConfigError
from phalanx.models.classifier import Classifier, build_classifier
from phalanx.visualize.cam_gallery import GAP, OUTLINE, SIDE, TITLE, Tile, draw_tile, fitted
from phalanx.visualize.gradcam import activation_maps, energy_inside, explained, heat_map

pytest.importorskip("pytorch_grad_cam")
pytestmark = pytest.mark.usefixtures("one_thread")


def classifier(encoder: str, size: int = 32, seed: int = 3, **options) -> Classifier:
    torch.manual_seed(seed)
    model = ClassifyModel(encoder=encoder, weights="none", head="softmax", norm="batch", options=options)
    return build_classifier(model, classes=3, size=size, channels=1, pretrained=False).eval()


def images(count: int, size: int = 32) -> torch.Tensor:
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(1))


def test_of_a_cnn_it_is_the_written_out_formula():
    """Each channel of the last map times the mean of its gradient, summed, and what is positive of that."""
    network, classes = classifier("test_resnet", 48, output_stride=8).double(), [2, 0, 1]
    x = images(3, 48).double()
    found = activation_maps(explained(network, 48, 1), x, np.array(classes))
    assert found.shape == (3, 6, 6)
    assert found.max() > 0
    for image, c, heat in zip(x, classes, found, strict=True):
        features = network.encoder.forward_features(image[None])
        logit = network.head(network.encoder.forward_head(features))[0, c]
        (gradient,) = torch.autograd.grad(logit, features)
        wanted = (gradient.mean((2, 3), keepdim=True) * features).sum(1)[0].clamp(min=0)
        assert heat.dtype == np.float64
        assert np.allclose(heat, wanted.detach().numpy(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(("options", "prefix"), [({}, 1), ({"reg_tokens": 2}, 3)])
def test_of_a_vit_it_is_the_formula_on_the_tokens_of_patches(options, prefix):
    """Row by row, without the class token and the registers, at the first norm of the last block."""
    network, x, classes = classifier("test_vit", 48, **options).double(), images(3, 48).double(), [1, 2, 0]
    layer = explained(network, 48, 1)
    assert (layer.name, layer.prefix) == ("blocks[-1].norm1", prefix)
    found = activation_maps(layer, x, np.array(classes))
    assert found.shape == (3, 3, 3)
    assert found.max() > 0
    outputs = []
    hook = network.encoder.blocks[-1].norm1.register_forward_hook(lambda module, given, output: outputs.append(output))
    for image, c, heat in zip(x, classes, found, strict=True):
        logit = network(image[None])[0, c]
        tokens = outputs.pop()
        (gradient,) = torch.autograd.grad(logit, tokens)
        weights = gradient[0, prefix:].mean(0)
        for row in range(3):
            for column in range(3):
                token = tokens[0, prefix + row * 3 + column]
                assert heat[row, column] == pytest.approx(max(0.0, (weights @ token).item()), rel=1e-9, abs=1e-15)
    hook.remove()


def test_it_leaves_the_network_as_it_was():
    network = classifier("test_resnet", 64)
    network.head.bias.requires_grad_(False)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    activation_maps(explained(network, 64, 1), images(2, 64), np.array([0, 1]))
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    assert all(one.grad is None for one in network.parameters())
    assert [name for name, one in network.named_parameters() if not one.requires_grad] == ["head.bias"]
    assert not any(module._forward_hooks for module in network.modules())


class Detector(nn.Module):
    """An encoder whose two features are known: bright spots, and dark ones, in cells of 4 pixels."""

    num_features = 2

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward_features(self, x):
        bright = nn.functional.avg_pool2d(x, 4) * self.weight
        return torch.cat([bright, -bright], dim=1).relu()

    def forward_head(self, x):
        return x.mean((2, 3))

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def detector() -> Classifier:
    network = Classifier(Detector(), features=2, classes=2, dropout=0.0)
    network.head.weight.data = torch.eye(2)
    network.head.bias.data.zero_()
    return network.eval()


def test_where_the_evidence_is_known_the_energy_is_there():
    network, place = detector(), np.zeros((64, 64), bool)
    place[16:32, 40:56] = True
    x = torch.zeros(2, 1, 64, 64)
    x[0, 0][torch.from_numpy(place)] = 3.0  # evidence of class 0
    x[1, 0][torch.from_numpy(place)] = -3.0  # evidence of class 1
    layer, grid = explained(network, 64, 1), Grid(64, 64, 64)

    def inside(picture, c):
        maps = activation_maps(layer, x[picture : picture + 1], np.array([c]))
        return energy_inside(heat_map(maps, grid), place)

    for c in (0, 1):
        found = inside(c, c)
        assert found.share > 0.7  # the rest is interpolated over its border
        assert found.area == 1 / 16
        assert found.ratio > 11
        assert math.isnan(inside(c, 1 - c).share)  # of the other class there is none


def test_random_networks_do_not_find_the_place():
    """On noise, out of which the detector finds it."""
    place, grid = np.zeros((64, 64), bool), Grid(64, 64, 64)
    place[16:32, 40:56] = True
    x = images(1, 64)
    x[0, 0][torch.from_numpy(place)] = 2.0

    def ratio(network):
        maps = activation_maps(explained(network, 64, 1), x, np.array([0]))
        return energy_inside(heat_map(maps, grid), place).ratio

    found = [ratio(classifier("test_resnet", 64, seed=seed, output_stride=8)) for seed in range(8)]
    assert ratio(detector()) > 5
    assert np.count_nonzero(~np.isnan(found)) > 3
    assert np.nanmean(found) < 3


@pytest.mark.parametrize("shape", [(60, 120), (120, 60), (33, 100), (64, 64)])
def test_heat_lies_where_the_object_is_in_images_of_any_shape(shape):
    """By the path of a prediction: placed on the grid with padding, and back."""
    height, width = shape
    image, object_ = np.full(shape, 114, np.uint8), np.zeros(shape, bool)  # below ImageNet's mean: no evidence
    object_[round(height * 0.6) : round(height * 0.9), round(width * 0.7) : round(width * 0.9)] = True
    image[object_] = 255
    grid, network = Grid.of(image, 64), detector()
    x = network.standardised(torch.from_numpy(grid.place(image))[None, None])
    layer = explained(network, 64, 1)
    heat = heat_map(activation_maps(layer, x, np.array([0])), grid, layer.cells)
    assert heat.shape == shape
    assert heat.max() == 1
    rows, columns = np.nonzero(object_)
    weights = heat / heat.sum()
    assert abs((weights.sum(1) * np.arange(height)).sum() - rows.mean()) < 0.03 * max(shape)
    assert abs((weights.sum(0) * np.arange(width)).sum() - columns.mean()) < 0.03 * max(shape)
    assert energy_inside(heat, object_).ratio > 4


def test_folds_count_alike_and_one_without_heat_adds_nothing():
    one, other = np.zeros((2, 2)), np.zeros((2, 2))
    one[0, 0], other[1, 1] = 5.0, 0.01
    grid = Grid(2, 2, 2)
    assert heat_map(np.stack([one, other]), grid).tolist() == [[1, 0], [0, 1]]
    assert heat_map(np.stack([one, np.zeros((2, 2))]), grid).tolist() == [[1, 0], [0, 0]]
    assert heat_map(np.zeros((2, 2, 2)), grid).tolist() == [[0, 0], [0, 0]]


def test_heat_on_the_padding_is_no_heat_of_the_image():
    padding = np.zeros((1, 8, 8))
    padding[0, 6:, :] = 1.0
    assert heat_map(padding, Grid(32, 64, 64)).max() == 0


def test_energy_is_a_fraction_of_all_of_it():
    heat = np.array([[0.0, 1.0, -5.0], [3.0, 0.0, 0.0]])
    mask = np.array([[False, True, True], [False, False, False]])
    found = energy_inside(heat, mask)
    assert found == (0.25, 1 / 3)
    assert found.ratio == pytest.approx(0.75)
    assert energy_inside(np.ones((3, 4)), np.eye(3, 4, dtype=bool)).ratio == pytest.approx(1)
    assert math.isnan(energy_inside(heat, np.zeros_like(mask)).ratio)
    assert math.isnan(energy_inside(np.zeros_like(heat), mask).share)


class Listed(Detector):
    """Features of several resolutions."""

    def forward_features(self, x):
        return [super().forward_features(x)]

    def forward_head(self, x):
        return super().forward_head(x[0])


class Flat(Detector):
    """Features without places."""

    def forward_features(self, x):
        return super().forward_features(x).mean((2, 3))

    def forward_head(self, x):
        return x


class Oblong(Detector):
    """Tokens that do not fill a square."""

    def forward_features(self, x):
        return super().forward_features(x).flatten(2).transpose(1, 2)[:, 1:]

    def forward_head(self, x):
        return x.mean(1)


class Elsewhere(Detector):
    """Whose prediction is not made from its features."""

    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize("kind", [Listed, Flat, Oblong, Elsewhere])
def test_a_network_without_places_is_refused(kind):
    network = Classifier(kind(), features=2, classes=2, dropout=0.0).eval()
    with pytest.raises(ConfigError, match=r"^model\.encoder=odd: .*; Grad-CAM can place the features of other"):
        explained(network, 32, 1, "model.encoder=odd")


def test_a_map_of_one_cell_has_no_places():
    with pytest.raises(ConfigError, match=r"^model\.encoder=test_resnet: has one cell of features at data\.size=32"):
        explained(classifier("test_resnet", 32), 32, 1, "model.encoder=test_resnet")


def test_a_layer_that_no_gradient_reaches_is_refused():
    class Detached(Detector):
        def forward_features(self, x):
            self.around = x.mean()
            return super().forward_features(x)

        def forward_head(self, x):
            return super().forward_head(x.detach()) + self.around

    network = Classifier(Detached(), features=2, classes=2, dropout=0.0).eval()
    with pytest.raises(ConfigError, match="no gradient of a class reaches"):
        activation_maps(explained(network, 32, 1), images(1), np.array([0]))


def test_tokens_without_a_class_token_are_placed():
    class Tokens(Oblong):
        def forward_features(self, x):
            return Detector.forward_features(self, x).flatten(2).transpose(1, 2)

    network, x = detector(), torch.zeros(1, 1, 32, 32)
    x[0, 0, 8:12, 20:24] = 1
    wanted = activation_maps(explained(network, 32, 1), x, np.array([0]))
    network.encoder = Tokens()
    layer = explained(network, 32, 1)
    assert layer.tokens
    assert np.allclose(activation_maps(layer, x, np.array([0])), wanted)


def test_channels_last_features_are_recognised():
    class Last(Detector):
        def forward_features(self, x):
            return super().forward_features(x).permute(0, 2, 3, 1)

        def forward_head(self, x):
            return x.mean((1, 2))

    network, x = detector(), torch.zeros(1, 1, 32, 32)
    x[0, 0, 8:12, 20:24] = 1
    wanted = activation_maps(explained(network, 32, 1), x, np.array([0]))
    network.encoder = Last()
    assert np.allclose(activation_maps(explained(network, 32, 1), x, np.array([0])), wanted)
    assert np.unravel_index(wanted[0].argmax(), (8, 8)) == (2, 5)


def test_a_tile_has_the_image_its_outline_and_the_heat():
    image, heat, mask = np.full((50, 100), 90, np.uint8), np.zeros((50, 100)), np.zeros((50, 100), bool)
    mask[10:30, 20:60] = True
    heat[10:30, 20:60] = 1
    tile = draw_tile(Tile(image, heat, mask, ("hand 한", "class: probability 0.50")))
    assert tile.shape == (TITLE + SIDE + GAP, 2 * (SIDE + GAP), 3)
    left, right = (tile[TITLE : TITLE + SIDE // 2, x : x + SIDE] for x in (0, SIDE + GAP))
    assert (left[3, 3] == 90).all()
    assert (right[3, 3] == 90).all()
    assert (left == OUTLINE).all(axis=2).sum() > 100
    assert (left[51, 102] == 90).all()
    assert abs(right[51, 102].astype(int) - 90).max() > 50
    assert (tile[TITLE + SIDE // 2 + 2 :] == 255).all()
    assert fitted("한" * 400, 200).endswith("...")
