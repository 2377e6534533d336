"""Several recipes in one call, and jobs on this machine: what cluster= needs no scheduler for."""

from pathlib import Path

import pytest

from phalanx.cli import main
from phalanx.commands.infer_jobs import jobs_of_runs
from phalanx.commands.recipes import one_by_one
from phalanx.ensemble.classify import InferLabels
from phalanx.ensemble.options import InferOptions
from phalanx.errors import ConfigError

FAST = {"epochs": 1, "validate_every": 0, "panels": 0}


def test_several_recipes_are_named_after_themselves():
    assert one_by_one({"experiment": "a", "name": "x"}) == [{"experiment": "a", "name": "x"}]
    assert one_by_one({"experiment": "a,b", "batch": "2"}) == [
        {"experiment": "a", "batch": "2"},
        {"experiment": "b", "batch": "2"},
    ]
    assert one_by_one({"data": "hand"}) == [{"data": "hand"}]


def test_each_recipe_of_a_call_is_trained(tiny, tmp_path):
    runs = tmp_path / "runs"
    assert main(["train", "experiment=base,published_final", *tiny("unet", runs=runs, fold="0", **FAST)]) == 0
    assert sorted(path.parent.parent.name for path in runs.glob("*/fold0/done.json")) == ["base", "published_final"]


@pytest.mark.slow
def test_recipes_side_by_side_are_one_table(tiny, tmp_path, capsys):
    runs = tmp_path / "runs"
    more = tiny("unet", runs=runs, fold="0,1", devices="cpu,cpu", **FAST)
    more = [word for word in more if not word.startswith("device=")]
    assert main(["train", "experiment=base,published_final", "cluster=local", *more]) == 0
    lines = capsys.readouterr().out.splitlines()
    head, *rows = lines[(at := next(i for i, line in enumerate(lines) if line.startswith("run "))) : at + 5]
    assert head.split() == ["run", "fold", "device", "seconds", "dice"]
    assert [row.split()[:3] for row in rows] == [
        [run, fold, "cpu"] for run in ("base", "published_final") for fold in ("0", "1")
    ]  # fmt: skip


@pytest.mark.slow
def test_a_prediction_in_jobs_is_that_of_one_process(runs, tmp_path, capsys):
    words = ["infer", "experiment=unet", f"runs={runs}", "progress=false"]
    assert main([*words, "device=cpu", f"out={tmp_path / 'x.csv'}"]) == 0
    assert main([*words, "cluster=local", "devices=cpu,cpu", "workers=2", f"out={tmp_path / 'y.csv'}"]) == 0
    assert (tmp_path / "x.csv").read_bytes() == (tmp_path / "y.csv").read_bytes()
    capsys.readouterr()
    assert main([*words, "cluster=local", "device=cpu", "images=nosuch", f"out={tmp_path / 'z.csv'}"]) == 1
    assert "unet: nosuch" in capsys.readouterr().err


def test_masks_are_predicted_in_parts_and_labels_in_one_job():
    pairs = {"workers": "2", "tta": "hflip", "progress": "true"}
    one, two, last = jobs_of_runs(["a"], pairs, InferOptions, in_parts=True)
    common = ("infer", "experiment=a", "tta=hflip", "progress=false")
    place = Path("submissions/.a.csv.part")
    assert (one.argv, two.argv, last.argv) == ((*common, "part=1/2"), (*common, "part=2/2"), common)
    assert (one.folder, two.folder, last.folder) == (place / "rows.1", place / "rows.2", place)
    assert (one.after, last.after) == ((), (one.folder, two.folder))
    found = jobs_of_runs(["a", "runs/b"], {"batch": "2"}, InferLabels)
    assert [job.name for job in found] == ["a", "b"]
    assert [job.after for job in found] == [(), ()]
    with pytest.raises(ConfigError, match="workers: no such option"):
        jobs_of_runs(["a"], {"workers": "2"}, InferLabels)
    with pytest.raises(ConfigError, match="part=1/2: with cluster= the jobs have parts of their own"):
        jobs_of_runs(["a"], {"part": "1/2"}, InferOptions, in_parts=True)
    with pytest.raises(ConfigError, match="out=: fits one run"):
        jobs_of_runs(["a", "b"], {"out": "x.csv"}, InferOptions, in_parts=True)
