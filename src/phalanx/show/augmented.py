"""Pictures of what training does to images: each augmentation by name, the warp's grid, mixing, a batch, distances."""

import math
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np
import torch

from ..augment.draw import Draw, draw
from ..augment.mix import Mixer
from ..augment.warp import resample
from ..config import Augment
from ..data.dataset import NO_PLANES
from ..data.images import Grid, image_size
from ..data.records import Record
from ..losses.boundary import signed_distances
from ..models.build import normalise
from ..visualize.marks import Marks, draw_marks, masks_at, shrunk
from ..visualize.sheets import Panel, page
from .labels import picture, words_of
from .options import ShowOptions
from .subject import NotApplicable, Picture, Sample, Subject, batch_of

DRAWS = 3  # of each augmentation
ROWS = 5  # of a page
CELLS = 16  # of the grid, per side
MOST = 16  # images of a batch
GRID = np.array([255, 220, 0], np.float32)


def parts_of(augment: Augment) -> dict[str, Augment]:
    """The parts of an augmentation by name, each alone and certain.

    >>> list(parts_of(Augment(flip=0.5, warp=0.8, rotate=15, pixel=[{"name": "CLAHE", "p": 0.1}])))
    ['flip', 'rotate=15', 'CLAHE']
    """
    found = {
        name: Augment.model_validate({name: 1.0}) for name in ("flip", "vflip", "transpose") if getattr(augment, name)
    }
    for name in ("shift", "scale", "rotate"):
        if augment.warp and (value := getattr(augment, name)):
            found[f"{name}={value:g}"] = Augment.model_validate({"warp": 1.0, name: value})
    if augment.elastic.p:
        found[f"elastic, strength={augment.elastic.strength:g}"] = Augment(
            elastic=augment.elastic.model_copy(update={"p": 1.0})
        )
    if augment.grid_distortion.p:
        found["grid_distortion"] = Augment(grid_distortion=augment.grid_distortion.model_copy(update={"p": 1.0}))
    for spec in augment.pixel:
        name = str(spec["name"])
        while name in found:
            name += "'"
        found[name] = Augment(pixel=[{**spec, "p": 1.0}])
    return found


def augmentations(
    subject: Subject, options: ShowOptions, chosen: Sequence[Record], named: Mapping[str, Augment]
) -> Iterator[Picture]:
    """Each augmentation beside its original: the parts of the recipe's one, then each of ``configs/augment``.

    Args:
        named: augmentations by the name of their file.
    """
    record = chosen[0]
    sets = {"parts": parts_of(subject.config.augment), "configs": dict(named)}
    for what, found in sets.items():
        for first in range(0, len(found), ROWS):
            part = list(found.items())[first : first + ROWS]
            yield _compared(subject, options, record, what, part)


def _compared(
    subject: Subject, options: ShowOptions, record: Record, what: str, found: Sequence[tuple[str, Augment]]
) -> Picture:
    side, classes, seed = max(256, options.size // 2), len(subject.classes), subject.config.seed
    plain = subject.sample([record], Augment(), 0, 0)
    rows, present = [], plain.marks.present(classes)
    for name, augment in found:
        # masks over an image would hide what a transform of pixels alone does
        still = bool(augment.pixel) and augment.model_copy(update={"pixel": []}) == Augment()
        before = _bare(plain) if still else plain
        panels = [Panel(drawn_of(subject, before, side), [f"{name}: original", plain.marks.text])]
        for number in range(DRAWS):
            sample = subject.sample([record], augment.model_copy(update={"copies_only": False}), 0, number)
            same = " (not applied)" if np.array_equal(sample.image, plain.image) else ""
            caption = [f"{name}: draw {number + 1}{same}", sample.marks.text]
            panels.append(Panel(drawn_of(subject, _bare(sample) if still else sample, side), caption))
        rows.append(panels)
    which = {"parts": "The parts of this recipe's augmentation, each alone and certain", "configs": "configs/augment"}
    text = f"{which[what]}, of {record.name}, seed={seed}. A draw is what an epoch shows; another seed draws others."
    title = f"Augmentations by name: {', '.join(name for name, _ in found)}"
    drawn = page(title, text, rows, subject.classes if plain.marks.drawn else (), present)
    facts = {"seed": seed, "names": [name for name, _ in found], "draws": DRAWS, "of": what}
    return Picture("augment", title, [record.name], drawn, facts)


def _bare(sample: Sample) -> Sample:
    return sample._replace(marks=Marks(text=sample.marks.text))


def drawn_of(subject: Subject, sample: Sample, side: int) -> np.ndarray:
    """A sample with its annotation, RGB."""
    return draw_marks(sample.image, sample.marks, len(subject.classes), side)


def warps(subject: Subject, options: ShowOptions, chosen: Sequence[Record]) -> Iterator[Picture]:
    """The grid of the recipe's warp: drawn through the same map as image and annotation."""
    augment = subject.config.augment.model_copy(update={"pixel": [], "copies_only": False, "device": "cpu"})
    side, rows, matrices = max(256, options.size // 2), [], {}
    for index, record in enumerate(chosen):
        number, drawn = first_warp(subject, augment, record, index)
        before = subject.sample(chosen, Augment(), index, 0)
        after = subject.sample(chosen, augment, index, number)
        lines = grid_lines(drawn)
        moved = resample(drawn, [(lines, cv2.INTER_LINEAR)])[0]
        rows.append([
            Panel(drawn_of(subject, before, side), [record.name, before.marks.text]),
            Panel(_over(drawn_of(subject, before, side), lines), ["a regular grid"]),
            Panel(drawn_of(subject, after, side), [f"warped, draw {number + 1}", after.marks.text]),
            Panel(_over(drawn_of(subject, after, side), moved), ["the grid, through the same map"]),
        ])  # fmt: skip
        matrices[record.name] = {"draw": number, "matrix": drawn.matrix.tolist(), "flipped": drawn.flipped}
    text = (
        f"Image, annotation and grid are moved by one map, seed={subject.config.seed}. The map has the flip, shift, "
        "scale, rotation, elastic and grid distortion of this recipe's augment."
    )
    drawn_page = page("The warp's grid", text, rows, subject.classes if rows and before.marks.drawn else ())
    yield Picture("warp", "The warp's grid", [record.name for record in chosen], drawn_page, {"draws": matrices})


def first_warp(subject: Subject, augment: Augment, record: Record, index: int) -> tuple[int, Draw]:
    """The first draw of a sample that moves anything, and its number. Raises NotApplicable if none of many does."""
    height, width = image_size(record.image)
    side = subject.data.size
    content = Grid(height, width, side).content
    for number in range(64):
        rng = np.random.default_rng((subject.config.seed, number, index))  # as ImageSet has it
        found = draw(rng, augment, content, side, NO_PLANES)
        if found.distortions is not None or found.field.any() or not np.array_equal(found.matrix[:, :2], np.eye(2)):
            return number, found
    raise NotApplicable("this recipe's augment moves nothing; choose another, as augment=affine")


def grid_lines(drawn: Draw) -> np.ndarray:
    """uint8[S, S] with the lines of a regular grid over the image's part of the input."""
    rows, columns = drawn.content
    lines = np.zeros((drawn.side, drawn.side), np.uint8)
    step, wide = max(rows, columns) / CELLS, max(1, round(drawn.side / 256))
    for k in range(CELLS + 1):
        at = round(k * step)
        if at < rows + step / 2:
            y = min(at, rows - wide)
            lines[y : y + wide, :columns] = 255
        if at < columns + step / 2:
            x = min(at, columns - wide)
            lines[:rows, x : x + wide] = 255
    return lines


def _over(drawn: np.ndarray, lines: np.ndarray) -> np.ndarray:
    alpha = cv2.resize(lines, drawn.shape[1::-1], interpolation=cv2.INTER_AREA).astype(np.float32)[:, :, None] / 255
    alpha = np.minimum(alpha * 1.6, 1.0)  # thin lines would fade
    return np.asarray(drawn * (1 - alpha) + GRID * alpha).round().astype(np.uint8)


def mixes(subject: Subject, options: ShowOptions, chosen: Sequence[Record]) -> Iterator[Picture]:
    """Mixup and CutMix: two images, and what the batch has of them."""
    mix = subject.config.mix
    if mix is None:
        raise NotApplicable("the recipe mixes no images; give mix.mixup_alpha=0.2 or mix.cutmix_alpha=1")
    pairs = max(2, min(options.images, len(subject.records) // 2))
    records = subject.picked(2 * pairs)
    if len(records) % 2:
        records = records[:-1]
    if not records:
        raise NotApplicable("one image alone is not mixed")
    found = subject.sample_set(records, Augment())
    batch = batch_of(found, [(0, k) for k in range(len(records))])
    before = normalise(batch.images)
    images, labels = Mixer(mix)(before, batch.labels, subject.config.seed)
    side, rows = max(256, options.size // 2), []
    for k, record in enumerate(records[: len(records) // 2]):
        other = len(records) - 1 - k
        rows.append([
            Panel(shrunk(shown_of(before[k]), side), [record.name, _labels(subject, batch.labels[k])]),
            Panel(shrunk(shown_of(before[other]), side), [records[other].name, _labels(subject, batch.labels[other])]),
            Panel(shrunk(shown_of(images[k]), side), ["mixed", _labels(subject, labels[k])]),
        ])  # fmt: skip
    kinds = [name for name, alpha in (("mixup", mix.mixup_alpha), ("CutMix", mix.cutmix_alpha)) if alpha]
    text = f"{' or '.join(kinds)}, drawn for a whole batch by seed={subject.config.seed}; labels are mixed alike."
    names = [record.name for record in records]
    drawn = page("Images mixed within a batch", text, rows)
    yield Picture("mix", "Mixup and CutMix", names, drawn, {"labels": [row.tolist() for row in labels.nan_to_num()]})


def _labels(subject: Subject, row: torch.Tensor) -> str:
    return words_of(row.tolist(), subject.classes)


def shown_of(image: torch.Tensor) -> np.ndarray:
    """A normalised image float[ch, S, S] as it is shown: black is the least that a network can get, white the most."""
    black, white = normalise(torch.tensor([0.0, 255.0])).tolist()
    scaled = ((image.float() - black) / (white - black) * 255).clamp(0, 255).round().byte()
    return picture(scaled.numpy())


def batches(subject: Subject, options: ShowOptions, chosen: Sequence[Record]) -> Iterator[Picture]:
    """A training batch as the network gets it: augmented, cropped, normalised; with its annotation."""
    config = subject.config
    trained = subject.selection.trained(subject.records)
    order = np.random.default_rng(config.seed).permutation(len(trained))
    count = min(config.batch, len(trained), MOST)
    records = [trained[k] for k in order[:count].tolist()]
    found = subject.sample_set(records, config.augment.model_copy(update={"copies_only": False}), crop=True)
    samples = subject.samples(batch_of(found, [(0, k) for k in range(count)]))
    inputs = [normalise(_tensor(sample.image)) for sample in samples]
    side = max(256, options.size // 2)
    panels, facts = [], {}
    for record, sample, tensor in zip(records, samples, inputs, strict=True):
        drawn = draw_marks(shown_of(tensor), sample.marks, len(subject.classes), side)
        least, most = float(tensor.min()), float(tensor.max())
        about = f"mean {float(tensor.mean()):+.2f}, deviation {float(tensor.std()):.2f}, {least:+.2f} to {most:+.2f}"
        panels.append(Panel(drawn, [record.name, *([sample.marks.text] if sample.marks.text else []), about]))
        facts[record.name] = {"mean": float(tensor.mean()), "min": least, "max": most}
    columns = math.ceil(math.sqrt(count))
    rows = [panels[first : first + columns] for first in range(0, count, columns)]
    shape = " x ".join(map(str, (count, *inputs[0].shape)))
    text = (
        f"{shape} values after normalisation, seed={config.seed}, the first epoch; black is "
        f"{normalise(torch.tensor(0.0)):.2f}, white {normalise(torch.tensor(255.0)):.2f}."
    )
    legend = subject.classes if samples[0].marks.drawn else ()
    drawn_page = page("A batch as the network sees it", text, rows, legend)
    yield Picture("batch", "A batch as the network sees it", [record.name for record in records], drawn_page, facts)


def _tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image if image.ndim == 3 else image[:, :, None])).permute(2, 0, 1)


def distances(subject: Subject, options: ShowOptions, chosen: Sequence[Record]) -> Iterator[Picture]:
    """The boundary loss's distance map: of the nearest outline, and of a large, a middle and a small class."""
    side, rows, facts = max(256, options.size // 2), [], {}
    for index, record in enumerate(chosen):
        sample = subject.sample(chosen, Augment(), index, 0)
        assert sample.marks.planes is not None  # other tasks lack this section
        found = signed_distances(np.ascontiguousarray(sample.marks.planes.transpose(2, 0, 1)), len(subject.classes))
        areas = masks_at(sample.marks.planes, len(subject.classes), found.shape[1:]).sum(axis=(1, 2))
        there = [c for c in np.argsort(-areas).tolist() if found[c].any()]
        if not there:
            raise NotApplicable(f"{record.name} has no outline")
        nearest = np.where((found[there] < 0).any(0), found[there].min(0), np.abs(found[there]).min(0))
        panels = [Panel(drawn_of(subject, sample, side), [record.name]), _distance(nearest, side, "nearest outline")]
        for c in sorted({there[0], there[len(there) // 2], there[-1]}, key=there.index):
            panels.append(_distance(found[c], side, f"{c + 1} {subject.classes[c]}"))
        rows.append(panels)
        facts[record.name] = {"least": float(nearest.min()), "most": float(nearest.max())}
    used = any("boundary" in stage.weights for stage in subject.config.loss.stages)
    text = (
        "Signed distance to the outline as a fraction of the long side: blue inside, orange outside, black lines at "
        "the outline and every 0.05. By it the boundary loss weighs each pixel. "
        f"This recipe's loss {'has a' if used else 'has no'} boundary term."
    )
    drawn = page("The boundary loss's distance map", text, rows, subject.classes)
    yield Picture("distance", "Distance map", [record.name for record in chosen], drawn, facts)


def _distance(distance: np.ndarray, side: int, name: str) -> Panel:
    """A map float32[h, w]: darker blue is deeper inside, darker orange farther outside; lines of equal distance."""
    large = cv2.resize(distance, (side, round(side * distance.shape[0] / distance.shape[1])))
    inside = np.clip(large / min(float(large.min()), -1e-6), 0, 1)[:, :, None]
    outside = np.clip(large / max(float(large.max()), 1e-6), 0, 1)[:, :, None]
    white, blue, orange = (np.array(rgb, np.float32) for rgb in ((255, 255, 255), (20, 60, 200), (200, 90, 0)))
    drawn = np.where(large[:, :, None] < 0, white + inside * (blue - white), white + outside * (orange - white))
    drawn = np.ascontiguousarray(drawn.round().astype(np.uint8))
    for level in np.arange(0, float(large.max()), 0.05):
        lines, _ = cv2.findContours((large < level).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, lines, -1, (0, 0, 0), 2 if level == 0 else 1, cv2.LINE_AA)
    return Panel(drawn, [name, f"{float(distance.min()):+.3f} to {float(distance.max()):+.3f}"])
