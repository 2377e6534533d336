"""Tiny hands and two tiny trained runs, made once and shared: enough to go through every path in seconds."""

import os
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
hypothesis.settings.register_profile("shared machine", deadline=None)  # a busy core is no failure
hypothesis.settings.load_profile("shared machine")


def pytest_configure(config):
    """Tests compute on the CPU wherever they run, but for those marked gpu."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items):
    """Skips tests marked gpu where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


COMMON = [
    "data.size=64", "folds=2", "epochs=6", "batch=2", "workers=0", "progress=false", "validate_every=2", "device=cpu",
    "augment=none", "optim.lr=1e-2", "optim.ema=0.5", "report=false",
]  # fmt: skip
FPN = [
    "model.arch=fpn", "model.encoder=tu-test_efficientnet", "model.weights=none",
    "model.options={decoder_pyramid_channels:32,decoder_segmentation_channels:32}",
    "model.pointrend={points:64,hidden:16,layers:1,subdivision_points:64}",
]  # fmt: skip
UNET = [
    "model.arch=unet", "model.encoder=tu-test_resnet", "model.weights=none",
    "model.options={decoder_channels:[32,32,16,16,16]}", "model.pointrend=null",
    "loss.stages=[{weights:{bce:0.5,dice:0.5}}]",
]  # fmt: skip


@pytest.fixture(scope="session")
def hands(tmp_path_factory) -> Path:
    """Six training and two test patients, 128 pixels: twelve and four images."""
    from phalanx.phantom.hand import make_hands

    out = tmp_path_factory.mktemp("data") / "hands"
    make_hands(out, patients=6, test_patients=2, size=128, seed=5, workers=1, progress=False)
    return out


@pytest.fixture(scope="session")
def tiny(hands):
    """Words of `phalanx train` for a tiny recipe: tiny("fpn") with PointRend, or tiny("unet") without."""
    models = {"fpn": FPN, "unet": UNET}

    def words(model: str, **changes: object) -> list[str]:
        base = dict(word.split("=", 1) for word in [*COMMON, f"data.root={hands}", *models[model]])
        return [
            f"{key}={value}" for key, value in (base | {k.replace("__", "."): v for k, v in changes.items()}).items()
        ]

    return words


@pytest.fixture(scope="session")
def runs(tmp_path_factory, tiny) -> Path:
    """A folder with two finished runs, ``fpn`` and ``unet``, of two folds each. Not to be changed."""
    from phalanx.cli import main

    place = tmp_path_factory.mktemp("trained") / "runs"
    for name in ("fpn", "unet"):
        assert main(["train", *tiny(name, fold="0,1", name=name, runs=place)]) == 0
    return place


@pytest.fixture
def recipe(tiny, tmp_path):
    """A composed configuration whose runs lie in the test's folder: recipe("unet", batch=2)."""
    from phalanx.config.compose import compose, split_words

    return lambda model="unet", **changes: compose(
        split_words(tiny(model, runs=tmp_path / "runs", name="r", **changes))
    )


@pytest.fixture
def records(hands):
    """The annotated images of the tiny hands."""
    from phalanx.data.records import train_records

    return train_records(hands)


@pytest.fixture
def one_thread():
    """Torch computes on one thread, so that sums are added up in one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
