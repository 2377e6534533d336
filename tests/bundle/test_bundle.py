"""Bundles: they predict the CSV that they were made of, contain no more than that takes, and damage is found."""

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests import boxed, labelled

from phalanx.bundle import write
from phalanx.bundle.manifest import Manifest
from phalanx.cli import main
from phalanx.masks.rle import decode
from phalanx.runs.reader import FoldRun
from phalanx.runtime.sidecar import read_sidecar
from phalanx.submission.table import Submission

QUIET = ["progress=false", "device=cpu"]


@pytest.fixture(scope="module")
def made(runs, hands, tmp_path_factory):
    """A vote of a CSV, stored maps in a soft vote with a run, and a bundle of it."""
    home = tmp_path_factory.mktemp("made")
    data = [f"data.root={hands}", f"runs={runs}", *QUIET]
    assert main(["infer", "experiment=fpn", f"out={home / 'fpn.csv'}", "tta=hflip", "maps=true", *data]) == 0
    soft = ["mode=soft", f"members={home / 'fpn.maps'},unet", "weights=2,1", "threshold=0.3"]
    assert main(["ensemble", *soft, f"out={home / 'soft.csv'}", "allow_misaligned=true", *data]) == 0
    hard = ["mode=hard", f"members={home / 'soft.csv'},{home / 'fpn.csv'},unet", "quorum=1"]
    assert main(["ensemble", *hard, f"out={home / 'hard.csv'}", "allow_misaligned=true", *data]) == 0
    assert main(["bundle", str(home / "hard.csv"), f"out={home / 'bundle'}"]) == 0
    return home


@pytest.fixture
def bundle(made, tmp_path):
    return shutil.copytree(made / "bundle", tmp_path / "bundle")


@pytest.fixture
def no_build(made, monkeypatch):
    """The wheel of ``made`` is copied, not built again."""
    wheel = made / "bundle/wheels/phalanx-0.1.0-py3-none-any.whl"
    monkeypatch.setattr(write, "make_wheel", lambda folder: shutil.copy(wheel, folder))


def same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def infer(folder, hands, tmp_path, *more):
    return main(["infer", f"bundle={folder}", f"data.root={hands}", f"out={tmp_path / 'out.csv'}", *QUIET, *more])


def test_a_bundled_vote_of_votes_predicts_the_same_csv(made, hands, tmp_path, capsys):
    assert infer(made / "bundle", hands, tmp_path) == 0
    assert same(made / "hard.csv", tmp_path / "out.csv")
    text = capsys.readouterr().out
    assert "step 3 of 3: ensemble hard" in text
    sidecar, _ = read_sidecar(tmp_path / "out.csv")
    assert sidecar.vote["members"] == ["csv:soft", "csv:fpn", "runs/unet"]
    assert set(sidecar.run_hashes.values()) == set(read_sidecar(made / "hard.csv")[0].run_hashes.values())


def test_it_contains_what_prediction_takes_and_no_more(made, runs, hands):
    folder = made / "bundle"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    folds = [f"runs/{name}/fold{k}" for name in ("fpn", "unet") for k in (0, 1)]
    of_folds = ("config.yaml", "environment.json", "final/state.json", "final/weights.safetensors")
    assert files == {
        "infer.sh", "fetch_wheels.sh", "manifest.json", "SHA256SUMS", "requirements.txt", "ranges.txt", "README.md",
        "wheels/phalanx-0.1.0-py3-none-any.whl", *(f"{fold}/{name}" for fold in folds for name in of_folds),
    }  # fmt: skip
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        value, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == value
        files.remove(name)
    assert files == {"SHA256SUMS"}
    about = Manifest.read(folder)
    assert (about.kind, about.networks, about.wheels) == ("vote", "torch", False)
    assert [(step.result, step.maps) for step in about.steps] == [("fpn", True), ("soft", False), ("hard", False)]
    fold = FoldRun(runs / "unet/fold1")
    found = next(run for run in about.runs if run.name == "unet").folds[1]
    assert (found.weights_sha256, found.value, found.metric) == (fold.weights_digest(), fold.result.value, "dice")
    assert found.recorded
    assert found.weights.name == "none"
    assert about.runs[0].config["data"]["root"] == "data"
    for path in folder.rglob("*"):  # where the data and runs are is nobody else's business
        if path.suffix in (".yaml", ".json", ".md", ".sh", ".txt"):
            assert str(hands.parent) not in path.read_text(encoding="utf-8"), path
            assert str(runs) not in path.read_text(encoding="utf-8"), path
    names = zipfile.ZipFile(folder / "wheels/phalanx-0.1.0-py3-none-any.whl").namelist()
    assert {"phalanx/configs/config.yaml", "phalanx/configs/published.yaml", "phalanx/requirements.txt"} <= set(names)
    root = Path(__file__).parents[2]
    sources = {path for path in (root / "src/phalanx").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {path.relative_to(root / "src").as_posix() for path in sources} <= set(names)


@pytest.mark.usefixtures("no_build")
def test_infer_sh_checks_installs_nothing_that_is_there_and_predicts(runs, hands, tmp_path):
    """With the packages of this Python; from another folder, with a name that has a space, without this code's path."""
    place = tmp_path / "a bundle"
    assert main(["bundle", "unet", f"runs={runs}", f"out={place}", "threshold=0.3"]) == 0
    assert infer(place, hands, tmp_path) == 0
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "PHALANX_ENV": "present", "PYTHON": sys.executable, "PHALANX_VENV": str(tmp_path / "venv"),
    }  # fmt: skip
    words = ["bash", str(place / "infer.sh"), f"data.root={hands}", "out=here.csv", *QUIET]
    (tmp_path / "work").mkdir()

    def run(*changes):
        return subprocess.run(
            words, cwd=tmp_path / "work", env=environment | dict(changes), capture_output=True, text=True, check=False
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert same(tmp_path / "out.csv", tmp_path / "work/here.csv")
    assert (tmp_path / "venv.code/phalanx/cli.py").is_file()
    assert "neither venv nor present" in run(("PHALANX_ENV", "conda")).stderr
    older = tmp_path / "python"
    older.write_text("#!/bin/sh\nexit 1\n")
    older.chmod(0o755)
    done = run(("PHALANX_ENV", "venv"), ("PYTHON", str(older)))
    assert done.returncode == 2
    assert "bundle with python= of this machine" in done.stderr
    done = run(("PHALANX_ENV", "venv"))
    assert done.returncode == 2
    assert "run bash fetch_wheels.sh where there is network" in done.stderr
    weights = place / "runs/unet/fold0/final/weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    done = run()
    assert done.returncode == 2
    assert "runs/unet/fold0/final/weights.safetensors: was altered or cut off" in done.stderr
    (place / "runs/unet/fold0/final/state.json").unlink()
    assert run().returncode == 2


@pytest.mark.slow
def test_a_prediction_imports_only_packages_of_the_list(made, hands, tmp_path):
    """Those of no other package can be imported: what a new environment lacks."""
    listed = [line.split("==")[0] for line in (made / "bundle/requirements.txt").read_text().split()]
    code = f"""
import sys
from importlib import metadata
from importlib.machinery import PathFinder
from phalanx.bundle.requirements import canonical
listed = {listed}
known = metadata.packages_distributions()

class Listed:
    find_distributions = PathFinder.find_distributions  # a package may ask for its own version

    @staticmethod
    def find_spec(name, path=None, target=None):
        owners = {{canonical(one) for one in known.get(name.partition(".")[0], [])}}
        lacking = owners and not owners & {{*listed, "phalanx"}}
        return None if lacking else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Listed
from phalanx.cli import main
sys.exit(main(sys.argv[1:]))
"""
    words = ["infer", f"bundle={made / 'bundle'}", f"data.root={hands}", f"out={tmp_path / 'a.csv'}", *QUIET]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert same(made / "hard.csv", tmp_path / "a.csv")
    assert {"torch", "timm", "numpy"} <= set(listed)
    assert not {"hydra-core", "albumentations", "pytest", "scikit-learn"} & set(listed)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda b: (b / "runs/unet/fold0/config.yaml").write_text("x"), "config.yaml: was altered or cut off"),
        (lambda b: (b / "infer.sh").unlink(), "infer.sh: is missing"),
        (lambda b: shutil.copytree(b / "runs/unet/fold0", b / "runs/unet/fold7"), "fold7/.*: is not of this bundle"),
        (lambda b: (b / "manifest.json").write_text("{}"), "not the manifest of a bundle .its format is null"),
        (lambda b: edit(b / "manifest.json", name="other"), "it was altered"),
        (lambda b: (b / "manifest.json").unlink(), "manifest.json: no such file"),
        (lambda b: (b / "SHA256SUMS").write_text("a  ../b\n"), "is not a SHA-256 and a file"),
        (lambda b: (b / "SHA256SUMS").unlink(), "SHA256SUMS"),
    ],
)
def test_a_damaged_bundle_predicts_nothing(bundle, hands, tmp_path, capsys, damage, text):
    damage(bundle)
    assert infer(bundle, hands, tmp_path) == 2
    assert re.search(text, capsys.readouterr().err)
    assert not (tmp_path / "out.csv").exists()


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["tta=vflip"], "tta: is not an option of a bundle, whose predictions are decided"),
        (["devise=cpu"], "did you mean device"),
        (["batch=x"], "batch"),
    ],
)
def test_what_a_bundle_decides_is_not_an_option(made, hands, tmp_path, capsys, words, text):
    assert infer(made / "bundle", hands, tmp_path, *words) == 2
    assert text in capsys.readouterr().err


def test_images_must_be_named(made, capsys):
    assert main(["infer", f"bundle={made / 'bundle'}"]) == 2
    assert "data.root=: name the data set" in capsys.readouterr().err


@pytest.fixture
def here(made, runs, tmp_path, monkeypatch):
    """A folder with links to the runs and copies of the CSVs, as a user has them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name in ("fpn", "unet"):
        (tmp_path / "runs" / name).symlink_to(runs / name)
    for path in (*made.glob("*.csv"), *made.glob("*.json")):
        shutil.copyfile(path, tmp_path / path.name)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "expected one RUN or FILE.csv, got nothing"),
        (["unet", "fpn"], "expected one RUN or FILE.csv, got unet fpn"),
        (["unett"], "no trained run of that name"),
        (["unet", "wheel=true"], "wheel: no such option"),
        (["unet", "format=tflite"], "format"),
        (["unet", "python=2.7"], "python"),
        (["unet", "platform=win_amd64"], "platform"),
        (["unet", "threshold=7"], "threshold"),
        (["unet", "images=x", "workers=2"], "workers: is an option of infer.sh"),
        (["unet", "postprocess=gone.json"], "gone.json: no such file"),
        (["gone.csv"], "gone.csv: no such file; name a run"),
        (["hard.csv", "tta=hflip"], "tta: hard.csv was made with its own options"),
        (["hard.csv", "weights=best"], "weights: hard.csv was made with its own options"),
        (["foreign.csv"], "foreign.csv: nothing is known of how it was made"),
        (["cut.csv"], "cut.csv: not the table its sidecar"),
        (["early.csv"], "early.json: does not record the command"),
        (["loop.csv"], "loop.csv: is made of itself"),
    ],
)
def test_what_cannot_be_bundled_is_refused_with_the_reason(here, capsys, words, text):
    shutil.copyfile("hard.csv", "foreign.csv")
    (here / "cut.csv").write_text((here / "hard.csv").read_text()[:-10])
    shutil.copyfile("hard.json", "cut.json")
    for name in ("early", "loop"):
        shutil.copyfile("hard.csv", f"{name}.csv")
        shutil.copyfile("hard.json", f"{name}.json")
    edit(here / "early.json", made_by=None)
    loop = {"command": "ensemble", "members": ["loop.csv"], "words": ["mode=hard"], "files": {}}
    edit(here / "loop.json", made_by=loop)
    assert main(["bundle", *words]) == 2
    assert text in capsys.readouterr().err
    assert not (here / "bundle").exists()
    assert not list(here.glob(".*.part*"))


@pytest.mark.usefixtures("no_build")
def test_a_place_that_is_taken_is_left_as_it_is(here, capsys, monkeypatch):
    (here / "bundle").mkdir()
    (here / "bundle/mine").write_text("mine")
    (here / "link").symlink_to("elsewhere")
    (here / ".new.part").mkdir()
    (here / ".new.part/mine").write_text("mine")
    for words, text in (
        ([], "bundle: exists; move it away, or change out="),
        (["out=link"], "link: exists"),
        (["out=new"], "new.part/mine: is in the way and was not written by this program"),
    ):
        assert main(["bundle", "unet", *words]) == 2
        assert text in capsys.readouterr().err
    assert (here / "bundle/mine").read_text() == (here / ".new.part/mine").read_text() == "mine"
    assert not (here / "elsewhere").exists()


@pytest.mark.parametrize("where", ["wheel", "sums"])
def test_a_full_disk_leaves_nothing(here, no_build, capsys, monkeypatch, where):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(write, {"wheel": "make_wheel", "sums": "sums_text"}[where], full)
    assert main(["bundle", "unet", "out=full"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [path.name for path in here.iterdir() if "full" in path.name] == []


@pytest.mark.usefixtures("no_build")
def test_a_run_that_is_not_finished_is_refused(runs, tmp_path, capsys):
    shutil.copytree(runs / "unet", tmp_path / "runs/unet")
    shutil.rmtree(tmp_path / "runs/unet/fold1/final")
    words = ["bundle", "unet", f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'b'}"]
    assert main(words) == 2
    assert "not finished; continue it" in capsys.readouterr().err
    assert main([*words, "weights=last"]) == 0
    folds = Manifest.read(tmp_path / "b").runs[0].folds
    assert [fold.value is None for fold in folds] == [False, False]
    assert folds[1].weights_sha256 == FoldRun(tmp_path / "runs/unet/fold1").weights_digest("last")


def test_members_that_changed_since_are_refused(here, runs, capsys):
    (here / "runs/unet").unlink()
    shutil.copytree(runs / "unet", here / "runs/unet")
    path = here / "hard.json"
    text = path.read_text().replace(f"runs={runs}", "runs=runs")
    path.write_text(text)
    state = here / "runs/unet/fold0/final/state.json"
    about = json.loads(state.read_text())
    about["files"]["weights.safetensors"] = "0" * 64
    state.write_text(json.dumps(about))
    assert main(["bundle", "hard.csv"]) == 2
    assert "1 of 2 networks have other weights now than in its sidecar" in capsys.readouterr().err


@pytest.mark.usefixtures("no_build")
def test_labels_and_boxes_are_bundled_as_well(tmp_path, capsys, monkeypatch):
    """With a temperature, a vote of a run and a CSV, thresholds of boxes and a fusion."""
    monkeypatch.chdir(tmp_path)
    labelled.make_folders(tmp_path / "labels")
    boxed.make_table(tmp_path / "boxes")
    words = labelled.words(tmp_path / "labels", "folders", fold="0,1", name="bars", runs=tmp_path / "runs")
    assert main(["train", *(f"{key}={value}" for key, value in words.items())]) == 0
    assert main(["calibrate", "bars", "out=hot.json"]) == 0
    data = [f"data.root={tmp_path / 'labels'}", *QUIET]
    assert main(["infer", "experiment=bars", "out=hflip.csv", "tta=hflip", "postprocess=hot.json", *data]) == 0
    vote = ["mode=hard", "members=bars,hflip.csv", "postprocess=hot.json", "out=vote.csv", "allow_misaligned=true"]
    assert main(["ensemble", *vote, *data]) == 0
    assert main(["bundle", "vote.csv", "out=b"]) == 0
    assert infer(tmp_path / "b", tmp_path / "labels", tmp_path) == 0
    assert same(tmp_path / "vote.csv", tmp_path / "out.csv")
    assert len(list((tmp_path / "b/files").iterdir())) == 1
    (tmp_path / "hot.json").write_text((tmp_path / "hot.json").read_text() + "\n")
    capsys.readouterr()
    assert main(["bundle", "vote.csv", "out=c"]) == 2
    assert "hot.json: has changed since it was applied" in capsys.readouterr().err
    edit(tmp_path / "hot.json", format="other")
    assert main(["bundle", "bars", "postprocess=hot.json", "out=c"]) == 0  # read when it predicts
    assert infer(tmp_path / "c", tmp_path / "labels", tmp_path / "c") == 2
    words = boxed.words(tmp_path / "boxes", "boxes", fold="0", name="found", runs=tmp_path / "runs")
    assert main(["train", *(f"{key}={value}" for key, value in words.items())]) == 0
    hashes = {"runs/found/fold0": FoldRun(tmp_path / "runs/found/fold0").weights_digest()}
    thresholds = {
        "format": "phalanx-box-thresholds-1", "run": "found", "run_hashes": hashes, "classes": boxed.CLASSES,
        "thresholds": dict.fromkeys(boxed.CLASSES, 0.1),
    }  # fmt: skip
    (tmp_path / "runs/found/thresholds.json").write_text(json.dumps(thresholds))
    data = [f"data.root={tmp_path / 'boxes'}", *QUIET]
    assert main(["infer", "experiment=found", "out=found.csv", *data]) == 0
    assert main(["infer", "experiment=found", "out=all.csv", "postprocess=null", "tta=hflip", *data]) == 0
    assert main(["ensemble", "mode=nms", "members=found.csv,all.csv", "out=nms.csv", "allow_misaligned=true"]) == 0
    assert main(["bundle", "nms.csv", "out=d"]) == 0
    assert infer(tmp_path / "d", tmp_path / "boxes", tmp_path / "d") == 0
    assert same(tmp_path / "nms.csv", tmp_path / "d/out.csv")
    assert "thresholds.json" in (tmp_path / "d/SHA256SUMS").read_text()
    edit(tmp_path / "runs/found/thresholds.json", thresholds=dict.fromkeys(boxed.CLASSES, 0.2))
    assert main(["bundle", "nms.csv", "out=e"]) == 2
    assert "found.csv: the thresholds that it was made with are no longer those of the run" in capsys.readouterr().err
    assert main(["bundle", "found", "format=onnx", "out=e"]) == 2
    assert "is a run of task=detect" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("no_build")
def test_a_new_environment_without_network_predicts_the_same(runs, hands, tmp_path, capsys):
    """Of an export, whose wheels are 150 MB; those of torch with CUDA are 3 GB, see docs/bundle.md."""
    pytest.importorskip("onnxscript")
    place, data = tmp_path / "bundle", [f"data.root={hands}", "progress=false"]
    masked = ["threshold=0.3", *data]
    words = ["bundle", "unet", f"runs={runs}", "format=onnx", "wheels=true", "threshold=0.3", f"data.root={hands}"]
    if main([*words, f"out={place}"]) != 0:
        error = capsys.readouterr().err
        assert "pip cannot download" in error, error
        pytest.skip("no package index can be reached")
    lines = (place / "requirements.txt").read_text().splitlines()
    assert all("--hash=sha256:" in line for line in lines)
    assert len(lines) == len(list((place / "wheels").iterdir())) - 1
    assert not list((place / "wheels").glob("torch*"))
    environment = {
        "PATH": f"{Path(sys.base_prefix) / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1", "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9",
    }  # fmt: skip
    alone = ["unshare", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        alone = []  # not allowed here: the proxies refuse, as nothing listens there
    run = [*alone, "bash", str(place / "infer.sh"), f"out={tmp_path / 'a.csv'}", *data]
    done = subprocess.run(run, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "preparing" in done.stderr
    assert main(["infer", f"experiment={place / 'exports/unet'}", f"out={tmp_path / 'b.csv'}", *masked]) == 0
    assert same(tmp_path / "a.csv", tmp_path / "b.csv")
    assert main(["infer", "experiment=unet", f"runs={runs}", f"out={tmp_path / 'c.csv'}", *masked]) == 0
    one, other = (Submission.read(tmp_path / f"{name}.csv") for name in "ac")
    masks = [[decode(text, (128, 128)) for image in each.images for text in each.rles(image)] for each in (one, other)]
    assert (np.array(masks[0]) != np.array(masks[1])).mean() < 1e-4
    (tmp_path / "a.csv").unlink()
    done = subprocess.run(run, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "preparing" in done.stderr) == (0, False)
    shutil.rmtree(tmp_path / "home")
    wheel = next((place / "wheels").glob("filelock*"))
    wheel.write_bytes(wheel.read_bytes() + b" ")
    sums = (place / "SHA256SUMS").read_text()
    old = next(line for line in sums.splitlines() if "filelock" in line)
    new = f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {old.split('  ')[1]}"
    (place / "SHA256SUMS").write_text(sums.replace(old, new))  # even then pip refuses a package with another hash
    done = subprocess.run(run, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
