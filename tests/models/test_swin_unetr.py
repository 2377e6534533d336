"""Swin UNETR, opened, against MONAI's own; skipped where MONAI is not installed."""

import sys

import pytest
import torch

from phalanx.errors import ConfigError
from phalanx.models.swin_unetr import build


def test_without_monai_the_command_to_install_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai", None)
    monkeypatch.setitem(sys.modules, "monai.networks.nets.swin_unetr", None)
    with pytest.raises(ConfigError, match=r"pip install monai einops\. Or set model\.arch=upernet"):
        build("swin", weights=None, classes=3)


@pytest.mark.parametrize("v2", [False, True])
def test_opened_it_gives_monais_logits(v2):
    pytest.importorskip("einops", reason="needs pip install monai einops")
    nets = pytest.importorskip("monai.networks.nets.swin_unetr", reason="needs pip install monai einops")
    kept = []

    class Kept(nets.SwinUNETR):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            kept.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nets, "SwinUNETR", Kept)
        ours = build("swin", weights=None, classes=3, feature_size=12, v2=v2).eval()
    images = torch.randn(2, 1, 64, 96)
    with torch.no_grad():
        assert torch.equal(ours(images).logits, kept[0].eval()(images))
