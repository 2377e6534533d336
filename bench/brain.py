"""Classifiers of real brain MRI from scratch, against a plain timm script with the same network, input and CPU time.

Needs a folder per class (`<root>/train/<class>`, `<root>/test/<class>`); without it the bench says so and ends. Test
images whose pixels also occur in train are left out of all scores. Both sides have `--seconds` of CPU time on one
thread, start included: a busy machine is as slow for one as for the other. Our epochs follow from the pace of a pilot;
the plain script stops after as much CPU time as ours took. Differences are paired by image, with the same draws for all
seeds. The other networks train once, with the first seed. What is finished is not trained again.

    python bench/brain.py --root DIR [--runs DIR] [--seconds 900] [--seeds 0,1,2] [--quick] [--json FILE]
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from common import ends, flags, keep, phalanx, print_rows, row, run
from phalanx.data.images import read_grey
from phalanx.scoring.classify import ClassifyScore, score_classes
from phalanx.scoring.classify_rank import rank_table
from phalanx.scoring.resampling import interval
from phalanx.submission.probabilities import Probabilities

CLASSES = ["healthy", "glioma", "meningioma", "pituitary"]
RECIPE = "brain_light"
OTHERS = ("densenet121", "efficientnet_b0", "vit_small")
SIDE = 160

PLAIN = """
import sys, time
from pathlib import Path
import cv2, numpy as np, timm, torch
root, out, seed, seconds, side = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
classes = sys.argv[6].split(",")
torch.set_num_threads(1), torch.manual_seed(seed)
rng = np.random.default_rng(seed)

def read(folder):
    files = [(file, k) for k, name in enumerate(classes) for file in sorted((root / folder / name).iterdir())]
    images = [cv2.resize(cv2.imread(str(file), 0), (side, side), interpolation=cv2.INTER_AREA) for file, _ in files]
    return np.stack(images), np.array([k for _, k in files]), [file.name for file, _ in files]

def tensor(images):
    return (torch.from_numpy(np.ascontiguousarray(images)).float()[:, None] / 255 - 0.5) / 0.25

images, labels, _ = read("train")
network = timm.create_model("resnet18", pretrained=False, in_chans=1, num_classes=len(classes))
optimizer = torch.optim.Adam(network.parameters(), 1e-4)
epochs = 0
while time.process_time() < seconds:
    order = rng.permutation(len(images))
    for first in range(0, len(order), 16):
        rows = order[first : first + 16]
        batch = images[rows].copy()
        flip = rng.random(len(rows)) < 0.5
        batch[flip] = batch[flip][:, :, ::-1]
        loss = torch.nn.functional.cross_entropy(network(tensor(batch)), torch.from_numpy(labels[rows]))
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        if time.process_time() >= seconds:
            break
    epochs += 1
network.eval()
images, _, names = read("test")
with torch.no_grad():
    made = torch.cat([network(tensor(images[i : i + 16])).softmax(1) for i in range(0, len(images), 16)]).double()
np.savez(out, names=np.array(names), made=made.numpy(), seconds=time.process_time(), epochs=epochs)
"""


def main() -> None:
    parser = flags(__doc__, quick="one seed and a few seconds: shows that it runs; its scores mean nothing")
    parser.add_argument("--root", type=Path, help="the data set")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench_brain"), help="where the runs are kept")
    parser.add_argument("--seconds", type=float, default=900.0, help="of CPU time for each training")
    parser.add_argument("--seeds", default="0,1,2")
    args = parser.parse_args()
    if args.root is None or not (args.root / "test").is_dir():
        print(f"skipped: no brain MRI with train and test at --root {args.root}")
        return
    seconds = 30.0 if args.quick else args.seconds
    seeds = [0] if args.quick else [int(seed) for seed in args.seeds.split(",")]
    truth = kept_labels(args.root)
    print(f"{len(truth)} test images that do not occur in train", flush=True)
    ours, plain, spent = [], [], []
    for seed in seeds:
        made = trained(args.root, args.runs, "resnet18", seed, seconds)
        ours.append(score_of(f"ours, seed {seed}", made, truth))
        spent.append(made["seconds"])
        other = plain_script(args.root, args.runs, seed, made["seconds"])
        plain.append(score_of(f"plain script, seed {seed}", other, truth))
        print(f"seed {seed}: macro AUC {ours[-1].value('macro_auc'):.4f} ours ({made['epochs']} epochs), "
              f"{plain[-1].value('macro_auc'):.4f} plain ({other['epochs']} epochs)", flush=True)  # fmt: skip
    rows: list[dict[str, Any]] = []
    for metric in ("macro_auc", "accuracy"):
        values = [np.mean([score.value(metric) for score in scores]) for scores in (ours, plain)]
        drawn = np.mean([a.resampled(metric) - b.resampled(metric) for a, b in zip(ours, plain, strict=True)], axis=0)
        found = interval(drawn)
        rows.append(row(f"brain, ResNet18, {metric}, mean of {len(seeds)} seeds", float(values[0]), float(values[1])))
        rows += ends("the same, ours less plain", found)
    models = [score_of("resnet18", trained(args.root, args.runs, "resnet18", seeds[0], seconds), truth)]
    models += [score_of(name, trained(args.root, args.runs, name, seeds[0], seconds), truth) for name in OTHERS]
    print(rank_table(models, [score.name for score in models]).to_text())
    for score in models:
        rows += [row(f"brain, {score.name}, seed {seeds[0]}, {metric}", score.value(metric), None)
                 for metric in ("macro_auc", "accuracy", "macro_f1")]  # fmt: skip
    rows.append(row("CPU time of a training of ours", float(np.mean(spent)) / 60, None, "minutes"))
    print_rows(rows)
    keep(rows, args.json)


def kept_labels(root: Path) -> dict[str, int]:
    """The class of each test image whose pixels do not occur in train."""
    digests = {
        split: {file: hashlib.sha256(read_grey(file).tobytes()).digest()
                for name in CLASSES for file in sorted((root / split / name).iterdir())}
        for split in ("train", "test")
    }  # fmt: skip
    known = set(digests["train"].values())
    return {
        file.name: CLASSES.index(file.parent.name) for file, digest in digests["test"].items() if digest not in known
    }


def score_of(name: str, made: dict[str, Any], truth: dict[str, int]) -> ClassifyScore:
    """The scores of predictions by image name."""
    images = list(truth)
    labels = np.eye(len(CLASSES))[[truth[image] for image in images]]
    probabilities = np.array([made["predictions"][image] for image in images])
    return score_classes(name, probabilities / probabilities.sum(1, keepdims=True), labels, CLASSES, "softmax",
                         images=images, healthy="healthy")  # fmt: skip


def trained(root: Path, runs: Path, model: str, seed: int, seconds: float) -> dict[str, Any]:
    """A run of as many epochs as the CPU time allows, by the pace of a pilot, and its test predictions."""
    name = f"{model}_seed{seed}_{seconds:.0f}s"
    note = runs / f"{name}.json"
    if note.is_file():
        found: dict[str, Any] = json.loads(note.read_text())
        return found
    fixed = ["train", "fold=all", f"experiment={RECIPE}", f"model={model}", "model.head=softmax", "model.weights=none",
             f"data.root={root}", f"data.size={SIDE}", "device=cpu", "workers=0", "progress=false", f"runs={runs}",
             f"seed={seed}", "checkpoint_minutes=60"]  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        pilot = [word for word in fixed if not word.startswith("runs=")] + [f"runs={scratch}", "name=pilot"]
        one = phalanx(*pilot, "epochs=1")
        two = phalanx(*[word.replace("pilot", "pilot2") for word in pilot], "epochs=2")
    pace = max(two - one, 1e-3)
    epochs = max(1, round((seconds - (one - pace)) / pace))
    spent = phalanx(*fixed, f"name={name}", f"epochs={epochs}")
    file = runs / f"{name}.csv"
    phalanx("infer", f"experiment={name}", f"data.root={root}", f"runs={runs}", f"out={file}", "device=cpu")
    made = Probabilities.read(file)
    predictions = dict(zip(made.images, made.values.tolist(), strict=True))
    result = {"predictions": predictions, "seconds": spent, "epochs": epochs}
    note.write_text(json.dumps(result))
    return result


def plain_script(root: Path, runs: Path, seed: int, seconds: float) -> dict[str, Any]:
    """The plain script's test predictions after as much CPU time."""
    file = runs / f"plain_seed{seed}_{seconds:.0f}s.npz"
    if not file.is_file():
        words = [sys.executable, "-c", PLAIN, root, file, seed, seconds, SIDE, ",".join(CLASSES)]
        run([str(word) for word in words], "the plain script")
    found = np.load(file)
    predictions = dict(zip(found["names"].tolist(), found["made"].tolist(), strict=True))
    return {"predictions": predictions, "seconds": float(found["seconds"]), "epochs": int(found["epochs"])}


if __name__ == "__main__":
    main()
