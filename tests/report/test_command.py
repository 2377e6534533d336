"""Bad input of `phalanx report`, files in its way, and the page at the end of a training."""

import shutil

import pytest
from tests import labelled

from phalanx.cli import main


def refused(capsys, *words):
    assert main(["report", *map(str, words)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_bad_input_is_one_line(runs, capsys, tmp_path):
    assert "expected RUN" in refused(capsys)
    assert "no trained run of that name" in refused(capsys, "nothing", f"runs={runs}")
    assert "did you mean" in refused(capsys, "unet", f"runs={runs}", "wrost=3")
    assert "is not an HTML file" in refused(capsys, "unet", f"runs={runs}", "out=page.pdf")
    assert "given twice" in refused(capsys, "unet", "unet", f"runs={runs}", f"out={tmp_path / 'a.html'}")
    page = tmp_path / "mine.html"
    page.write_text("<html>my own page</html>")
    assert "holds something else" in refused(capsys, "unet", f"runs={runs}", f"out={page}")
    assert page.read_text() == "<html>my own page</html>"


def test_a_damaged_fold_is_named(runs, capsys, tmp_path):
    shutil.copytree(runs / "unet", tmp_path / "unet")
    (tmp_path / "unet" / "fold0" / "oof.csv").write_text("nonsense\n")
    assert "oof.csv" in refused(capsys, tmp_path / "unet", f"out={tmp_path / 'a.html'}")
    assert not (tmp_path / "a.html").exists()


def test_a_damaged_log_is_a_note_on_the_page(runs, tmp_path):
    shutil.copytree(runs / "unet", tmp_path / "unet")
    (tmp_path / "unet" / "fold0" / "log.jsonl").write_text('{"no": "event"}\n')
    out = tmp_path / "a.html"
    words = ["report", tmp_path / "unet", f"out={out}", "images=0", "worst=0", "best=0", "progress=false"]
    assert main([str(word) for word in words]) == 0
    assert "line 1 is not an event" in out.read_text(encoding="utf-8")


@pytest.fixture
def words(tmp_path):
    root = labelled.make_folders(tmp_path / "set")

    def make(**changes):
        found = labelled.words(root, "folders", runs=tmp_path / "runs", name="r", fold="0", epochs=1, **changes)
        return ["train", *(f"{key}={value}" for key, value in found.items())]

    return make


def test_a_training_ends_with_the_page_unless_it_is_told_not_to(words, tmp_path, capsys):
    page = tmp_path / "runs" / "r" / "report.html"
    assert main(words()) == 0
    assert not page.exists()
    assert main(words(report="true")) == 0  # the fold is finished; the page alone is made
    first = page.stat().st_mtime_ns
    assert f"{page}: " in capsys.readouterr().out
    assert main(words(report="true")) == 0
    assert page.stat().st_mtime_ns == first  # it is not made again


def test_a_page_that_cannot_be_made_is_no_error_of_the_training(words, tmp_path, capsys):
    page = tmp_path / "runs" / "r" / "report.html"
    page.parent.mkdir(parents=True)
    page.write_text("mine")
    assert main(words(report="true")) == 0
    assert page.read_text() == "mine"
    assert "has no report: " in capsys.readouterr().out
