"""Pairs of decoder and encoder that must work; those that cannot say so in one line, before training."""

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from phalanx.config import SegmentModel, validate_as
from phalanx.errors import ConfigError
from phalanx.models.build import build, normalise
from phalanx.models.segmenter import PRIOR_LOGIT, dry_run

HEAD = {"points": 32, "hidden": 16, "layers": 2, "subdivision_points": 64}


IMAGES = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def model(arch, encoder, **more):
    return validate_as(SegmentModel, {"arch": arch, "encoder": encoder, "weights": "none", "pointrend": None, **more})


PAIRS = [
    model("fpn", "mobilenet_v2", pointrend=HEAD),
    model("unet", "resnet18"),
    model("linknet", "tu-test_efficientnet", norm="batch"),
    model("unetplusplus", "tu-test_efficientnet", pointrend=HEAD),
    model("deeplabv3plus", "tu-test_resnet", pointrend=HEAD),
    model("segformer", "mit_b0", pointrend=HEAD),
    model("FPN", "tu-test_resnet", channels_last=True, options={"decoder_pyramid_channels": 32}),
]


@pytest.mark.parametrize("config", PAIRS, ids=lambda c: f"{c.arch}-{c.encoder}")
def test_a_pair_gives_logits_of_the_images_size_and_survives_saving(config, tmp_path):
    torch.manual_seed(0)
    network = build(config, classes=5, size=64)
    images = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    assert network.training
    logits, points, _ = network(images)
    assert logits.shape == (2, 5, 64, 64)
    assert (points is None) == (config.pointrend is None)
    if points is not None:
        assert points.coords.shape == (2, 32, 2)
        assert points.logits.shape == (2, 5, 32)
    (logits.sum() + (points.logits.sum() if points else 0)).backward()
    unused = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    # a classifier's last stage and the like may be idle; the decoder and the heads may not
    assert not [name for name in unused if "encoder" not in name]
    network.eval()
    with torch.no_grad():
        expected = network.predict(images)
        assert expected.shape == (2, 5, 64, 64)
        assert expected.dtype == torch.float32
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "w.safetensors")
    torch.manual_seed(1)
    again = build(config, classes=5, size=64, pretrained=False).eval()
    again.load_state_dict(load_file(tmp_path / "w.safetensors"))
    with torch.no_grad():
        assert torch.equal(again.predict(images), expected)


@pytest.mark.parametrize(
    ("arch", "encoder", "size", "message"),
    [
        ("dpt", "resnet18", 64, r"encoder=resnet18, .*Decoders that run with resnet18 at 64 pixels: fpn, unet, "),
        ("unetplusplus", "mit_b0", 64, r"encoder=mit_b0, .*Decoders that run with mit_b0 at 64 pixels: fpn, unet"),
        ("unet", "tu-vit_tiny_patch16_224", 64, r"Decoders that run with tu-vit_tiny_patch16_224 at 64 pixels: dpt$"),
        ("deeplabv3", "tu-hrnet_w18_small", 64, r"Decoders that run with tu-hrnet_w18_small at 64 pixels: fpn"),
        ("pan", "resnet18", 64, r"does not run at data\.size=64: .*It runs at \d+.* Decoders .*: fpn, unet, upernet"),
        ("hrnet_ocr", "resnet18", 64, r"needs an HRNet; did you mean tu-hrnet_w18\? .*model\.arch=fpn"),
        ("lraspp", "tu-vit_tiny_patch16_224", 64, r"cannot be dilated.* tu-mobilenetv3_large_100, .*model\.arch \(fpn"),
        ("residual_unet", "resnet18", 64, r"set model\.encoder=resenc model\.weights=none, or model\.arch=unet$"),
        ("residual_unet", "resenc", 96, r"does not run at data\.size=96: .*It runs at 64, 128$"),
        ("swin_unetr", "resnet18", 64, r"set model\.encoder=swin model\.weights=none, or set model\.arch=upernet "),
    ],
)  # fmt: skip
def test_a_pair_or_size_that_does_not_work_is_refused_naming_some_that_do(arch, encoder, size, message):
    options = {"features": 4, "max_features": 16, "stages": 7} if arch == "residual_unet" else {}
    with pytest.raises(ConfigError, match=message) as found:
        build(model(arch, encoder, options=options), classes=3, size=size)
    assert "\n" not in str(found.value)


def test_what_a_refusal_names_does_work():
    with pytest.raises(ConfigError) as found:
        build(model("linknet", "mit_b0"), classes=3, size=64)
    for name in str(found.value).rpartition(": ")[2].split(", "):
        assert build(model(name, "mit_b0"), classes=3, size=64)(IMAGES).logits.shape == (2, 3, 64, 64)


def test_without_its_options_a_pair_works_and_the_refusal_says_so():
    wrong = model("dpt", "tu-vit_tiny_patch16_224", options=VIT | {"img_size": 32})
    with pytest.raises(ConfigError, match=r"size=64: .*It runs at 32\. Without model\.options they run$"):
        build(wrong, classes=3, size=64)


VIT = {"embed_dim": 32, "num_heads": 2, "decoder_intermediate_channels": [8, 8, 8, 8], "decoder_fusion_channels": 8}
SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}


@pytest.mark.parametrize(
    ("arch", "encoder", "options"),
    [("dpt", "tu-vit_tiny_patch16_224", VIT), ("upernet", "tu-swinv2_tiny_window8_256", SWIN)],
)
def test_timms_transformers_are_built_for_the_size_of_the_images(arch, encoder, options):
    network = build(model(arch, encoder, options=options), classes=3, size=96)
    assert network(torch.zeros(1, 1, 96, 96, dtype=torch.uint8)).logits.shape == (1, 3, 96, 96)


def test_a_swin_runs_on_crops_too():
    network = build(model("fpn", "tu-swin_tiny_patch4_window7_224", options=SWIN), classes=3, size=128)
    assert network(IMAGES).logits.shape == (2, 3, 64, 64)


def test_the_dry_run_tells_the_shapes_of_a_real_one_and_changes_nothing():
    torch.manual_seed(0)
    network = build(model("fpn", "tu-test_resnet", norm="batch", pointrend=HEAD), classes=3, size=64)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    dry = dry_run(network, IMAGES)
    assert dry.logits.device.type == "meta"
    assert network.training
    assert dry.logits.shape == network.eval()(IMAGES).logits.shape
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_new_network_expects_classes_to_be_rare():
    torch.manual_seed(0)
    network = build(model("unet", "tu-test_resnet"), classes=29, size=64)
    logits, *_ = network(torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8))
    assert abs(float(logits.detach().mean()) - PRIOR_LOGIT) < 1.5


def test_grey_is_normalised_to_imagenets_luminance():
    grey = torch.arange(256, dtype=torch.uint8)
    mean = 0.299 * 0.485 + 0.587 * 0.456 + 0.114 * 0.406
    spread = 0.299 * 0.229 + 0.587 * 0.224 + 0.114 * 0.225
    torch.testing.assert_close(normalise(grey), (grey / 255 - mean) / spread, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (model("unett", "resnet18"), r"^model\.arch=unett: no such decoder; did you mean unet\?"),
        (model("unet", "resnet19"), r"^model\.encoder=resnet19: no such encoder; did you mean resnet1"),
        (model("unet", "tu-resnet19"), r"^model\.encoder=tu-resnet19: timm has no such model; did you mean resnet"),
        (model("unet", "regnety_002"), r"no such encoder.*\(timm's models are named with tu- before the name\)"),
        (model("fpn", "resnet18", options={"decoder_piramid_channels": 64}),
         r"^model\.options\.decoder_piramid_channels: not an option of fpn; did you mean decoder_pyramid_channels\?"),
        (model("fpn", "tu-test_resnet", options={"decoder_dropot": 0.1}), r"mean decoder_dropout"),
        (model("fpn", "tu-test_resnet", options={"bogus": 1}), r"bogus"),
        (model("fpn", "resnet18", options={"decoder_merge_policy": "sum"}), r"options=.*decoder_merge_policy"),
        (model("unet", "resnet18", options={"classes": 3}), "classes"),
        (model("lraspp", "tu-test_resnet", options={"chanels": 3}),
         r"^model\.options\.chanels: no such option; did you mean channels\?"),
        (model("lraspp", "tu-test_resnet", options={"channels": 0}), r"^model\.options\.channels=0: .*greater than"),
        (model("residual_unet", "resenc", options={"most": 64}),
         r"^model\.options\.most: no such option; it is now model\.options\.max_features"),
        (model("residual_unet", "resenc", options={"stages": 9}),
         r"^model\.options\.stages=9: .*less than or equal to 8"),
        (model("residual_unet", "resenc", options={"max_features": "wide"}),
         r"^model\.options\.max_features='wide': .*valid integer"),
        (model("hrnet_ocr", "tu-hrnet_w18", options={"dropout": 2}),
         r"^model\.options\.dropout=2: .*less than or equal"),
        (model("swin_unetr", "swin", options={"feature_size": 20}),
         r"^model\.options\.feature_size=20: .*multiple of 12"),
        (model("unet", "resnet18", weights="imagenett"), r"model\.arch=unet .*weights=imagenett"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused_in_one_line_naming_key_and_nearest(config, message):
    with pytest.raises(ConfigError, match=message) as found:
        build(config, classes=3, size=64)
    assert "\n" not in str(found.value)


def encoder_file(tmp_path, change):
    torch.manual_seed(7)
    weights = build(model("unet", "tu-test_resnet", norm="batch"), classes=3, size=64).core.encoder.state_dict()
    path = tmp_path / "encoder.safetensors"
    save_file({k: v.contiguous() for k, v in change(weights).items()}, path)
    return weights, path


def colour(weights):
    """As published: three input channels, without the wrapper's prefix; grey weights are their sum."""
    stem = next(k for k, v in weights.items() if v.ndim == 4 and v.shape[1] == 1)
    parts = torch.stack([weights[stem][:, 0] * share for share in (0.5, 0.25, 0.25)], 1)
    return {k.removeprefix("model."): parts if k == stem else v for k, v in weights.items()}


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_encoder_weights_come_from_a_local_file_with_colours_summed(tmp_path, norm):
    weights, path = encoder_file(tmp_path, colour)
    torch.manual_seed(8)
    network = build(model("unet", "tu-test_resnet", weights=str(path), norm=norm), classes=3, size=64)
    found = network.core.encoder.state_dict()
    trained = {k: v for k, v in weights.items() if v.ndim == 4}
    assert len(trained) > 3
    for key, value in trained.items():
        torch.testing.assert_close(found[key], value)


def test_a_file_of_another_encoder_is_refused(tmp_path):
    _, path = encoder_file(tmp_path, lambda weights: dict(list(weights.items())[:4]))
    with pytest.raises(
        ConfigError, match=r"encoder\.safetensors: is of another encoder; \d+ of \d+ tensors are missing"
    ):
        build(model("unet", "tu-test_resnet", weights=str(path)), classes=3, size=64)
    path.write_bytes(b"no tensors")
    with pytest.raises(ConfigError, match="not a safetensors file"):
        build(model("unet", "tu-test_resnet", weights=str(path)), classes=3, size=64)


def test_parts_of_a_network_have_one_name_each_in_a_checkpoint():
    """The point head owns the segmenter: stored under both, weights would be written twice and could differ."""
    network = build(PAIRS[0], classes=5, size=64)
    assert isinstance(network, nn.Module)
    pointers = [p.data_ptr() for p in network.state_dict().values() if p.numel()]
    assert len(pointers) == len(set(pointers))


def test_named_weights_of_timm_come_grey_by_summing_their_colours(tmp_path):
    """timm reads its file through its own path, as after a download."""
    torch.manual_seed(3)
    colours = timm.create_model("test_resnet", num_classes=10).state_dict()
    save_file(colours, tmp_path / "timm.safetensors")
    overlay = {"pretrained_cfg_overlay": {"file": str(tmp_path / "timm.safetensors")}}
    config = model("unet", "tu-test_resnet", norm="batch", options=overlay).model_copy(update={"weights": "imagenet"})
    found = build(config, classes=3, size=64).core.encoder.model.state_dict()
    torch.testing.assert_close(found["conv1.0.weight"], colours["conv1.0.weight"].sum(1, keepdim=True))
    same = [key for key in found.keys() - {"conv1.0.weight"} if torch.equal(found[key], colours[key])]
    assert len(same) == len(found) - 1


def test_named_weights_of_smp_come_grey_by_summing_their_colours(monkeypatch):
    torch.manual_seed(3)
    colours = smp.encoders.get_encoder("resnet18").state_dict()
    monkeypatch.setattr("phalanx.models.pretrained.answers", lambda *_: True)
    monkeypatch.setattr(smp.encoders, "hf_hub_download", lambda *_, **__: "downloaded")
    monkeypatch.setattr(smp.encoders, "load_file", lambda *_, **__: colours)
    config = model("unet", "resnet18").model_copy(update={"weights": "imagenet"})
    found = build(config, classes=3, size=64).core.encoder.state_dict()
    torch.testing.assert_close(found["conv1.weight"], colours["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(found["layer1.0.conv1.weight"], colours["layer1.0.conv1.weight"])


@pytest.mark.parametrize(
    ("weights", "encoder", "message"),
    [
        ("/no/such.safetensors", "tu-test_resnet", r"^model\.weights=/no/such\.safetensors: no such file"),
        ("weights.pth", "resnet18", r"^model\.weights=weights\.pth: no such file"),
        ("fcmae", "tu-test_resnet.r160_in1k", r"model\.encoder=tu-test_resnet\.fcmae model\.weights=imagenet"),
    ],
)
def test_weights_that_would_be_taken_for_others_are_refused(weights, encoder, message):
    """timm downloads its own for any name, that of a missing file included."""
    with pytest.raises(ConfigError, match=message):
        build(model("unet", encoder, weights="none").model_copy(update={"weights": weights}), classes=3, size=64)


def test_norms_over_channels_and_places_are_built_and_tried():
    for norm in ("instance", "layer"):
        network = build(model("unet", "tu-test_resnet", norm=norm), classes=3, size=64)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    with pytest.raises(ConfigError, match=r"model\.norm=instance would zero the 1 x 1 maps of this network"):
        build(model("deeplabv3plus", "resnet18", norm="instance"), classes=3, size=64)
