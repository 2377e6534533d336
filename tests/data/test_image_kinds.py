"""Image files as tools turn, store, pack and damage them: each is read right, or refused in a line that names it."""

import os
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from tests.data.pictures import encoded, exif
from tests.data.tiffs import tiff

from phalanx.data.headers import MAX_PIXELS, MAX_SIDE
from phalanx.data.images import header_of, image_size, read_grey
from phalanx.data.mask_files import read_labels, read_mask
from phalanx.errors import DataError

SHAPE = (24, 37)


@pytest.fixture
def deep():
    values = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 65536, SHAPE, np.uint16), (0, 0), 2)
    values[0, 0] = 65535
    return values


@pytest.fixture
def grey(deep):
    return (deep >> 8).astype(np.uint8)


def put(tmp_path, content, name="x.png"):
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def refused(path, says):
    for read in (read_grey, image_size):
        with pytest.raises(DataError, match=says) as found:
            read(path)
        assert str(found.value).startswith(f"{path}: ")
        assert "\n" not in str(found.value)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(raw, width, height, bits=8, colour=0, before=b"", after=b""):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + head + before + pixels + after + chunk(b"IEND", b"")


def rows(image):
    return b"".join(b"\0" + row.tobytes() for row in image)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "deep PNG", "colour JPEG"])
def test_images_are_turned_as_their_orientation_says(tmp_path, grey, deep, kind, orientation):
    image = {"deep PNG": deep, "colour JPEG": np.dstack([grey] * 3), "WEBP": np.dstack([grey] * 3)}.get(kind, grey)
    options = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(kind.split()[-1], {})
    plain = read_grey(put(tmp_path, encoded(image, kind.split()[-1], **options)))
    if kind == "TIFF":
        content = tiff(grey.tobytes(), SHAPE, 8, t274=orientation)
    else:
        content = encoded(image, kind.split()[-1], exif=exif(orientation), **options)
    turned = Image.fromarray(plain)
    turned.getexif()[274] = orientation
    want = np.asarray(ImageOps.exif_transpose(turned))
    path = put(tmp_path, content)
    found = read_grey(path)
    np.testing.assert_array_equal(found, want)
    assert found.flags.c_contiguous
    assert image_size(path) == want.shape


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"II*\0\x08\0\0\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff"]
)
def test_damaged_exif_turns_nothing(tmp_path, grey, block):
    path = put(tmp_path, png(rows(grey), *SHAPE[::-1], before=chunk(b"eXIf", block)))
    np.testing.assert_array_equal(read_grey(path), grey)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path, grey, value):
    path = put(tmp_path, encoded(grey, "PNG", exif=exif(value)))
    np.testing.assert_array_equal(read_grey(path), grey)


def test_a_thumbnail_within_exif_has_no_say(tmp_path, grey):
    """Its directory is the second; its orientation and size are its own."""
    first = struct.pack("<HHHII", 1, 274, 3, 1, 3) + struct.pack("<I", 26)
    second = struct.pack("<HHHII", 1, 274, 3, 1, 6) + struct.pack("<I", 0)
    block = b"II*\0\x08\0\0\0" + first + second
    path = put(tmp_path, png(rows(grey), *SHAPE[::-1], before=chunk(b"eXIf", block)))
    np.testing.assert_array_equal(read_grey(path), grey[::-1, ::-1])


def test_masks_are_turned_too(tmp_path, grey):
    path = put(tmp_path, encoded(grey >> 3, "PNG", exif=exif(6)))
    np.testing.assert_array_equal(read_labels(path), np.rot90(grey >> 3, -1))
    np.testing.assert_array_equal(read_mask(path), np.rot90(grey >> 3, -1) > 0)


PLAIN = {
    "8 bits": lambda g, d: (tiff(g.tobytes(), SHAPE, 8), g),
    "8 bits white": lambda g, d: (tiff(g.tobytes(), SHAPE, 8, photometric=0), 255 - g),
    "16 bits white": lambda g, d: (tiff(d.tobytes(), SHAPE, 16, photometric=0), 255 - g),
    "12 of 16 bits white": lambda g, d: (tiff((d >> 4).tobytes(), SHAPE, 16, photometric=0), 255 - g),
    "big endian": lambda g, d: (tiff(d.astype(">u2").tobytes(), SHAPE, 16, order=">"), g),
    "big endian white": lambda g, d: (tiff(d.astype(">u2").tobytes(), SHAPE, 16, order=">", photometric=0), 255 - g),
    "BigTIFF": lambda g, d: (tiff(d.tobytes(), SHAPE, 16, big=True), g),
    "BigTIFF, big endian": lambda g, d: (tiff(d.astype(">u2").tobytes(), SHAPE, 16, big=True, order=">"), g),
    "32 bits": lambda g, d: (tiff(d.astype("<u4").tobytes(), SHAPE, 32), g),
    "32 bits white": lambda g, d: (tiff(d.astype("<u4").tobytes(), SHAPE, 32, photometric=0), 255 - g),
    "1 bit": lambda g, d: (tiff(np.packbits(g > 127, axis=1).tobytes(), SHAPE, 1), (g > 127) * np.uint8(255)),
    "1 bit white": lambda g, d: (
        tiff(np.packbits(g > 127, axis=1).tobytes(), SHAPE, 1, photometric=0), (g <= 127) * np.uint8(255)
    ),
    "1 bit, other fill order": lambda g, d: (
        tiff(np.packbits(g > 127, axis=1, bitorder="little").tobytes(), SHAPE, 1, t266=2), (g > 127) * np.uint8(255)
    ),
    "2 bits": lambda g, d: (tiff(small(g >> 6, 2), SHAPE, 2), (g >> 6) * 85),
    "4 bits": lambda g, d: (tiff(small(g >> 4, 4), SHAPE, 4), (g >> 4) * 17),
    "4 bits white": lambda g, d: (tiff(small(g >> 4, 4), SHAPE, 4, photometric=0), 255 - (g >> 4) * 17),
    "12 bits": lambda g, d: (tiff(small(d >> 4, 12), SHAPE, 12), g),
    "RGB": lambda g, d: (tiff(np.dstack([g] * 3).tobytes(), SHAPE, 8, photometric=2, samples=3), g),
    "RGB of 16 bits": lambda g, d: (tiff(np.dstack([d] * 3).tobytes(), SHAPE, 16, photometric=2, samples=3), g),
    "RGB in planes": lambda g, d: (tiff([g.tobytes()] * 3, SHAPE, 8, photometric=2, samples=3, t284=2), g),
    "RGB and alpha": lambda g, d: (
        tiff(np.dstack([g, g, g, g * 0]).tobytes(), SHAPE, 8, photometric=2, samples=4, t338=2), g
    ),
    "grey and alpha": lambda g, d: (tiff(np.dstack([d, d * 0]).tobytes(), SHAPE, 16, samples=2, t338=2), g),
    "palette": lambda g, d: (
        tiff(g.tobytes(), SHAPE, 8, photometric=3, t320=[(255 - i) * 257 for i in range(256)] * 3), 255 - g
    ),
    "palette of 8 bits": lambda g, d: (
        tiff(g.tobytes(), SHAPE, 8, photometric=3, t320=[255 - i for i in range(256)] * 3), 255 - g
    ),
    "palette of 4": lambda g, d: (
        tiff(small(g >> 4, 4), SHAPE, 4, photometric=3, t320=[(15 - i) * 4369 for i in range(16)] * 3),
        255 - (g >> 4) * 17,
    ),
    "deflate": lambda g, d: (tiff(zlib.compress(d.tobytes()), SHAPE, 16, photometric=0, t259=8), 255 - g),
    "deflate with differences": lambda g, d: (
        tiff(zlib.compress(np.diff(d, axis=1, prepend=np.uint16(0)).tobytes()), SHAPE, 16, t259=32946, t317=2), g
    ),
    "LZW": lambda g, d: (encoded(d, "TIFF", compression="tiff_lzw"), g),
    "LZW with differences": lambda g, d: (encoded(d, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}), g),
    "LZW in strips": lambda g, d: (encoded(d, "TIFF", compression="tiff_lzw", strip_size=500), g),
    "packbits": lambda g, d: (encoded(g, "TIFF", compression="packbits", strip_size=500), g),
    "fax": lambda g, d: (encoded(g > 127, "TIFF", compression="group4"), (g > 127) * np.uint8(255)),
    "strips": lambda g, d: (tiff([g[:9].tobytes(), g[9:18].tobytes(), g[18:].tobytes()], SHAPE, 8, t278=9), g),
    "tiles": lambda g, d: (tiff(tiles(d), SHAPE, 16, tile=(16, 16)), g),
    "deflated tiles": lambda g, d: (tiff([zlib.compress(t) for t in tiles(d)], SHAPE, 16, tile=(16, 16), t259=8), g),
}  # fmt: skip


def small(values, bits):
    """Numbers of fewer bits than a byte, or of 12, with rows that begin at a byte."""
    spread = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(*SHAPE, 2), axis=2)[:, :, 16 - bits :]
    return np.packbits(spread.reshape(SHAPE[0], -1), axis=1).tobytes()


def tiles(values):
    whole = np.zeros((32, 48), values.dtype)
    whole[: SHAPE[0], : SHAPE[1]] = values
    return [whole[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16, 32)]


@pytest.mark.parametrize("kind", PLAIN)
def test_tiff_of_any_kind_shows_what_was_stored(tmp_path, grey, deep, kind):
    content, want = PLAIN[kind](grey, deep)
    path = put(tmp_path, content, "x.tif")
    np.testing.assert_array_equal(read_grey(path), want)
    assert image_size(path) == SHAPE


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda g: tiff(g.astype("<f4").tobytes(), SHAPE, 32, t339=3), "float32 pixels; convert"),
        (lambda g: tiff(g.astype("<f8").tobytes(), SHAPE, 64, t339=3), "float64 pixels; convert"),
        (lambda g: tiff(g.astype("<i2").tobytes(), SHAPE, 16, t339=2), "int16 pixels; convert"),
        (lambda g: tiff((g.astype("<u4") << 20).tobytes(), SHAPE, 32), "more than 16 bits"),
        (lambda g: tiff(np.dstack([g] * 4).tobytes(), SHAPE, 8, photometric=5, samples=4), "CMYK colours; save it"),
        (lambda g: tiff(np.dstack([g] * 3).tobytes(), SHAPE, 8, photometric=8, samples=3), "Lab colours"),
        (lambda g: tiff(np.dstack([g] * 5).tobytes(), SHAPE, 8, samples=5), "5 samples per pixel"),
        (lambda g: tiff(np.dstack([g] * 2).tobytes(), SHAPE, 8, samples=2), "2 samples per pixel"),
        (lambda g: tiff(g.tobytes(), SHAPE, 8, t259=50000), "compression 50000"),
        (lambda g: tiff(g.tobytes()[:-1], SHAPE, 8), "is cut off; copy it again"),
        (lambda g: tiff(g.tobytes(), SHAPE, 8)[:-9], "is cut off; copy it again"),
        (lambda g: tiff(zlib.compress(g.tobytes())[:-50], SHAPE, 8, t259=8), "is cut off|damaged"),
        (lambda g: encoded(g, "TIFF", compression="tiff_lzw")[:300], "cut off"),
        (lambda g: tiff([g.tobytes()] * 2, SHAPE, 8), "2 strips or tiles"),
        (lambda g: tiff(g.tobytes(), SHAPE, 8, photometric=9), "PhotometricInterpretation 9"),
    ],
)
def test_tiff_that_would_be_a_guess_is_refused(tmp_path, grey, make, says):
    path = put(tmp_path, make(grey), "x.tif")
    with pytest.raises(DataError, match=says) as found:
        read_grey(path)
    assert str(found.value).startswith(f"{path}: ")
    assert "\n" not in str(found.value)


def test_pages_are_refused_unless_they_are_thumbnails_or_masks(tmp_path, grey):
    refused(
        put(tmp_path, tiff(grey.tobytes(), SHAPE, 8, pages=3), "x.tif"), "contains 3 pages; save the one to segment"
    )
    content = bytearray(tiff(grey.tobytes(), SHAPE, 8, pages=2, t254=0))
    for kind in (1, 4, 5):  # NewSubfileType: reduced resolution, transparency mask
        later = bytes(content).rindex(struct.pack("<HHII", 254, 3, 1, 0))
        changed = bytearray(content)
        changed[later + 8] = kind
        np.testing.assert_array_equal(read_grey(put(tmp_path, bytes(changed), "x.tif")), grey)
    first = bytes(content).index(struct.pack("<HHII", 254, 3, 1, 0))
    content[first + 8] = 1
    small = put(tmp_path, bytes(content), "x.tif")
    np.testing.assert_array_equal(read_grey(small), grey)
    loop = bytearray(tiff(grey.tobytes(), SHAPE, 8))
    at = 8 + 2 + 12 * struct.unpack_from("<H", loop, 8)[0]
    struct.pack_into("<I", loop, at, 8)
    np.testing.assert_array_equal(read_grey(put(tmp_path, bytes(loop), "x.tif")), grey)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations_are_refused_and_one_picture_is_none(tmp_path, grey, kind):
    image = np.dstack([grey] * 3)
    several = encoded(image, kind, save_all=True, append_images=[Image.fromarray(255 - image)], duration=9)
    refused(put(tmp_path, several), "is an animation of 2 pictures; save the one to segment")
    with pytest.raises(DataError, match=r"animation|must be PNG"):
        read_mask(put(tmp_path, several))
    one = png(rows(grey), *SHAPE[::-1], before=chunk(b"acTL", struct.pack(">II", 1, 0)))
    np.testing.assert_array_equal(read_grey(put(tmp_path, one)), grey)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"GIF89a" + bytes(30), "is GIF, which is not read; save it as PNG"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "is JPEG 2000"),
        (b"\xff\x4f\xff\x51" + bytes(50), "is JPEG 2000,"),
        (b"\x00\x00\x00\x1cftypavif" + bytes(50), "is HEIF or AVIF"),
        (b"%PDF-1.7", "is PDF"),
        (b"P5 3 3 255 " + bytes(9), "not a readable image"),
        (bytes(1000), "not a readable image"),
    ],
)
def test_other_kinds_are_named(tmp_path, content, says):
    refused(put(tmp_path, content), says)


def bmp(height, width):
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def jpeg(height, width):
    return b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes(20)


def webp(height, width):
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + size


@pytest.mark.parametrize(
    "make",
    [
        lambda h, w: png(bytes(99), w, h),
        lambda h, w: tiff(bytes(99), (h, w), 8),
        lambda h, w: tiff(bytes(99), (h, w), 16, big=True),
        bmp,
        lambda h, w: bmp(-h, w),
        lambda h, w: jpeg(min(h, 65535), min(w, 65535)),
        webp,
    ],
)
@pytest.mark.parametrize("shape", [(100_000, 100_000), (30_000, 30_000), (40_000, 9), (9, 40_000)])
def test_a_size_that_is_not_read_is_refused_before_memory_is_asked_for(tmp_path, make, shape):
    says = rf"claims \d+ x \d+ pixels; more than MAX_SIDE={MAX_SIDE} per side or MAX_PIXELS={MAX_PIXELS}"
    refused(put(tmp_path, make(*shape)), says)


def test_masks_have_the_same_limits(tmp_path):
    for read in (read_labels, read_mask):
        with pytest.raises(DataError, match="MAX_PIXELS"):
            read(put(tmp_path, png(bytes(99), 100_000, 100_000)))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_an_image_without_pixels_is_refused(tmp_path, shape):
    for make in (lambda h, w: png(bytes(99), w, h), lambda h, w: tiff(bytes(9), (h, w), 8, t278=1), bmp, jpeg):
        refused(put(tmp_path, make(*shape)), "pixels;")


def test_what_follows_the_end_of_a_png_is_not_read_but_counted(tmp_path, grey):
    content = encoded(grey, "PNG")
    for more in (b"\0", b"trailing text" * 1000, content):
        path = put(tmp_path, content + more)
        np.testing.assert_array_equal(read_grey(path), grey)
        np.testing.assert_array_equal(read_labels(path), grey)
        assert header_of(path).excess == len(more)
    assert header_of(put(tmp_path, content)).excess == 0
    refused(put(tmp_path, content[:-12]), "the PNG is cut off; copy it again")
    jpeg_file = encoded(grey, "JPEG")
    np.testing.assert_array_equal(
        read_grey(put(tmp_path, jpeg_file + b"more")), read_grey(put(tmp_path, jpeg_file, "y.png"))
    )


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "WEBP"])
def test_a_cut_file_is_never_half_read(tmp_path, grey, kind):
    content = encoded(np.dstack([grey] * 3), kind)
    whole = read_grey(put(tmp_path, content))
    refusals = []
    for cut in (1, 2, 3, 10, 50, 100, len(content) // 2):
        path = put(tmp_path, content[:-cut])
        try:
            np.testing.assert_array_equal(read_grey(path), whole)  # the mark at the end alone is missing
        except DataError as error:
            refusals.append(str(error))
    assert len(refusals) >= 5
    assert all(text.startswith(f"{path}: ") for text in refusals)


def test_pixels_missing_from_a_whole_png_are_no_black(tmp_path, grey, capfd):
    path = put(tmp_path, png(rows(grey)[:-50], *SHAPE[::-1]))
    with pytest.raises(DataError, match="not a readable image"):
        read_grey(path)
    with pytest.raises(DataError, match="not a readable mask"):
        read_labels(path)


@pytest.mark.parametrize(
    ("bits", "values"), [(1, [0, 1, 1, 0]), (2, [0, 1, 2, 3]), (4, [0, 5, 9, 15]), (8, [0, 5, 9, 255])]
)
def test_label_maps_of_few_bits_hold_numbers_not_brightness(tmp_path, bits, values):
    row = sum(value << (8 * len(values) - bits * (i + 1)) for i, value in enumerate(values))
    raw = b"\0" + row.to_bytes(len(values), "big")[: -(-len(values) * bits // 8)]
    path = put(tmp_path, png(raw, len(values), 1, bits))
    assert read_labels(path).tolist() == [values]
    assert read_mask(path).tolist() == [[value > 0 for value in values]]


def test_masks_of_sixteen_bits_in_any_number_of_channels(tmp_path):
    """Values below 256, which a conversion to 8 bits would turn into 0."""
    values = np.arange(12, dtype=np.uint16).reshape(3, 4)
    for image in (values, np.dstack([values] * 3), np.dstack([values] * 3 + [values * 0 + 65535])):
        assert cv2.imwrite(str(tmp_path / "x.png"), image)
        np.testing.assert_array_equal(read_labels(tmp_path / "x.png"), values)
        np.testing.assert_array_equal(read_mask(tmp_path / "x.png"), values > 0)
    pairs = np.dstack([values, values * 0]).astype(">u2")
    path = put(tmp_path, png(rows(pairs), 4, 3, 16, 4))
    np.testing.assert_array_equal(read_labels(path), values)
    np.testing.assert_array_equal(read_mask(path), values > 0)


def test_masks_compressed_with_loss_are_refused(tmp_path, grey):
    with pytest.raises(DataError, match=re.escape("x.png: is JPEG, but masks must be PNG")):
        read_mask(put(tmp_path, encoded(grey, "JPEG")))


@pytest.mark.parametrize("read", [read_grey, image_size, read_labels, read_mask])
def test_a_pipe_or_a_folder_in_place_of_an_image_is_refused_at_once(tmp_path, read):
    os.mkfifo(tmp_path / "x.png")
    (tmp_path / "y.png").mkdir()
    for name, kind in (("x.png", "a pipe"), ("y.png", "a folder")):
        with pytest.raises(DataError, match=rf"{name}: is {kind}, not a regular file"):
            read(tmp_path / name)
    (tmp_path / "z.png").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="is a device"):
        read(tmp_path / "z.png")
