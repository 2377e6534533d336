"""Several processes train one fold: equal gradients, equal weights, one error, no orphans. By gloo, on the CPU."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.engine.doubles import SGD, distance, start_of
from tests.engine.stopping import Stopped
from tests.engine.test_fit import told, weights_after_an_epoch
from torch import nn

from phalanx.cli import main
from phalanx.engine.fit import fit
from phalanx.errors import ConfigError, DataError
from phalanx.runtime.distributed import Ranks, launch
from phalanx.tasks.segment import Segment

CASES = {
    "2 + 1 + 1 images a step, then 1 + 1 + 1": ("unet", {"batch": 4}),
    "two micro-batches in the first process": ("unet", {"batch": 1, "accumulate": 4}),
    "more processes than images": ("unet", {"batch": 2}),
    "stages that rest": ("unet", {"batch": 4, "optim__freeze__stages": 2, "optim__weight_decay": 0.1}),
    "points drawn by each process": ("fpn", {"batch": 4}),
    "statistics of batches": ("unet", {"batch": 4, "model__norm": "batch"}),
}
EXACT = list(CASES)[:4]
# of a fold of six images that is trained to its end and saved at every step
TOGETHER = {"ddp": "true", "batch": 4, "epochs": 3, "checkpoint_minutes": 1e-9, "augment": "affine"}


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.used, self.idle = nn.BatchNorm1d(3), nn.Linear(3, 2), nn.Linear(3, 2)
        self.rests = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, x):
        return self.used(self.norm(x) * self.rests)


def small_step(network, images):
    return network(images).square().mean()


class Stops(Segment):
    """All processes stop in the first step of the second epoch, as a kill would; the third has a batch an epoch."""

    calls = 0

    def step(self, network, batch):
        self.calls += 1
        if self.calls == (3, 3, 2)[Ranks().rank]:
            raise Stopped
        return super().step(network, batch)


def whole_and_stopped(config, records):
    """Trains a fold to its end at once, and another time after it was stopped."""
    whole, stopped = (config.model_copy(update={"name": name}) for name in ("whole", "stopped"))
    fit(whole, 0, records, Segment)
    with pytest.raises(Stopped):
        fit(stopped, 0, records, Stops)
    fit(stopped, 0, records, Segment)


def in_each(device, out, configs, ddp_config, records):
    """Runs in each process: sums, gradients of a small network, an epoch of every case, and trainings of a fold."""
    ranks = Ranks()
    torch.set_num_threads(1)
    found = {"sum": ranks.sum(1.0, ranks.rank), "any": [ranks.any(ranks.rank == 2), ranks.any(False)]}
    flags = (torch.tensor(ranks.rank == 2), torch.tensor(False))
    found["on_device"] = [ranks.any_on_device(flag).tolist() for flag in flags]
    found["gather"] = ranks.gather(f"process {ranks.rank}")
    torch.manual_seed(0)
    network, images = Small(), torch.randn(9, 3)
    own = [images[:6], images[6:], images[9:]][ranks.rank]
    if len(own):
        (small_step(network, own) * (len(own) / 9)).backward()
    ranks.sum_gradients(network, len(own) / 9)
    found["gradient"] = {name: p.grad for name, p in network.named_parameters()}
    found["mean"] = network.norm.running_mean.clone()
    for case, config in configs.items():
        found[case] = weights_after_an_epoch(config, records[:7])
    torch.save(found, Path(out) / f"{ranks.rank}.pt")
    whole_and_stopped(ddp_config, records)


@pytest.fixture(scope="module")
def epochs(tiny, hands, tmp_path_factory):
    """What each of three processes has after an epoch of each case; what one alone has; and where they trained."""
    from phalanx.config.compose import compose, split_words
    from phalanx.data.records import train_records

    out, records = tmp_path_factory.mktemp("ranks"), train_records(hands)
    configs = {
        case: compose(split_words(tiny(model, runs=out / "runs", name="r", **SGD, **changes)))
        for case, (model, changes) in CASES.items()
    }
    together = compose(split_words(tiny("fpn", runs=out / "ddp", name="r", devices="cpu,cpu,cpu", **TOGETHER)))
    launch(["cpu"] * 3, in_each, str(out), configs, together, records)
    alone = {case: weights_after_an_epoch(config, records[:7]) for case, config in configs.items()}
    start = {case: start_of(config, records[:7]) for case, config in configs.items()}
    return [torch.load(out / f"{rank}.pt", weights_only=False) for rank in range(3)], alone, start, out / "ddp"


def test_sums_reach_all(epochs):
    for found in epochs[0]:
        assert found["sum"] == [3.0, 3.0]
        assert found["any"] == found["on_device"] == [True, False]
        assert found["gather"] == ["process 0", "process 1", "process 2"]


def test_gradients_of_unequal_shares_are_those_of_each_share_by_its_images(epochs):
    """One process has six images, one three, one none. BatchNorm sees a process's images, so each share is apart."""
    torch.manual_seed(0)
    truth, images = Small(), torch.randn(9, 3)
    for part in (images[:6], images[6:]):
        (small_step(truth, part) * (len(part) / 9)).backward()
    for found in epochs[0]:
        for name, p in truth.named_parameters():
            if name.startswith(("idle", "rests")):
                assert found["gradient"][name] is None, name
            else:
                torch.testing.assert_close(found["gradient"][name], p.grad)
        torch.testing.assert_close(found["mean"], 0.1 * images.mean(0))


@pytest.mark.parametrize("case", CASES)
def test_all_have_the_same_weights_bit_for_bit(epochs, case):
    first, *others = (found[case][0] for found in epochs[0])
    assert all(torch.equal(first[key], other[key]) for other in others for key in first if "tracked" not in key)


@pytest.mark.parametrize("case", EXACT)
def test_weights_and_sums_are_those_of_one_process(epochs, case):
    several, alone, start, _ = epochs
    (mine, state), (weights, truth), start = several[0][case], alone[case], start[case]
    assert distance(mine, weights, start) < 1e-9
    assert (state.step, state.batch, state.images) == (truth.step, truth.batch, truth.images)
    assert state.loss_sum == pytest.approx(truth.loss_sum, rel=1e-6)  # float32 when it reaches the log
    assert state.sums == pytest.approx(truth.sums, rel=1e-6)
    assert set(state.sums) == {"dice", "loss/bce", "loss/dice"}


def same_fold(one, other):
    for file in ("final/weights.safetensors", "best/weights.safetensors", "oof.csv", "last/optimizer.safetensors"):
        assert (one / file).read_bytes() == (other / file).read_bytes(), file
    assert told(one) == told(other)


def test_a_fold_stopped_on_all_ends_the_same_bit_for_bit(epochs):
    """Three processes, of which the third has no image in an epoch's last step."""
    whole, stopped = (epochs[3] / name / "fold0" for name in ("whole", "stopped"))
    same_fold(stopped, whole)
    starts = [json.loads(line) for line in (stopped / "log.jsonl").read_text().splitlines() if '"start"' in line]
    assert [line["processes"] for line in starts] == [3, 3]


def ddp(recipe, name):
    """A run on two processes whose second has no image in an epoch's last step, saved at every step."""
    return recipe("fpn", devices="cpu,cpu", **(TOGETHER | {"batch": 5})).model_copy(update={"name": name})


class Refuses(Segment):
    """The second process cannot read an image of the second epoch."""

    calls = 0

    def step(self, network, batch):
        self.calls += 1
        if Ranks().rank == 1 and self.calls == 3:
            raise DataError("image7.png: the file is cut")
        return super().step(network, batch)


@pytest.mark.parametrize("continued", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_one_that_fails_ends_all_and_the_same_call_continues_bit_for_bit(recipe, records, continued):
    with pytest.raises(DataError, match=r"^image7\.png: the file is cut$"):
        fit(ddp(recipe, "failed"), 0, records, Refuses)
    if not continued:
        return
    folder = fit(ddp(recipe, "failed"), 0, records, Segment)
    whole = fit(ddp(recipe, "whole"), 0, records, Segment)
    same_fold(folder, whole)
    starts = [line for line in (folder / "log.jsonl").read_text().splitlines() if '"start"' in line]
    assert [json.loads(line)["processes"] for line in starts] == [2, 2]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_when_the_first_process_is_killed_the_others_end(tiny, tmp_path):
    words = tiny("unet", fold=0, name="r", runs=tmp_path / "runs", ddp="true", devices="cpu,cpu", epochs=500, workers=1)
    log = tmp_path / "runs" / "r" / "fold0" / "log.jsonl"
    parent = subprocess.Popen([sys.executable, "-m", "phalanx", "train", *words], start_new_session=True)
    while not log.is_file():
        assert parent.poll() is None
        time.sleep(0.05)
    pids = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and descends(int(p.name), parent.pid)]
    assert len(pids) >= 2  # that train, and as it happens those that load
    parent.kill()
    parent.wait()
    until = time.monotonic() + 120
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not [pid for pid in pids if alive(pid)]


def descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            return False
        if pid == ancestor:
            return True
    return False


def test_a_finished_run_starts_no_process(runs, tiny, capsys, monkeypatch):
    monkeypatch.setattr("phalanx.engine.fit.launch", None)
    words = tiny("unet", fold=0, name="unet", runs=runs, ddp="true", devices="cpu,cpu")
    assert main(["train", *words]) == 0
    assert "fold0: finished, out of fold dice" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ("cpu", "needs two devices or more"),
        ("0,cpu", "all GPUs or all cpu"),
        ("1,1", "each GPU can run only one process"),
        ("tpu,0", "devices=tpu,cuda:0: expected numbers of GPUs, as in 0,1, or cpu,cpu"),
    ],
)
def test_devices_that_cannot_train_together_are_refused(recipe, devices, message):
    with pytest.raises(ConfigError, match=message):
        recipe(devices=devices, ddp="true")


def test_devices_that_nothing_would_use_are_refused(recipe, records):
    with pytest.raises(ConfigError, match="devices: folds side by side are for phalanx train; here give ddp=true"):
        fit(recipe(devices="cpu,cpu"), 0, records, Segment)


def test_a_gpu_that_is_not_there_is_refused_before_anything_starts(recipe, records):
    config = recipe(devices="76,77", ddp="true")
    with pytest.raises(ConfigError, match="device=cuda:76: this machine has"):
        fit(config, 0, records, Segment)
    assert not config.runs.exists()
