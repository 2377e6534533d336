"""Reads back what each tracker wrote: points as {(key, step): [values]}, so that a point written twice shows."""

import json
import struct
from collections import defaultdict
from pathlib import Path


def of_json_lines(folder: Path) -> dict:
    points = defaultdict(list)
    for line in (folder / "log.jsonl").read_text().splitlines():
        values = json.loads(line)
        step = values.pop("step")
        for key, value in values.items():
            number = isinstance(value, int | float) and not isinstance(value, bool) and value - value == 0
            if key not in ("event", "time") and number and value not in points[key, step]:
                points[key, step].append(value)
    return {place: values for place, values in points.items() if values}


def accumulator(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    everything = {"scalars": 0, "tensors": 0}
    return EventAccumulator(str(folder / "tensorboard"), size_guidance=everything).Reload()


def of_tensorboard(folder: Path) -> dict:
    """Values are as precise as float32."""
    found, points = accumulator(folder), defaultdict(list)
    for key in found.Tags()["scalars"]:
        for scalar in found.Scalars(key):
            points[key, scalar.step].append(scalar.value)
    return dict(points)


def wandb_records(path: Path):
    """Records of a .wandb file: a header of 7 bytes, then LevelDB's log format in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def wandb_files(folder: Path) -> list[Path]:
    return sorted((folder / "wandb").glob("*/*.wandb"))


def of_wandb(folder: Path) -> dict:
    points = defaultdict(list)
    for path in wandb_files(folder):
        for record in wandb_records(path):
            if record.WhichOneof("record_type") == "history":
                row = {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
                media = {key.removesuffix("/_type") for key in row if key.endswith("/_type")}
                for key, value in row.items():
                    if not key.startswith("_") and key.rpartition("/")[0] not in media:  # numbers alone
                        points[key, row["_step"]].append(value)
    return dict(points)


def mlflow_runs(runs: Path):
    """The client and all runs of the SQLite file, the newest first."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("phalanx")
    return client, client.search_runs([experiment.experiment_id])


def of_mlflow(runs: Path, fold: str = "fold0") -> dict:
    client, found = mlflow_runs(runs)
    [run] = [run for run in found if run.data.tags["phalanx.fold"] == fold]
    points = defaultdict(list)
    for key in run.data.metrics:
        for metric in client.get_metric_history(run.info.run_id, key):
            points[key, metric.step].append(metric.value)
    return dict(points)
