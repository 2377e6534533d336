"""Pictures in any format, in memory."""

import io

from PIL import Image


def encoded(image, kind, **options):
    """The bytes of an image [H, W] or [H, W, C] in a format of Pillow."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, kind, **options)
    return content.getvalue()


def exif(orientation):
    """An EXIF block that says how the image is turned, 1 to 8."""
    block = Image.Exif()
    block[274] = orientation
    return block
