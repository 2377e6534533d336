"""Labels permuted over patients, and runs that are trained on them."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.labelled import make_table, words

from phalanx.cli import main
from phalanx.data.shuffled import shuffle_labels
from phalanx.errors import ConfigError


@given(
    st.lists(st.sampled_from("abcde"), min_size=2, max_size=40).filter(lambda p: len(set(p)) > 1), st.integers(0, 99)
)
def test_rows_stay_whole_and_are_used_once(patients, seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, np.nan], (len(patients), 3)).astype(np.float32)
    found = shuffle_labels(labels, patients, seed)
    assert sorted(map(repr, found.tolist())) == sorted(map(repr, labels.tolist()))
    assert np.array_equal(found, shuffle_labels(labels, patients, seed), equal_nan=True)


def test_patients_with_one_image_each_do_not_keep_all_their_labels():
    labels = np.arange(2, dtype=np.float32)[:, None]
    for seed in range(20):
        assert shuffle_labels(labels, ["a", "b"], seed).ravel().tolist() == [1, 0]
    with pytest.raises(ConfigError, match="two patients"):
        shuffle_labels(labels, ["a", "a"], 0)


def test_a_control_trains_on_permuted_labels_and_is_not_taken_for_a_run(tmp_path, monkeypatch, capsys):
    root = make_table(tmp_path / "data")
    runs = tmp_path / "runs"
    for name, more in (("real", {}), ("control", {"data__shuffle_labels": 5})):
        pairs = words(root, "table", name=name, epochs=1, validate_every=1, runs=runs, **more)
        assert main(["train", "fold=0", *(f"{k}={v}" for k, v in pairs.items())]) == 0
    assert "control: data.shuffle_labels=5, so it is trained on permuted labels" in capsys.readouterr().out
    tables = [rows_of(runs / name / "fold0" / "labels.csv") for name in ("real", "control")]
    folds = {row["image_name"]: row["fold"] for row in rows_of(runs / "real" / "fold0" / "folds.csv")}
    changed = {one["image_name"] for one, other in zip(*tables, strict=True) if one != other}
    assert changed
    assert all(folds[name] != "0" for name in changed)  # held-out labels stay
    out = tmp_path / "c.csv"
    assert main(["infer", "experiment=control", f"runs={runs}", f"out={out}", "device=cpu", "progress=false"]) == 0
    assert "permuted labels" in capsys.readouterr().out
    vote = ["ensemble", "mode=soft", "members=real,control", f"runs={runs}", f"out={tmp_path}/v.csv", "device=cpu"]
    assert main([*vote, "progress=false"]) == 2
    assert not (tmp_path / "v.csv").exists()
    assert main(["suspects", "control", f"runs={runs}", f"out={tmp_path}/s.csv"]) == 2
    assert main(["ledger", "add", str(runs / "control"), f"ledger={tmp_path}/ledger.csv"]) == 0
    assert rows_of(tmp_path / "ledger.csv")[0]["note"] == "control: data.shuffle_labels=5"


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
