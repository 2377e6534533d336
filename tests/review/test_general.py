"""``phalanx review`` of any task: tables agree with the evaluation, pictures are drawn, votes are those of members."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from phalanx.cli import main
from phalanx.commands.tasks import TASKS
from phalanx.review.evaluate_options import EvaluateOptions


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def reviewed(*words):
    return main(["review", *map(str, words)])


def test_tables_have_the_evaluation_and_are_sorted(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert reviewed("fpn", f"runs={runs}", f"out={out}", "worst=2", "sort=fn", "progress=false") == 0
    one = TASKS["segment"].evaluate("fpn", EvaluateOptions(runs=runs))
    rows = rows_of(out / "classes.csv")
    missed = [float(row["fn"]) for row in rows]
    assert missed == sorted(missed, reverse=True)
    table = {row.label: row for row in one.table()}
    assert {row["class"] for row in rows} == set(one.classes)
    for row in rows:
        own = table[row["class"]]
        assert (float(row["fp"]), float(row["fn"])) == (own.fp, own.fn)
        assert float(row["dice"]) == pytest.approx(own.value, abs=1e-4)
        assert row["recall"] == f"{own.recall:.4f}"
    images = rows_of(out / "images.csv")
    assert {row["image_name"]: float(row["Dice"]) for row in images} == pytest.approx(
        dict(zip(one.names, one.per_image.tolist(), strict=True)), abs=1e-4
    )
    for name in ("worst.png", "classes.png", "balance.png", "size.png"):
        assert min(Image.open(out / name).size) > 100
    assert not (out / "confusion.png").exists()
    report = json.loads((out / "review.json").read_text())
    assert report["finished"]
    assert report["runs"][0]["dice"] == pytest.approx(one.value)
    assert "precision" in capsys.readouterr().out


def test_another_run_and_chosen_classes_are_beside_each_other(runs, tmp_path):
    out = tmp_path / "out"
    other = next(path.name for path in sorted(runs.iterdir()) if path.is_dir() and path.name != "fpn")
    assert reviewed("fpn", other, f"runs={runs}", f"out={out}", "worst=1", "classes=Radius,Ulna") == 0
    rows = rows_of(out / "classes.csv")
    assert {row["class"] for row in rows} == {"Radius", "Ulna"}
    assert all(row[f"fp {other}"] for row in rows)


def test_a_class_that_is_not_there_is_named_with_a_hint(runs, tmp_path, capsys):
    assert reviewed("fpn", f"runs={runs}", f"out={tmp_path / 'out'}", "classes=Radus") == 2
    assert "Radius" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_files_of_others_are_not_replaced(runs, tmp_path, capsys):
    (tmp_path / "worst.png").write_text("mine")
    assert reviewed("fpn", f"runs={runs}", f"out={tmp_path}") == 2
    assert (tmp_path / "worst.png").read_text() == "mine"


@pytest.mark.parametrize("words", [["sort=size"], ["worst=0"], ["wrst=3"], ["images=x"]])
def test_bad_options_are_refused(runs, tmp_path, capsys, words):
    assert reviewed("fpn", f"runs={runs}", f"out={tmp_path / 'out'}", *words) == 2
    assert words[0].split("=")[0] in capsys.readouterr().err


def test_a_csv_that_is_not_a_vote_says_what_to_do(runs, tmp_path, capsys):
    file = tmp_path / "a.csv"
    file.write_bytes((runs / "fpn" / "fold0" / "oof.csv").read_bytes())
    assert reviewed(file, f"runs={runs}", f"out={tmp_path / 'out'}") == 2
    assert "truth=PATH" in capsys.readouterr().err


def test_suspects_of_masks_are_listed_drawn_and_quarantined(runs, tmp_path, capsys):
    out, picture, quarantine = tmp_path / "s.csv", tmp_path / "s.png", tmp_path / "q.txt"
    words = [f"runs={runs}", f"out={out}", f"picture={picture}", f"quarantine={quarantine}", "top=2"]
    assert main(["suspects", "fpn", *words]) == 0
    rows = rows_of(out)
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert set(scores) <= set(np.clip(scores, 0, 1))
    assert min(Image.open(picture).size) > 100
    first = {row["image_name"] for row in rows[:2]}
    lines = quarantine.read_text().splitlines()[1:]
    assert {line.split(" # ")[0] for line in lines} == first
    assert all("suspect annotation" in line for line in lines)
    assert main(["suspects", "fpn", f"runs={runs}", f"out={out}", "picture=x.jpg"]) == 2


def test_compare_of_runs_shows_classes(runs, capsys):
    other = next(path.name for path in sorted(runs.iterdir()) if path.is_dir() and path.name != "fpn")
    assert main(["compare", str(runs / "fpn"), str(runs / other), "sort=fn"]) == 0
    printed = capsys.readouterr().out
    assert "precision" in printed
    assert "Radius" in printed
