"""cluster=NAME: a file of configs/cluster/ and values of the command line, checked before anything is submitted."""

import re

import pytest

from phalanx.cli import main
from phalanx.config.cluster import LocalCluster, RayCluster, SlurmCluster, take_cluster
from phalanx.errors import ConfigError


def test_a_file_and_values_of_the_command_line_make_a_cluster():
    pairs = {
        "fold": "0", "cluster": "slurm", "cluster.partition": "gpu", "cluster.gpus": "a100:2", "cluster.hours": "10",
        "cluster.setup": "module load cuda,ulimit -n 4096", "cluster.options.gres": "gpu:a100:2",
        "cluster.options.exclusive": "true",
    }  # fmt: skip
    found = take_cluster(pairs)
    assert isinstance(found, SlurmCluster)
    assert pairs == {"fold": "0"}
    assert (found.partition, found.devices, found.hours) == ("gpu", 2, 10.0)
    assert found.setup == ["module load cuda", "ulimit -n 4096"]
    assert found.options == {"gres": "gpu:a100:2", "exclusive": True}
    assert take_cluster({"cluster": "slurm", "cluster.gpus": "1"}).devices == 1
    assert isinstance(take_cluster({"cluster": "local"}), LocalCluster)
    ray = take_cluster({"cluster": "ray", "cluster.gpus": "0.5", "cluster.resources.big": "1"})
    assert isinstance(ray, RayCluster)
    assert (ray.gpus, ray.devices, ray.resources, ray.address) == (0.5, 1, {"big": 1.0}, None)
    assert take_cluster({"fold": "0"}) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("cluster.hours=10", "cluster.hours: names no cluster; give cluster=slurm"),
        ("cluster=slrum", "no configs/cluster/slrum.yaml; did you mean slurm?"),
        ("cluster=slurm cluster.partion=gpu", "partion: no such option; did you mean partition?"),
        ("cluster=slurm cluster.hours=0", "cluster.hours=0"),
        ("cluster=slurm cluster.hours=0.05", "margin_minutes: 5 leave nothing of hours=0.05"),
        ("cluster=slurm cluster.gpus=many", "cluster.gpus='many'"),
        ("cluster=slurm cluster.options.time=1", "options.time: is set by cluster.hours"),
        ("cluster=slurm cluster.options.a_b=1", "options.a_b: expected the long name of an option of sbatch"),
        ("cluster=slurm cluster.address=a:1", "address: no such option"),
        ("cluster=ray cluster.hours=1", "hours: no such option"),
        ("cluster=ray cluster.gpus=1.5", "gpus=1.5: expected a fraction of one GPU, or whole ones"),
        ("cluster=local cluster.cores=1", "cores: no such option"),
        ("cluster=slurm cluster.backend=pbs", "backend=pbs: no such backend; known: local, slurm, ray"),
    ],
)
def test_what_no_cluster_has_is_refused(words, message):
    pairs = dict(word.split("=", 1) for word in words.split())
    with pytest.raises(ConfigError, match=re.escape(message)):
        take_cluster(pairs)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("plan cluster=slurm cluster.hours=x", "cluster.hours"),
        ("config cluster=slurm", "cluster: is for train, sweep and infer"),
        ("train experiment=base,base", "experiment=base,base: base is named twice"),
        ("train experiment=base, fold=0", "an empty name|no configs/experiment"),
        ("train experiment=base,pet name=x fold=0", "name=x: is the folder of one run, and experiment= names 2"),
        ("train experiment=base,nosuch fold=0", "no configs/experiment/nosuch.yaml"),
        ("train cluster=slurm devices=0,1", "devices: with cluster= each job has devices and time of its own"),
        ("train cluster=slurm max_hours=2", "give cluster.hours="),
        ("train cluster=ray device=cuda:1", "device: with cluster= each job has a device of its own"),
        ("train cluster=local devices=cpu,cpu ddp=true", "ddp=true: trains one fold on all devices="),
        ("sweep losses cluster=slurm devices=0,1", "devices: are those of this machine"),
        ("sweep losses cluster=nosuch", "no configs/cluster/nosuch.yaml"),
        ("infer cluster=slurm", "experiment=: name the run or runs"),
        ("jobs", "runs=runs: no such folder"),
        ("jobs runs=. state=done", "state=done: expected one of pending"),
        ("jobs runs=. rows=1", "rows: no such option"),
        ("jobs runs=. 12_0", "12_0: no such job in ."),
        ("jobs runs=. cancel", "cancel: name jobs by id or name, or all"),
    ],
)
def test_wrong_words_of_commands_are_one_line(words, message, capsys, tmp_path, monkeypatch):
    (tmp_path / "configs").symlink_to("/".join(__file__.split("/")[:-3]) + "/configs")
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert said.count("\n") == 1
    assert not (tmp_path / "runs").exists()
