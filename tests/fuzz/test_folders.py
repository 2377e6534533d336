"""Files that training, prediction and tuning write and read again: run folders, checkpoints, maps, exports, results."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tests.fuzz.harness import Format, fuzz, seconds_of_a_test
from torch import nn

from phalanx.config import Optim, SegmentConfig, flatten
from phalanx.config.compose import compose
from phalanx.engine.optim import build_optimizer
from phalanx.engine.saving import Checkpoints
from phalanx.engine.state import State
from phalanx.engine.warm_start import RECORD, read_record
from phalanx.predict.exported import DESCRIPTION_FILE, read_description
from phalanx.predict.journal import Journal, PredictedRow, append, seal
from phalanx.predict.map_file import read_map, write_map
from phalanx.predict.maps import ProbabilityMaps
from phalanx.predict.postprocess import PostProcessing, TunedMember
from phalanx.predict.stored import MapsFolder, write_about
from phalanx.runs import checkpoint, ledger
from phalanx.runs.folder import read_recipe
from phalanx.runs.reader import FORMAT, FoldResult, FoldRun
from phalanx.runtime.files import sha256_file, write_json
from phalanx.runtime.locks import Record
from phalanx.runtime.metric import Metric
from phalanx.runtime.provenance import digest
from phalanx.runtime.scheduler import Process
from phalanx.runtime.sidecar import Sidecar, read_sidecar
from phalanx.standings.leaderboard import entries, to_text
from phalanx.sweep.results import SweepResult, read_results
from phalanx.tracking.json_lines import Event, JsonLines
from phalanx.tracking.logger import run_id

METRIC = Metric("dice")
HASH = "0123456789abcdef" * 4
OPTIM = Optim(name="adamw", lr=1e-3)


def written(place: Path, name: str, write: Callable[[Path], Any]) -> dict[str, bytes]:
    """The files that ``write`` makes in a folder, by name."""
    folder = place / name.replace(" ", "_")
    folder.mkdir()
    write(folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def text(path: str, content: str) -> dict[str, bytes]:
    return {path: content.encode()}


class Task:
    """What a checkpoint holds of a task."""

    metric = METRIC

    def state_dict(self) -> dict[str, Any]:
        return {"stage": 0}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state != {"stage": 0}:
            raise ValueError("is of another task")


def training(folder: Path) -> Checkpoints:
    """The checkpoints of a training of a tiny network."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average: Any = SimpleNamespace(network=nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)))
    task: Any = Task()
    return Checkpoints(folder, "r/fold0", task, network, average, None, build_optimizer(network, OPTIM))


def save_training(folder: Path) -> None:
    found = training(folder)
    found.network(torch.ones(2, 1, 2, 2)).square().mean().backward()
    found.optimizer.step()
    found.save(State(epoch=1, step=3, best=0.5, seconds=1.5, sums={"dice": 0.5}, top=[[0.5, 1]]), None)


def restore(folder: Path) -> Any:
    """What a continued training takes up, as plain values."""
    found = training(folder)
    config: Any = SimpleNamespace(epochs=4, optim=OPTIM)
    state = found.restore(None, config, batches=2, steps=8)
    assert state is not None
    parts = [found.network.state_dict(), found.average.network.state_dict()]
    parts.append(checkpoint.optimizer_tensors(found.network, found.optimizer))
    return asdict(state), [{key: value.tolist() for key, value in part.items()} for part in parts]


def resealed(file: str, read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """A reader of a folder whose JSON file has a digest: it is made to fit first, as an attacker would."""

    def reader(folder: Path) -> Any:
        path = folder / file
        try:
            values = json.loads(path.read_text())
            values.pop("digest", None)
        except (ValueError, AttributeError, TypeError, RecursionError):
            return read(folder)
        if isinstance(values.get("files"), dict):
            for name in ("model", "weights", "optimizer"):
                values["files"][f"{name}.safetensors"] = sha256_file(path.with_name(f"{name}.safetensors"))
        path.write_text(json.dumps(values | {"digest": digest(values)}))
        return read(folder)

    return reader


def recipe() -> SegmentConfig:
    return compose({"experiment": "demo_fpn", "name": "r", "data.root": "."})


def run_formats(place: Path) -> list[Format]:
    """Files of a run's folder, by the readers of train, infer, score, ledger, sweep."""
    values = recipe().model_dump(mode="json")
    done = FoldResult(METRIC, 0.91, 3, 10.5, 2.5).to_json()
    environment = {"python": "3.11.7", "packages": {"torch": "2.0"}, "commit": "ab" * 20, "threads": 2, "gpu": None}
    score = {"format": "phalanx-score-1", "mean": 0.9, "per_image": {"a.png": 0.9, "환자.png": 0.8, "c": 1}}
    folds = 'image_name,group,fold\na.png,p1,0\nb.png,환자,1\n"c,d.png",p3,1\n'
    events = [Event("epoch", 1, 1.5, {"epoch": 0, "loss": 0.5}), Event("validate", 2, 2.5, {"epoch": 1, "dice": 0.5})]
    start = {"start": "runs/a/fold0", "weights": HASH, "left_out": ["core.head.weight"]}

    def log(folder: Path) -> None:
        for event in events:
            JsonLines(folder / "log.jsonl").append(event)

    def logs(folder: Path) -> Any:
        FoldRun(folder).logged("validate", "epoch", "dice")
        return JsonLines(folder / "log.jsonl").rewind(1)

    return [
        Format("config.yaml", text("config.yaml", yaml.safe_dump({"format": FORMAT, **values}, sort_keys=False)),
               lambda f: (flatten(read_recipe(f)), FoldRun(f).config), text=True),
        Format("done.json", text("done.json", json.dumps(done)), lambda f: FoldRun(f).result, text=True),
        Format("oof_score.json", text("oof_score.json", json.dumps(score)), lambda f: FoldRun(f).per_image, text=True),
        Format("environment.json", text("environment.json", json.dumps(environment)),
               lambda f: FoldRun(f).environment, text=True),
        Format("folds.csv of a run", text("folds.csv", folds), lambda f: FoldRun(f).patients, text=True),
        Format("log.jsonl", written(place, "log", log), logs, text=True),
        Format("start.json", text(RECORD, json.dumps(start)), lambda f: read_record(f), text=True),
        Format("tracking.json", text("tracking.json", '{"id": "0123abcd"}'),
               lambda f: run_id(f / "tracking.json"), text=True),
        Format("holder", text(".holder", Record(3, True, True, Process.this()).text()), Record.read, text=True),
    ]  # fmt: skip


def checkpoint_formats(place: Path) -> list[Format]:
    """A checkpoint as it was written, and one whose digests fit what was altered."""
    files = written(place, "checkpoint", save_training)
    names = [name for name in files if name.startswith("last/")]
    tensors = [name for name in names if name.endswith(".safetensors")]
    return [
        Format("checkpoint", files, restore, names, sealed=True, text=True),
        Format("state.json", files, resealed("last/state.json", restore), ["last/state.json"], text=True),
        Format("safetensors", files, resealed("last/state.json", restore), tensors, text=True),
    ]


def prediction_formats(place: Path) -> list[Format]:
    """Files that a prediction writes and votes read."""
    rng = np.random.default_rng(0)
    options = {"tta": ["hflip"], "input sizes": [16], "window": None, "precision": "32"}

    def maps(folder: Path) -> None:
        found = ProbabilityMaps.of(np.where(rng.random((2, 16, 16)) < 0.2, rng.random((2, 16, 16)), 0).astype("f4"))
        about: Any = {"image": "x", "size": (20, 15), "classes": ["a", "b"], "run_hashes": {"runs/x/fold0": HASH}}
        write_map(folder / "x.npz", found, threshold=0.5, **about)
        write_about(folder, ["a", "b"], {"runs/x/fold0": HASH}, {"x": (20, 15)}, HASH, 0.5, options)

    def same(one: Any, other: Any) -> bool:
        return one[1:] == other[1:] and np.array_equal(one[0].dense(), other[0].dense())

    def read_folder(folder: Path) -> Any:
        found = MapsFolder(folder)
        about = {key: value for key, value in vars(found).items() if key not in ("name", "folder")}
        return [
            one.dense().tolist() for one in found.maps([SimpleNamespace(name=name) for name in found.sizes], [])
        ], about

    def export(folder: Path) -> None:
        values = recipe()
        (folder / "fold0.onnx").write_bytes(b"a network")
        fold = {"file": "fold0.onnx", "sha256": sha256_file(folder / "fold0.onnx"), "data_sha256": None,
                "trained": "runs/r/fold0", "weights_sha256": HASH,
                "differences": {"random": {"coarse": 1e-6, "masks": 0.0, "rounding": None}}}  # fmt: skip
        about = {"format": "phalanx-export-1", "name": "r", "weights": "final", "side": 64, "folds": [fold],
                 "data": values.data.model_dump(mode="json"), "predict": values.predict.model_dump(mode="json"),
                 "made_with": {"torch": "2.0"}}  # fmt: skip
        write_json(folder / DESCRIPTION_FILE, about | {"digest": digest(about)})

    def tuned(folder: Path) -> None:
        members = [TunedMember(name=n, votes=2, hashes={f"runs/{n}/fold0": HASH}, options=options) for n in "xy"]
        PostProcessing(
            classes=["a", "b"], members=members, threshold=0.5, thresholds={"a": 0.4}, smallest={"b": 64},
            largest=["a"], holes=["b"], choices=[{"choice": "members", "gain": 0.1}],
        ).write(folder / "tuned.json")  # fmt: skip

    def submission(folder: Path) -> None:
        (folder / "x.csv").write_text("image_name,class,rle\nx,a,1 2\n")
        about = Sidecar(sha256_file(folder / "x.csv"), ["a", "b"], {"x": (20, 15)}, {"runs/x/fold0": HASH},
                        {"how": "soft", "members": ["x", "y"], "agreement": None}, HASH)  # fmt: skip
        (folder / "x.json").write_text(about.text())

    def journal(folder: Path) -> None:
        (folder / ".x.csv.part").mkdir()
        Journal(folder / "x.csv", HASH).write_note("agreement", {"images": 3, "pairs": [[0.5, None]]})
        rows = [PredictedRow(name, (20, 15), ["1 2", ""], HASH) for name in ("a", "환자")]
        append(folder / ".x.csv.part", 0, rows, HASH)

    def read_journal(folder: Path) -> Any:
        found = Journal.share(folder / "x.csv", HASH)
        return found.note("agreement"), list(found.rows([name for name in ("a", "환자") if name in found.places]))

    def part(one: Any, other: Any) -> bool:
        return one[0] in ([], other[0]) and all(row in other[1] for row in one[1])

    def record(folder: Path) -> Any:
        """A record whose digest fits."""
        line = (folder / "record").read_bytes()
        try:
            sealed = seal(json.loads(line))
        except (ValueError, RecursionError):
            sealed = line
        (folder / ".x.csv.part").mkdir()
        (folder / ".x.csv.part/key").write_text(HASH)
        (folder / ".x.csv.part/rows.0").write_bytes(sealed)
        found = Journal.share(folder / "x.csv", HASH)
        return list(found.rows(list(found.places)))

    stored, exported = written(place, "maps", maps), written(place, "export", export)
    row = json.dumps([*PredictedRow("a", (20, 15), ["1 2", ""], HASH), HASH])
    return [
        Format("stored map", {"x.npz": stored["x.npz"]}, lambda f: read_map(f / "x.npz"), sealed=True, same=same),
        Format("maps.json", stored, read_folder, ["maps.json"], sealed=True, text=True),
        Format("maps.json resealed", stored, resealed("maps.json", read_folder), ["maps.json"], text=True),
        Format("export.json", exported, read_description, sealed=True, text=True),
        Format("export.json resealed", exported, resealed(DESCRIPTION_FILE, read_description), [DESCRIPTION_FILE],
               text=True),
        Format("post-processing", written(place, "tuned", tuned), lambda f: PostProcessing.read(f / "tuned.json"),
               text=True),
        Format("sidecar", written(place, "submission", submission), lambda f: read_sidecar(f / "x.csv"), ["x.json"],
               text=True),
        Format("journal", written(place, "journal", journal), read_journal, sealed=True, same=part, text=True),
        Format("journal record", text("record", row), record, text=True, names=False),
    ]  # fmt: skip


def result_formats(place: Path) -> list[Format]:
    """The ledger, and results of a sweep."""
    row = ledger.LedgerRow("2026-01-01T00:00:00Z", "run", "a", public="0.97", note="two\nlines", members="a; b")

    def sweep(folder: Path) -> None:
        SweepResult(
            table="t", row="r", scale="small", data="hands", seed=0, fold=0, metric=METRIC, value=0.9, seconds=3.0,
            curve=[[1, 0.5]], patients={"p": [0.5, 0.6]}, images={"p": 2}, overrides=["epochs=3"],
            recipe={"data": {"classes": ["a", "b"]}, "epochs": 3}, command="phalanx sweep t", commit=None,
            machine="cpu", held_out={"patients": {"p": [0.5, 0.6]}, "images": {"p": 2}},
        ).write(folder)  # fmt: skip

    def read_ledger(folder: Path) -> Any:
        return to_text(entries(rows := ledger.read(folder / "ledger.csv"))), rows

    return [
        Format("ledger.csv", written(place, "ledger", lambda f: ledger.add(f / "ledger.csv", row)), read_ledger,
               ["ledger.csv"], text=True),
        Format("sweep result", written(place, "sweep", sweep), lambda f: [asdict(one) for one in read_results(f)],
               text=True),
    ]  # fmt: skip


def formats(place: Path) -> list[Format]:
    """All of them."""
    return [*run_formats(place), *checkpoint_formats(place), *prediction_formats(place), *result_formats(place)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Format]:
    return {form.name: form for form in formats(tmp_path_factory.mktemp("formats"))}


NAMES = [
    "config.yaml", "done.json", "oof_score.json", "environment.json", "folds.csv of a run", "log.jsonl",
    "start.json", "tracking.json", "holder", "checkpoint", "state.json", "safetensors",
    "stored map", "maps.json", "maps.json resealed", "export.json", "export.json resealed", "post-processing",
    "sidecar", "journal", "journal record", "ledger.csv", "sweep result",
]  # fmt: skip


def test_all_formats_are_tried(made):
    assert list(made) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_read_or_refused(made, tmp_path, name):
    report = fuzz(made[name], tmp_path, seconds=seconds_of_a_test(slow=False))
    assert not report.findings
    assert report.cases
