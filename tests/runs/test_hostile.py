"""Files of a run that are something else: every reader refuses them in one line, and none waits."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.fuzz.test_folders import HASH, restore, save_training

from phalanx.engine.state import State
from phalanx.errors import DataError, PhalanxError, TrainingError
from phalanx.predict.exported import read_description
from phalanx.predict.map_file import read_map, write_map
from phalanx.predict.maps import ProbabilityMaps
from phalanx.predict.postprocess import PostProcessing, TunedMember
from phalanx.predict.stored import MapsFolder
from phalanx.runs import checkpoint, ledger
from phalanx.runs.reader import FoldRun, fold_folders, folds_of
from phalanx.runtime.files import append_bytes, keep_text, refuse_foreign, sha256_file
from phalanx.runtime.sidecar import read_sidecar
from phalanx.sweep.results import read_results
from phalanx.tracking.json_lines import JsonLines
from phalanx.tracking.logger import run_id

READERS = {
    "done.json": lambda place: FoldRun(place).result,
    "oof_score.json": lambda place: FoldRun(place).per_image,
    "environment.json": lambda place: FoldRun(place).environment,
    "folds.csv": lambda place: FoldRun(place).folds,
    "log.jsonl": lambda place: JsonLines(place / "log.jsonl").rewind(3),
    "final/state.json": lambda place: FoldRun(place).weights_digest(),
    "tracking.json": lambda place: run_id(place / "tracking.json"),
    "attributes.csv": lambda place: keep_text(place / "attributes.csv", "x", "changed"),
    "ledger.csv": lambda place: ledger.read(place / "ledger.csv"),
    "maps.json": lambda place: MapsFolder(place),
    "x.npz": lambda place: read_map(place / "x.npz"),
    "export.json": read_description,
    "tuned.json": lambda place: PostProcessing.read(place / "tuned.json"),
    "a.json": lambda place: read_sidecar(place / "a.csv"),
    "s/d/t/r.seed0.fold0.json": read_results,
}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def many_levels(path: Path) -> None:
    path.write_text("[" * 100_000 + "]" * 100_000 + "\n")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(600 << 20)


ODD = {
    "pipe": pipe,
    "folder": lambda path: path.mkdir(),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "itself": lambda path: path.symlink_to(path.name),
    "elsewhere": lambda path: path.symlink_to("/etc/hostname"),
    "list": lambda path: path.write_text("[1, 2]\n"),
    "levels": many_levels,
    "not UTF-8": lambda path: path.write_bytes(b"{\xff\xfe\xfd}\n"),
    "NUL": lambda path: path.write_bytes(b"\0" * 100 + b"\n"),
    "sparse": sparse,
}


@pytest.fixture(autouse=True)
def no_waiting():
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_such_file_is_refused_in_one_line(tmp_path, name, odd):
    (tmp_path / "a.csv").write_text("image_name,class,rle\n")
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    ODD[odd](path)
    if (name, odd) == ("a.json", "list"):  # JSON of another kind is no sidecar, which a note says
        assert "is not a sidecar" in read_sidecar(tmp_path / "a.csv")[1][0]
        return
    with pytest.raises(PhalanxError) as caught:
        READERS[name](tmp_path)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text
    assert len(text) < 1500


@pytest.mark.parametrize("odd", ["pipe", "folder", "device"])
def test_nothing_waits_for_what_is_hashed_or_replaced(tmp_path, odd):
    ODD[odd](path := tmp_path / "x")
    for call in (sha256_file, lambda path: refuse_foreign(path, "mark"), lambda path: append_bytes(path, b"x")):
        with pytest.raises((OSError, PhalanxError)):
            call(path)


def test_a_fold_that_lost_its_recipe_is_named(tmp_path):
    for fold in ("fold0", "fold1"):
        (tmp_path / fold / "final").mkdir(parents=True)
    (tmp_path / "fold1" / "config.yaml").write_text("format: 2\n")
    for read in (lambda: folds_of(tmp_path), lambda: fold_folders(str(tmp_path), tmp_path)):
        with pytest.raises(DataError, match=r"fold0/config.yaml: no such file, though the fold was trained"):
            read()


COUNTERS = [
    ("epoch", -1), ("epoch", 5), ("epoch", 1.5), ("epoch", "1"), ("epoch", True), ("batch", 3), ("step", 10**18),
    ("seconds", -1.0), ("seconds", None), ("lr_factor", 2.0), ("images", [1]), ("stopped", 1), ("top", [[0.5, 9]]),
    ("top", [[0.5]]), ("top", {}), ("sums", {"dice": "x"}), ("best", "0.5"), ("unknown", 1), ("averaged", -3),
    ("task", {"stage": 1}), ("task", None), ("metric", {"name": "other"}), ("metric", None), ("micro_batch", -1),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), COUNTERS)
def test_an_odd_counter_is_refused_though_its_digest_fits(tmp_path, key, value):
    save_training(tmp_path)
    assert restore(tmp_path)[0]["step"] == 3
    path = tmp_path / "last" / "state.json"
    about = json.loads(path.read_text()) | {key: value}
    del about["digest"]
    path.write_text(json.dumps(about | {"digest": checkpoint._digest_of(about)}))
    with pytest.raises(TrainingError, match=r"last: is (not of this training|ranked by)") as caught:
        restore(tmp_path)
    assert "\n" not in str(caught.value)


TENSORS = {
    "missing": ("model", lambda t: t.pop("0.weight")),
    "extra": ("weights", lambda t: t.update(x=torch.zeros(1))),
    "transposed": ("model", lambda t: t.update({"0.weight": t["0.weight"].transpose(0, 1).contiguous()})),
    "type": ("weights", lambda t: t.update({"0.weight": t["0.weight"].int()})),
    "not finite": ("weights", lambda t: t["0.bias"].fill_(torch.nan)),
    "moment missing": ("optimizer", lambda t: t.pop("0.weight|exp_avg")),
    "moment unknown": ("optimizer", lambda t: t.update({"0.weight|x": torch.zeros(1)})),
    "moment of no parameter": ("optimizer", lambda t: t.update({"9.weight|exp_avg": torch.zeros(1)})),
    "moment of a group": ("optimizer", lambda t: t.update({"[99]|step": torch.zeros(1)})),
    "moment of another shape": ("optimizer", lambda t: t.update({"0.weight|exp_avg": torch.zeros(3)})),
    "negative step": ("optimizer", lambda t: t["0.weight|step"].fill_(-1)),
    "name of two lines": ("model", lambda t: t.update({"a\nb\x1b": torch.zeros(1)})),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_odd_tensors_are_refused_though_their_digests_fit(tmp_path, kind):
    save_training(tmp_path)
    part, change = TENSORS[kind]
    tensors, state = checkpoint.load(tmp_path / "last")
    change(tensors[part])
    checkpoint.remove(tmp_path / "last")
    checkpoint._write(tmp_path / "last", tensors, state)
    with pytest.raises(
        TrainingError, match=r"last: (is of another model|is not of this training|not a whole)"
    ) as caught:
        restore(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_manifest_names_no_file_elsewhere(tmp_path):
    save_training(tmp_path)
    path = tmp_path / "last" / "state.json"
    about = json.loads(path.read_text())
    del about["digest"]
    about["files"]["../../x.safetensors"] = HASH
    path.write_text(json.dumps(about | {"digest": checkpoint._digest_of(about)}))
    with pytest.raises(TrainingError, match="which is not of a checkpoint"):
        checkpoint.load(tmp_path / "last")


def test_a_state_has_a_check_for_each_field():
    state = State()
    assert State.from_json(dict(vars(state)), epochs=1, batches=1, steps=1) == state


def test_a_map_that_claims_much_is_refused_before_it_is_unpacked(tmp_path):
    """A few kilobytes that unpack to gigabytes."""
    dense = np.zeros((1, 8192, 8192), np.float32)
    dense[0, 0, 0] = dense[0, -1, -1] = 1
    about = {"image": "x", "size": (9, 9), "classes": ["a"], "run_hashes": {}}
    write_map(tmp_path / "x.npz", ProbabilityMaps.of(dense), threshold=0.5, **about)
    assert read_map(tmp_path / "x.npz").maps.side == 8192
    content = bytearray((tmp_path / "x.npz").read_bytes())
    at = content.rindex(b"codes.npy") - 46 + 24  # the size of what is unpacked, in the directory
    content[at : at + 4] = (0xFFFF_0000).to_bytes(4, "little")
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"x.npz: not a whole probability map \(its part codes.npy claims 4294901760"):
        read_map(tmp_path / "x.npz")


class Member:
    name, classes, hashes = "m", ["a"], {"runs/m/fold0": HASH}

    def __init__(self, options):
        self.options = options


OPTIONS = {"tta": [], "input sizes": [512], "window": None, "precision": "32"}


def tuned(options):
    members = [TunedMember(name="m", votes=1, hashes=Member.hashes, options=options)]
    return PostProcessing(
        classes=["a"], members=members, threshold=0.5, thresholds={}, smallest={}, largest=[], holes=[], choices=[]
    )


@pytest.mark.parametrize(("key", "value"), [("tta", ["hflip"]), ("input sizes", [512, 1024]), ("window", {"size": 64})])
def test_other_options_than_it_was_tuned_with_are_refused_with_both_values(key, value):
    assert tuned(OPTIONS).votes_of([Member(OPTIONS)]) == [1]
    with pytest.raises(
        DataError, match=rf"m: has {key} .*, postprocess= was tuned with .*; predict with the same"
    ) as it:
        tuned(OPTIONS).votes_of([Member(OPTIONS | {key: value})])
    assert json.dumps(value) in str(it.value)
    assert json.dumps(OPTIONS[key]) in str(it.value)


def test_another_precision_and_unknown_options_are_noted(capsys):
    assert tuned(OPTIONS).votes_of([Member(OPTIONS | {"precision": "bf16"})]) == [1]
    assert 'note: m: has precision "bf16", postprocess= was tuned with "32"' in capsys.readouterr().out
    assert tuned(None).votes_of([Member(OPTIONS)]) == tuned(OPTIONS).votes_of([Member(None)]) == [1]
    assert capsys.readouterr().out.count("they are not compared") == 2
