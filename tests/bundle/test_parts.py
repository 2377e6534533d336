"""What bundles are made of: requirements for other machines, the wheel, licences."""

import json
import os
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import pytest

from phalanx.bundle import requirements
from phalanx.bundle.options import BundleOptions
from phalanx.bundle.requirements import Target
from phalanx.bundle.wheel import make_wheel
from phalanx.errors import ConfigError
from phalanx.models.licences import UNKNOWN, Weights, weights_of
from phalanx.runs.folder import claim, fold_folder
from phalanx.runs.pretrained import pretrained_of, warnings_of
from phalanx.runs.reader import FoldRun


def test_versions_here_are_those_installed_and_elsewhere_those_of_the_list():
    names = requirements.direct(onnx=False, architectures=["unet"])
    here = requirements.pinned(names, BundleOptions().target)
    assert {"torch", "numpy", "huggingface-hub", "markupsafe"} <= here.keys()
    assert "hydra-core" not in here
    assert here["numpy"] == __import__("numpy").__version__
    other = Target("3.13" if sys.version_info[:2] != (3, 13) else "3.11", None)
    numpy = requirements.pinned(names, other)["numpy"]
    assert numpy == requirements.locked_versions(other)["numpy"]
    assert {requirements.locked_versions(Target(v, None))["numpy"] for v in ("3.11", "3.12")} == {"2.4.6", "2.5.5"}
    mac = requirements.pinned(names, Target("3.12", "macosx_14_0_arm64"))
    assert not [name for name in mac if name.startswith(("nvidia", "cuda", "triton"))]


def test_an_export_needs_neither_torch_nor_what_it_brings():
    names = requirements.pinned(requirements.direct(onnx=True, architectures=["swin_unetr"]), BundleOptions().target)
    assert "onnxruntime" in names
    assert not {"torch", "timm", "monai", "onnx", "sympy"} & names.keys()
    assert "monai" in requirements.direct(onnx=False, architectures=["swin_unetr"])


def test_pip_is_told_the_other_machine_and_all_that_it_is_compatible_with():
    words = Target("3.12", "manylinux_2_28_aarch64").pip_words()
    assert words[:3] == ["--only-binary=:all:", "--python-version", "3.12"]
    assert {"manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(words)
    assert Target("3.12", "manylinux_2_28_aarch64").machine == "Linux aarch64"
    assert Target("3.12", "macosx_11_0_arm64").machine == "Darwin arm64"
    assert {"macosx_14_0_arm64", "macosx_11_0_arm64"} <= set(Target("3.12", "macosx_14_0_arm64").pip_words())
    here = BundleOptions().target
    assert here.pip_words() == ["--only-binary=:all:"]
    assert "--platform" in here.pip_words(explicit=True)


def test_a_package_that_is_missing_is_named():
    with pytest.raises(ConfigError, match=r"no_such_package: is needed for prediction and is not installed here"):
        requirements.pinned(["no_such_package"], BundleOptions().target)


def test_a_download_that_fails_says_what_else_to_do(tmp_path, monkeypatch):
    error = "WARNING: x\nERROR: No matching distribution found for torch==9\n"
    monkeypatch.setattr(
        requirements.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stderr=error, stdout="")
    )
    with pytest.raises(ConfigError, match=r"No matching distribution found for torch==9.*torch_index=URL"):
        requirements.download(["torch==9"], tmp_path, BundleOptions().target, None)
    assert not list(tmp_path.iterdir())


def test_wheels_are_listed_with_their_hashes(tmp_path):
    for name in ("a_b-1.0-py3-none-any.whl", "phalanx-0.1.0-py3-none-any.whl"):
        (tmp_path / name).write_bytes(b"x")
    [line] = requirements.hashed(tmp_path)
    assert line.startswith("a-b==1.0 --hash=sha256:2d711642b726b044")


def test_an_installed_wheel_finds_its_configs_and_makes_the_wheel_again(tmp_path):
    """Unpacked as pip does it, in a process that sees no sources."""
    path = make_wheel(tmp_path)
    site = tmp_path / "site"
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(site)
        names = set(wheel.namelist())
    code = (
        "import sys; from pathlib import Path; from phalanx.cli import main; import phalanx; print(phalanx.__file__)\n"
        "from phalanx.sweep.published import read_published; print(len(read_published()))\n"
        "from phalanx.bundle.requirements import locked_versions, Target\n"
        "print(len(locked_versions(Target('3.12', None))))\n"
        "from phalanx.bundle.wheel import make_wheel; print(make_wheel(Path('.')))\n"
        "sys.exit(main(['config', 'experiment=base', 'data.root=x']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    place, published, locked, again, *_ = done.stdout.splitlines()
    assert place == str(site / "phalanx/__init__.py")
    assert int(published) > 20
    assert int(locked) > 100
    assert "configs/model/" in done.stdout
    with zipfile.ZipFile(tmp_path / again) as wheel:
        assert set(wheel.namelist()) == names
        assert wheel.testzip() is None
        record = wheel.read("phalanx-0.1.0.dist-info/RECORD").decode().splitlines()
    assert len(record) == len(names)


def model(**changes):
    return SimpleNamespace(**{"encoder": "resnet34", "weights": "imagenet", "init_from": None} | changes)


@pytest.mark.parametrize(
    ("encoder", "weights", "licence", "non_commercial"),
    [
        ("resnet34", "imagenet", "bsd-3-clause", False),
        ("resnet18", "swsl", "cc-by-nc-4.0", True),
        ("resnext101_32x8d", "instagram", "cc-by-nc-4.0", True),
        ("efficientnet-b3", "advprop", "apache-2.0", False),
        ("mit_b2", "imagenet", "NVIDIA Source Code License for SegFormer (non-commercial)", True),
        ("se_resnet50", "imagenet", UNKNOWN, False),
        ("tu-convnextv2_tiny", "imagenet", "cc-by-nc-4.0", True),
        ("tu-hrnet_w18", "imagenet", "mit", False),
        ("no_such_encoder", "imagenet", UNKNOWN, False),
    ],
)
def test_licences_are_those_of_the_library_or_of_the_repository(encoder, weights, licence, non_commercial):
    found = weights_of(model(encoder=encoder, weights=weights))
    assert (found.licence, found.is_non_commercial) == (licence, non_commercial)
    assert found.is_unknown == (licence == UNKNOWN)
    assert bool(warnings_of([found])) == (non_commercial or found.is_unknown)


def test_every_encoder_of_a_recipe_has_a_known_licence_or_is_warned_of():
    assert warnings_of([weights_of(model(weights="none"))]) == []
    [line] = warnings_of([weights_of(model(weights="mine/file.safetensors"))] * 2)
    assert "file.safetensors (a local file) have no recorded licence" in line


def test_a_run_records_its_pretrained_weights_and_one_that_begins_with_it_too(recipe):
    config = recipe()
    config = config.model_copy(
        update={"model": config.model.model_copy(update={"encoder": "mit_b0", "weights": "imagenet"})}
    )
    first = fold_folder(config, 0)
    claim(first, config)
    found = pretrained_of(FoldRun(first))
    assert found.recorded
    assert found.weights.is_non_commercial
    second = first.with_name("fold1")
    claim(second, config.model_copy(update={"model": config.model.model_copy(update={"weights": "none"})}), first)
    found = pretrained_of(FoldRun(second)).weights
    assert found.is_non_commercial
    assert found.source.endswith(f", by way of the run {first.parent.name}")
    about = json.loads((first / "environment.json").read_text())
    (first / "environment.json").write_text(json.dumps(about | {"pretrained": None}))
    assert pretrained_of(FoldRun(first)) == (Weights("imagenet", "smp-hub/mit_b0.imagenet", found.licence), False)
