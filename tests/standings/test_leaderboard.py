"""The leaderboard: public and private scores beside the out-of-fold metric, earlier ledgers, the picture; top:N."""

import json
from pathlib import Path

import cv2
import pytest
from tests.standings.folders import make_run

from phalanx.cli import main
from phalanx.errors import ConfigError
from phalanx.runs.ledger import COLUMNS, LEDGER, LedgerRow, add, read
from phalanx.runs.reader import FoldRun
from phalanx.runs.vote_score import VoteScore, store, stored
from phalanx.runtime.metric import Metric
from phalanx.runtime.sidecar import read_sidecar
from phalanx.standings.leaderboard import entries, to_text
from phalanx.standings.top import best_members
from phalanx.submission.table import write


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Runs a, b, c with CSVs of a and b; the configurations stay those of the repository."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("a", 0.90), ("b", 0.95), ("c", 0.93)):
        make_run(Path("runs") / name, {0: value, 1: value, 2: value})
    for name in ("a", "b"):
        hashes = {f"runs/{name}/fold{k}": FoldRun(Path(f"runs/{name}/fold{k}")).weights_digest() for k in range(3)}
        write(Path(f"submissions/{name}.csv"), [("i", ["1 15"])], ["x"], {"i": (3, 5)}, hashes)
    return tmp_path


def test_public_and_private_scores_and_the_gap(here, capsys):
    assert main(["ledger", "add", "submissions/a.csv", "public=.9728", "private=.9735"]) == 0
    assert main(["ledger", "add", "submissions/b.csv", "public=0.96"]) == 0
    assert main(["ledger", "add", "runs/c"]) == 0
    capsys.readouterr()
    assert main(["leaderboard", "json=l.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:8] == [".9728*", ".9735", "0.9000", "+0.0728", "dice", "file", "a", "fpn/mobilenet_v2"]
    assert lines[2].split()[:4] == ["0.96", "-", "0.9500*", "+0.0100"]
    assert lines[3].split()[:3] == ["-", "-", "0.9300"]
    found = json.loads(Path("l.json").read_text())["rows"]
    assert [one["name"] for one in found] == ["a", "b", "c"]
    assert found[0]["gap"] == pytest.approx(0.0728)
    assert (found[0]["task"], found[0]["data"]) == ("segment", "hand")
    for sort, order in (("oof", "bca"), ("gap", "abc"), ("private", "abc")):
        assert "".join(one.row.name for one in entries(read(LEDGER), sort))[:2] == order[:2]


def test_a_csv_of_weights_that_are_no_more_has_no_metric(here):
    path = Path("runs/a/fold1/final/state.json")
    path.write_text(json.dumps({"files": {"weights.safetensors": "e" * 64}}))
    assert main(["ledger", "add", "submissions/a.csv"]) == 0
    (row,) = read(LEDGER)
    assert (row.out_of_fold, row.task, row.model) == ("", "segment", "fpn/mobilenet_v2")


def test_score_is_public_and_an_earlier_ledger_is_read(here):
    head = "time,kind,name,experiment,commit,metric,higher_is_better,folds,out_of_fold,members,file,sha256,score,note"
    LEDGER.write_text(f"{head}\n2026-01-01,run,a,base,c,dice,true,0:0.9,0.9000,,runs/a,ab,0.97,mine\n")
    (old,) = read(LEDGER)
    assert (old.public, old.private, old.task, old.note) == ("0.97", "", "", "mine")
    (entry,) = entries([old])
    assert (entry.row.task, entry.row.model, entry.gap) == ("segment", "fpn/mobilenet_v2", pytest.approx(0.07))
    assert main(["ledger", "add", "submissions/b.csv", "score=0.5"]) == 0
    assert [row.public for row in read(LEDGER)] == ["0.97", "0.5"]
    assert LEDGER.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert main(["ledger", "add", "submissions/b.csv", "private=0.4"]) == 0  # what is there stays
    assert [(row.public, row.private) for row in read(LEDGER)][1] == ("0.5", "0.4")


def test_tasks_and_metrics_have_their_own_tables():
    common = {"time": "2026", "kind": "run", "name": "x", "out_of_fold": "0.5", "task": "classify"}
    rows = [
        LedgerRow(**common | {"data": "brain", "metric": "log_loss", "higher_is_better": "false", "out_of_fold": v})
        for v in ("0.3", "0.2")
    ]
    rows += [LedgerRow(**common | {"data": "hand", "metric": "dice", "task": "segment", "higher_is_better": "true"})]
    found = entries(rows)
    assert [(one.oof, "oof" in one.best) for one in found] == [(0.2, True), (0.3, False), (0.5, False)]
    assert to_text(found).count("out of fold") == 2


def test_the_picture_shows_entries_with_both_scores(here, capsys):
    assert main(["ledger", "add", "submissions/a.csv"]) == 0
    assert main(["leaderboard", "picture=gap.png"]) == 2
    assert "no entry has a public score and one out of fold" in capsys.readouterr().err
    assert main(["ledger", "add", "submissions/a.csv", "public=.9"]) == 0
    assert main(["leaderboard", "picture=gap.png"]) == 0
    assert main(["leaderboard", "picture=gap.png"]) == 0  # its own picture is replaced
    image = cv2.imread("gap.png")
    assert image.shape[1] > 1000
    assert (image != 255).any()
    Path("mine.png").write_bytes(b"mine")
    assert main(["leaderboard", "picture=mine.png"]) == 2
    assert Path("mine.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ledger", "add", "submissions/a.csv", "public=high"], "public=high: expected the leaderboard's number"),
        (["ledger", "add", "submissions/a.csv", "private=nan"], "private=nan: expected the leaderboard's number"),
        (["ledger", "add", "submissions/a.csv", "public=1", "score=1"], "score: is the public score"),
        (["leaderboard", "sort=publik"], "sort=publik: nothing of that name to sort by; did you mean public?"),
        (["leaderboard", "picture=a.jpg"], "picture=a.jpg: expected a name that ends in .png"),
        (["leaderboard", "pictur=a.png"], "pictur: no such option; did you mean picture?"),
    ],
)
def test_impossible_words_are_refused(here, capsys, words, says):
    add(LEDGER, LedgerRow(time="2026", kind="run", name="x"))
    assert main(words) == 2
    assert says in capsys.readouterr().err


def test_a_votes_score_is_stored_in_its_sidecar_and_shown(here):
    vote = {"how": "hard", "members": ["submissions/a.csv", "submissions/b.csv"], "agreement": None}
    path = Path("submissions/v.csv")
    write(path, [("i", ["1 14"])], ["x"], {"i": (3, 5)}, {}, vote)
    score = VoteScore(Metric("dice"), 0.9612, (0.95, 0.97), 24, 12, "segment", "hand")
    store(path, score)
    sidecar, _ = read_sidecar(path)  # still that of the CSV
    assert stored(sidecar.vote, path) == score
    assert sidecar.vote["members"] == vote["members"]
    assert main(["ledger", "add", str(path), "public=0.97"]) == 0
    (entry,) = entries(read(LEDGER))
    assert (entry.row.out_of_fold, entry.row.metric, entry.gap) == ("0.9612", "dice", pytest.approx(0.0088))


def test_top_names_the_best_by_a_column(here, capsys):
    assert best_members("top:2", Path("runs"), "runs") == ["runs/b", "runs/c"]
    assert "members=top:2: runs/b (0.9500), runs/c (0.9300)" in capsys.readouterr().out
    assert best_members("top:2:oof", Path("runs"), "any") == ["submissions/b.csv", "runs/c"]
    assert best_members("top:1:oof:[ac]", Path("runs"), "runs") == ["runs/c"]
    with pytest.raises(ConfigError, match="runs/c has no CSV of its weights"):
        best_members("top:2", Path("runs"), "csvs")
    for name, public, private in (("a", ".97", ".5"), ("b", ".96", ".6")):
        assert main(["ledger", "add", f"submissions/{name}.csv", f"public={public}", f"private={private}"]) == 0
    assert best_members("top:2:public", Path("runs"), "runs") == ["runs/a", "runs/b"]
    assert best_members("top:1:private", Path("runs"), "csvs") == ["submissions/b.csv"]
    (Path("runs/b/fold1") / "done.json").unlink()
    assert best_members("top:2", Path("runs"), "runs") == ["runs/c", "runs/a"]  # b is not finished


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("top:0", "expected top:N"),
        ("top:2:pubic", "expected top:N"),
        ("top:", "expected top:N"),
        ("top:4", "there are 3 runs finished with all folds"),
        ("top:1:public", "there are 0 runs with a public score"),
        ("top:1:oof:none*", "there are 0 runs"),
    ],
)
def test_what_has_no_rank_is_refused(here, capsys, text, says):
    for command in (["ensemble", "mode=hard"], ["tune"]):
        assert main([*command, f"members={text}"]) == 2
        assert says in capsys.readouterr().err


def test_runs_that_may_not_be_ranked_together_are_refused(here, capsys):
    make_run(Path("runs/brain"), {0: 0.99, 1: 0.99, 2: 0.99}, experiment="demo_brain", metric="accuracy")
    assert main(["ensemble", "mode=hard", "members=top:2"]) == 2
    assert "may not be ranked together" in capsys.readouterr().err
    assert best_members("top:2:oof:?", Path("runs"), "runs") == ["runs/b", "runs/c"]
