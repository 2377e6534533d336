"""Image files of the kinds hospitals send, made by Pillow and read by OpenCV, and the working grid."""

import re

import numpy as np
import pytest
from PIL import Image

from phalanx.data.images import Grid, read_grey
from phalanx.data.polygons import Polygon, rasterise
from phalanx.errors import DataError


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (13, 17), np.uint8)


def save(tmp_path, image, name="x.png"):
    image.save(tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_grey_in_any_number_of_channels_is_read_alike(tmp_path, picture, mode):
    found = read_grey(save(tmp_path, Image.fromarray(picture).convert(mode)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, picture)


def test_colours_become_their_luminance(tmp_path):
    colours = np.zeros((2, 3, 3), np.uint8)
    colours[0] = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    found = read_grey(save(tmp_path, Image.fromarray(colours)))
    np.testing.assert_allclose(found[0], [0.299 * 255, 0.587 * 255, 0.114 * 255], atol=0.51)


def test_alpha_is_dropped_and_blends_nothing(tmp_path, picture):
    rgba = np.dstack([picture] * 3 + [np.zeros_like(picture)])
    np.testing.assert_array_equal(read_grey(save(tmp_path, Image.fromarray(rgba))), picture)


def test_an_inverted_palette_is_looked_up_and_not_taken_for_brightness(tmp_path, picture):
    """Index 0 is white, as some X-ray machines write: the indices themselves would be the negative."""
    palette = Image.fromarray(picture, "P")
    palette.putpalette([255 - i // 3 for i in range(768)])
    np.testing.assert_array_equal(read_grey(save(tmp_path, palette)), 255 - picture)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_deep_files_are_scaled_from_the_bits_they_use(tmp_path, picture, bits):
    deep = (picture.astype(np.uint16) << (bits - 8)) | (1 if bits > 8 else 0)
    deep[0, 0] = (1 << bits) - 1
    picture[0, 0] = 255
    np.testing.assert_array_equal(read_grey(save(tmp_path, Image.fromarray(deep))), picture)


def test_a_black_deep_file_is_black(tmp_path):
    found = read_grey(save(tmp_path, Image.fromarray(np.zeros((3, 4), np.uint16))))
    np.testing.assert_array_equal(found, np.zeros((3, 4), np.uint8))


def test_other_pixel_types_are_refused(tmp_path):
    path = save(tmp_path, Image.fromarray(np.zeros((3, 4), np.float32)), "x.tif")
    with pytest.raises(DataError, match=re.escape(f"{path}: float32 pixels; convert the image")):
        read_grey(path)


def broken(tmp_path, kind):
    rng = np.random.default_rng(0)
    path = tmp_path / ("x.jpg" if kind == "cut jpg" else "x.png")
    Image.fromarray(rng.integers(0, 256, (60, 80), np.uint8)).save(path)
    data = path.read_bytes()
    content = {
        "empty": b"",
        "cut": data[: len(data) // 2],
        "cut late": data[:-20],
        "cut jpg": data[: len(data) // 2],
        "a hole": data[:2000] + data[2400:],
        "flipped bits": data[:2000] + bytes(255 - b for b in data[2000:2020]) + data[2020:],
        "text": b"<html>404 not found</html>",
    }
    path.write_bytes(content[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "the file is empty; restore it"),
        ("cut", "the PNG is cut off; copy it again"),
        ("cut late", "the PNG is cut off"),
        ("cut jpg", "not a readable image"),
        ("a hole", "the PNG is cut off"),
        ("flipped bits", "is damaged between the bytes"),
        ("text", "not a readable image; restore it, or remove it with its annotation"),
    ],
)
def test_a_broken_file_is_named_and_never_half_read(tmp_path, kind, message):
    path = broken(tmp_path, kind)
    with pytest.raises(DataError, match=re.escape(f"{path}: {message}")):
        read_grey(path)


@pytest.mark.parametrize(("name", "fault"), [("gone.png", "no such file"), (".", "is a folder")])
def test_what_cannot_be_opened_is_named(tmp_path, name, fault):
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / name}: {fault}")):
        read_grey(tmp_path / name)


SHAPES = [(90, 133), (301, 200), (777, 1000), (64, 64), (128, 128), (33, 40), (500, 91)]


def centroid(weights):
    return [(np.indices(weights.shape)[axis] * weights).sum() / weights.sum() for axis in (0, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("finer", [1, 2, 0.5])
def test_place_and_restore_keep_centroids_within_half_a_pixel(shape, finer):
    """Blobs in all corners: a border counted wrongly shifts what lies far from the grid's own corner."""
    height, width = shape
    grid = Grid(height, width, 128)
    for row, column in [(0.15, 0.15), (0.15, 0.85), (0.85, 0.15), (0.85, 0.85)]:
        y, x = row * height, column * width
        rows, columns = np.indices(shape)
        spread = 0.04 * min(shape) + 0.02 * max(shape)
        blob = 255 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * spread**2))
        placed = Grid(height, width, round(128 * finer)).place(blob.round().astype(np.uint8))
        assert placed.shape == (128 * finer,) * 2
        restored = grid.restore(placed[None].astype(np.float32))
        assert restored.shape == (1, *shape)
        limit = 0.5 * max(1, max(shape) / len(placed) / 4)  # of an original pixel; an eighth of a coarse grid's
        np.testing.assert_allclose(centroid(restored[0]), centroid(blob.round()), atol=limit)


@pytest.mark.parametrize("shape", [(1501, 2048), (777, 1000), (2000, 301), (90, 133)])
def test_polygons_fall_on_the_image_they_were_drawn_on(shape):
    """Discs at the far edge, drawn into image and annotation: on the grid they agree to a tenth of a pixel, on
    the mean of many places, since the fill itself rounds to whole pixels."""
    height, width = shape
    grid = Grid(height, width, 256)
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = 0.1 * min(shape)
    shifts = []
    for _ in range(30):
        centre = np.array([width, height]) * 0.97 - radius - rng.random(2) * 5
        disc = Polygon(0, centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1))
        placed = grid.place(rasterise([disc], shape, 1)[:, :, 0] * 255)
        on_grid = rasterise([disc], (256, 256), 1, grid.scale)[:, :, 0]
        shifts.append(np.subtract(centroid(placed / 255), centroid(on_grid)))
    assert np.abs(np.mean(shifts, 0)).max() < 0.1


def test_a_mask_at_the_border_of_the_image_comes_back_up_to_the_border():
    """Forearm bones are cut by the frame: beside the image nothing is predicted, which must not fade them."""
    grid = Grid(301, 400, 128)
    rows, columns = grid.content
    maps = np.zeros((1, 128, 128), np.float32)
    maps[0, rows // 2 : rows, :columns] = 0.55
    restored = grid.restore(maps)[0] >= 0.5
    assert restored[-1].all()
    assert restored[-20:, -1].all()


def test_beside_the_image_the_grid_is_black():
    placed = Grid(100, 50, 32).place(np.full((100, 50), 200, np.uint8))
    assert (placed[:, :16] == 200).all()
    assert not placed[:, 16:].any()
