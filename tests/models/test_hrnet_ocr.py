"""Object-contextual representations against their definition, pixel by pixel."""

import torch

from phalanx.models.hrnet_ocr import ObjectContext, build, gather
from phalanx.models.segmenter import PRIOR_LOGIT


def context(classes=3):
    torch.manual_seed(0)
    module = ObjectContext(channels=[4, 8], classes=classes, width=12, key=6, dropout=0.0, auxiliary=0.4)
    return module.eval()


def test_an_object_is_the_mean_of_its_pixels_weighed_by_their_probability():
    torch.manual_seed(0)
    logits, pixels = 4 * torch.randn(2, 3, 5, 7), torch.randn(2, 6, 5, 7)
    found = gather(logits, pixels)
    for image in range(2):
        for label in range(3):
            share = 1 / (1 + (-logits[image, label].double()).exp())
            mean = (pixels[image].double() * share).sum((1, 2)) / share.sum()
            torch.testing.assert_close(found[image, :, label].double(), mean, rtol=1e-5, atol=1e-6)


def test_classes_overlap_and_take_nothing_from_each_other():
    torch.manual_seed(0)
    logits, pixels = torch.randn(1, 3, 8, 8), torch.randn(1, 6, 8, 8)
    before = gather(logits, pixels)
    logits[:, 1] = logits[:, 0]
    after = gather(logits, pixels)
    torch.testing.assert_close(after[..., 1], after[..., 0])
    assert torch.equal(after[..., [0, 2]], before[..., [0, 2]])


def test_a_class_that_is_nowhere_gives_no_nan_and_half_precision_keeps_a_small_one():
    pixels = torch.rand(1, 2, 256, 256)
    logits = torch.full((1, 2, 256, 256), -200.0)
    logits[0, 1, 3, 4] = 5.0  # one pixel of 65536
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gather(logits.bfloat16(), pixels)
    torch.testing.assert_close(found[0, :, 0], pixels[0].mean((1, 2)), rtol=1e-3, atol=0)
    torch.testing.assert_close(found[0, :, 1], pixels[0, :, 3, 4], rtol=1e-3, atol=0)


def test_a_pixel_adds_the_objects_it_resembles():
    module = context()
    maps = [torch.randn(2, 4, 8, 8), torch.randn(2, 8, 4, 4)]
    with torch.no_grad():
        found, auxiliary = module(maps)
        x = torch.cat([maps[0], torch.nn.functional.interpolate(maps[1], (8, 8), mode="bilinear")], 1)
        pixels = module.pixel(x)
        objects = gather(module.region(x), pixels)[..., None]
        query, key, value = module.query(pixels), module.key(objects)[..., 0], module.value(objects)[..., 0]
        mixed = torch.zeros(2, 6, 8, 8)
        for image in range(2):
            for row in range(8):
                for column in range(8):
                    scores = [query[image, :, row, column] @ key[image, :, label] / 6**0.5 for label in range(3)]
                    shares = torch.stack(scores).softmax(0)
                    mixed[image, :, row, column] = value[image] @ shares
        expected = module.join(torch.cat([module.context(mixed), pixels], 1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not auxiliary


def test_the_first_head_learns_with_its_weight_and_starts_as_rare_as_the_last():
    module = context().train()
    _, [(weight, logits)] = module([torch.randn(2, 4, 8, 8), torch.randn(2, 8, 4, 4)])
    assert weight == 0.4
    assert logits.shape == (2, 3, 8, 8)
    assert module.region[-1].bias.unique().tolist() == [PRIOR_LOGIT]
    assert (
        ObjectContext(channels=[4], classes=3, width=4, key=2, dropout=0.0, auxiliary=0.0)([torch.rand(2, 4, 8, 8)])[1]
        == []
    )


def test_w48_has_the_published_number_of_weights():
    """70.5 million for the 150 classes of ADE20K (Xie et al., SegFormer, 2021, table 2)."""
    with torch.device("meta"):
        network = build("tu-hrnet_w48", weights=None, classes=150)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == 70.5
    assert [network.encoder.out_channels[-4:], network.head.in_channels] == [[48, 96, 192, 384], 512]
