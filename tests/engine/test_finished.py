"""A finished fold that was damaged since is made whole, from what is left and to the same bits, or refused."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from phalanx.engine.fit import finished, fit
from phalanx.errors import TrainingError
from phalanx.predict.journal import part_folder
from phalanx.runs.reader import FoldRun
from phalanx.tasks.segment import Segment

KEPT = ("final/weights.safetensors", "oof.csv")  # what else there is tells of its folder


@pytest.fixture
def fold(runs, tmp_path, tiny):
    """A copy of a finished fold, and the words that made it."""
    shutil.copytree(runs / "unet", tmp_path / "runs" / "unet")
    return tmp_path / "runs" / "unet" / "fold0", ["train", *tiny("unet", fold=0, name="unet", runs=tmp_path / "runs")]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def other_fold(path):
    """A whole file, of another fold."""
    shutil.copy(path.parents[2] / "fold1" / "final" / path.name, path)


HARM = {
    "final altered": (lambda f: flip(f / "final/weights.safetensors"), "final is missing or altered"),
    "final swapped": (lambda f: other_fold(f / "final/weights.safetensors"), "final is missing or altered"),
    "final gone": (lambda f: shutil.rmtree(f / "final"), "final is missing or altered"),
    "oof.csv altered": (lambda f: flip(f / "oof.csv"), "cut off or edited later"),
    "oof.csv gone": (lambda f: (f / "oof.csv").unlink(), "oof.csv is missing"),
    "oof.json gone": (lambda f: (f / "oof.json").unlink(), "oof.json is missing"),
    "oof.json no longer ours": (lambda f: (f / "oof.json").write_text("{}"), "oof.json is damaged"),
    "score gone": (lambda f: (f / "oof_score.json").unlink(), "oof_score.json is missing"),
    "done.json cut": (lambda f: (f / "done.json").write_text("{"), "done.json is damaged"),
    "done.json empty": (lambda f: (f / "done.json").write_text("[]"), "done.json is damaged"),
}


@pytest.mark.parametrize("harm", HARM)
def test_damage_is_said_and_made_good_by_the_same_command(fold, harm, capsys):
    from phalanx.cli import main

    folder, words = fold
    before = {name: (folder / name).read_bytes() for name in KEPT}
    act, said = HARM[harm]
    act(folder)
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "fold0: was finished, but " in out
    assert said in out
    assert {name: (folder / name).read_bytes() for name in KEPT} == before
    assert not list(folder.glob("final.*"))
    assert (
        finished(folder, FoldRun(folder).config, Segment).value
        == json.loads((folder / "oof_score.json").read_text())["dice"]
    )


def test_means_of_epochs_and_of_the_best_are_made_again_or_kept(recipe, records):
    changes = {"optim__average_best": 2, "optim__swa": "{start:0.4}", "model__norm": "batch"}
    config = recipe("unet", epochs=2, validate_every=1, **changes)
    folder = fit(config, 0, records, Segment)
    names = ("final/weights.safetensors", "best/weights.safetensors", "oof.csv")
    before = {name: (folder / name).read_bytes() for name in names}
    flip(folder / "final/weights.safetensors")
    fit(config, 0, records, Segment)
    assert {name: (folder / name).read_bytes() for name in names} == before


def test_without_last_a_damaged_final_is_refused_and_not_trained_anew(fold, capsys):
    from phalanx.cli import main

    folder, words = fold
    flip(folder / "final/weights.safetensors")
    for name in ("last", "last.before"):
        shutil.rmtree(folder / name)
    for _ in range(2):
        assert main(words) == 2
        assert "trained to its end, but final is damaged and last is missing" in capsys.readouterr().err
        shutil.rmtree(folder / "final", ignore_errors=True)


def test_another_folds_state_is_not_continued_from(fold, capsys):
    from phalanx.cli import main

    folder, words = fold
    (folder / "done.json").unlink()
    for name in ("final", "last", "last.before"):
        shutil.rmtree(folder / name)
    shutil.copytree(folder.parent / "fold1" / "last", folder / "last")
    assert main(words) == 2
    assert "fold0/last: not a whole checkpoint (it is of unet/fold1)" in capsys.readouterr().err


def full(code, suffix, on):
    """Writing a file of that name, also aside, fails half-way, from the time number ``on`` on."""
    calls, opened = [], Path.open

    def call(self, mode="r", *arguments, **options):
        file = opened(self, mode, *arguments, **options)
        if mode[0] in "wx" and suffix in self.name:
            calls.append(self)
            if len(calls) >= on:
                return Half(file, code)
        return file

    return call


def full_at(code, suffix, on):
    """The same for a file that is added to, by the system's own call."""
    write, calls = os.write, []

    def call(descriptor, data):
        if Path(f"/proc/self/fd/{descriptor}").resolve().name == suffix:
            calls.append(descriptor)
            if len(calls) >= on:
                write(descriptor, data[: len(data) // 2])
                raise OSError(code, os.strerror(code))
        return write(descriptor, data)

    return call


class Half:
    """A file whose disk is full after half of what is written."""

    def __init__(self, file, code):
        self.file, self.code = file, code

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        self.file.close()

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize(
    ("name", "on"),
    [
        ("log.jsonl", 3),
        ("oof.csv", 1),
        ("state.json", 2),
        pytest.param("config.yaml", 1, marks=pytest.mark.slow),
        pytest.param("done.json", 1, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_ends_training_clearly_and_the_same_command_goes_on(recipe, records, runs, name, on, monkeypatch):
    config = recipe("unet").model_copy(update={"name": "unet"})
    with monkeypatch.context() as patch:
        if name == "log.jsonl":
            patch.setattr(os, "write", full_at(errno.ENOSPC, name, on))
        else:
            patch.setattr(Path, "open", full(errno.ENOSPC, name, on))
        with pytest.raises(TrainingError, match=r"No space left on device \(\d+ MB are free there\)"):
            fit(config, 0, records, Segment)
    folder = config.runs / "unet" / "fold0"
    rows = part_folder(folder / "oof.csv")  # stays, for the same command to go on from
    assert rows.exists() is (name == "oof.csv")
    assert not [p.name for p in folder.glob("**/*") if p.name.endswith((".new", ".part")) and p != rows]
    assert fit(config, 0, records, Segment) == folder
    assert not list(folder.glob("**/*.part"))
    for kept in KEPT:
        assert (folder / kept).read_bytes() == (runs / "unet" / "fold0" / kept).read_bytes(), kept
    told = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in told if line["event"] == "epoch"] == [1, 2, 3, 4, 5, 6]
