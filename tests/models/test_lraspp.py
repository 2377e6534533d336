"""Lite R-ASPP against torchvision's."""

import torch
from torchvision.models.segmentation import lraspp_mobilenet_v3_large
from torchvision.models.segmentation.lraspp import LRASPPHead

from phalanx.models.lraspp import LiteAspp, build


def test_decoder_and_head_are_torchvisions():
    torch.manual_seed(0)
    theirs = LRASPPHead(40, 960, 5, 128).eval()
    ours = LiteAspp(fine=40, deep=960).eval()
    head = torch.nn.Conv2d(ours.out_channels, 5, 1)
    ours.squeeze.load_state_dict(theirs.cbr.state_dict())
    ours.scale.load_state_dict(theirs.scale.state_dict())
    with torch.no_grad():
        head.weight.copy_(torch.cat([theirs.low_classifier.weight, theirs.high_classifier.weight], 1))
        head.bias.copy_(theirs.low_classifier.bias + theirs.high_classifier.bias)
        low, high = torch.randn(2, 40, 12, 10), torch.randn(2, 960, 6, 5)
        found = head(ours([None, None, None, low, None, high]))
        torch.testing.assert_close(found, theirs({"low": low, "high": high}), rtol=1e-4, atol=1e-5)


def test_on_mobilenetv3_it_has_torchvisions_number_of_weights_and_its_strides():
    with torch.device("meta"):
        theirs = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21)
    ours = build("tu-mobilenetv3_large_100", weights=None, classes=21)
    grey, one_bias = 2 * 16 * 9, 21  # two input channels fewer; one bias for the sum of two convolutions
    count = sum(p.numel() for p in theirs.parameters()) - grey - one_bias
    assert sum(p.numel() for p in ours.parameters()) == count
    assert [part.shape[-1] for part in ours.encoder(torch.zeros(1, 1, 96, 96))] == [96, 48, 24, 12, 6, 6]
    assert ours.eval()(torch.zeros(1, 1, 96, 96)).logits.shape == (1, 21, 12, 12)
