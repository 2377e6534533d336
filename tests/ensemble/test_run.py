"""Votes as the command gives them: weights, ties, folds, guards."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from phalanx.cli import main
from phalanx.config import SegmentPredict
from phalanx.masks import rle
from phalanx.predict.journal import claimed
from phalanx.submission.table import Submission, write

CLASSES = [f"c{i}" for i in range(6)]
SIDE = 96


def masks(seed, moved=0, images=3):
    """bool[I, C, H, W]: discs about the same places for every seed."""
    y, x = np.mgrid[:SIDE, :SIDE]
    rng, vary = np.random.default_rng(1), np.random.default_rng(seed)
    places = rng.uniform(20, 76, (images, len(CLASSES), 2)) + vary.normal(0, 0.3, (images, len(CLASSES), 2))
    return np.array([[(x - a - moved) ** 2 + (y - b) ** 2 < 90 for a, b in image] for image in places])


def put(path, of, sidecar=True):
    names = [f"i{i}.png" for i in range(len(of))]
    rows = [(name, [rle.encode(mask) for mask in image]) for name, image in zip(names, of, strict=True)]
    write(path, rows, CLASSES, dict.fromkeys(names, (SIDE, SIDE)))
    if not sidecar:
        path.with_suffix(".json").unlink()
    return path


@pytest.fixture
def vote(tmp_path, monkeypatch, capsys):
    """Votes masks by command; returns bool[I, C, H, W], the text printed, and the error."""
    monkeypatch.chdir(tmp_path)

    def run(*members, words=(), sidecar=True):
        paths = [put(tmp_path / f"m{i}.csv", of, sidecar) for i, of in enumerate(members)]
        code = main(["ensemble", "mode=hard", f"members={','.join(map(str, paths))}", "out=out.csv", *words])
        told = capsys.readouterr()
        if code:
            assert not (tmp_path / "out.csv").exists()
            return None, told.out, told.err
        found = Submission.read("out.csv")
        voted = [[rle.decode(text, (SIDE, SIDE)) for text in found.rles(image)] for image in found.images]
        return np.array(voted), told.out, told.err

    return run


def test_weights_and_ties(vote):
    three = [masks(seed) for seed in range(3)]
    a, b, c = (of.astype(int) for of in three)
    np.testing.assert_array_equal(vote(*three)[0], a + b + c >= 2)
    np.testing.assert_array_equal(vote(*three, words=["weights=2,1,1"])[0], 2 * a + b + c > 2)  # a tie is background
    np.testing.assert_array_equal(vote(*three, words=["weights=2,1,1", "quorum=2"])[0], 2 * a + b + c >= 2)
    np.testing.assert_array_equal(vote(*three, words=["votes=[3,2,2]"])[0], 3 * a + 2 * b + 2 * c > 3)
    np.testing.assert_array_equal(vote(*three, words=["quorum=1"])[0], a + b + c >= 1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["weights=2,1"], "weights: 2 for 3 members; give one each"),
        (["weights=2,1,0"], "weights=2,1,0: whole numbers from 1"),
        (["weights=.5,.3,.2"], "weights=.5,.3,.2: whole numbers from 1"),
        (["weights=nan,1,1"], "weights=nan,1,1: whole numbers from 1"),
        (["weights=-1,1,1"], "weights=-1,1,1: whole numbers from 1"),
        (["weights=9999999999999999999,1,1"], "whole numbers from 1"),
        (["votes=999999999,999999999,1"], "1999999999 votes in all, 1000000000 at most"),
        (["threshold=0.4"], "threshold: does not change a CSV"),
        (["tta=hflip"], "tta: does not change a CSV"),
        (["data.root=x"], "data.root: does not change a CSV"),
        (["weights=best"], "weights: does not change a CSV"),
        (["size=96x96", "images=x"], "size: images= gives the sizes already"),
        (["weights=bets"], "weights='bets': "),
        (["quorum=4"], "quorum 4: must be a whole number from 1 to 3"),
        (["average=flat"], "average: belongs to mode=soft"),
        (["maps=true"], "maps: belongs to mode=soft"),
        (["allow_misaligned=perhaps"], "allow_misaligned='perhaps': "),
    ],
)
def test_votes_that_cannot_be_are_refused(vote, words, says):
    error = vote(*[masks(seed) for seed in range(3)], words=words)[2]
    assert says in error


def test_a_misaligned_member_stops_the_vote_unless_told_to_go_on(vote):
    members = [masks(0), masks(1), masks(2, moved=5)]
    voted, out, error = vote(*members)
    assert voted is None
    assert "agreement (Dice) over 3 of 3 images" in out
    assert "m2.csv is misaligned: " in error
    assert "px right of" in error
    assert "allow_misaligned=true votes with it" in error
    voted, out, error = vote(*members, words=["allow_misaligned=true"])
    np.testing.assert_array_equal(voted, sum(of.astype(int) for of in members) >= 2)
    assert "m2.csv is misaligned" in out
    assert "voted with it" in out


def test_images_tell_the_sizes_of_csvs_without_sidecar(vote, tmp_path):
    members = [masks(seed) for seed in range(2)]
    folder = tmp_path / "images" / "patient"
    folder.mkdir(parents=True)
    for i in range(3):
        cv2.imwrite(str(folder / f"i{i}.png"), np.zeros((SIDE, SIDE), np.uint8))
    out = vote(*members, sidecar=False)[1]
    assert out.count("the size of 3 of 3 images is not known") == 2
    assert "not known" not in vote(*members, words=["images=images"], sidecar=False)[1]
    cv2.imwrite(str(folder / "i1.png"), np.zeros((20, SIDE), np.uint8))
    (tmp_path / "out.csv").unlink()
    error = vote(*members, words=["images=images"], sidecar=False)[2]
    assert "m0.csv line " in error
    assert "(image 'i1.png', class 'c0')" in error
    assert "ends outside the image, which has 1920 pixels" in error
    error = vote(*members, words=["images=images"])[2]
    assert "image 'i1.png' is 20x96 by what is given (size= or images), but was predicted at 96x96" in error


def test_the_sidecar_tells_how_members_agreed(vote, tmp_path):
    members = [masks(0), masks(1), masks(2, moved=5)]
    vote(*members, words=["allow_misaligned=true", "weights=2,1,1"])
    told = json.loads((tmp_path / "out.json").read_text())["vote"]
    assert told["how"] == "hard weights=2,1,1"
    assert [Path(name).name for name in told["members"]] == ["m0.csv", "m1.csv", "m2.csv"]
    found = told["agreement"]
    assert (found["images"], found["of"]) == (["i0.png", "i1.png", "i2.png"], 3)
    for pair in found["pairs"]:
        a, b = (members[number - 1] for number in pair["members"])
        dense = [np.mean([2 * (p & q).sum() / (p.sum() + q.sum()) for p, q in zip(*c, strict=True)])
                 for c in zip(a.swapaxes(0, 1), b.swapaxes(0, 1), strict=True)]  # fmt: skip
        np.testing.assert_allclose(pair["classes"], dense, atol=1e-4)
        assert pair["dice"] == pytest.approx(np.mean(dense), abs=1e-4)
    assert [pair["members"] for pair in found["pairs"]] == [[1, 2], [1, 3], [2, 3]]
    assert "m2.csv is misaligned" in found["misaligned"][0]


def test_a_stopped_hard_vote_predicts_no_member_twice(runs, hands, tmp_path, capsys, monkeypatch):
    """Stopped by a misaligned member, then told to go on; the masks are those of members predicted one by one."""
    import phalanx.ensemble.hard
    from phalanx.predict.members import FoldMember

    common = [f"runs={runs}", f"data.root={hands}", "device=cpu", "progress=false", "threshold=0.2"]
    for name in ("fpn", "unet"):
        assert main(["infer", f"experiment={runs / name}/fold0", f"out={tmp_path / name}.csv", *common]) == 0
    files = ",".join(str(tmp_path / f"{name}.csv") for name in ("fpn", "unet"))
    assert (
        main(["ensemble", "mode=hard", f"members={files}", "allow_misaligned=true", f"out={tmp_path / 'csv.csv'}"]) == 0
    )
    members = f"members={runs / 'fpn'}/fold0,{runs / 'unet'}/fold0"
    words = ["ensemble", "mode=hard", members, f"out={tmp_path / 'runs.csv'}", *common]
    with monkeypatch.context() as patch:
        patch.setattr(
            phalanx.ensemble.hard, "measure_agreement", lambda members: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        assert main(words) == 130
    assert "the same command continues" in capsys.readouterr().err
    assert len(list((tmp_path / ".runs.csv.members").glob("*.csv"))) == 2
    with monkeypatch.context() as patch:
        patch.setattr(FoldMember, "maps", None)
        assert main([*words, "allow_misaligned=true"]) == 0
    assert (tmp_path / "runs.csv").read_bytes() == (tmp_path / "csv.csv").read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    monkeypatch.setattr(
        phalanx.ensemble.hard, "measure_agreement", lambda members: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    assert main(words) == 130
    monkeypatch.setattr(FoldMember, "maps", None)
    with pytest.raises(TypeError):  # other options predict anew
        main([*words[:-1], "threshold=0.3"])


def test_a_disk_that_takes_no_more_leaves_what_was_there(vote, tmp_path, capsys):
    """A limit on the size of files stands for a quota: the system tells of it without a name."""
    members = [masks(seed, images=10) for seed in range(2)]
    assert vote(*members)[0] is not None
    before = {name: (tmp_path / name).read_bytes() for name in ("out.csv", "out.json")}
    code = (
        "import resource, signal, sys\n"
        "from phalanx.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))\n"
        "sys.exit(main(['ensemble', 'mode=hard', 'members=m0.csv,m1.csv', 'out=out.csv', 'quorum=1']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.search(r"out\.(csv|json): File too large", done.stderr)  # whichever is flushed first
    assert "Traceback" not in done.stderr
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_member_is_never_replaced_and_never_counted_twice(vote, tmp_path, capsys):
    paths = [put(tmp_path / f"{name}.csv", masks(seed)) for seed, name in enumerate("ab")]
    before = [path.read_bytes() for path in paths]

    def told(*words, code=2):
        assert main(["ensemble", "mode=hard", *words]) == code
        found = capsys.readouterr()
        return found.err if code else found.out

    assert "out=a.csv: would replace the member" in told("members=b.csv,./a.csv", "out=a.csv")
    assert "a.csv is named twice" in told("members=a.csv,./a.csv,b.csv", "out=out.csv")
    assert [path.read_bytes() for path in paths] == before
    (tmp_path / "copy.CSV").write_bytes(before[0])
    assert "a.csv and copy.CSV have the same masks" in told("members=a.csv, copy.CSV,b.csv", "out=out.csv", code=0)
    assert "same masks" not in told("members=a.csv,b.csv", "out=out.csv", code=0)


def test_an_impossible_name_is_told_before_anything_is_read(vote, tmp_path, capsys):
    (tmp_path / "a.csv").write_text("broken")
    assert main(["ensemble", "mode=hard", "members=a.csv", "out=out.txt"]) == 2
    assert "out=out.txt: a submission's name ends in .csv" in capsys.readouterr().err


def test_a_flat_average_counts_folds_and_the_usual_one_members(runs, hands, tmp_path):
    """One fold of a run against both of another: of three folds, a third each, or a half and two quarters."""
    from phalanx.ensemble.options import EnsembleOptions
    from phalanx.ensemble.run import predict_members
    from phalanx.predict.map_file import read_map

    names = [str(runs / "unet" / "fold0"), "fpn"]
    options = EnsembleOptions(
        mode="soft",
        members=names,
        runs=runs,
        root=hands,
        device="cpu",
        progress=False,
        maps=True,
        allow_misaligned=True,
    )
    maps = {}
    for kind, words in {
        "one": {"names": names[:1]},
        "two": {"names": names[1:]},
        "members": {},
        "flat": {"flat": True},
        "weighed": {"votes": [3, 1]},
    }.items():
        predict_members(**{"names": names, "options": options, "out": tmp_path / f"{kind}.csv"} | words)
        maps[kind] = read_map(min((tmp_path / f"{kind}.maps").glob("*.npz"))).maps.dense()
    step = 2 / 255  # maps are stored in 256 steps
    np.testing.assert_allclose(maps["members"], (maps["one"] + maps["two"]) / 2, atol=step)
    np.testing.assert_allclose(maps["flat"], (maps["one"] + 2 * maps["two"]) / 3, atol=step)
    np.testing.assert_allclose(maps["weighed"], (3 * maps["one"] + maps["two"]) / 4, atol=step)
    assert np.abs(maps["flat"] - maps["members"]).max() > 2 * step


class Discs:
    """A fold that is sure of the discs."""

    classes, hashes, key, predict, options, on_gpu = CLASSES, {}, "k", SegmentPredict(), None, False
    head = "sigmoid"

    def __init__(self, name, flip=1):
        self.name, self.found = name, masks(ord(name), images=20)[..., ::flip]

    def maps(self, records, images):
        from phalanx.predict.maps import ProbabilityMaps

        return [ProbabilityMaps.of(self.found[int(record.name[1:3])].astype(np.float32)) for record in records]


@pytest.mark.parametrize(("flip", "told"), [(1, 0), (-1, 1)])
def test_a_mirrored_fold_is_noted(capsys, flip, told):
    from phalanx.data.records import Record
    from phalanx.predict.soft import RunMember

    records = [Record(f"i{i:02}", "", Path(), None) for i in range(20)]
    images = [np.zeros((SIDE, SIDE), np.uint8)] * 20
    member = RunMember("run", [Discs("a"), Discs("b"), Discs("c", flip)])
    plain = RunMember("run", member.folds).maps(records, images)
    member.compare_folds(20, 0.5)
    found = [
        one for first in range(0, 20, 5) for one in member.maps(records[first : first + 5], images[first : first + 5])
    ]
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_array_equal(one.dense(), other.dense())
    text = capsys.readouterr().out
    assert text.count("note: folds of one run: c is misaligned: c has its masks mirrored left to right of") == told
    assert text.count("note") == told


def test_a_soft_vote_stops_at_a_mirrored_member(tmp_path, capsys, monkeypatch):
    """Stored maps of discs, the second member's mirrored."""
    from phalanx.predict.map_file import write_map
    from phalanx.predict.maps import ProbabilityMaps
    from phalanx.predict.stored import write_about

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "images" / "patient"
    folder.mkdir(parents=True)
    sizes = {f"i{i}.png": (SIDE, SIDE) for i in range(20)}
    for name in sizes:
        cv2.imwrite(str(folder / name), np.zeros((SIDE, SIDE), np.uint8))
    for member, flip in (("a", 1), ("b", -1)):
        of = masks(ord(member), images=20)[..., ::flip]
        for name, image in zip(sizes, of, strict=True):
            write_map(
                tmp_path / member / f"{name}.npz", ProbabilityMaps.of(image.astype(np.float32)), image=name,
                size=(SIDE, SIDE), classes=CLASSES, run_hashes={}, threshold=0.5,
            )  # fmt: skip
        write_about(tmp_path / member, CLASSES, {}, sizes, "key", 0.5)
    words = ["ensemble", "mode=soft", "members=a,b", "images=images", "out=out.csv", "progress=false"]
    assert main(words) == 2
    told = capsys.readouterr()
    assert "agreement (Dice) over 16 of 20 images" in told.out
    assert "a or b is misaligned: a has its masks mirrored left to right of those of b" in told.err
    assert not (tmp_path / "out.csv").exists()
    assert main([*words, "allow_misaligned=true"]) == 0
    assert "voted with it" in capsys.readouterr().out


def test_infer_has_the_folds_of_a_run_compared(runs, hands, tmp_path, monkeypatch):
    from phalanx.predict.soft import RunMember

    asked = []
    monkeypatch.setattr(RunMember, "compare_folds", lambda self, *told: asked.append((self.name, *told)))
    words = [f"runs={runs}", f"data.root={hands}", "device=cpu", "progress=false", "threshold=0.2"]
    assert main(["infer", "experiment=unet", f"out={tmp_path / 'x.csv'}", *words]) == 0
    assert asked == [("unet", 4, 0.2)]


def test_two_votes_do_not_write_the_same_file(vote, tmp_path, capsys):
    """One's table would stand beside the other's sidecar."""
    put(tmp_path / "a.csv", masks(0))
    put(tmp_path / "b.csv", masks(1))
    words = ["ensemble", "mode=hard", "members=a.csv,b.csv", "out=new/out.csv"]
    with claimed(Path("new/out.csv")):
        assert main(words) == 2
    assert "new/out.csv: another process is writing it" in capsys.readouterr().err
    assert not Path("new").exists()
    assert main(words) == 0
    assert sorted(path.name for path in Path("new").iterdir()) == ["out.csv", "out.json"]
