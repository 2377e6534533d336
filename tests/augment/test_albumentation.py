"""The transform for albumentations against the warp itself, and beside albumentations' own transforms."""

import json
import re
from pathlib import Path

import albumentations
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.augment.albumentation import Warp
from phalanx.augment.draw import Crop
from phalanx.augment.warp import warp
from phalanx.config import Augment
from phalanx.errors import ConfigError, DataError
from phalanx.masks.planes import pack, unpack

LIVELY = {
    "flip": 0.5, "warp": 0.8, "shift": 0.1, "scale": 0.2, "rotate": 40,
    "elastic": {"p": 0.5, "strength": 0.02}, "grid_distortion": {"p": 0.5, "steps": 4},
}  # fmt: skip


def picture(height, width, *channels, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, *channels)).astype(dtype)


@settings(max_examples=40)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 999), st.sampled_from([None, 16, 40, 80]))
def test_it_is_the_warp_of_the_grid_whose_content_the_image_is(height, width, seed, crop):
    side = max(height, width, crop or 0)
    image, planes = np.zeros((side, side), np.uint8), np.zeros((side, side, 2), np.uint8)
    image[:height, :width], planes[:height, :width] = picture(height, width), picture(height, width, 2, seed=1)
    # lengths are shares of the image's longer side, here and there
    side_share = max(height, width) / side
    recipe = LIVELY | {"elastic": {"p": 0.5, "strength": 0.02, "cell": 0.2}} if side_share == 1 else {"flip": 0.5}
    rng = np.random.default_rng(seed)
    expected = warp(image, planes, (height, width), rng, Augment(**recipe), [(0, 9)], Crop(crop, 0.0) if crop else None)
    one = Warp(**recipe, pairs=[(0, 9)], crop=crop)
    one.set_random_seed(seed)
    found = one(image=image[:height, :width], mask=planes[:height, :width])
    shape = (crop, crop) if crop else (height, width)
    assert (found["image"].shape, found["mask"].shape) == (shape, (*shape, 2))
    np.testing.assert_array_equal(found["image"], expected[0][: shape[0], : shape[1]])
    np.testing.assert_array_equal(found["mask"], expected[1][: shape[0], : shape[1]])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [(), (1,), (3,), (7,)])
def test_images_of_all_types_keep_shape_type_and_place(dtype, channels):
    image = picture(40, 64, *channels, dtype=dtype)
    mirrored = Warp(flip=1)(image=image)["image"]
    assert mirrored.dtype == dtype
    np.testing.assert_array_equal(mirrored, image[:, ::-1])
    one = Warp(**(LIVELY | {"warp": 1, "elastic": {"p": 1, "strength": 0.01}}))
    one.set_random_seed(3)
    whole = one(image=image)["image"]
    assert (whole.dtype, whole.shape) == (dtype, image.shape)
    for channel in range(channels[0] if channels else 0):
        one.set_random_seed(3)
        np.testing.assert_array_equal(one(image=image[:, :, channel])["image"], whole[:, :, channel])


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int32, np.float16, np.int64, np.uint64, np.float64])
def test_masks_of_all_types_are_moved_and_never_mixed(dtype):
    high = 2**62 if np.dtype(dtype).itemsize == 8 else 2
    mask = np.random.default_rng(0).integers(0, high, (40, 64)).astype(dtype)
    place = np.arange(mask.size, dtype=np.int32).reshape(mask.shape) + 1
    found = Warp(**LIVELY | {"warp": 1})(image=picture(40, 64), mask=mask, masks=np.stack([place, place]))
    assert found["mask"].dtype == dtype
    expected = np.concatenate([np.zeros(1, dtype), mask.ravel()])[found["masks"][0]]
    np.testing.assert_array_equal(found["mask"], expected)
    np.testing.assert_array_equal(found["masks"][0], found["masks"][1])


def test_image_and_mask_go_through_one_map():
    blob = cv2.GaussianBlur(picture(96, 70), (0, 0), 6)
    mask = blob > np.median(blob)
    chain = albumentations.Compose([Warp(**LIVELY)], seed=0)
    for _ in range(10):
        found = chain(image=mask.astype(np.uint8) * 255, mask=pack(mask[None]))
        inner = unpack(found["mask"], 1)[0]
        edge = cv2.morphologyEx(inner.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        assert 0.1 < inner.mean() < 0.9
        assert ((found["image"] > 127) == inner)[~edge].mean() > 0.99


def test_a_seeded_chain_with_pixel_transforms_repeats_itself_and_survives_json():
    def chain():
        steps = [
            Warp(**LIVELY, pairs=[(0, 9)], crop=32, foreground=0.5),
            albumentations.RandomBrightnessContrast(p=0.5),
            albumentations.CLAHE(clip_limit=(4, 4), tile_grid_size=(8, 8), p=0.5),
            albumentations.GridDropout(p=0.3),
            albumentations.GaussNoise(p=0.5),
        ]
        return albumentations.Compose(steps, seed=5)

    again = albumentations.from_dict(json.loads(json.dumps(albumentations.to_dict(chain()))))
    again.set_random_seed(5)
    image, mask = picture(48, 60, 3), picture(48, 60, 2)
    found = []
    for _ in range(6):
        made = [one(image=image, mask=mask) for one in (chain(), chain(), again)] if not found else None
        made = made or [again(image=image, mask=mask)]
        for other in made[1:]:
            np.testing.assert_array_equal(made[0]["image"], other["image"])
            np.testing.assert_array_equal(made[0]["mask"], other["mask"])
        found.append(made[-1]["image"].tobytes())
    assert len(set(found)) == 6
    assert image.tobytes() == picture(48, 60, 3).tobytes()


def test_replay_warps_other_images_alike():
    chain = albumentations.ReplayCompose([Warp(**LIVELY)])
    first = chain(image=picture(40, 40), mask=picture(40, 40))
    again = albumentations.ReplayCompose.replay(first["replay"], image=picture(40, 40), mask=picture(40, 40))
    np.testing.assert_array_equal(first["image"], again["image"])
    np.testing.assert_array_equal(first["mask"], again["mask"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
def test_crops_lie_around_a_set_pixel_of_the_mask(dtype):
    mask = np.zeros((200, 120), dtype)
    mask[150:154, 30:34] = 1
    chain = albumentations.Compose([Warp(crop=24, foreground=1.0)], seed=0)
    for _ in range(20):
        assert chain(image=mask.astype(np.uint8), mask=mask)["mask"].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip": 2}, "flip=2: input should be less than"),
        ({"elastic": {"strenth": 1}}, "elastic.strenth: no such option; did you mean strength?"),
        ({"pairs": [(0, 1), (1, 2)]}, "pairs: a class appears twice"),
        ({"pairs": [(0, -1)]}, "pairs.0.1=-1: input should be greater"),
        ({"crop": 0}, "crop=0: input should be greater"),
        ({"foreground": 0.5}, "foreground: only applies to crops; give crop="),
    ],
)
def test_impossible_values_are_refused_when_built(options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        Warp(**options)


@pytest.mark.parametrize(
    ("options", "given_", "message"),
    [
        ({}, {"image": np.zeros((8, 8), np.int32)}, "image: int32 cannot be interpolated"),
        ({}, {"mask": np.zeros((8, 9), np.uint8)}, r"mask: is \(8, 9\) and the image \(8, 8\)"),
        ({}, {"mask": np.zeros((8, 8), complex)}, "mask: complex128 cannot be warped"),
        ({"pairs": [(0, 9)]}, {"mask": np.zeros((8, 8), np.uint8)}, r"mask: uint8\[8, 8\] is not bit-planes"),
        ({"pairs": [(0, 1)]}, {"mask": np.zeros((8, 8), np.int64)}, r"mask: int64\[8, 8\] is not bit-planes"),
        ({"crop": 4, "foreground": 1.0}, {"mask": None}, "mask: None"),
        ({}, {"bboxes": np.zeros((1, 4))}, "Warp moves images and masks only"),
        ({}, {"keypoints": np.zeros((1, 4))}, "Warp moves images and masks only"),
        ({}, {"mask3d": np.zeros((2, 8, 8))}, "Warp moves images and masks only"),
    ],
)
def test_what_cannot_be_warped_is_refused_and_not_passed_on_unmoved(options, given_, message):
    with pytest.raises(DataError, match=f"^{message}"):
        Warp(flip=1, **options)(**{"image": np.zeros((8, 8), np.uint8)} | given_)


def test_the_example_in_the_docs_runs():
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "Warp(" in block]
    names = {"image": picture(64, 48), "planes": picture(64, 48, 4)}
    exec(code, names)
    assert names["image"].shape == (64, 48)
    assert not np.array_equal(names["planes"], picture(64, 48, 4))
