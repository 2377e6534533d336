"""Trains the network that finds burnt-in marks and text, and writes it where the package reads it.

Marks are drawn at random, in styles of its own, over synthetic screens without marks: none of the drawing code of
`phalanx phantom ultrasound` marks is used, only its unmarked screens. Which pixels are captions of the machine is
recorded while they are written, so that text is learnt as text; numerals of the depth scale count as neither.

    python bench/overlays_train.py [--minutes 30] [--screens FILE.npz] [--start FILE.npz] [--out FILE.npz]
"""

import argparse
import string
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional as F

from phalanx.data import overlay_network
from phalanx.phantom import ultrasound, ultrasound_screen
from phalanx.phantom.dataset import Order
from phalanx.phantom.ultrasound_machine import draw_exam
from phalanx.phantom.ultrasound_plan import Fractions, plan

SIDE, SEED = 128, 90_000
COUNTS = {128: 50, 192: 50, 256: 130, 384: 60, 512: 90, 768: 30, 1024: 16}  # screens per size
COLOURS = ((255, 255, 0), (0, 255, 0), (0, 255, 255), (255, 160, 0), (255, 0, 255), (255, 60, 60), (90, 160, 255))
INK = 0.04  # fraction of a pixel from which it counts as marked


class Recorder:
    """Records where the phantom writes text: captions and, while ``ruler`` is set, numerals of the scale."""

    def __init__(self) -> None:
        self.plain, self.ruler = ultrasound_screen.write, False
        self.layers: dict[bool, np.ndarray] = {}

    def __call__(self, image: np.ndarray, text: str, *rest: Any) -> None:
        self.plain(image, text, *rest)
        layer = self.layers.setdefault(self.ruler, np.zeros(image.shape, np.uint8))
        self.plain(layer, text, *rest[:-1], 255)


def screens() -> list[tuple[np.ndarray, np.ndarray]]:
    """Screens uint8[S, S] without marks, each with uint8[S, S]: 1 text, 2 numerals of the scale, 0 neither."""
    found = []
    for size, count in COUNTS.items():
        order = Order("ultrasound", count, size, SEED + size, 1, 1, False, ultrasound.SIZES)
        for person in plan(order, Fractions(0.0, 0.15, 0.25, 0.05, 0, 0))[:count]:
            rng = np.random.default_rng([SEED, size, person.index])
            exam, shot = draw_exam(rng), person.shots[0]
            exam = exam.wide() if len(shot.organs) > 1 else exam
            recorder = Recorder()
            ultrasound_screen.write = recorder  # type: ignore[assignment]
            try:
                recorder.ruler = True
                screen = ultrasound.make_screen(shot, exam, size, np.random.SeedSequence([SEED, size]), rng)
                recorder.ruler = False
                ultrasound_screen.decorate(screen, exam, rng, 5)
            finally:
                ultrasound_screen.write = recorder.plain
            kind = np.zeros((size, size), np.uint8)
            for ruler in (False, True):
                if ruler in recorder.layers and recorder.layers[ruler].shape == screen.grey.shape:
                    kind[ultrasound.reduce(recorder.layers[ruler].astype(np.float32), size) > 255 * INK] = 1 + ruler
            found.append((ultrasound.reduce(screen.grey, size), kind))
    return found


def drawn(rng: np.random.Generator, unit: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random marks as coverage float32[SIDE, SIDE] of lines and symbols, of text, and of boxes behind text.

    Args:
        unit: pixels of a patch per pixel of a screen of 512.
    """
    fine = int(rng.integers(1, 5))
    side = SIDE * fine
    lines, box = np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8)
    text = Image.new("L", (side, side))
    u = unit * fine
    aa = cv2.LINE_AA if fine == 1 and rng.random() < 0.5 else cv2.LINE_8
    for _ in range(int(rng.choice(4, p=[0.25, 0.3, 0.3, 0.15]))):
        _measure(lines, rng, u, aa)
    if rng.random() < 0.35:
        _words(text, box, rng, u)
    area = (cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for part in (lines, np.asarray(text), box))
    one, two, three = (part.astype(np.float32) / 255 for part in area)
    return one, two, three


def _measure(ink: np.ndarray, rng: np.random.Generator, u: float, aa: int) -> None:
    """A distance, an ellipse, a frame, an arrow or lone calipers, in place."""
    side = len(ink)
    thick = max(1, round(u * rng.uniform(0.7, 2.2)))
    kind = rng.choice(["line", "ellipse", "frame", "calipers", "arrow"], p=[0.33, 0.33, 0.1, 0.17, 0.07])
    middle = rng.uniform(-0.1, 1.1, 2) * side
    if kind == "ellipse":
        axes, angle = rng.uniform(12, 150, 2) * u, rng.uniform(0, np.pi)
        if rng.random() < 0.6:
            axes[1] = axes[0] * rng.uniform(0.7, 1)
        t = np.linspace(0, 2 * np.pi, 400)
        ring = np.stack([axes[0] * np.cos(t), axes[1] * np.sin(t)], 1)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        anchor = ring[int(rng.integers(400))] @ turn.T
        path = ring @ turn.T - anchor + rng.uniform(0.1, 0.9, 2) * side  # some of it in the patch
        ends = path[[0, 200]] if rng.random() < 0.5 else path[[0, 100, 200, 300]]
    elif kind == "frame":
        a, b = np.sort(rng.uniform(-0.6, 1.6, (2, 2)) * side, axis=0)
        corners = np.array([a, (b[0], a[1]), b, (a[0], b[1]), a])
        path = np.concatenate([np.linspace(p, q, 100) for p, q in pairwise(corners)])
        ends = path[:0]
    else:
        length, angle = rng.uniform(12, 170) * u, rng.uniform(0, 2 * np.pi)
        if rng.random() < 0.2:
            angle = round(angle / (np.pi / 2)) * np.pi / 2
        half = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        path = np.linspace(middle - half, middle + half, 200)
        ends = path[[0, -1]]
    if kind == "arrow":
        first, last = (tuple(int(v) for v in p) for p in (path[0], path[0] + (path[-1] - path[0]) * 0.3))
        cv2.arrowedLine(ink, first, last, 255, thick, aa, 0, 0.4)
        return
    if kind != "calipers":
        _stroke(ink, path, rng, u, thick, aa, dashed=kind == "frame")
    if kind == "calipers" or rng.random() < 0.8:
        shape, arm = rng.choice(["+", "x", "t", "o", "*"], p=[0.4, 0.3, 0.1, 0.1, 0.1]), u * rng.uniform(3.5, 9)
        _ends(ink, ends, str(shape), arm, max(1, round(u * rng.uniform(0.7, 1.8))), aa)


def _stroke(
    ink: np.ndarray, path: np.ndarray, rng: np.random.Generator, u: float, thick: int, aa: int, dashed: bool
) -> None:
    style = "dashed" if dashed and rng.random() < 0.8 else rng.choice(["dots", "dashed", "solid"], p=[0.65, 0.2, 0.15])
    steps = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    if steps[-1] < 2:
        return
    at = lambda s: np.stack([np.interp(s, steps, path[:, k]) for k in (0, 1)], -1)  # noqa: E731
    if style == "dots":
        radius = max(0, round(u * rng.uniform(0.4, 1.3)))
        for x, y in at(np.arange(0, steps[-1], max(u * rng.uniform(2.5, 9), 2.0 * radius + 1))):
            cv2.circle(ink, (round(float(x)), round(float(y))), radius, 255, -1, aa)
        return
    step = u * rng.uniform(6, 14) if style == "dashed" else steps[-1]
    on = step * rng.uniform(0.35, 0.7) if style == "dashed" else step
    for s in np.arange(0, steps[-1], step):
        points = at(np.linspace(s, min(s + on, steps[-1]), 200 if style == "solid" else 6))
        cv2.polylines(ink, [np.round(points).astype(np.int32)], False, 255, thick, aa)


def _ends(ink: np.ndarray, ends: np.ndarray, shape: str, arm: float, thick: int, aa: int) -> None:
    arms = {"+": ((1, 0), (0, 1)), "x": ((0.75, 0.75), (0.75, -0.75)), "t": ((1, 0),)}
    arms["*"] = (*arms["+"], *arms["x"])
    for x, y in ends:
        if shape == "o":
            cv2.circle(ink, (round(float(x)), round(float(y))), max(1, round(0.6 * arm)), 255, thick, aa)
        for dx, dy in arms.get(shape, ()):
            first, last = (x - dx * arm, y - dy * arm), (x + dx * arm, y + dy * arm)
            cv2.line(ink, tuple(map(round, first)), tuple(map(round, last)), 255, thick, aa)


def _words(text: Image.Image, box: np.ndarray, rng: np.random.Generator, u: float) -> None:
    """One to four lines of random letters and figures, half of them on a box."""
    height = max(5.0, u * rng.uniform(8, 20))
    letters = string.ascii_letters + string.digits * 4 + ".,:+-=%/  "
    rows = ["".join(rng.choice(list(letters), int(rng.integers(2, 18)))) for _ in range(int(rng.integers(1, 5)))]
    side = len(box)
    x, y = rng.uniform(-0.3, 0.8) * side, rng.uniform(-0.1, 0.9) * side
    hershey = rng.random() < 0.6
    layer = np.zeros((side, side), np.uint8)
    draw, font = ImageDraw.Draw(text), None if hershey else ImageFont.load_default(height * 1.3)
    face, wide = int(rng.choice([0, 2, 3, 4])), 0.0
    thick = max(1, round(height / rng.uniform(6, 12)))
    pitch = height * rng.uniform(1.5, 2)
    for k, row in enumerate(rows):
        if hershey:
            cv2.putText(layer, row, (round(x), round(y + k * pitch)), face, height / 22, 255, thick, cv2.LINE_AA)
            wide = max(wide, cv2.getTextSize(row, face, height / 22, thick)[0][0])
        else:
            draw.text((x, y + k * pitch), row, 255, font, anchor="ls")
            wide = max(wide, draw.textlength(row, font))
    text.paste(255, mask=Image.fromarray(layer))
    if rng.random() < 0.5:
        edge = height * rng.uniform(0.3, 0.8)
        first = (round(x - edge), round(y - height - edge))
        cv2.rectangle(box, first, (round(x + wide + edge), round(y + pitch * (len(rows) - 1) + edge)), 255, -1)


def patch(pool: list[tuple[np.ndarray, np.ndarray]], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A patch uint8[3, SIDE, SIDE], and uint8[SIDE, SIDE]: bit 1 marks, bit 2 text, 4 ignored."""
    screen, kind = pool[int(rng.integers(len(pool)))]
    size = len(screen)
    y, x = rng.integers(0, size - SIDE + 1, 2)
    grey, truth = (part[y : y + SIDE, x : x + SIDE] for part in (screen, kind))
    if rng.random() < 0.3:
        grey, truth = grey[:, ::-1], truth[:, ::-1]
    image = np.repeat(grey[:, :, None], 3, 2).astype(np.float32) * rng.uniform(0.7, 1.15)
    if rng.random() < 0.1:  # colour flow, or a tinted picture
        tint = np.array(COLOURS[int(rng.integers(len(COLOURS)))], np.float32) / 255
        flow = cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE)).astype(np.float32), (0, 0), rng.uniform(4, 12))
        where = (flow > flow.std()) if rng.random() < 0.6 else np.ones_like(flow, bool)
        image = np.where(where[..., None], image * (0.5 + 0.5 * tint) + 40 * tint, image)
    lines, words, box = drawn(rng, size / 512)
    colour = np.float32(rng.uniform(185, 255)) * np.ones(3, np.float32)
    if rng.random() < 0.3:
        colour = colour * np.array(COLOURS[int(rng.integers(len(COLOURS)))], np.float32) / 255
    two = rng.random() < 0.15  # lines and words of two colours
    words_colour = np.float32(rng.uniform(200, 255)) * np.ones(3, np.float32) if two else colour
    opaque, dark = rng.uniform(0.6, 1.0), np.float32(rng.uniform(0, 70))
    image += (box * opaque)[..., None] * (dark - image)
    image += (words * rng.uniform(0.85, 1))[..., None] * (words_colour - image)
    image += (lines * rng.uniform(0.85, 1))[..., None] * (colour - image)
    image = np.clip(np.round(image), 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))]
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    marks, text = lines > INK, (words > INK) | (box > INK)
    bits = marks | ((text | (truth == 1)) << 1) | ((truth == 2) & ~marks & ~text) << 2
    return np.ascontiguousarray(image.transpose(2, 0, 1)), bits.astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--minutes", type=float, default=30, help="of training")
    parser.add_argument("--screens", type=Path, help="screens are read from there, or made and written there")
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--out", type=Path, default=overlay_network.FILE)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.screens and args.screens.is_file():
        with np.load(args.screens) as file:
            pool = [(file[f"i{k}"], file[f"k{k}"]) for k in range(len(file.files) // 2)]
    else:
        pool = screens()
        if args.screens:
            np.savez_compressed(
                args.screens, **{f"{c}{k}": p for k, pair in enumerate(pool) for c, p in zip("ik", pair, strict=True)}
            )
    print(f"{len(pool)} screens", flush=True)
    torch.manual_seed(0)
    rng = np.random.default_rng([SEED, bool(args.start)])
    network = overlay_network.Network()
    if args.start:
        network.load_state_dict(overlay_network.load(args.start).state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=1e-4)
    began, step, limit, mean = time.monotonic(), 0, args.minutes * 60, 0.0
    while (done := (time.monotonic() - began) / limit) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, (step + 1) / 30) * (0.02 + 0.98 * (0.5 + 0.5 * np.cos(np.pi * done)))
        images, bits = zip(*(patch(pool, rng) for _ in range(8)), strict=True)
        inputs, known = torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(bits))
        target = torch.stack([known & 1, known >> 1 & 1], 1).float()
        weight = ((known & 4) == 0)[:, None].float()
        logits = network(overlay_network.scaled(inputs))
        p = logits.sigmoid() * weight
        bce = (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight).mean()
        both = (p * target).sum((0, 2, 3))
        dice = 1 - (2 * both + 20) / (p.sum((0, 2, 3)) + (target * weight).sum((0, 2, 3)) + 20)
        loss = 3 * bce + dice.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        mean = float(loss.detach()) if step == 1 else 0.98 * mean + 0.02 * float(loss.detach())
        if step % 50 == 0:
            print(f"step {step}, {time.monotonic() - began:.0f} s, loss {mean:.4f}", flush=True)
        if step % 200 == 0:
            overlay_network.save(network, args.out)
    overlay_network.save(network, args.out)


if __name__ == "__main__":
    main()
