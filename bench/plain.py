"""The plain script that one would write first, as a baseline: smp's network with BatchNorm, BCE and smp's Dice on float
targets, AdamW at one rate, a flip, one model without folds or votes."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from phalanx.data.polygons import rasterise, read_annotations
from phalanx.data.records import Record, test_records, train_records
from phalanx.masks.planes import unpack
from phalanx.masks.rle import encode
from phalanx.runtime.device import Device
from phalanx.submission.table import Submission


def plain_network(arch: str, encoder: str, classes: int, channels: int = 3) -> nn.Module:
    """The network of smp, from scratch."""
    return smp.create_model(arch, encoder, encoder_weights=None, in_channels=channels, classes=classes)


class PlainLoss:
    """BCE plus Dice of logits and a float target [B, C, H, W]."""

    def __init__(self) -> None:
        self.dice, self.bce = smp.losses.DiceLoss("multilabel"), nn.BCEWithLogitsLoss()

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.dice(logits, target) + self.bce(logits, target)


def plain_step(
    network: nn.Module, loss: PlainLoss, optimizer: torch.optim.Optimizer, device: Device, images: Tensor, masks: Tensor
) -> None:
    """Forward in the device's precision, backward, optimizer."""
    with device.autocast():
        logits = network(images)
        total = loss(logits.float(), masks)
    optimizer.zero_grad()
    total.backward()
    optimizer.step()


def plain_sample(record: Record, classes: Sequence[str], side: int) -> tuple[Tensor, Tensor]:
    """Image uint8[S, S] and masks uint8[C, S, S] of any image, squeezed into a square."""
    image = grey(record)
    assert record.labels is not None
    planes = rasterise(read_annotations(record.labels, classes), image.shape[:2], len(classes), 1.0)
    masks = unpack(planes, len(classes)).astype(np.uint8)
    if image.shape != (side, side):
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        masks = np.stack([cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST) for mask in masks])
    return torch.from_numpy(image), torch.from_numpy(masks)


def plain_script(
    root: Path,
    classes: Sequence[str],
    device: Device,
    seconds: float,
    *,
    seed: int,
    side: int,
    encoder: str,
    batch: int = 8,
    flip: bool = True,
) -> tuple[Submission, int, float]:
    """Trains for so many seconds on the training images, all in memory, and predicts the test images; with the number
    of its steps, and the seconds that they took."""
    torch.manual_seed(seed)
    samples = [plain_sample(record, classes, side) for record in train_records(root)]
    network, loss = plain_network("fpn", encoder, len(classes)).to(device.torch), PlainLoss()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    steps, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        for part in torch.randperm(len(samples)).split(batch):
            images, masks = (torch.stack(parts) for parts in zip(*[samples[i] for i in part], strict=True))
            images = as_input(images.to(device.torch))
            masks = masks.to(device.torch).float()
            if flip and torch.rand(()) < 0.5:
                images, masks = images.flip(3), masks.flip(3)
            plain_step(network, loss, optimizer, device, images, masks)
            steps += 1
            if time.monotonic() - began >= seconds and device.torch.type == "cuda":
                break
    spent = time.monotonic() - began
    return predicted(network.eval(), root, classes, device, side), steps, spent


def as_input(images: Tensor) -> Tensor:
    """float[B, 3, S, S] in 0 to 1 of grey uint8[B, S, S]."""
    return (images.float() / 255)[:, None].expand(-1, 3, -1, -1)


@torch.no_grad()
def predicted(network: nn.Module, root: Path, classes: Sequence[str], device: Device, side: int) -> Submission:
    """The test images, one at a time, thresholded at a half."""
    rles: dict[str, Any] = {}
    sizes = {}
    for record in test_records(root):
        whole = grey(record)
        small = torch.from_numpy(cv2.resize(whole, (side, side), interpolation=cv2.INTER_AREA))
        with device.autocast():
            maps = network(as_input(small[None].to(device.torch))).float().sigmoid()[0].cpu().numpy()
        rles[record.name] = [encode(cv2.resize(one, whole.shape[::-1]) >= 0.5) for one in maps]
        sizes[record.name] = whole.shape
    return Submission.of(rles, list(classes), sizes, "plain script")


def grey(record: Record) -> np.ndarray:
    """The pixels of an image, uint8[H, W]."""
    image = cv2.imread(str(record.image), cv2.IMREAD_GRAYSCALE)
    assert image is not None, record.image
    return image
