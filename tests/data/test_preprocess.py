"""Blackout and background removal: on the image alone, the same in training and prediction."""

import cv2
import numpy as np
import pytest
import torch

from phalanx.cli import main
from phalanx.config import SegmentData
from phalanx.data.images import Grid, read_grey
from phalanx.data.layouts import train_records, truth
from phalanx.data.prepared import prepare
from phalanx.data.preprocess import blackout, foreground, preprocess, stretch
from phalanx.predict.opening import open_member


def data(root=".", **changes):
    return SegmentData(name="t", root=root, classes=["a"], size=64, **changes)


@pytest.mark.parametrize(
    ("shape", "band"), [((2048, 2048), 80), ((1024, 1024), 40), ((512, 300), 20), ((300, 512), 20)]
)
def test_the_band_is_80_of_2048_scaled_to_the_long_side(shape, band):
    image = np.full(shape, 200, np.uint8)
    found = preprocess(image, data(blackout=80))
    expected = image.copy()
    expected[:band] = expected[:, :band] = 0
    np.testing.assert_array_equal(found, expected)
    assert image.min() == 200  # the source is left alone


def test_without_switches_the_image_itself_comes_back():
    image = np.zeros((8, 8), np.uint8)
    assert preprocess(image, data()) is image


@pytest.mark.parametrize("air", [0, 12, 60])
@pytest.mark.parametrize("shape", [(700, 500), (300, 400)])
def test_the_largest_bright_region_stays_whole_and_what_lies_apart_goes(air, shape):
    rng = np.random.default_rng(air)
    flesh = np.zeros(shape, np.uint8)
    centre = (shape[1] // 2, shape[0] // 2)
    cv2.ellipse(flesh, centre, (shape[1] // 4, shape[0] // 3), 20, 0, 360, 1, -1)
    image = rng.normal(air, 2, shape) + 50 * flesh
    cv2.ellipse(image, centre, (shape[1] // 12, shape[0] // 5), 20, 0, 360, 220, -1)  # bone
    marker = np.zeros(shape, bool)
    marker[5:20, 5:20] = True
    image[marker] = 250
    image = np.clip(image, 0, 255).round().astype(np.uint8)
    kept = foreground(image)
    assert kept[flesh > 0].all()
    assert not kept[marker].any()
    assert kept.mean() < flesh.mean() + 0.15
    found = preprocess(image, data(background="contour"))
    np.testing.assert_array_equal(found, np.where(kept, image, 0))


@pytest.mark.parametrize("value", [0, 90, 255])
def test_an_even_image_is_left_as_it_is(value):
    image = np.full((60, 80), value, np.uint8)
    np.testing.assert_array_equal(preprocess(image, data(background="contour")), image)


def test_no_bone_of_the_hands_is_lost(hands):
    from phalanx.config.compose import compose

    config = compose({"data.root": str(hands), "data.size": "128"}).data
    shares = []
    for record in train_records(config):
        image = read_grey(record.image)
        bones = truth(record, config, Grid.of(image, 128)).any(2)
        kept = foreground(preprocess(image, data(blackout=80)))
        assert (bones & ~kept).sum() <= 0.01 * bones.sum(), record.name
        shares.append(kept.mean())
    assert np.mean(shares) < 0.6


def test_training_prepares_the_image_and_not_the_truth(hands):
    from phalanx.config.compose import compose

    config = compose({"data.root": str(hands), "data.size": "64"}).data
    changed = config.model_copy(update={"blackout": 500, "background": "contour"})
    record = train_records(config)[0]
    image, runs, grid = prepare(record, config)
    prepared, same, _ = prepare(record, changed)
    np.testing.assert_array_equal(runs.planes(), same.planes())
    assert image[:15].any()
    assert not prepared[:15].any()
    np.testing.assert_array_equal(prepared, grid.place(preprocess(read_grey(record.image), changed)))


def test_a_run_prepares_images_in_prediction_as_in_training(hands, tiny, tmp_path):
    """The network sees, for a held-out image, exactly what the training set holds of it."""
    words = tiny("unet", name="x", runs=tmp_path, epochs=1, data__blackout=300, data__background="contour")
    assert main(["train", *words]) == 0
    member = open_member("x", runs=tmp_path, device="cpu").folds[0]
    assert (member.config.data.blackout, member.config.data.background) == (300, "contour")
    seen = []
    predict = member.network.predict
    member.network.predict = lambda images: (seen.append(images), predict(images))[1]
    record = train_records(member.config.data)[0]
    member.maps([record], [read_grey(record.image)])
    expected = prepare(record, member.config.data)[0]
    assert torch.equal(seen[0][0, 0], torch.from_numpy(expected))
    assert not expected[:9].any()


def bright_disc(low, high):
    """A disc with a ramp of grey levels, in air with some noise."""
    rows, columns = np.mgrid[:120, :160]
    inside = (rows - 60) ** 2 + (columns - 80) ** 2 < 45**2
    ramp = low + (high - low) * (columns - 35) / 90
    noise = np.random.default_rng(0).integers(0, 3, inside.shape)
    return np.where(inside, np.clip(ramp, low, high), noise).astype(np.uint8), inside


@pytest.mark.parametrize(("low", "high"), [(40, 90), (60, 200), (20, 255)])
def test_a_stretch_makes_two_windows_of_one_object_alike(low, high):
    image, inside = bright_disc(low, high)
    reference, _ = bright_disc(30, 140)
    found, same = (stretch(one) for one in (image, reference))
    assert found[inside].min() == 0
    assert found[inside].max() == 255
    assert np.abs(found.astype(int) - same)[inside].max() <= 8  # 50 levels become 255
    assert found[~inside].max() == 0


def test_a_stretch_of_one_level_changes_nothing():
    image = np.full((40, 50), 7, np.uint8)
    np.testing.assert_array_equal(stretch(image), image)


def test_equalisation_widens_a_narrow_range():
    image = np.random.default_rng(0).normal(110, 6, (256, 256)).astype(np.uint8)
    assert preprocess(image, data(contrast="clahe")).std() > 1.5 * image.std()


def test_contrast_comes_last():
    image, _ = bright_disc(40, 90)
    image[:8] = 255
    found = preprocess(image, data(blackout=200, contrast="stretch"))
    np.testing.assert_array_equal(found, stretch(blackout(image, 200)))
