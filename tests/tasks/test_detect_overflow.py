"""fp16 in a detector: what overflows in 16 bits is skipped and named, and heads and boxes are decoded in 32.

On a CPU, whose autocast has fp16, too; its scaler is that of a GPU.
"""

import pytest
import torch
from tests.boxed import make_polygons, words
from torch import nn

from phalanx.config.compose import compose
from phalanx.data.quarantine import kept_records
from phalanx.engine.fit import fit
from phalanx.errors import TrainingError
from phalanx.models.detector import build_detector
from phalanx.predict.detect import open_detector
from phalanx.runs import checkpoint
from phalanx.runs.reader import FoldRun
from phalanx.runtime.device import Device
from phalanx.tasks.detect import Detect

pytestmark = pytest.mark.usefixtures("one_thread")
ARCHITECTURES = ["faster_rcnn", "mask_rcnn", "retinanet", "fcos"]
# the backward pass of fp16 is slow on a CPU
SLOW = ["faster_rcnn", *(pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES[1:])]
LARGE = 1e6  # above 65504, the largest number of fp16, and far below that of 32 bits


class Half(Device):
    """The CPU in fp16, with a first scale that suits it."""

    def scaler(self):
        return torch.amp.GradScaler("cpu", init_scale=2.0**6, growth_interval=1000)


class TooLarge(Half):
    """A first scale with which every gradient overflows, until it was reduced a few times."""

    def scaler(self):
        return torch.amp.GradScaler("cpu", init_scale=2.0**40, backoff_factor=2.0**-10, growth_interval=1000)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_polygons(tmp_path_factory.mktemp("half") / "set", train=8, test=2)


@pytest.fixture
def on(monkeypatch):
    """Makes the engine train on a device."""

    def use(kind):
        monkeypatch.setattr("phalanx.engine.loop.open_device", lambda *_: kind(torch.device("cpu"), "fp16"))

    return use


class Enlarged(nn.Module):
    """A layer whose weights are far too large for fp16, for the steps of some numbers."""

    def __init__(self, inner, steps):
        super().__init__()
        self.inner, self.steps, self.seen = inner, set(steps), 0

    def forward(self, images):
        self.seen += self.training
        maps = self.inner(images)
        factor = LARGE if self.training and self.seen in self.steps else 1.0
        return [one * factor for one in maps]


def overflowing(steps):
    """A task whose encoder overflows in some forwards of training, from 1."""

    class Overflowing(Detect):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.network.encoder = Enlarged(self.network.encoder, steps)

    return Overflowing


def config_of(root, runs, **changes):
    return compose(words(root, runs=runs, **changes))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_and_boxes_are_computed_in_32_bits(root, tmp_path, architecture):
    """A step under fp16 autocast has the loss of one in 32 bits but for rounding, and boxes of float32."""
    config = config_of(root, tmp_path, model=architecture, augment="none", model__norm="group")
    task = Detect(config, kept_records(config.data)[4:], ())
    batch = task.training_set.collate([task.training_set[(0, i)] for i in range(4)])
    found = {}
    for precision in ("32", "fp16"):
        with Device(torch.device("cpu"), precision).autocast():
            torch.manual_seed(0)
            step = task.step(task.network, batch)
            boxes = task.network.eval().predict(batch.images)
        task.network.train()
        assert step.loss.dtype == torch.float32
        assert all(value.dtype == torch.float32 for value in step.terms.values())
        assert all(one.boxes.dtype == one.scores.dtype == torch.float32 for one in boxes)
        assert all(torch.isfinite(one.boxes).all() for one in boxes)
        found[precision] = step.loss.item()
    # proposals whose scores nearly tie may change their order, so samples differ a little
    assert found["fp16"] == pytest.approx(found["32"], rel=0.15)


@pytest.mark.parametrize("architecture", SLOW)
def test_a_gradient_that_overflows_is_the_scalers_business(root, tmp_path, on, architecture):
    on(TooLarge)
    config = config_of(root, tmp_path, model=architecture, epochs=2, batch=2, validate_every=0, model__norm="group")
    folder = fit(config, None, kept_records(config.data), Detect)
    tensors, state = checkpoint.load(folder / "last")
    assert 1 <= state["scaler"]["scale"] < 2.0**40
    assert all(torch.isfinite(value).all() for part in tensors.values() for value in part.values())
    steps = next(value for key, value in tensors["optimizer"].items() if "step" in key)
    assert 0 < steps < 8  # of 2 epochs with 4 steps each some were skipped
    assert not FoldRun(folder).log("skipped")  # nothing to report: a scaler looks for its scale


@pytest.mark.parametrize("architecture", SLOW)
def test_a_loss_that_overflows_is_skipped_and_its_image_named(root, tmp_path, on, architecture):
    on(Half)
    config = config_of(
        root, tmp_path, model=architecture, on_nan="skip", epochs=1, batch=2, validate_every=0, model__norm="group"
    )
    folder = fit(config, None, kept_records(config.data), overflowing({2, 4}))
    skipped = FoldRun(folder).log("skipped")
    assert [line["step"] for line in skipped] == [2, 4]
    assert all("the loss term" in line["text"] and ".png is not finite" in line["text"] for line in skipped)
    tensors, _ = checkpoint.load(folder / "last")
    assert all(torch.isfinite(value).all() for part in tensors.values() for value in part.values())


def test_by_default_an_overflow_stops_with_one_line_and_nothing_of_it_is_saved(root, tmp_path, on):
    on(Half)
    config = config_of(root, tmp_path, epochs=1, batch=2, model__norm="group", checkpoint_minutes=1e-9)
    with pytest.raises(TrainingError, match=r"step 3, batch 3: the loss term \w+ of \d+\.png is not finite") as caught:
        fit(config, None, kept_records(config.data), overflowing({3}))
    assert "precision=32" in str(caught.value)
    assert "\n" not in str(caught.value)
    tensors, state = checkpoint.load(tmp_path / "base" / "all" / "last")
    assert state["step"] == 2
    assert all(torch.isfinite(value).all() for part in tensors.values() for value in part.values())


def test_a_prediction_that_overflows_has_no_box_that_is_not_one(root, tmp_path):
    """Whatever the network gives, a box that is not finite or has no area is not written."""
    config = config_of(root, tmp_path, epochs=1, batch=8, validate_every=0)
    folder = fit(config, None, kept_records(config.data), Detect)
    run = open_detector(str(folder), runs=tmp_path, device="cpu")
    for network in (fold.network for fold in run.folds):
        network.encoder = Enlarged(network.encoder, ())
        network.encoder.forward = lambda images, inner=network.encoder.inner: [
            torch.full_like(one, torch.inf) for one in inner(images)
        ]
    found = run.predict(kept_records(config.data)[:2], 2, progress=False)
    found.write(tmp_path / "out.csv")
    assert all(len(one.corners) == 0 or torch.isfinite(torch.from_numpy(one.corners)).all() for one in found.boxes)


def test_building_needs_no_gpu_for_fp16(root, tmp_path):
    config = config_of(root, tmp_path, model="mask_rcnn")
    network = build_detector(config, pretrained=False).eval()
    with torch.autocast("cpu", torch.float16), torch.no_grad():
        (found,) = network.predict(torch.zeros(1, 1, 64, 64, dtype=torch.uint8))
    assert found.masks is None or found.masks.dtype == torch.float32
