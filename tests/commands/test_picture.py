"""Pictures: the options that the messages advise."""

import json

import cv2
import numpy as np
import pytest

from phalanx import cli

SQUARE = {"annotations": [{"label": "a", "points": [[8, 8], [40, 8], [40, 40], [8, 40]]}]}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two images with ground truth, and a CSV without sidecar of one of them."""
    for number in (0, 1):
        for folder in ("images", "truth"):
            (tmp_path / folder / f"P{number}").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / f"images/P{number}/im{number}.png"), np.full((48, 64), 99, np.uint8))
        (tmp_path / f"truth/P{number}/im{number}.json").write_text(json.dumps(SQUARE))
    (tmp_path / "x.csv").write_text("image_name,class,rle\nim0.png,a,1 9\n")
    monkeypatch.setattr("phalanx.config.compose.config_folder", lambda: tmp_path)  # no recipe is needed
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_csv_without_sidecar_of_some_images_is_drawn_as_advised(place, capsys):
    words = ["picture", "x.csv", "truth", "images", "out=a.png"]
    assert cli.main(words) == 2
    assert "give it, as in size=" in capsys.readouterr().err
    words.append("size=48x64")
    assert cli.main(words) == 2
    assert "score what is there with partial=true" in capsys.readouterr().err
    assert cli.main([*words, "--partial"]) == 0
    assert cv2.imread("a.png") is not None


@pytest.mark.parametrize(
    ("word", "near"), [("surface=2", "surface"), ("row=3", "did you mean rows?"), ("sise=1x1", "size")]
)
def test_other_options_are_refused(place, capsys, word, near):
    assert cli.main(["picture", "x.csv", "truth", "images", "out=a.png", word]) == 2
    assert f"{word.split('=')[0]}: no such option" in (text := capsys.readouterr().err)
    assert near in text
