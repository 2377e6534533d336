"""Links planted where the commands write: what lies behind them stays as it is, and the command ends in one line.

Which names a command writes, replaces or removes is not listed here: a first call is watched, and a link is then
planted at each of the places that it touched.
"""

import json
import os
import re
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
from tests.ensemble.test_run import masks, put

from phalanx.cli import main
from phalanx.config.compose import config_folder
from phalanx.errors import OutputError
from phalanx.runtime.files import Replacement, append_bytes, write_text
from phalanx.runtime.removal import remove_folder

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.utime", "os.chmod", "shutil.rmtree"}
touched: dict[str, str] | None = None  # place to event, while a call is watched


def _watch(event, arguments):
    if touched is None or not (event == "open" or event in CHANGES):
        return
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
        return
    for place in arguments[: 2 if event == "os.rename" else 1]:
        if isinstance(place, str | bytes | os.PathLike):
            touched[os.path.abspath(os.fsdecode(place))] = event


sys.addaudithook(_watch)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder with the repository's configs, and beside it the folder of a victim."""
    work, victim = tmp_path / "work", tmp_path / "victim"
    work.mkdir()
    (work / "configs").symlink_to(config_folder())
    victim.mkdir()
    monkeypatch.chdir(work)
    return work


def tree(folder: Path) -> dict[str, tuple[int, bytes | None]]:
    """Every path below a folder with its time and content."""
    return {
        str(p.relative_to(folder)): (p.lstat().st_mtime_ns, p.read_bytes() if p.is_file() else None)
        for p in [folder, *folder.rglob("*")]
    }


def victims(folder: Path) -> tuple[Path, Path]:
    """A file and a folder with contents that look like ours, and must outlive every command."""
    shutil.rmtree(folder, ignore_errors=True)
    inside = folder / "precious"
    (inside / "final").mkdir(parents=True)
    for name in ("state.json", "weights.safetensors", "rows.0", "key", "maps.json", "log.jsonl", "final/state.json"):
        (inside / name).write_text(f"precious {name}\n")
    (folder / "file").write_text("precious\n")
    return folder / "file", inside


@pytest.fixture(params=["of its kind", pytest.param("of the other kind", marks=pytest.mark.slow)])
def plant(request, place, capsys):
    """:func:`plant_everywhere` in the working folder, with links to a file for a file or the other way round."""
    return partial(plant_everywhere, place, capsys, other_kind=request.param != "of its kind")


def plant_everywhere(
    work: Path, capsys, words: list[str], *, other_kind: bool, before=lambda: None, codes=(0,), output=".", below="."
) -> int:
    """Calls a command in ``work``, then again with a link at each place it touched; returns the number of places.

    Args:
        before: makes what is there when the command starts.
        codes: which the call may return; the first is that of the undisturbed one.
        output: folder that the user named: it and those above may be links, into which new files are written.
        below: plants below this folder only.
    """
    global touched
    home = work.parent
    clean(work)
    before()
    touched = {}
    try:
        assert main(words) == codes[0], capsys.readouterr()
    finally:
        found, touched = touched, None
    made_by_chance = re.compile(r"/\.\w+\.\w{8}(/|$)")  # by mkdtemp
    places = sorted(Path(p) for p in found if work / below in Path(p).parents and not made_by_chance.search(p))
    assert places
    refused = 0
    for target in places:
        clean(work)
        before()
        folder = (found[str(target)] == "os.mkdir") != other_kind
        behind = victims(home / "victim")[folder]
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        elif target.exists():
            target.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(behind, target_is_directory=folder)
        kept = tree(home / "victim")
        capsys.readouterr()
        result = main(words)
        said = capsys.readouterr().err
        told = f"{target} -> {behind.name}: exit {result}: {said}"
        now = tree(home / "victim")
        if (work / output).is_relative_to(target):
            assert {name: now.get(name, 0)[1] for name in kept} == {name: kept[name][1] for name in kept}, told
        else:
            assert now == kept, told
        assert result in (*codes, 2), told
        refused += result != codes[0]
        if result == 2:
            assert len(said.splitlines()) == 1, told
            assert said.startswith("phalanx "), told
    assert refused
    return len(places)


def clean(work: Path) -> None:
    """Empties the working folder but for its configs."""
    for path in work.iterdir():
        if path.name != "configs":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def predicting(runs, hands, *more):
    words = [f"runs={runs}", f"data.root={hands}", "device=cpu", "progress=false", "threshold=0.2", "batch=2"]
    return [*words, "out=x.csv", *more]


def test_infer(place, runs, hands, plant):
    assert plant(["infer", f"experiment={runs}/unet/fold0", *predicting(runs, hands, "maps=true")]) > 10


def test_infer_again_over_its_own_files(place, runs, hands, plant):
    words = ["infer", f"experiment={runs}/unet/fold0", *predicting(runs, hands, "maps=true")]

    def before():
        for name in ("x.csv", "x.json"):
            shutil.copy(saved / name, name)
        shutil.copytree(saved / "x.maps", "x.maps")

    assert main(words) == 0
    saved = place.parent / "saved"
    saved.mkdir()
    for name in ("x.csv", "x.json", "x.maps"):
        Path(name).rename(saved / name)
    assert plant([*words, "tta=hflip"], before=before) > 10


def test_a_soft_vote(place, runs, hands, plant):
    words = [
        "ensemble",
        "mode=soft",
        f"members={runs}/unet/fold0,{runs}/fpn/fold0",
        *predicting(runs, hands),
        "allow_misaligned=true",
    ]
    assert plant(words) > 5


def test_a_hard_vote_with_a_member_that_is_predicted_first(place, runs, hands, plant):
    options = predicting(runs, hands)
    file = place.parent / "fpn.csv"
    assert main(["infer", f"experiment={runs}/fpn/fold0", *options[:-1], f"out={file}"]) == 0
    members = f"members={runs}/unet/fold0,{file}"
    assert plant(["ensemble", "mode=hard", members, *options, "allow_misaligned=true"]) > 10


def test_train(place, tiny, plant):
    words = [
        "train",
        *tiny("unet", fold=0, name="r", runs="runs", epochs=1, validate_every=1, predict__oof_prob="true"),
    ]
    place.joinpath("runs").mkdir()

    def before():
        Path("runs/r/fold0").mkdir(parents=True)  # which may be links themselves

    assert plant(words, before=before, output="runs/r/fold0") > 20


@pytest.mark.slow
def test_train_that_goes_on(place, tiny, plant):
    more = {"epochs": 2, "validate_every": 1, "optim__average_best": 2, "predict__oof_prob": "true"}
    words = ["train", *tiny("unet", fold=0, name="r", runs="runs", **more)]
    assert main(words) == 0
    saved = place.parent / "saved"
    shutil.move("runs", saved)
    for name in ("done.json", "oof.csv"):
        (saved / "r" / "fold0" / name).unlink()
    for name in ("final", "oof_prob"):
        shutil.rmtree(saved / "r" / "fold0" / name)
    assert plant(words, before=lambda: shutil.copytree(saved, "runs"), output="runs/r/fold0") > 15


def test_phantom(place, plant):
    words = ["phantom", "hand", "--patients", "1", "--test-patients", "1", "--size", "128", "--out", "set"]
    assert plant([*words, "--workers", "1"]) > 0


def test_eda(place, hands, plant):
    words = ["eda", f"data.root={hands}", "out=eda", "workers=1", "progress=false"]
    assert plant(words, before=lambda: Path("eda").mkdir(), output="eda") > 8


def test_check_and_quarantine(place, hands, plant):
    words = ["check", f"data.root={hands}", "workers=1", "progress=false", "--quarantine", "q.txt"]
    plant(words, codes=(main(words), 0))


@pytest.mark.slow
def test_a_sweep(place, hands, tiny, plant):
    (place / "configs").unlink()
    shutil.copytree(config_folder(), place / "configs", ignore=lambda _, names: ["sweep"] * ("sweep" in names))
    (place / "configs/experiment/claims_tiny.yaml").write_text("# @package _global_\nepochs: 1\n")
    (place / "configs/sweep").mkdir()
    own = json.dumps([word for word in tiny("unet", epochs=1) if not word.startswith("data.root")])
    rows = "rows: [{name: plain, source: a report}]"
    (place / "configs/sweep/t.yaml").write_text(f"title: T\nwhy: because\noverrides: {own}\n{rows}\n")
    words = ["sweep", "t", "scale=tiny", "seeds=0", f"data.root={hands}", "progress=false"]
    plant(words, output="results/sweep", below="results", codes=(0, 1))


def test_runs_data_and_output_folders_may_be_links(place, runs, hands, tiny, capsys):
    """A disk of one's own for large things is no attack."""
    for name in ("runs", "out", "disk"):
        (place.parent / name).mkdir()
    Path("runs").symlink_to(place.parent / "runs")
    Path("data").symlink_to(hands)
    Path("submissions").symlink_to(place.parent / "out")
    words = tiny("unet", fold=0, name="r", runs="runs", data__root="data", epochs=1)
    (place.parent / "disk/fold").mkdir()
    Path("runs/r").mkdir()
    Path("runs/r/fold0").symlink_to(place.parent / "disk/fold")
    assert main(["train", *words]) == 0
    assert (place.parent / "disk/fold/final/weights.safetensors").is_file()
    assert main(["infer", "experiment=r", "device=cpu", "progress=false", "maps=true"]) == 0
    assert {p.name for p in (place.parent / "out").iterdir()} == {"r.csv", "r.json", "r.maps"}
    capsys.readouterr()


@pytest.fixture
def foreign(place):
    """Files of a user that look like outputs."""
    contents = {
        "sheet.csv": "name,age\na,3\n", "coco.json": '{"images": []}', "coco.csv": "a,b\n1,2\n",
        "notes.md": "# Notes\n", "image.png": "no picture", "other.csv": "image_name,class,rle\na,b,\n",
    }  # fmt: skip
    for name, text in contents.items():
        Path(name).write_text(text)
    Path("lone.csv").write_text("x\n")
    return {name: Path(name).read_bytes() for name in [*contents, "lone.csv"]}


def test_outputs_do_not_replace_files_of_others(place, foreign, runs, hands, capsys):
    answers = hands / "test" / "answers_json"
    put(Path("m.csv"), masks(0)), put(Path("n.csv"), masks(1))
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    for words in (
        "ensemble mode=hard members=m.csv,n.csv out=sheet.csv",
        "ensemble mode=hard members=m.csv,n.csv out=coco.csv",
        "ensemble mode=hard members=m.csv,n.csv out=other.csv",
        "ensemble mode=hard members=m.csv,n.csv out=n.csv",
        f"infer experiment=unet runs={runs} data.root={hands} device=cpu out=lone.csv",
        "score m.csv n.csv --json coco.json",
        "score m.csv n.csv --json m.json",
        "score m.csv n.csv --json m.csv",
        "score m.csv n.csv --json /dev/null",
        "score m.csv n.csv --json .",
        "compare m.csv n.csv m.csv --json coco.json",
        "compare m.csv n.csv m.csv --json n.json",
        f"check data.root={hands} progress=false --json coco.json",
        f"check data.root={hands} progress=false --json {next(hands.glob('train/outputs_json/*/*.json'))}",
        "plan experiment=demo_fpn --json coco.json",
        "claims out=notes.md",
        f"eda data.root={hands} out={hands} progress=false workers=1 csv=m.csv",
        f"tune members=unet runs={runs} out=m.json",
        f"picture m.csv {answers} {hands} --out image.png",
    ):
        if "eda" in words:
            Path(hands, "images.csv").write_text("mine")
        code = main(words.split())
        said = capsys.readouterr().err
        Path(hands, "images.csv").unlink(missing_ok=True)
        assert (code, len(said.splitlines())) == (2, 1), f"{words}: {said}"
        assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before, words
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("where", ["x.maps", ".x.csv.part", ".x.csv.part/maps"])
def test_a_user_s_file_in_a_folder_of_ours_is_not_removed(place, runs, hands, where, capsys):
    words = ["infer", "experiment=unet", *predicting(runs, hands, "maps=true")]
    if where == "x.maps":
        assert main(words) == 0
    Path(where).mkdir(parents=True, exist_ok=True)
    Path(where, "notes.txt").write_text("mine")
    before = tree(Path())
    capsys.readouterr()
    assert main([*words, "tta=hflip"]) == 2
    assert capsys.readouterr().err.endswith("notes.txt: is in the way and was not written by this program; "
                                            "move it away\n")  # fmt: skip
    after = tree(Path())
    assert {name: after[name][1] for name in before} == {name: content for name, (_, content) in before.items()}
    Path(where, "notes.txt").unlink()
    assert main([*words, "tta=hflip"]) == 0


def test_our_own_outputs_are_replaced(place, capsys):
    put(Path("m.csv"), masks(0)), put(Path("n.csv"), masks(1))
    Path("empty.json").write_text("")  # as mktemp leaves it
    for words in (
        "ensemble mode=hard members=m.csv,n.csv out=v.csv", "score m.csv n.csv --json s.json",
        "compare m.csv n.csv m.csv --json c.json", "score m.csv n.csv --json empty.json",
    ) * 2:  # fmt: skip
        assert main(words.split()) == 0
    assert json.loads(Path("s.json").read_text())["format"] == "phalanx-score-1"
    capsys.readouterr()


def test_a_file_with_a_second_name_is_not_added_to(tmp_path):
    (tmp_path / "precious").write_text("a")
    os.link(tmp_path / "precious", tmp_path / "rows.0")
    with pytest.raises(OutputError, match=r"rows\.0: is in the way"):
        append_bytes(tmp_path / "rows.0", b"c")
    write_text(tmp_path / "rows.0", "b")  # takes the name, and leaves the other its content
    assert (tmp_path / "precious").read_text() == "a"


def test_a_pipe_does_not_wait_for_ever(tmp_path):
    os.mkfifo(tmp_path / "rows.0")
    with pytest.raises(OutputError, match="is in the way"):
        append_bytes(tmp_path / "rows.0", b"c")
    with pytest.raises(OutputError, match="not a regular file"):
        write_text(tmp_path / "rows.0", "a")


def test_what_a_killed_process_of_the_same_number_left_is_replaced(tmp_path):
    (tmp_path / f".x.{os.getpid()}.part").write_text("half")
    write_text(tmp_path / "x", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    with Replacement(tmp_path / "x") as new:
        new.file.write(b"never finished")
    assert (tmp_path / "x").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("other", ["link", "folder", "file"])
def test_a_folder_with_anything_else_in_it_is_not_removed_in_part(tmp_path, other):
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("rows.0", ".rows.0.12.part"):
        (folder / name).write_text("ours")
    if other == "link":
        (folder / "rows.1").symlink_to(tmp_path)
    elif other == "folder":
        (folder / "rows.1").mkdir()
    else:
        (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="was not written by this program"):
        remove_folder(folder, lambda name: name.startswith("rows."))
    assert len(list(folder.iterdir())) == 3


def test_the_watch_sees_what_is_opened_to_write(tmp_path):
    """Without it, nothing would be planted and all tests above would pass."""
    global touched
    touched = {}
    try:
        write_text(tmp_path / "seen", "x")
        append_bytes(tmp_path / "added", b"x")
        seen = touched
    finally:
        touched = None
    assert set(seen) >= {str(tmp_path / name) for name in ("seen", f".seen.{os.getpid()}.part", "added")}
