"""The ledger: what stands in it, that nothing is lost or doubled, that nothing strange is written over."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys

import pytest

from phalanx.cli import main
from phalanx.errors import DataError
from phalanx.runs.ledger import COLUMNS, LEDGER, LedgerRow, add, csv_row, read, run_row
from phalanx.standings.leaderboard import entries, to_text
from phalanx.submission.table import write


def row(name="a", **changes):
    values = dict.fromkeys(COLUMNS, "") | {"kind": "run", "name": name, "sha256": name * 8, "time": "2026-01-01"}
    return LedgerRow(**values | changes)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_is_told_by_its_folds(runs):
    found = run_row(runs / "unet", "base")
    scores = [json.loads((runs / "unet" / f"fold{k}" / "oof_score.json").read_text()) for k in (0, 1)]
    assert found.folds == " ".join(f"{k}:{score['dice']:.4f}" for k, score in enumerate(scores))
    pooled = sum(sum(score["per_image"].values()) for score in scores) / sum(score["images"] for score in scores)
    assert found.out_of_fold == f"{pooled:.4f}"
    hashes = [hashlib.sha256((runs / f"unet/fold{k}/final/weights.safetensors").read_bytes()) for k in (0, 1)]
    assert found.sha256 == hashlib.sha256("".join(h.hexdigest() for h in hashes).encode()).hexdigest()
    commit = json.loads((runs / "unet/fold0/environment.json").read_text())["commit"]
    assert (found.kind, found.name, found.experiment, found.commit) == ("run", "unet", "base", commit or "")


def test_an_unfinished_run_has_no_row(runs, here):
    shutil.copytree(runs / "unet", here / "unet")
    (here / "unet" / "fold1" / "done.json").unlink()
    assert run_row(here / "unet") is None
    assert run_row(here / "unet", every=False) is None
    shutil.rmtree(here / "unet" / "fold1")
    assert run_row(here / "unet") is None
    alone = run_row(here / "unet", every=False)
    assert alone.folds == f"0:{float(alone.out_of_fold):.4f}"
    with pytest.raises(DataError, match="not a run; no fold was begun there"):
        run_row(here)


def test_finished_runs_and_votes_add_themselves_where_they_belong(runs, tiny, here, capsys):
    shutil.copytree(runs / "unet", here / "runs" / "unet")
    words = tiny("unet", fold="0,1", name="unet", runs="runs")
    assert main(["train", *words]) == 0  # finished: nothing is trained
    assert main(["train", *words]) == 0
    (only,) = read(LEDGER)
    assert (only.kind, only.name, only.experiment) == ("run", "unet", "base")
    assert capsys.readouterr().out.count("submissions/ledger.csv: unet") == 1
    for name in ("a", "b"):
        write(here / f"{name}.csv", [("i", ["1 15"])], ["x"], {"i": (3, 5)})
    assert main(["ensemble", "mode=hard", "members=a.csv,b.csv", "weights=2,1", "quorum=2"]) == 0
    voted = read(LEDGER)[1]
    assert (voted.kind, voted.name, voted.file) == ("vote", "hard", "submissions/hard.csv")
    assert voted.members == "hard weights=2,1 quorum=2; a.csv; b.csv"
    again = csv_row(here / "submissions" / "hard.csv")  # as `phalanx ledger add` would have it, by the sidecar
    assert (again.kind, again.members) == (voted.kind, voted.members)
    assert voted.sha256 == hashlib.sha256((here / "submissions" / "hard.csv").read_bytes()).hexdigest()
    assert main(["ensemble", "mode=hard", "members=a.csv,b.csv", "out=elsewhere/x.csv"]) == 0
    shutil.copytree(runs / "fpn", here / "trials" / "fpn")
    assert main(["train", *tiny("fpn", fold="0,1", name="fpn", runs="trials")]) == 0
    assert len(read(LEDGER)) == 2
    assert sorted(path.name for path in here.iterdir() if path.is_dir()) == [
        "elsewhere",
        "runs",
        "submissions",
        "trials",
    ]


def test_the_leaderboards_score_is_told_later(here, capsys):
    write(here / "submissions" / "a.csv", [("i", ["1 15"])], ["x"], {"i": (3, 5)}, {"runs/base/fold0": "abc"})
    assert main(["ledger", "add", "submissions/a.csv"]) == 0
    assert main(["ledger", "add", "submissions/a.csv", "score=0.976", "note=the last, and best"]) == 0
    (only,) = read(LEDGER)
    assert (only.public, only.note, only.members) == ("0.976", "the last, and best", "runs/base/fold0")
    with LEDGER.open(newline="") as file:
        assert [r["note"] for r in csv.DictReader(file)] == ["the last, and best"]
    assert main(["ledger", "add", "submissions/a.csv"]) == 0
    assert "is there already" in capsys.readouterr().out
    assert main(["leaderboard"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:7] == ["0.976", "-", "-", "-", "-", "file", "a"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ledger", "add"], "expected add RUN|FILE.csv"),
        (["ledger", "ad", "a.csv"], "expected add RUN|FILE.csv"),
        (["ledger", "add", "a.csv", "scor=1"], "expected add RUN|FILE.csv"),
        (["ledger", "add", "none.csv"], "none.csv: cannot be read"),
        (["ledger", "add", "a.csv", "score=high"], "score=high: expected the leaderboard's number"),
        (["leaderboard"], "submissions/ledger.csv: no such ledger"),
        (["leaderboard", "all=true"], "all: no such option"),
    ],
)
def test_impossible_words_are_refused(here, capsys, words, says):
    write(here / "a.csv", [("i", ["1 15"])], ["x"], {"i": (3, 5)})
    assert main(words) == 2
    assert says in capsys.readouterr().err
    assert not LEDGER.exists()


def test_a_vote_stays_a_vote_and_another_file_is_another_row(here):
    path = here / "a.csv"
    write(path, [("i", ["1 15"])], ["x"], {"i": (3, 5)})
    assert add(LEDGER, csv_row(path, ["m"], "hard"))
    assert not add(LEDGER, csv_row(path))
    assert [r.kind for r in read(LEDGER)] == ["vote"]
    write(path, [("i", ["1 14"])], ["x"], {"i": (3, 5)})
    assert add(LEDGER, csv_row(path))
    assert [r.kind for r in read(LEDGER)] == ["vote", "file"]


def test_a_vote_that_a_broken_ledger_cannot_take_says_so_and_is_added_later(here, capsys):
    write(here / "a.csv", [("i", ["1 15"])], ["x"], {"i": (3, 5)})
    LEDGER.parent.mkdir()
    LEDGER.write_text("a,b\n")
    words = ["ensemble", "mode=hard", "members=a.csv", "out=submissions/v.csv"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "submissions/v.csv: is written, but not its row" in told
    assert "line 1: the header is 'a,b'" in told
    assert (here / "submissions" / "v.csv").is_file()
    assert LEDGER.read_text() == "a,b\n"
    LEDGER.write_text("")  # nothing in it is no other table
    assert main(words) == 0
    assert [r.name for r in read(LEDGER)] == ["v"]


def test_odd_scores_and_notes_leave_the_table_in_order(here):
    rows = [row("a", public="nan"), row("b", public="0.5", note="two\nlines"), row("c", public="best")]
    assert [entry.row.name for entry in entries(rows)] == ["b", "a", "c"]
    assert "two lines" in to_text(entries(rows))


def test_the_order_is_by_score_then_out_of_fold(here):
    rows = [row("a", out_of_fold="0.9"), row("b", out_of_fold="0.95"), row("c", public="0.5"), row("d")]
    assert [entry.row.name for entry in entries(rows)] == ["c", "b", "a", "d"]


@pytest.mark.parametrize("content", ["a,b\n1,2\n", ",".join(COLUMNS) + "\n1,2\n", "\xff"])
def test_another_table_is_left_as_it_is(here, content):
    LEDGER.parent.mkdir()
    LEDGER.write_bytes(content.encode("latin1"))
    with pytest.raises(DataError, match=r"ledger\.csv"):
        add(LEDGER, row())
    assert LEDGER.read_bytes() == content.encode("latin1")


def test_two_processes_at_once_lose_nothing(here):
    code = (
        "import sys; from phalanx.runs.ledger import COLUMNS, LEDGER, LedgerRow, add\n"
        "for i in range(25): add(LEDGER, LedgerRow(**dict.fromkeys(COLUMNS, sys.argv[1]) | {'name': str(i)}))"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "ab"]
    assert [process.wait() for process in started] == [0, 0]
    assert sorted((r.kind, int(r.name)) for r in read(LEDGER)) == [(k, i) for k in "ab" for i in range(25)]
    assert [path.name for path in LEDGER.parent.iterdir() if path.suffix == ".part"] == []


def test_a_ledger_from_before_metrics_is_read_and_extended(here):
    head = "time,kind,name,experiment,commit,folds,out_of_fold,members,file,sha256,score,note"
    LEDGER.parent.mkdir()
    LEDGER.write_text(f"{head}\n2026-01-01,run,a,base,c,0:0.9,0.9000,,runs/a,ab,0.97,mine\n")
    (old,) = read(LEDGER)
    assert (old.metric, old.higher_is_better, old.folds, old.public, old.note) == ("", "", "0:0.9", "0.97", "mine")
    add(LEDGER, row("b", metric="log_loss", higher_is_better="false", out_of_fold="0.2"))
    assert [one.name for one in read(LEDGER)] == ["a", "b"]
    assert LEDGER.read_text().splitlines()[0] == ",".join(COLUMNS)


def test_the_direction_of_the_metric_decides_the_order():
    rows = [row(n, metric="log_loss", higher_is_better="false", out_of_fold=v) for n, v in (("a", "0.3"), ("b", "0.2"))]
    assert [entry.row.name for entry in entries(rows)] == ["b", "a"]
