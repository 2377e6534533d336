"""How near `phalanx plan` comes: peak memory of a training step, estimated without running it, and measured on a CPU.

Each row is two calls of the command, in processes of their own.

    python bench/plan.py [--quick] [--json FILE]
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import flags, keep, machine

PLAIN = ["model.pointrend=null", "loss=bce5_dice5"]
CASES: dict[str, list[str]] = {
    "FPN, MobileNetV2, PointRend, 256 px, batch 4": ["model=fpn_light", "data.size=256", "batch=4"],
    "FPN, EfficientNet-b3, PointRend, 256 px, batch 2": ["data.size=256"],
    "the same, checkpointing": ["data.size=256", "model.activation_checkpointing=true"],
    "the same, BatchNorm": ["data.size=256", "model.norm=batch"],
    "the same, two encoder stages frozen": ["data.size=256", "optim.freeze={stages:2}"],
    "the same, two micro-batches a step": ["data.size=256", "accumulate=2"],
    "FPN, EfficientNet-b3, PointRend, 512 px, batch 1": ["data.size=512", "batch=1"],
    "Unet++, EfficientNet-b0, PointRend, 256 px, batch 2": ["model=unetpp_b0", "data.size=256"],
    "UNet, ResNet-34, 384 px, batch 1": [
        "model.arch=unet", "model.encoder=resnet34", *PLAIN, "data.size=384", "batch=1",
    ],
    "UNet, ConvNeXtV2-atto, 256 px, batch 2": [
        "model.arch=unet", "model.encoder=tu-convnextv2_atto", *PLAIN, "data.size=256",
    ],
    "SegFormer, MiT-b0, 256 px, batch 2": ["model.arch=segformer", "model.encoder=mit_b0", *PLAIN, "data.size=256"],
    "FPN, MobileNetV2, PointRend, bf16, 256 px, batch 4": [
        "model=fpn_light", "data.size=256", "batch=4", "precision=bf16",
    ],
}  # fmt: skip


def peak(words: list[str]) -> int:
    """Bytes, as the command tells them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plan.json"
        command = [
            sys.executable,
            "-m",
            "phalanx",
            "plan",
            "experiment=base",
            "device=cpu",
            *words,
            "--json",
            str(file),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads(file.read_text(encoding="utf-8"))["peak"]


def main() -> None:
    args = flags(__doc__, quick="the first case alone").parse_args()
    rows = []
    for name, words in list(CASES.items())[: 1 if args.quick else None]:
        estimated, measured = peak(words), peak([*words, "measure=true"])
        rows.append({
            "claim": f"peak of a step, {name}", "ours": estimated / 2**20, "baseline": measured / 2**20,
            "ratio": estimated / measured, "unit": "MiB",
        })  # fmt: skip
        print(f"{name:56} {estimated / 2**20:7.0f} {measured / 2**20:7.0f} MiB {estimated / measured:6.3f}", flush=True)
    errors = [abs(row["ratio"] - 1) for row in rows]
    rows.append({"claim": "largest error of the estimate", "ours": max(errors), "unit": "fraction"})
    print(f"largest error {max(errors):.1%}\n{machine()}")
    keep(rows, args.json)


if __name__ == "__main__":
    main()
