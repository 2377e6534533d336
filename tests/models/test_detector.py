"""Networks of detection: torchvision's losses per image, and independence of the mode."""

import pytest
import torch
from tests.boxed import words
from torchvision.models.detection.roi_heads import fastrcnn_loss

from phalanx.config.compose import compose
from phalanx.data.box_set import Target
from phalanx.errors import ConfigError
from phalanx.models.detector import anchor_shapes, build_detector

ARCHITECTURES = ["faster_rcnn", "mask_rcnn", "retinanet", "fcos"]


def made(architecture="faster_rcnn", **changes):
    config = compose(words("/d", model=architecture, **changes))
    torch.manual_seed(0)
    return build_detector(config, shapes=anchor_shapes(config, [[12.0, 12.0], [16.0, 14.0]]))


def batch(counts=(2, 0, 1)):
    rng = torch.Generator().manual_seed(3)
    images = torch.randint(0, 255, (len(counts), 1, 64, 64), generator=rng, dtype=torch.uint8)
    targets = []
    for count in counts:
        corners = torch.rand(count, 2, generator=rng) * 40
        boxes = torch.cat([corners, corners + 12], dim=1)
        masks = torch.zeros(count, 64, 64, dtype=torch.uint8)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = 1
        targets.append(Target(boxes, torch.arange(count) % 2, masks))
    return images, targets


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_are_of_each_image_and_do_not_depend_on_the_mode(architecture):
    network = made(architecture)  # whose norms are by group
    images, targets = batch()
    found = []
    for mode in (True, False):
        network.train(mode)
        torch.manual_seed(1)
        terms, right = network.losses(images, targets)
        assert all(term.shape == (3,) for term in (*terms.values(), right))
        assert right[1] == 1
        found.append(torch.cat([*terms.values()]))
    assert torch.equal(*found)
    torch.manual_seed(1)
    terms, _ = network.losses(images[:1], targets[:1])  # alone; the draws of the second stage come after all images'
    alone, first = torch.cat([*terms.values()]), found[0].view(-1, 3)[:, 0]
    same = slice(2 if architecture.endswith("rcnn") else None)
    assert torch.allclose(alone[same], first[same], atol=1e-5)


def test_a_plain_box_head_has_torchvisions_loss():
    network = made()
    heads = network.heads
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(16, 3, generator=generator), torch.randint(0, 3, (16,), generator=generator)
    deltas, wanted = torch.randn(16, 12, generator=generator), torch.randn(16, 4, generator=generator)
    label, _ = fastrcnn_loss(logits, deltas, [labels], [wanted])
    assert torch.allclose(heads.cross_entropy(logits, labels).mean(), label)
    weights = torch.tensor([1.0, 3.0, 0.5])
    heads.class_weights = weights
    heads.focal = 2.0
    right = logits.softmax(1)[torch.arange(16), labels]
    expected = -weights[labels] * (1 - right) ** 2 * right.log()
    assert torch.allclose(heads.cross_entropy(logits, labels), expected, atol=1e-6)


def test_a_step_follows_the_gradient_of_torchvisions_own_network():
    """One step of the proposal network and the box head has the losses that torchvision's classes compute."""
    from torchvision.models.detection.roi_heads import RoIHeads
    from torchvision.models.detection.rpn import RegionProposalNetwork

    network = made()
    images, targets = batch((2, 1))
    wanted = [{"boxes": one.boxes, "labels": one.labels + 1} for one in targets]
    from phalanx.models.detector import frames_of

    maps, frames = network.maps(images), frames_of(images)
    network.train()
    torch.manual_seed(5)
    proposals, losses = RegionProposalNetwork.forward(network.proposals, frames, maps, wanted)
    torch.manual_seed(5)
    ours, terms = network.proposals.propose(frames, [*maps.values()], wanted)
    assert all(torch.equal(one, other) for one, other in zip(ours, proposals, strict=True))
    assert terms["objectness"].shape == (2,)
    alone = {name: one[:1] for name, one in maps.items()}
    torch.manual_seed(5)
    _, losses = RegionProposalNetwork.forward(network.proposals, frames_of(images[:1]), alone, wanted[:1])
    assert torch.allclose(terms["objectness"][0], losses["loss_objectness"], atol=1e-5)
    assert torch.allclose(terms["proposal"][0], losses["loss_rpn_box_reg"], atol=1e-5)
    torch.manual_seed(6)
    _, losses = RoIHeads.forward(network.heads, maps, [one.clone() for one in proposals], frames.image_sizes, wanted)
    torch.manual_seed(6)
    terms, _ = network.heads.losses(frames, maps, proposals, wanted)
    assert torch.allclose(terms["label"].mean(), losses["loss_classifier"], atol=1e-5)
    assert torch.allclose(terms["box"].mean(), losses["loss_box_reg"], atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_half_precision_decodes_in_single(architecture):
    """Corners of boxes at 300 pixels have a step of 2 in bf16."""
    network = made(architecture).eval()
    images, _ = batch()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = network.predict(images)
    for one in found:
        assert one.boxes.dtype == one.scores.dtype == torch.float32
        assert one.labels.dtype == torch.int64
        assert (one.masks is not None) == (architecture == "mask_rcnn")
        if len(one.scores):
            assert (one.scores.diff() <= 0).all()
            assert set(one.labels.tolist()) <= {0, 1}
    if architecture == "faster_rcnn":
        fractions = torch.cat([one.boxes for one in found]).frac()
        assert (fractions * 256).frac().abs().max() > 0  # finer than bf16 has


def test_anchors_of_a_recipe():
    config = compose(words("/d", model__levels="[8,16]", model__anchors="[[20,20],[4,8],[9,9],[30,30]]"))
    assert anchor_shapes(config, None).tolist() == [[[4, 8], [9, 9]], [[20, 20], [30, 30]]]
    config = compose(words("/d", model="fcos", model__levels="[8,16]"))
    assert anchor_shapes(config, None).tolist() == [[[8, 8]], [[16, 16]]]


def test_weights_bring_their_anchors():
    network, other = made(), build_detector(compose(words("/d")), pretrained=False)
    assert not torch.equal(other.proposals.anchor_generator.shapes, network.proposals.anchor_generator.shapes)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.proposals.anchor_generator.shapes, network.proposals.anchor_generator.shapes)


def test_encoders_that_cannot_be_are_one_line():
    for changes, expected in (
        ({"model__encoder": "resnet1"}, "no such network of timm"),
        ({"model__encoder": "test_vit", "model__levels": "[8]"}, "has no map of stride 8"),
        ({"model__weights": "coco"}, "model.weights=coco"),
    ):
        with pytest.raises(ConfigError, match=expected) as caught:
            made(**changes)
        assert "\n" not in str(caught.value)


def test_masks_of_no_box_are_empty():
    network = made("mask_rcnn", predict__score=1.0).eval()
    with torch.no_grad():
        found = network.predict(batch()[0])
    assert all(one.masks.shape == (0, 28, 28) for one in found)
