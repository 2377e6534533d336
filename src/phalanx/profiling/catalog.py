"""What a recipe can name as its network: architectures, encoders, and files of configs/model/ with published scores."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from ..config import read_plain
from ..config.detect import Architecture
from ..models.build import OWN
from ..models.libraries import without_wandb
from ..models.smp_models import DECODERS
from ..sweep.published import Published, read_published
from ..sweep.published_labels import read_published_tables

MOST_COUNTED = 40  # encoders whose parameters are counted in one call: each is built, which takes a part of a second
WIDTH = 118


@dataclass
class EncoderEntry:
    """An encoder: where it is from, which pretrained weights have a name, and files of configs/model/ that use it."""

    name: str
    library: str
    weights: list[str] = field(default_factory=list)
    configs: list[str] = field(default_factory=list)
    parameters: int | None = None


@dataclass
class ModelEntry:
    """A file of configs/model/ with its published scores in words."""

    name: str
    task: str
    architecture: str
    encoder: str
    published: list[str] = field(default_factory=list)


@dataclass
class Catalog:
    """All that is listed, or what some words choose of it."""

    decoders: list[str]
    detectors: list[str]
    models: list[ModelEntry]
    encoders: list[EncoderEntry]
    timm: int  # all models of timm, as many as there are
    words: list[str]
    counted: bool = False

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)

    def to_text(self) -> str:
        """For the terminal: without words, encoders by family."""
        lines = list[str]()
        if self.decoders:
            lines += ["model.arch of task=segment:", *_wrapped(self.decoders), ""]
        if self.detectors:
            lines += ["model.architecture of task=detect:", *_wrapped(self.detectors), ""]
        if self.models:
            lines += ["model=, files of configs/model/, with published Dice (of classifications accuracy):"]
            width = [max(len(getattr(one, key)) for one in self.models) for key in ("name", "task", "architecture")]
            for one in self.models:
                cells = (one.name.ljust(width[0]), one.task.ljust(width[1]), (one.architecture or "-").ljust(width[2]))
                lines.append(f"  {'  '.join(cells)}  {one.encoder}")
                lines += [f"      {text}" for text in one.published]
            lines.append("")
        if self.encoders and self.words:
            lines += ["model.encoder:", *self._encoders(), ""]
        elif self.encoders:
            lines += [
                "model.encoder of segmentation-models-pytorch (phalanx models WORD shows weights and parameters):"
            ]
            lines += _families([one.name for one in self.encoders if one.library == "smp"])
            lines += [f"model.encoder of timm, named tu-NAME, {self.timm} models; in configs/model/ are:"]
            lines += _families([one.name for one in self.encoders if one.library == "timm"])
        return "\n".join(lines).rstrip()

    def _encoders(self) -> list[str]:
        rows = [
            (
                one.name, one.library, f"{one.parameters / 1e6:.1f} M" if one.parameters is not None else "",
                ", ".join(one.weights) or "-", ", ".join(one.configs),
            )
            for one in self.encoders
        ]  # fmt: skip
        heads = ("name", "library", "parameters", "weights", "in configs/model/")
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        lines = [f"  {'  '.join(map(str.ljust, row, widths)).rstrip()}" for row in (heads, *rows)]
        if not self.counted:
            lines.append(f"  parameters are counted of up to {MOST_COUNTED} encoders: name more words")
        return lines


def catalog(words: Sequence[str], folder: Path) -> Catalog:
    """The architectures and encoders whose names contain all words; those of timm too, if words are given.

    Args:
        folder: configs/model/.
    """
    with without_wandb():
        import segmentation_models_pytorch as smp
        import timm

    def fits(*texts: str) -> bool:
        return all(any(word.lower() in text.lower() for text in texts) for word in words)

    models = _models(folder)
    found: dict[str, EncoderEntry] = {}
    for name, about in smp.encoders.encoders.items():
        weights = [str(key) for key in about.get("pretrained_settings") or {}]
        found[name] = EncoderEntry(name, "smp", weights)
    names = timm.list_models()
    pretrained = set(timm.list_models(pretrained=True)) if words else set()
    used = {one.encoder for one in models}
    for name in names:
        if f"tu-{name}" in used or (words and fits(f"tu-{name}")):
            weights = ["imagenet"] if name in pretrained else []
            found[f"tu-{name}"] = EncoderEntry(f"tu-{name}", "timm", weights)
    for one in models:
        known = one.encoder if one.encoder in found else f"tu-{one.encoder}"
        if known in found:
            found[known].configs.append(one.name)
    encoders = [one for one in found.values() if fits(one.name)]
    result = Catalog(
        [name for name in sorted([*DECODERS, *OWN]) if fits(name)],
        [name for name in get_args(Architecture) if fits(name)],
        [one for one in models if fits(one.name, one.task, one.architecture, one.encoder)],
        encoders, len(names), list(words),
    )  # fmt: skip
    if words and len(encoders) <= MOST_COUNTED:
        result.counted = True
        for entry in encoders:
            entry.parameters = count_parameters(entry.name)
    return result


def count_parameters(encoder: str) -> int | None:
    """Parameters of an encoder of grey images, built without weights; None of one that cannot be built so."""
    import torch

    from ..models.smp_models import build_encoder

    for device in ("meta", "cpu"):  # some encoders compute with numbers of their tensors, which meta has none of
        with suppress(Exception), torch.device(device):  # third-party code raises errors of any type
            return sum(parameter.numel() for parameter in build_encoder(encoder, weights=None).parameters())
    return None


def _models(folder: Path) -> list[ModelEntry]:
    """Files of configs/model/ by task and name."""
    published = read_published()
    tables = read_published_tables()
    found = []
    for path in sorted(folder.glob("*.yaml")):
        values = read_plain(path)
        arch, detector = values.get("arch"), values.get("architecture")
        task = "segment" if arch else "detect" if detector else "restore" if "denoiser" in path.stem else "classify"
        texts = [_text(one) for one in published.values() if path.stem in one.models]
        if task == "classify":
            for table in tables.values():
                texts += [
                    f"accuracy {row.accuracy:.4f}, AUC {row.auc:.4f} ({table.title}, {name})"
                    for name, row in table.rows.items()
                    if path.stem.replace("_", "").startswith(name.lower().partition(",")[0])
                ]
        found.append(ModelEntry(path.stem, task, str(arch or detector or ""), str(values.get("encoder", "")), texts))
    order = ("segment", "detect", "classify", "restore")
    return sorted(found, key=lambda one: (order.index(one.task), one.name))


def _text(one: Published) -> str:
    parts = [f"Dice {one.dice:.4f}"] if one.dice is not None else []
    parts += [f"gain {one.gain:+.4f}"] if one.gain is not None else []
    parts += [f"gap {one.gap:+.4f}"] if one.gap is not None else []
    return f"{', '.join(parts)} {one.score} ({one.recipe})"


def _families(names: Sequence[str]) -> list[str]:
    """Names in lines, those of a family together."""
    families: dict[str, list[str]] = {}
    for name in names:
        head = re.split(r"[-_.]?\d", name.removeprefix("tu-").removeprefix("timm-"), maxsplit=1)[0]
        families.setdefault(head.partition("_")[0].partition("-")[0], []).append(name)
    return [line for family in families.values() for line in _wrapped(family)]


def _wrapped(names: Sequence[str]) -> list[str]:
    lines, line = list[str](), ""
    for name in names:
        if line and len(line) + len(name) + 4 > WIDTH:
            lines.append(line)
            line = ""
        line += f"  {name}"
    return [*lines, line] if line else lines
