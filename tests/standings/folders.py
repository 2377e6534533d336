"""Folders of runs with given values and no weights."""

import json
from pathlib import Path

import yaml

from phalanx.config.compose import compose
from phalanx.runs.reader import FORMAT, FoldResult
from phalanx.runtime.files import write_json
from phalanx.runtime.metric import Metric

PATIENTS = 12  # of two images each; patient p is in fold p % folds


def make_run(
    run: Path, values: dict[int, float], *, folds: int = 3, metric: str = "dice", higher: bool = True,
    finished: bool = True, shift: float = 0.0, **options: object,
) -> Path:  # fmt: skip
    """A run whose fold k has the metric ``values[k]``, as the mean over its images, which differ between patients.

    Args:
        shift: by how much the metric of each fold differs from that mean.
    """
    pairs = {"experiment": "demo_fpn", "folds": str(folds)} | {k.replace("__", "."): str(v) for k, v in options.items()}
    config = compose(pairs | {"name": run.name})
    rows = [(f"{p}-{i}.png", f"P{p}", p % folds) for p in range(PATIENTS) for i in range(2)]
    for fold, value in values.items():
        folder = run / f"fold{fold}"
        folder.mkdir(parents=True)
        recipe = {"format": FORMAT, **config.model_dump(mode="json")}
        (folder / "config.yaml").write_text(yaml.safe_dump(recipe))
        lines = [f"{image},{patient},{k}\n" for image, patient, k in rows]
        (folder / "folds.csv").write_text("image_name,group,fold\n" + "".join(lines))
        about = Metric(metric, higher)
        events = [{"event": "start", "time": 1000.0, "metric": about.to_json()}]
        events += [{"event": "epoch", "time": 1000.0 + 10 * e, "epoch": e} for e in (1, 2)]
        events += [{"event": "validate", "time": 1021.0, f"held_out/{metric}": value}]
        (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        write_json(folder / "environment.json", {"threads": 2, "machine": "x86_64", "gpu": None, "commit": "c" * 40})
        if not finished:
            continue
        own = [(image, int(patient[1:])) for image, patient, k in rows if k == fold]
        mean = sum(p for _, p in own) / len(own)
        per_image = {image: value + 0.001 * (p - mean) for image, p in own}
        write_json(folder / "oof_score.json", {"per_image": per_image})
        (folder / "oof.csv").write_text("image_name\n")
        hashes = {"files": {"weights.safetensors": f"{abs(hash((run.name, fold))):064x}"[:64]}}
        (folder / "final").mkdir()
        write_json(folder / "final" / "state.json", hashes)
        write_json(folder / "done.json", FoldResult(about, value + shift, len(own), 20.0, 1.0).to_json())
    return run
