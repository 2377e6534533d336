"""Images that are not trained on: evaluated in the device's precision, loaded by processes for a GPU."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from phalanx.engine.loader import evaluation_loader
from phalanx.engine.validation import Validator
from phalanx.runtime.device import Device
from phalanx.runtime.distributed import Ranks
from phalanx.tasks.segment import Segment


class Watched(Device):
    """A device that notes where its autocast holds."""

    within = False

    @contextmanager
    def autocast(self):
        type(self).within = True
        yield
        type(self).within = False


@pytest.mark.parametrize(("name", "lower"), [("cpu", False), ("cuda", True)])
def test_a_gpu_evaluates_under_autocast_and_a_cpu_in_32_bits(recipe, tmp_path, name, lower):
    seen = []
    task = SimpleNamespace(
        metric=Segment.metric,
        evaluate=lambda network, part, device, ranks: seen.append((part, device.type, Watched.within)),
    )
    network, device = torch.nn.Linear(1, 1), Watched(torch.device(name), "bf16")
    config = recipe(optim__monitor="{split:inner,folds:3}", optim__schedule="plateau", validate_every=1)
    validate = Validator(config, tmp_path, task, network, device, Ranks())
    validate.on = "held_out"
    validate(SimpleNamespace(epoch=1, stopped=False), 0.5, None)
    assert seen == [("held_out", name, lower)]
    assert not Watched.within


@pytest.mark.parametrize(
    ("device", "workers", "found"), [("cpu", 3, 0), ("cuda", 3, 2), ("cuda", 1, 1), ("cuda", 0, 0)]
)
def test_batches_come_from_processes_for_a_gpu_no_more_than_there_are_batches(recipe, records, device, workers, found):
    config = recipe(workers=workers, predict__batch=2)
    loader = evaluation_loader(
        Segment(config, records[:2], records[2:6]), "held_out", config, torch.device(device), Ranks()
    )
    assert (loader.num_workers, loader.persistent_workers, loader.pin_memory) == (found, found > 0, device == "cuda")


def test_several_ranks_share_the_images_and_one_may_have_none(recipe, records):
    config = recipe(predict__batch=2)
    task, rows = Segment(config, records[:2], records[2:5]), []
    for rank in range(4):
        ranks = Ranks()
        ranks.rank, ranks.size = rank, 4
        loader = evaluation_loader(task, "held_out", config, torch.device("cpu"), ranks)
        rows.append([batch.rows.tolist() for batch in loader])
    assert rows == [[[0]], [[1]], [[2]], []]


@pytest.mark.filterwarnings("ignore:'pin_memory'")  # without a GPU
def test_the_metric_is_the_same_by_processes_each_time_and_the_mean_over_the_images(recipe, records):
    """Of a network that takes bright pixels for all classes."""
    config, device = recipe(predict__batch=2), torch.device("cpu")
    network = SimpleNamespace(final=lambda images, attributes: (images / 255 - 0.3).expand(-1, 29, -1, -1))
    task = Segment(config, records[:2], records[2:7])
    plain = task.evaluate(network, "held_out", device, Ranks())
    alone = [Segment(config, records[:2], [r]).evaluate(network, "held_out", device, Ranks()) for r in records[2:7]]
    assert plain == pytest.approx(sum(alone) / 5)
    assert len({*alone, 0.0}) == 6

    workers = config.model_copy(update={"workers": 1})
    task.loaders["held_out"] = evaluation_loader(task, "held_out", workers, torch.device("cuda"), Ranks())
    found = [task.evaluate(network, "held_out", device, Ranks()) for _ in range(2)]
    assert found == [plain, plain]
