"""Checkpoints: what is put in comes out, and damage is noticed and survived."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from phalanx.errors import OutputError, TrainingError
from phalanx.runs import checkpoint


def parts(value: float):
    return {
        "weights": {"a": torch.full((2, 3), float(value)), "count": torch.tensor(int(value))},
        "model": {"a": torch.full((2, 3), -float(value))},
    }


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def last(tmp_path):
    """Two checkpoints: step 2, and step 1 before it."""
    for step in (1, 2):
        checkpoint.save(tmp_path / "last", parts(step), {"step": step})
    return tmp_path / "last"


def test_round_trip_keeps_every_bit_kind_and_shape(tmp_path):
    tensors = {
        "weights": {
            "odd": torch.tensor([0.1, -0.0, 1e-45, 3e38]),
            "half": torch.randn(3).to(torch.bfloat16),
            "flags": torch.tensor([True, False]),
            "scalar": torch.tensor(5),
            "empty": torch.zeros(0, 4),
            "last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
            "view": torch.randn(6, 6)[::2, 1::3],
        }
    }
    state = {"step": 3, "loss": 0.1 + 0.2, "best": -1.0, "nested": {"a": [1, None]}}
    checkpoint.save(tmp_path / "last", tensors, state)
    found, scalars = checkpoint.load(tmp_path / "last")
    assert scalars == state
    assert found.keys() == tensors.keys()
    for key, value in tensors["weights"].items():
        assert found["weights"][key].dtype == value.dtype
        assert torch.equal(found["weights"][key], value), key


def test_tied_weights_are_stored(tmp_path):
    shared = torch.randn(3)
    checkpoint.save(tmp_path / "last", {"weights": {"a": shared, "b": shared}}, {})
    assert torch.equal(checkpoint.load(tmp_path / "last")[0]["weights"]["b"], shared)


def test_nothing_there_is_none(tmp_path):
    assert checkpoint.load(tmp_path / "last") is None


def test_the_newest_is_loaded_and_one_before_is_kept(last):
    assert checkpoint.load(last)[1]["step"] == 2
    assert json.loads((last.with_name("last.before") / "state.json").read_text())["step"] == 1
    assert not last.with_name("last.new").exists()


def cut(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def alter(folder):
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


def swap(folder):
    one, other = (folder / f"{name}.safetensors" for name in ("weights", "model"))
    a, b = one.read_bytes(), other.read_bytes()
    one.write_bytes(b)
    other.write_bytes(a)


def cut_state(folder):
    path = folder / "state.json"
    path.write_text(path.read_text()[:20])


def empty_state(folder):
    (folder / "state.json").write_text("")


def alter_state(folder):
    path = folder / "state.json"
    text = path.read_text()
    path.write_text(text.replace('"step": ', '"step": 7'))
    assert path.read_text() != text


def other_kind(folder):
    (folder / "state.json").write_text("[1, 2]")


def lose(folder):
    (folder / "model.safetensors").unlink()


def lose_state(folder):
    (folder / "state.json").unlink()


def of_another_step(folder):
    """A file that is whole, of the same run and part."""
    checkpoint.save(folder.parent / "other", parts(9), {"step": 9})
    shutil.copy(folder.parent / "other" / "weights.safetensors", folder)
    shutil.rmtree(folder.parent / "other")


def link_to_nowhere(folder):
    """A dangling link, as when the disk it was moved to is not there."""
    shutil.rmtree(folder)
    folder.symlink_to(folder.parent / "gone")


DAMAGE = [
    cut, alter, swap, cut_state, empty_state, alter_state, other_kind, lose, lose_state,
    of_another_step, link_to_nowhere,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_falls_back_on_the_one_before_and_says_so(last, damage, capsys):
    damage(last)
    tensors, state = checkpoint.load(last)
    assert state["step"] == 1
    assert tensors["weights"]["count"] == 1
    said = capsys.readouterr().out
    assert f"{last}: not a whole checkpoint" in said
    assert "continuing from the checkpoint before it" in said


@pytest.mark.parametrize("damage", DAMAGE)
def test_where_none_is_whole_it_is_an_error_that_says_what_to_do(last, damage):
    damage(last)
    damage(last.with_name("last.before"))
    with pytest.raises(TrainingError, match="delete the run's folder") as caught:
        checkpoint.load(last)
    assert str(last) in str(caught.value)
    assert "last.before" in str(caught.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_and_nothing_written(last, bad):
    before = listing(last.parent)
    tensors = parts(3)
    tensors["model"]["a"][1, 2] = bad
    with pytest.raises(TrainingError, match="model tensor a is not finite"):
        checkpoint.save(last, tensors, {"step": 3})
    assert listing(last.parent) == before


@pytest.mark.parametrize("stop", range(5))
def test_stopped_anywhere_while_saving_the_old_or_the_new_loads(last, stop, monkeypatch):
    """Everything that changes a name or a file's contents is a moment to be stopped at."""
    moments = iter(range(100))

    def stopping(kind):
        def call(*arguments, **options):
            if next(moments) == stop:
                raise KeyboardInterrupt
            return kind(*arguments, **options)

        return call

    monkeypatch.setattr(checkpoint, "move", stopping(checkpoint.move))
    monkeypatch.setattr(checkpoint, "save_file", stopping(checkpoint.save_file))
    monkeypatch.setattr(checkpoint, "remove", stopping(checkpoint.remove))
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(last, parts(3), {"step": 3})
    monkeypatch.undo()
    assert checkpoint.load(last)[1]["step"] == 2
    checkpoint.save(last, parts(3), {"step": 3})
    assert checkpoint.load(last)[1]["step"] == 3


@pytest.mark.parametrize("damage", DAMAGE)
def test_after_any_damage_the_next_two_are_saved_as_ever(last, damage):
    damage(last)
    damage(last.with_name("last.before"))
    if last.is_symlink():  # a user's, who is asked to remove it
        with pytest.raises(OutputError, match="last: is a link"):
            checkpoint.save(last, parts(3), {"step": 3})
        last.unlink()
        last.with_name("last.before").unlink()
    for step in (3, 4):
        checkpoint.save(last, parts(step), {"step": step})
    assert checkpoint.whole(last)
    assert checkpoint.load(last)[1]["step"] == 4
    shutil.rmtree(last)
    assert checkpoint.load(last)[1]["step"] == 3


@pytest.mark.parametrize("name", ["last", "last.before", "last.new"])
def test_a_folder_that_was_moved_and_linked_is_read_and_never_written(last, tmp_path, name):
    place = last.with_name(name)
    if place.exists():
        place.rename(tmp_path / "elsewhere")
    else:
        checkpoint.save(tmp_path / "elsewhere", parts(2), {"step": 2})
    place.symlink_to(tmp_path / "elsewhere")
    before = listing(tmp_path / "elsewhere")
    assert checkpoint.load(last)[1]["step"] == 2
    with pytest.raises(OutputError, match=f"{name}: is a link"):
        checkpoint.save(last, parts(3), {"step": 3})
    assert listing(tmp_path / "elsewhere") == before
    assert checkpoint.load(last)[1]["step"] == 2


@pytest.mark.parametrize(
    ("asked", "says"),
    [({"parts": ("model", "optimizer")}, "holds no optimizer"), ({"run": "b/fold0"}, "it is of a/fold0")],
)
def test_a_whole_one_of_another_run_or_kind_is_told(tmp_path, asked, says, capsys):
    place = tmp_path / "last"
    checkpoint.save(place, parts(1) | {"optimizer": {}}, {"step": 1, "run": "b/fold0"})
    checkpoint.save(place, parts(2), {"step": 2, "run": "a/fold0"})
    assert checkpoint.load(place, **asked)[1]["step"] == 1
    assert says in capsys.readouterr().out
    shutil.rmtree(place.with_name("last.before"))
    with pytest.raises(TrainingError, match=says):
        checkpoint.load(place, **asked)


def test_a_state_without_digest_counts_as_altered(last):
    about = json.loads((last / "state.json").read_text())
    del about["digest"]
    (last / "state.json").write_text(json.dumps(about))
    assert checkpoint.load(last, parts=("model",))[1] == {"step": 1}


def test_another_models_tensors_are_refused_by_name():
    net = nn.Linear(3, 4)
    checkpoint.check_fit(Path("last"), net.state_dict(), net)
    for other, says in (
        (nn.Linear(3, 5), r"weight is \(5, 3\) there and \(4, 3\)"),
        (nn.Linear(3, 4, bias=False), "bias"),
    ):
        with pytest.raises(TrainingError, match=says):
            checkpoint.check_fit(Path("last"), other.state_dict(), net)


WRITES = [(Path, "mkdir", 1), (Path, "write_text", 1)] + [
    (place, name, number)
    for place, name in (
        (checkpoint, "save_file"), (checkpoint, "_sync"), (checkpoint, "sync_folder"), (Path, "chmod"),
        (checkpoint, "move"),
    )
    for number in (1, 2)
]  # fmt: skip


@pytest.mark.parametrize(("place", "name", "number"), WRITES)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_at_any_write_leaves_a_whole_checkpoint_and_says_so(last, place, name, number, code, monkeypatch):
    calls, write = [], getattr(place, name)

    def full(*arguments, **options):
        calls.append(name)
        if len(calls) == number:
            if name == "save_file":  # as safetensors tells it, with half of the file written
                Path(arguments[1]).write_bytes(b"half")
                raise SafetensorError(f"Error while serializing: I/O error: {os.strerror(code)} (os error {code})")
            raise OSError(code, os.strerror(code))
        return write(*arguments, **options)

    monkeypatch.setattr(place, name, full)
    with pytest.raises(
        TrainingError, match=rf"last: {os.strerror(code)} \([\d]+ MB are free there\).*the same command"
    ):
        checkpoint.save(last, parts(3), {"step": 3})
    monkeypatch.undo()
    assert not last.with_name("last.new").exists()
    assert checkpoint.load(last)[1]["step"] in ((3,) if (name, number) == ("sync_folder", 2) else (2,))
    checkpoint.save(last, parts(4), {"step": 4})
    assert checkpoint.load(last)[1]["step"] == 4


def test_a_file_larger_than_the_system_allows_is_told_alike(last):
    """Really refused by the system, in a process of its own."""
    code = f"""
import resource, torch
from pathlib import Path
from phalanx.runs import checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
checkpoint.save(Path({str(last)!r}), {{"weights": {{"a": torch.zeros(200_000)}}}}, {{"step": 3}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "TrainingError" in done.stderr, done.stderr
    assert "last: File too large (" in done.stderr
    assert not last.with_name("last.new").exists()
    assert checkpoint.load(last)[1]["step"] == 2


def test_other_errors_of_writing_are_not_taken_for_a_full_disk(last, monkeypatch):
    def denied(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoint, "save_file", denied)
    with pytest.raises(PermissionError):
        checkpoint.save(last, parts(3), {"step": 3})
    assert checkpoint.load(last)[1]["step"] == 2


@pytest.mark.parametrize("damaged", [False, True])
def test_weights_come_with_the_hash_of_the_file_they_were_read_from(last, damaged):
    import hashlib

    place = last
    if damaged:
        cut(last)
        place = last.with_name("last.before")
    weights, digest = checkpoint.load_weights(last)
    assert weights["count"] == (1 if damaged else 2)
    assert digest == hashlib.sha256((place / "weights.safetensors").read_bytes()).hexdigest()
    assert checkpoint.load_weights(last.with_name("other")) is None
