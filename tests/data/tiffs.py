"""TIFF files of any kind, made for tests by the specification alone."""

import struct


def tiff(strips, shape, bits, *, photometric=1, samples=1, order="<", big=False, tile=None, pages=1, **tags):
    """The bytes of a TIFF.

    Args:
        strips: its strips or tiles as they are stored.
        shape: height, width.
        tile: (height, width) of its tiles; None: strips.
        pages: how often the page is contained.
        tags: more values, as ``t274=6``.
    """
    height, width = shape
    strips = strips if isinstance(strips, list) else [strips]
    values = {256: [width], 257: [height], 258: [bits] * samples, 259: [1], 262: [photometric], 277: [samples]}
    values |= {322: [tile[1]], 323: [tile[0]]} if tile else {278: [height]}
    values |= {int(key[1:]): value if isinstance(value, list) else [value] for key, value in tags.items()}
    out = bytearray(b"II" if order == "<" else b"MM")
    out += struct.pack(f"{order}HHHQ", 43, 8, 0, 16) if big else struct.pack(f"{order}HI", 42, 8)
    word, inline = ("Q", 8) if big else ("I", 4)
    for page in range(pages):
        own = dict(values)
        size = (8 if big else 2) + (20 if big else 12) * (len(own) + 2) + inline
        place = len(out) + size
        after = bytearray()
        offsets = []
        for strip in strips:
            offsets.append(place + len(after))
            after += strip
        own |= dict(zip((324, 325) if tile else (273, 279), (offsets, [len(strip) for strip in strips]), strict=True))
        out += struct.pack(order + ("Q" if big else "H"), len(own))
        for tag, numbers in sorted(own.items()):
            kind = 4 if max(numbers) > 65535 or tag in (273, 279, 324, 325) else 3
            packed = struct.pack(f"{order}{len(numbers)}{'HI'[kind - 3]}", *numbers)
            if len(packed) > inline:
                packed, where = struct.pack(order + word, place + len(after)), packed
                after += where
            out += struct.pack(f"{order}HH{word}", tag, kind, len(numbers)) + packed.ljust(inline, b"\0")
        following = place + len(after)
        out += struct.pack(order + word, following if page + 1 < pages else 0) + after
    return bytes(out)
