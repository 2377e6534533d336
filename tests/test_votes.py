"""Votes as the command gives them: weights, ties, folds, guards."""

import cv2
import numpy as np
import pytest

from phalanx.cli import main
from phalanx.submit import rle
from phalanx.submit.table import Submission, write

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
        (["weights=2,1,0"], "votes.2='0': "),
        (["weights=2,1,1.5"], "votes.2='1.5': "),
        (["weights=bets"], "weights='bets': "),
        (["quorum=4"], "quorum 4: must be a whole number from 1 to 3"),
        (["average=flat"], "average: belongs to mode=soft"),
        (["maps=true"], "maps: belongs to mode=soft"),
        (["anyway=perhaps"], "anyway='perhaps': "),
    ],
)
def test_votes_that_cannot_be_are_refused(vote, words, says):
    error = vote(*[masks(seed) for seed in range(3)], words=words)[2]
    assert says in error


@pytest.mark.parametrize("twice", ["a.csv,./a.csv", "base,x,base", "a.maps,a.maps/"])
def test_a_member_named_twice_is_refused(twice, capsys):
    assert main(["ensemble", "mode=hard", f"members={twice}"]) == 2
    assert "one is named twice; weights=2,1 counts a member twice" in capsys.readouterr().err


def test_a_misaligned_member_stops_the_vote_unless_told_to_go_on(vote):
    members = [masks(0), masks(1), masks(2, moved=5)]
    voted, out, error = vote(*members)
    assert voted is None
    assert "agreement (Dice) over 3 of 3 images" in out
    assert "m2.csv is misaligned: " in error
    assert "px right of" in error
    assert "anyway=true votes all the same" in error
    voted, out, error = vote(*members, words=["anyway=true"])
    np.testing.assert_array_equal(voted, sum(of.astype(int) for of in members) >= 2)
    assert "m2.csv is misaligned" in out
    assert "voted anyway" in out


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
    assert "image 'i1.png' is 20x96 in the images given, but was predicted at 96x96" in error


def test_a_flat_average_counts_folds_and_the_usual_one_members(runs, hands, tmp_path):
    """One fold of a run against both of another: of three folds, a third each, or a half and two quarters."""
    from phalanx.predict.stored import read_map
    from phalanx.votes import EnsembleOptions, predict_members

    names = [str(runs / "unet" / "fold0"), "fpn"]
    options = EnsembleOptions(
        mode="soft", members=names, runs=runs, root=hands, device="cpu", progress=False, maps=True, anyway=True
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


def test_a_soft_vote_stops_at_a_mirrored_member(tmp_path, capsys, monkeypatch):
    """Stored maps of discs, the second member's mirrored."""
    from phalanx.predict.maps import Maps
    from phalanx.predict.stored import write_about, write_map

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
                tmp_path / member / f"{name}.npz", Maps.of(image.astype(np.float32)), image=name, size=(SIDE, SIDE),
                classes=CLASSES, run_hashes={}, threshold=0.5,
            )  # fmt: skip
        write_about(tmp_path / member, CLASSES, {}, sizes, "", 0.5)
    words = ["ensemble", "mode=soft", "members=a,b", "images=images", "out=out.csv", "progress=false"]
    assert main(words) == 2
    told = capsys.readouterr()
    assert "agreement (Dice) over 16 of 20 images" in told.out
    assert "a or b is misaligned: a has its masks mirrored left to right of those of b" in told.err
    assert not (tmp_path / "out.csv").exists()
    assert main([*words, "anyway=true"]) == 0
    assert "voted anyway" in capsys.readouterr().out
