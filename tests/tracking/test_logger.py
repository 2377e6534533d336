"""The logger with each tracker really installed; what they wrote is read back and compared with the JSON lines."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from importlib.machinery import ModuleSpec

import pytest
from tests.tracking import readers

from phalanx.errors import ConfigError, OutputError
from phalanx.tracking import tracker as trackers
from phalanx.tracking.logger import Logger

ALL = ("tensorboard", "wandb", "mlflow")
READ = {"tensorboard": readers.of_tensorboard, "wandb": readers.of_wandb}


def points(name, folder):
    return readers.of_mlflow(folder.parents[1], folder.name) if name == "mlflow" else READ[name](folder)


def write_epochs(logger, epochs, scale=1.0):
    """Epochs of ten steps each, with every kind of event that the engine logs."""
    for epoch in epochs:
        step = 10 * (epoch + 1)
        logger("epoch", step, epoch=epoch, **{"loss": scale / step, "loss/bce": 0.1 * epoch, "metric": 0.5},
               lr=1e-3, images_per_second=12.5, waiting=0.02, memory_gib=1.25)  # fmt: skip
        logger("validate", step, epoch=epoch, **{"held_out/metric": 0.25 + epoch / 100})


def same_as_the_lines(folder, *names):
    expected = readers.of_json_lines(folder)
    assert len(expected) > 8
    for name in names:
        found = points(name, folder)
        assert found.keys() == expected.keys(), name
        for place, values in expected.items():
            if name == "wandb":
                values = values[-1:]  # a row has one value per key
            assert found[place] == pytest.approx(values, rel=1e-6), (name, place)


def test_without_trackers_only_json_lines_are_written(config, folder):
    with Logger(config(), folder) as logger:
        logger.start(0)
        logger("start", 0, images=4)
    assert [path.name for path in folder.iterdir()] == ["log.jsonl"]
    line = json.loads((folder / "log.jsonl").read_text())
    assert line.pop("time") > 1e9
    assert line == {"event": "start", "step": 0, "images": 4}


def test_a_silent_logger_writes_nothing(config, folder, capsys):
    with Logger(config(*ALL), folder, silent=True) as logger:
        logger.start(0)
        logger("start", 0, images=4)
        logger.say("hello")
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert capsys.readouterr().out == ""


def test_every_tracker_has_the_names_and_values_of_the_lines(config, folder):
    with Logger(config(*ALL), folder) as logger:
        logger.start(0)
        logger("start", 0, images=4, steps=30, lr_scales=[1.0])
        write_epochs(logger, range(3))
        logger("memory", 31, text="micro-batch halved", micro=1)
        write_epochs(logger, range(3, 5))
    same_as_the_lines(folder, *ALL)
    keys = {key for key, _ in points("mlflow", folder)}
    assert keys == {"images", "steps", "epoch", "loss", "loss/bce", "metric", "lr", "images_per_second", "waiting",
                    "memory_gib", "held_out/metric", "micro"}  # fmt: skip


def test_the_recipe_is_in_every_tracker(config, folder):
    with Logger(config(*ALL, epochs=7), folder) as logger:
        logger.start(0)
        logger("start", 0, images=4)
    hyperparameters = readers.accumulator(folder).PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert b"optim.lr" in hyperparameters
    [path] = readers.wandb_files(folder)
    [run] = [r.run for r in readers.wandb_records(path) if r.WhichOneof("record_type") == "run"]
    assert {item.key: item.value_json for item in run.config.update}["epochs"] == "7"
    assert (run.display_name, run.run_group, run.project) == ("r/fold0", "r", "phalanx")
    _, [found] = readers.mlflow_runs(folder.parents[1])
    assert found.data.params["epochs"] == "7"
    assert {"optim.lr", "model.arch", "data.size", "loss.stages"} <= found.data.params.keys()
    assert found.info.run_name == "r/fold0"
    assert found.info.status == "FINISHED"


def test_messages_are_in_tensorboard(config, folder):
    with Logger(config("tensorboard"), folder) as logger:
        logger.start(0)
        logger("memory", 3, text="micro-batch halved", micro=1)
    found = readers.accumulator(folder)
    [event] = found.Tensors("memory/text_summary")
    assert (event.step, event.tensor_proto.string_val) == (3, [b"micro-batch halved"])


def test_an_error_of_the_training_marks_the_run_as_failed(config, folder):
    logger = Logger(config("wandb", "mlflow"), folder)
    logger.start(0)
    with pytest.raises(ZeroDivisionError), logger:
        raise ZeroDivisionError
    _, [found] = readers.mlflow_runs(folder.parents[1])
    assert found.info.status == "FAILED"
    [path] = readers.wandb_files(folder)
    assert [r.exit.exit_code for r in readers.wandb_records(path) if r.WhichOneof("record_type") == "exit"] == [1]


def write_and_die(config, folder):
    """The first four epochs, in a process that is killed at once."""
    os.environ.pop("WANDB_SERVICE", None)  # that of the process that starts this one would outlive it
    logger = Logger(config, folder)
    logger.start(0)
    logger("start", 0, images=4)
    write_epochs(logger, range(4))
    os.kill(os.getpid(), signal.SIGKILL)


# on two busy cores W&B's service has left its file without rows in 2 of some 15 runs; why is not known
UNSTEADY = pytest.param("wandb", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [UNSTEADY if name == "wandb" else name for name in ALL])
def test_a_killed_run_continues_in_the_same_place(name, config, folder):
    """The work after step 20 is done again, with the same values."""
    child = multiprocessing.get_context("spawn").Process(target=write_and_die, args=(config(name), folder))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert len(readers.of_json_lines(folder)) > 30
    time.sleep(1.1)  # names of event files have the second, and are read in their order
    with Logger(config(name, workers=1), folder) as logger:  # a key that may change between calls
        logger.start(20)
        logger("start", 20, images=4)
        assert max(step for _, step in readers.of_json_lines(folder)) == 20
        write_epochs(logger, range(2, 6))
    same_as_the_lines(folder, name)
    assert max(step for _, step in points(name, folder)) == 60
    if name == "mlflow":
        assert len(readers.mlflow_runs(folder.parents[1])[1]) == 1
    if name == "wandb":
        assert len(readers.wandb_files(folder)) == 1


def test_values_that_came_out_differently_after_a_kill(config, folder):
    """MLflow takes nothing back: both are in its history, the new one last."""
    killed = Logger(config("tensorboard", "mlflow"), folder)
    killed.start(0)
    write_epochs(killed, range(2))
    with Logger(config("tensorboard", "mlflow"), folder) as logger:
        logger.start(10)
        write_epochs(logger, range(1, 2), scale=2.0)
    same_as_the_lines(folder, "tensorboard")
    found = points("mlflow", folder)
    assert found["loss", 20] == [1 / 20, 2 / 20]
    assert found["metric", 20] == [0.5]
    assert readers.mlflow_runs(folder.parents[1])[1][0].data.metrics["loss"] == 2 / 20


def test_a_tracker_that_is_added_later_gets_the_events_so_far(config, folder):
    with Logger(config(), folder) as logger:
        logger.start(0)
        write_epochs(logger, range(2))
    with Logger(config(*ALL), folder) as logger:
        logger.start(20)
        write_epochs(logger, range(2, 4))
    same_as_the_lines(folder, *ALL)


def test_a_new_run_of_the_same_name_is_not_taken_for_the_old_one(config, folder):
    for _ in range(2):
        with Logger(config("mlflow"), folder) as logger:
            logger.start(0)
            write_epochs(logger, range(1))
        shutil.rmtree(folder)
        folder.mkdir()
    assert len(readers.mlflow_runs(folder.parents[1])[1]) == 2


def test_folds_are_runs_of_their_own(config, folder):
    for place in (folder, folder.with_name("fold1")):
        place.mkdir(exist_ok=True)
        with Logger(config("mlflow"), place) as logger:
            logger.start(0)
            write_epochs(logger, range(1))
    assert points("mlflow", folder) == points("mlflow", folder.with_name("fold1"))


def breaks(*_, **__):
    raise RuntimeError("the server\nis gone")


WHERE = {
    "tensorboard": "torch.utils.tensorboard.SummaryWriter",
    "wandb": "phalanx.tracking.wandb.WeightsAndBiases",
    "mlflow": "phalanx.tracking.mlflow.MLflow",
}
BROKEN = [
    ("tensorboard", "torch.utils.tensorboard.SummaryWriter.__init__"),
    ("tensorboard", "torch.utils.tensorboard.SummaryWriter.add_scalar"),
    ("tensorboard", "torch.utils.tensorboard.SummaryWriter.close"),
    ("wandb", "wandb.init"),
    ("wandb", "wandb.Run.log"),
    ("wandb", "wandb.Run.finish"),
    ("mlflow", "mlflow.MlflowClient.__init__"),
    ("mlflow", "mlflow.MlflowClient.log_batch"),
    ("mlflow", "mlflow.MlflowClient.set_terminated"),
]


@pytest.mark.parametrize(("name", "function"), BROKEN)
def test_a_failing_tracker_is_reported_once_and_the_rest_goes_on(name, function, config, folder, monkeypatch, capsys):
    other = "mlflow" if name == "tensorboard" else "tensorboard"
    with Logger(config(name, other), folder) as logger, monkeypatch.context() as patch:
        patch.setattr(function, breaks)
        logger.start(0)
        write_epochs(logger, range(3))
        logger.close()
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    [report] = [line for line in lines if line["event"] == "tracking"]
    assert report["tracker"] == name
    assert report["text"] == f"{name} failed and is off until training is continued: RuntimeError: the server is gone"
    assert capsys.readouterr().out == f"{folder}: {report['text']}\n"
    assert sum(line["event"] == "epoch" for line in lines) == 3
    same_as_the_lines(folder, other)


def test_places_that_cannot_be_written(config, folder, capsys):
    """A damaged database, and files that stand where event files should be made."""
    (folder.parents[1] / "mlflow.db").write_bytes(b"no database" * 1000)
    with Logger(config(*ALL), folder) as logger:
        for name in trackers.FOLDERS:
            (folder / name).write_text("mine")
        logger.start(0)
        write_epochs(logger, range(2))
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    off = [line["tracker"] for line in lines if line["event"] == "tracking"]
    assert set(off) >= {"tensorboard", "mlflow"}
    assert len(off) == len(set(off)) == len(capsys.readouterr().out.splitlines())
    assert sum(line["event"] == "epoch" for line in lines) == 2


@pytest.mark.parametrize("name", ALL)
def test_a_missing_library_is_named_with_its_remedy(name, config, folder, monkeypatch, tmp_path):
    """Also in a working folder with a folder of the library's name, as wandb makes one."""
    (tmp_path / "here" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    found = trackers.find_spec
    library = trackers.LIBRARIES[name][-1]

    def find_spec(wanted):
        return ModuleSpec(wanted, None) if wanted == library else found(wanted)  # as that of a plain folder

    monkeypatch.setattr(trackers, "find_spec", find_spec)
    with pytest.raises(ConfigError, match=rf"tracking={name}: {library} not installed; run pip install '\.\[{name}\]'"):
        Logger(config(name), folder)
    monkeypatch.setattr(trackers, "find_spec", lambda wanted: None if wanted == library else found(wanted))
    with pytest.raises(ConfigError, match=f"tracking={name}: {library} not installed"):
        Logger(config(name), folder)


@pytest.mark.parametrize("name", trackers.FOLDERS)
def test_a_file_in_the_place_of_a_folder_is_refused(name, config, folder):
    (folder / name).write_text("mine")
    with pytest.raises(OutputError, match=f"{name}: is in the way"):
        Logger(config(name), folder)


@pytest.mark.parametrize(("name", "place"), [("tensorboard", "r/fold0/tensorboard"), ("wandb", "r/fold0/wandb"),
                                             ("mlflow", "mlflow.db"), ("mlflow", ".mlflow.lock")])  # fmt: skip
def test_links_are_refused(name, place, config, folder, tmp_path):
    (tmp_path / "precious").mkdir()
    path = tmp_path / "runs" / place
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="is a link"):
        Logger(config(name), folder)
    assert list((tmp_path / "precious").iterdir()) == []
