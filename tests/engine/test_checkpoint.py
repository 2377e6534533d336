"""Checkpoints: what is put in comes out, and damage is noticed and survived."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from phalanx.engine import checkpoint
from phalanx.errors import TrainingError


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


def lose(folder):
    (folder / "model.safetensors").unlink()


DAMAGE = [cut, alter, swap, cut_state, empty_state, lose]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_falls_back_on_the_one_before_and_says_so(last, damage, capsys):
    damage(last)
    tensors, state = checkpoint.load(last)
    assert state["step"] == 1
    assert tensors["weights"]["count"] == 1
    said = capsys.readouterr().out
    assert f"{last}: not a whole checkpoint" in said
    assert "going on from the checkpoint before it" in said


@pytest.mark.parametrize("damage", DAMAGE)
def test_where_none_is_whole_it_is_an_error_that_says_what_to_do(last, damage):
    damage(last)
    damage(last.with_name("last.before"))
    with pytest.raises(TrainingError, match="Delete the run's folder") as caught:
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

    monkeypatch.setattr(Path, "rename", stopping(Path.rename))
    monkeypatch.setattr(checkpoint, "save_file", stopping(checkpoint.save_file))
    monkeypatch.setattr(shutil, "rmtree", stopping(shutil.rmtree))
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(last, parts(3), {"step": 3})
    monkeypatch.undo()
    assert checkpoint.load(last)[1]["step"] == 2
    checkpoint.save(last, parts(3), {"step": 3})
    assert checkpoint.load(last)[1]["step"] == 3


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
