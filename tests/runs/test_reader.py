"""The reader of run folders: what it reads of a finished run, and what it reports of a damaged or older one."""

import shutil

import pytest
import yaml

from phalanx.cli import main
from phalanx.errors import ConfigError, DataError
from phalanx.runs.reader import FORMAT, FoldResult, FoldRun, folds_of
from phalanx.runtime.metric import Metric


@pytest.fixture
def fold(runs, tmp_path):
    shutil.copytree(runs / "unet", tmp_path / "unet")
    return tmp_path / "unet" / "fold0"


def test_a_finished_run_is_read_in_one_place(runs):
    first, second = folds_of(runs / "unet")
    assert [(fold.name, fold.number) for fold in (first, second)] == [("fold0", 0), ("fold1", 1)]
    assert first.config.name == "unet"
    assert first.folds == second.folds
    held_out = {image for image, fold in first.folds.items() if fold == 0}
    assert set(first.per_image) == held_out
    assert set(first.patients) == set(first.folds)
    assert first.result.images == len(held_out)
    assert first.result.value == pytest.approx(sum(first.per_image.values()) / len(held_out))
    assert [line["event"] for line in first.log("epoch")] == ["epoch"] * first.config.epochs
    assert first.environment["threads"] >= 1
    assert first.weights_digest() != second.weights_digest()
    assert first.weights_digest("none") is None


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("done.json", lambda fold: fold.result),
        ("oof_score.json", lambda fold: fold.per_image),
        ("environment.json", lambda fold: fold.environment),
        ("folds.csv", lambda fold: fold.folds),
        ("log.jsonl", lambda fold: fold.log()),
        ("final/state.json", lambda fold: fold.weights_digest()),
    ],
)
@pytest.mark.parametrize("content", [b"[1]\n", b"{}\n", b'{"a": \xff}\n', b"image_name,group\na,b\n"])
def test_damage_names_file_and_remedy(fold, name, read, content):
    (fold / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"fold0/{name}: .*; restore it from a copy, or train it again$"):
        read(FoldRun(fold))


@pytest.mark.parametrize(
    ("found", "age"), [(None, "format 1, written by an earlier version"), (FORMAT + 1, "written by another version")]
)
def test_another_run_format_is_refused_with_the_reason(fold, found, age, tmp_path, tiny, capsys):
    path = fold / "config.yaml"
    values = yaml.safe_load(path.read_text())
    assert values.pop("format") == FORMAT
    path.write_text(yaml.safe_dump(values | ({"format": found} if found else {})))
    with pytest.raises(ConfigError, match=age):
        _ = FoldRun(fold).config
    assert main(["train", *tiny("unet", fold=0, name="unet", runs=tmp_path)]) == 2
    assert age in capsys.readouterr().err
    assert main(["infer", "experiment=unet", f"runs={tmp_path}", f"out={tmp_path / 'x.csv'}"]) == 2
    assert age in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()


def test_a_log_line_cut_by_a_kill_is_left_out(fold):
    whole = FoldRun(fold).log()
    with (fold / "log.jsonl").open("a") as file:
        file.write('{"event": "epo')
    assert FoldRun(fold).log() == whole


def test_a_result_survives_its_file():
    result = FoldResult(Metric("log_loss", higher_is_better=False, decimals=2), 0.5, 3, 1.0, 2.0)
    assert FoldResult.from_json(result.to_json()) == result
    assert result.text == "0.50"


def test_a_metric_knows_its_direction():
    up, down = Metric("accuracy"), Metric("log_loss", higher_is_better=False)
    assert up.better(0.2, than=0.1)
    assert not up.better(0.1, than=0.1)
    assert not up.better(0.15, than=0.1, margin=0.05)
    assert down.better(0.1, than=0.2)
    assert not down.better(0.2, than=0.1)
    assert down.better(5.0, than=None)
