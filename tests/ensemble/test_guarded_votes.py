"""Votes by command with members that are misaligned outside the sample: stopped, and no file is left."""

import numpy as np
import pytest

from phalanx.cli import main
from phalanx.masks import rle
from phalanx.submission.table import write

SIDE, IMAGES = 128, 60
CLASSES = [f"c{c}" for c in range(6)]
WRONG = {20, 21, 22, 33, 34, 35}


def masks(seed, wrong=frozenset()):
    """bool[I, C, H, W] of discs; in the wrong images the first two classes are exchanged."""
    y, x = np.mgrid[:SIDE, :SIDE]
    rng = np.random.default_rng(seed)
    for image in range(IMAGES):
        places = np.random.default_rng([2, image]).uniform(20, 108, (6, 2)) + rng.normal(0, 0.5, (6, 2))
        if image in wrong:
            places[[0, 1]] = places[[1, 0]]
        yield f"i{image:02d}", np.stack([np.hypot(x - a, y - b) < 9 for a, b in places])


@pytest.fixture
def members(tmp_path, monkeypatch):
    from phalanx.predict.map_file import write_map
    from phalanx.predict.maps import ProbabilityMaps
    from phalanx.predict.stored import write_about

    monkeypatch.chdir(tmp_path)
    sizes = {f"i{image:02d}": (SIDE, SIDE) for image in range(IMAGES)}
    for name, wrong in (("a", set()), ("b", set()), ("c", WRONG)):
        rows = []
        for image, of in masks(ord(name), wrong):
            rows.append((image, [rle.encode(mask) for mask in of]))
            write_map(
                tmp_path / name / f"{image}.npz", ProbabilityMaps.of(of.astype(np.float32)), image=image,
                size=(SIDE, SIDE), classes=CLASSES, run_hashes={}, threshold=0.5,
            )  # fmt: skip
        write_about(tmp_path / name, CLASSES, {}, sizes, "key", 0.5)
        write(tmp_path / f"{name}.csv", rows, CLASSES, sizes)
    return tmp_path


@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_a_fault_in_some_images_stops_the_vote_and_leaves_no_file(members, mode, capsys):
    names = ",".join(f"{name}.csv" if mode == "hard" else name for name in "abc")
    words = ["ensemble", f"mode={mode}", f"members={names}", "out=out.csv", *(["progress=false"] * (mode == "soft"))]
    assert main(words) == 2
    told = capsys.readouterr()
    says = {
        "hard": "c.csv is misaligned: c0 and c1 are exchanged in 6 of 60 images (i20, i21, i22 and 3 more)",
        "soft": "c is misaligned: c0 and c1 are exchanged in 3 of 32 images (i20, i21, i22)",  # before it predicts more
    }
    assert says[mode] in told.err
    assert not (members / "out.csv").exists()
    assert not (members / "out.json").exists()
    assert main([*words, "allow_misaligned=true"]) == 0
    assert "c0 and c1 are exchanged in 6 of 60 images" in capsys.readouterr().out
    text = (members / "out.json").read_text(encoding="utf-8")
    assert "c0 and c1 are exchanged in 6 of 60 images" in text
