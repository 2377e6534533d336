"""Whatever happens in a loader process, the message names file, stage and free memory, and no image is replaced."""

import os
import pickle
import re
import signal

import cv2
import pytest
import torch

from phalanx.config.compose import compose, split_words
from phalanx.data import dataset, worker
from phalanx.data.records import train_records
from phalanx.engine.fit import fit
from phalanx.errors import DataError, TrainingError
from phalanx.tasks.segment import Segment

FREE = r"Free memory: [\d.]+ GB of the machine, .*[\d.]+ GB of /dev/shm\."


@pytest.fixture
def train(tiny, tmp_path, hands):
    """Trains with one loader process; returns the records too, whose third is the one to fail at."""
    records = train_records(hands)
    words = lambda changes: split_words(tiny("unet", runs=tmp_path / "runs", name="r", **changes))  # noqa: E731
    return records, lambda **changes: fit(compose(words({"workers": 1} | changes)), None, records, Segment)


def at_third(monkeypatch, records, act, name="warp_drawn"):
    """Calls ``act`` in the loader process, once it comes to the third image."""
    known = {}
    for record in records:
        known[record.name] = record
    original, get = getattr(dataset, name), dataset.TrainingSet.__getitem__
    now = []

    def note(self, key):
        now.append(self.records[key[1]].name)
        return get(self, key)

    def call(*arguments):
        if now[-1] == records[2].name and torch.utils.data.get_worker_info() is not None:
            act()
        return original(*arguments)

    monkeypatch.setattr(dataset.TrainingSet, "__getitem__", note)
    monkeypatch.setattr(dataset, name, call)


def raising(error):
    def act():
        raise error

    return act


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 16.0 MiB"), cv2.error("Insufficient memory")])
def test_an_exception_names_file_stage_and_free_memory(train, monkeypatch, error):
    records, run = train
    at_third(monkeypatch, records, raising(error))
    with pytest.raises(DataError) as caught:
        run()
    text = str(caught.value)
    assert text.startswith(f"{records[2].image}: the warp failed in dataset.py, sample ({type(error).__name__}: ")
    assert re.search(FREE, text)


def test_a_pixel_transform_is_named(train, monkeypatch):
    import albumentations

    apply = albumentations.CLAHE.apply

    def failing(self, *arguments, **options):
        if torch.utils.data.get_worker_info() is not None:
            raise cv2.error("broken")
        return apply(self, *arguments, **options)

    monkeypatch.setattr(albumentations.CLAHE, "apply", failing)
    records, run = train
    pattern = r"\.png: pixel transforms failed in pixels\.py, __call__ \(error: broken \[pixel transform CLAHE\]\)"
    with pytest.raises(DataError, match=pattern) as caught:
        run(**{"augment.pixel": "[{name: GaussNoise, p: 0.5},{name: CLAHE, p: 1.0}]"})
    assert any(str(caught.value).startswith(str(record.image)) for record in records)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGBUS])
def test_a_killed_process_is_told_with_what_it_was_at(train, monkeypatch, how, capfd):
    records, run = train
    at_third(monkeypatch, records, lambda: (signal.signal(signal.SIGBUS, signal.SIG_DFL), os.kill(os.getpid(), how)))
    with pytest.raises(TrainingError) as caught:
        run()
    text = str(caught.value)
    assert text.startswith(f"a loader process died during the warp of {records[2].image} (DataLoader worker (pid")
    assert re.search(FREE, text)
    assert "lower workers=" in text
    assert "--shm-size" in text


def test_shared_memory_that_is_full_ends_training_instead_of_waiting_for_ever(train, monkeypatch):
    def full(self):
        if torch.utils.data.get_worker_info() is not None:
            raise RuntimeError("unable to write to file </torch_1_2>: No space left on device (28)")
        return self

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(
        DataError, match=rf"a batch of 2 images could not be handed over.*No space left.*{FREE}.*shm-size"
    ):
        train[1]()


def test_without_room_in_shared_memory_one_process_trains_all_the_same(monkeypatch):
    def full(self):
        raise RuntimeError("unable to resize file </torch_1_2> to the right size: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    assert worker.WorkerProgress().of(1) is None


def test_other_errors_pass_and_those_of_handing_over_are_explained():
    progress = worker.WorkerProgress()
    with pytest.raises(RuntimeError, match="mat1"), worker.worker_errors([], progress):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(TrainingError, match=r"ulimit -n"), worker.worker_errors([], progress):
        raise RuntimeError("received 0 items of ancdata")
    with pytest.raises(TrainingError, match=r"died during its start \("), worker.worker_errors([], progress):
        raise RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly")


def test_a_set_can_be_sent_to_spawned_processes(hands, tiny):
    config = compose(split_words(tiny("unet", name="r")))
    task = Segment(config, train_records(hands)[:2], [])
    assert len(pickle.loads(pickle.dumps(task.training_set))) == 2


@pytest.mark.parametrize(
    ("group", "files", "free"),
    [
        (
            "0::/job\n",
            {"job/memory.max": "1000", "job/memory.current": "900", "job/memory.stat": "anon 1\ninactive_file 50\n"},
            150,
        ),
        ("0::/../x\n", {"memory.max": "max", "memory.current": "900"}, None),
        ("0::/host/path\n", {"memory.max": "1000", "memory.current": "400"}, 600),
        (
            "9:name=systemd:/\n4:cpu,memory:/a/b\n0::/\n",
            {"memory/a/b/memory.limit_in_bytes": "5000", "memory/a/b/memory.usage_in_bytes": "1000"},
            4000,
        ),
        (
            "4:memory:/\n",
            {"memory/memory.limit_in_bytes": str(2**63 - 4096), "memory/memory.usage_in_bytes": "1"},
            None,
        ),
        ("", {}, None),
    ],
)
def test_the_groups_limit_counts(tmp_path, group, files, free):
    own = tmp_path / "cgroup"
    own.write_text(group)
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert worker._group_free(tmp_path / "fs", own) == free
