"""docs/results.md: every number from a file, verdicts by the stated rule, and the committed page up to date."""

import re
from pathlib import Path

import numpy as np
import pytest

from phalanx.cli import main
from phalanx.runtime.metric import Metric
from phalanx.sweep.claims import document
from phalanx.sweep.results import recipe_of
from phalanx.sweep.table import read_table

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_page_is_what_the_command_writes(monkeypatch):
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert page == document(), "run `phalanx claims`"


def cells(page, row):
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {row} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture
def kept(place, invented):
    """keep(table, row, seed, dice): an invented result of the row's present recipe, written."""

    def keep(name, row, seed, dice, **changes):
        table = read_table(name)
        config = table.recipe(table.row(row), "tiny", seed)
        fresh = {"table": name, "scale": "tiny", "recipe": recipe_of(config), **changes}
        invented(row, seed, np.broadcast_to(dice, (4, len(config.data.classes))), **fresh).write()

    return keep


def test_a_page_without_results_says_so(place):
    page = document()
    assert "Nothing yet." in page
    assert cells(page.split("## Tiny")[1], "faster") == ["faster", "plain", "", "+0.0100", "worked", "", "", "not run"]


def test_a_page_shows_published_ours_and_verdict(place, kept):
    for seed, (plain, faster) in enumerate([(0.5, 0.6), (0.52, 0.625), (0.51, 0.61)]):
        kept("one", "plain", seed, plain)
        kept("one", "faster", seed, faster)
    page = document()
    assert cells(page.split("## Tiny")[1], "plain")[5] == "0.5100 ± 0.0100 (3)"
    row = cells(page.split("## Tiny")[1], "faster")
    assert row[5] == "0.6117 ± 0.0126 (3)"
    gain = re.fullmatch(r"\+0\.1017 \[(.\S+), (.\S+)\]; \+0\.1000, \+0\.1050, \+0\.1000", row[6])
    assert gain
    assert 0.09 < float(gain[1]) < 0.1017 < float(gain[2]) < 0.113
    assert row[7] == "agrees"
    assert "| tiny | d | 6 | 3 | 1 agrees, 3 not run |" in page
    assert cells(page.split("## Tiny")[2], "faster")[7] == "not run"


def test_a_loss_that_falls_is_a_gain_of_the_page(place, kept):
    loss = Metric("loss", higher_is_better=False, decimals=2)
    for seed, (plain, faster) in enumerate([(0.6, 0.5), (0.62, 0.53), (0.61, 0.5)]):
        kept("one", "plain", seed, plain, metric=loss)
        kept("one", "faster", seed, faster, metric=loss)
    page = document().split("## Tiny")[1]
    row = cells(page, "faster")
    assert (cells(page, "row")[5], row[5], row[7]) == ("our Loss (seeds)", "0.51 ± 0.02 (3)", "agrees")
    assert row[6].endswith("; -0.10, -0.09, -0.11")


def test_data_sets_are_not_mixed(place, kept):
    kept("one", "plain", 0, 0.5)
    kept("one", "faster", 0, 0.9, data="other")
    page = document()
    assert "Scale tiny, on d:" in page
    assert "Scale tiny, on other:" in page
    assert "+0.4" not in page


def test_results_by_another_recipe_or_row_are_listed_and_not_counted(place, kept):
    kept("one", "plain", 0, 0.5)
    kept("one", "faster", 0, 0.6)
    file = place / "configs/sweep/one.yaml"
    file.write_text(file.read_text().replace("optim.lr=2e-2", "optim.lr=3e-2"))
    page = document()
    assert "- `tiny/d/one/faster.seed0.fold0.json`: optim.lr was 0.02, now it is 0.03" in page
    assert cells(page.split("## Tiny")[1], "faster")[7] == "not run"
    file.write_text(file.read_text().replace("faster", "quicker"))
    assert "faster.seed0.fold0.json`: the row no longer exists" in document()


def test_claims_takes_a_markdown_file(place, capsys):
    assert main(["claims", "out=there.md"]) == 0
    assert Path("there.md").read_text() == document()
    assert main(["claims", "scale=small"]) == 2
    assert "expected out=FILE.md or nothing" in capsys.readouterr().err
