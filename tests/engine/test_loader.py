"""What feeds the loop: shares of steps, batches ahead of their time, and how long it waited."""

import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phalanx.data.dataset import Batch
from phalanx.engine import loader as feed
from phalanx.engine.loop import Trainer
from phalanx.engine.order import BatchOrder
from phalanx.errors import DataError
from phalanx.tasks.segment import Segment

COUNTS = st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(0, 30)


@given(*COUNTS)
def test_the_shares_of_all_processes_are_the_steps_of_one(count, batch, accumulate, size, start):
    def order(rank, size):
        found = BatchOrder(count, batch, 3, accumulate=accumulate, process=(rank, size))
        found.start = min(start, len(found)) // accumulate * accumulate
        keys, shares = iter(found), []
        for images, own in found.steps():
            shares.append((images, [next(keys) for _ in own]))
        assert next(keys, None) is None
        return shares

    alone, several = order(0, 1), [order(rank, size) for rank in range(size)]
    assert all(len(shares) == len(alone) for shares in several)
    for number, (images, whole) in enumerate(alone):
        parts = [shares[number][1] for shares in several]
        assert {shares[number][0] for shares in several} == {images}
        assert [key for part in parts for micro in part for key in micro] == [key for micro in whole for key in micro]
        sizes = [sum(map(len, part)) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert sizes[0] == max(sizes)  # the first is never idle, as it writes and its statistics count
        assert all(len(part) <= len(whole) and max(map(len, part), default=0) <= batch for part in parts)


class Gpu:
    """Stands in for torch.cuda and notes what is asked of it."""

    def __init__(self):
        self.notes = []

    def Stream(self, device):
        return SimpleNamespace(record_event=lambda: f"copied {threading.current_thread().name[:4]}")

    def stream(self, side):
        return nullcontext()

    def current_stream(self, device):
        return SimpleNamespace(wait_event=self.notes.append)


def test_a_gpu_gets_the_next_batch_while_it_computes(monkeypatch):
    gpu, asked = Gpu(), []
    monkeypatch.setattr(feed.torch, "cuda", gpu)
    monkeypatch.setattr(Batch, "to", lambda batch, device: batch._replace(images=batch.images + 1))

    def source():
        for number in range(3):
            asked.append(number)
            yield Batch(torch.full((1,), number), torch.zeros(1), torch.tensor([number]))
        yield DataError("image7.png: the file is cut")

    stream = feed.ahead(source(), SimpleNamespace(type="cuda"))
    for number in range(3):
        batch = next(stream)
        assert (batch.images.item(), batch.rows.item()) == (number + 1, number)
        until = time.monotonic() + 10
        while len(asked) < min(3, number + 2) and time.monotonic() < until:
            time.sleep(0.001)
        assert len(asked) == min(3, number + 2)  # one ahead, and no more
    assert isinstance(next(stream), DataError)
    assert next(stream, None) is None
    assert gpu.notes == ["copied feed"] * 3  # by the thread, and waited for before each is used


def test_a_cpu_gets_batches_as_they_are():
    assert list(feed.ahead(iter("abc"), torch.device("cpu"))) == ["a", "b", "c"]


@pytest.mark.parametrize("slow", [True, False])
def test_the_share_of_waiting_is_measured_and_told_once(recipe, records, monkeypatch, capsys, slow):
    """The clock stands still but for one second a batch, of loading or of computing, six batches an epoch."""
    now = SimpleNamespace(seconds=0.0)
    clock = SimpleNamespace(monotonic=lambda: now.seconds, time=time.time)
    monkeypatch.setattr(feed, "time", clock)
    monkeypatch.setattr("phalanx.engine.loop.time", clock)
    config = recipe(batch=2)
    task = Segment(config, records, [])
    trainer = Trainer(config, config.runs, task)
    trainer.began = trainer.saved = 0.0
    step, loader = task.step, feed.ahead

    def tick(value, mine):
        now.seconds += 1.0 if mine else 0.25
        return value

    monkeypatch.setattr(feed, "ahead", lambda batches, device: (tick(b, slow) for b in loader(batches, device)))
    task.step = lambda *given: tick(step(*given), not slow)
    for _ in range(2):
        trainer.state.batch = 0
        trainer.train_epoch()
        assert trainer.waiting == pytest.approx(0.8 if slow else 0.2)
    said = capsys.readouterr().out.splitlines()
    if slow:
        assert said == [
            "80% of the epoch was spent waiting for data; what may help: more loader processes (workers=), a larger "
            "cache (data.cache_gb=, or data.cache=disk)"
        ]
    else:
        assert said == []  # a fifth, but of no more than a second or two


def test_advice_for_a_gpu_names_the_warp():
    config = SimpleNamespace(augment=SimpleNamespace(device="cpu"), data=SimpleNamespace(cache="disk"))
    assert "augment.device=cuda" in feed.waiting_advice(config, torch.device("cuda"), 0.3)
    assert "augment.device=cuda" not in feed.waiting_advice(config, torch.device("cpu"), 0.3)


FORKED = """
import os, sys, time
import cv2, numpy as np
from phalanx.engine.loader import forking
cv2.setNumThreads(2)
cv2.GaussianBlur(np.zeros((2048, 2048, 3), np.uint8), (31, 31), 5)  # which starts OpenCV's threads
with forking():
    child = os.fork()
    if not child:
        cv2.setNumThreads(1)  # as loader processes do
        os._exit(0)
assert cv2.getNumThreads() == 2
for _ in range(300):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        sys.exit(status)
    time.sleep(0.1)
os.kill(child, 9)
sys.exit(1)
"""


def test_loader_processes_do_not_wait_for_threads_of_the_process_that_forked_them():
    assert subprocess.run([sys.executable, "-c", FORKED], timeout=120, check=False).returncode == 0
