"""The one table of training images: its rows, its weights, its file, and the command that prints it."""

import csv
import math
import shutil

import cv2
import numpy as np
import pytest

from phalanx.cli import main
from phalanx.config.compose import compose, split_words
from phalanx.data.metadata import read_metadata
from phalanx.data.quarantine import kept_records, write_quarantine
from phalanx.data.records import train_records
from phalanx.data.rules import select
from phalanx.data.selection import HEADER, Selection
from phalanx.data.selection import SelectionRow as Row
from phalanx.errors import ConfigError, DataError


@pytest.fixture
def mixed(hands, tmp_path):
    """A data set for every rule at once: (words, image by what happens to it)."""
    root = tmp_path / "hands"
    shutil.copytree(hands, root)
    records = train_records(root)
    sex = read_metadata(root)["sex"]
    quarantined, unlabelled, bright = records[0], records[1], next(r for r in records[4:] if sex[r.group] == "female")
    write_quarantine(tmp_path / "q.txt", {quarantined.name: 'seen twice, see "notes"'})
    unlabelled.labels.unlink()
    image = cv2.imread(str(bright.image), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(bright.image), cv2.circle(image, (64, 64), 23, 250, -1))
    words = [
        f"data.root={root}", f"data.quarantine={tmp_path / 'q.txt'}", "data.skip_unlabelled=true",
        "data.drop.bright=3", "data.oversample.sex.female=2.5", "data.oversample.height={150..165: 3}",
    ]  # fmt: skip
    return words, {"quarantine": quarantined.name, "skip_unlabelled": unlabelled.name, "drop": bright.name}


def read(words):
    data = compose(split_words(words)).data
    records = kept_records(data, report=False)
    return records, select(records, data), data


def test_every_image_has_one_row_and_every_rule_its_reason(mixed):
    words, expected = mixed
    records, selection, data = read(words)
    sheet = read_metadata(data.root)
    assert [row.image for row in selection.rows] == sorted(
        path.name for path in (data.root / "train/DCM").rglob("*.png")
    )
    assert {row.rule: row.image for row in selection.left_out} == expected
    assert selection.by_image[expected["quarantine"]] == Row(
        expected["quarantine"], 0.0, "none", "quarantine", 'seen twice, see "notes"'
    )
    assert selection.by_image[expected["skip_unlabelled"]][1:] == (0.0, "none", "skip_unlabelled", "no annotation")
    dropped = selection.by_image[expected["drop"]]
    assert dropped[1:4] == (0.0, "annotation", "drop")
    assert dropped.reason.startswith("bright: ")
    others = [record for record in records if record.name != expected["drop"]]
    assert selection.trained(records) == others
    factors = []
    for record in others:
        female = 2.5 if sheet["sex"][record.group] == "female" else 1
        short = 3 if 150 <= sheet["height"][record.group] <= 165 else 1
        row = selection.by_image[record.name]
        parts = ["sex female x 2.5"] * (female > 1) + ["height 150..165 x 3"] * (short > 1)
        assert row == Row(record.name, female * short, "annotation", "oversample" if parts else "", ", ".join(parts))
        factors.append(female * short)
    assert len(set(factors)) >= 3  # or the phantom shows too little here
    weights = selection.weights(others)
    assert weights.dtype == np.float64
    assert weights.tolist() == factors


def test_without_oversampling_there_are_no_weights(mixed):
    words, _ = mixed
    records, selection, _ = read(words[:4])
    assert selection.weights(records) is None
    assert {row.weight for row in selection.rows} == {0.0, 1.0}
    records, selection, _ = read(words[:1] + words[2:3])
    assert [row.rule for row in selection.left_out] == ["skip_unlabelled"]


def test_a_list_of_what_a_fold_leaves_out(mixed):
    words, expected = mixed
    records, selection, _ = read(words)
    text = selection.left_out_text(records)
    assert text.splitlines()[0] == f"1 of {len(records)} training images left out"
    assert text.splitlines()[1].startswith(f"  {expected['drop']} (data.drop: bright: ")
    assert selection.left_out_text(selection.trained(records)) == ""
    with pytest.raises(ConfigError, match=r"data\.drop: leaves no training image"):
        selection.trained([record for record in records if record.name == expected["drop"]])


def test_the_file_reads_back_and_other_tables_are_refused(mixed, tmp_path):
    _, selection, _ = read([*mixed[0][:-2], "data.oversample.sex.female=1.34", "data.oversample.sex.male=0.1"])
    path = tmp_path / "s.csv"
    path.write_text(selection.to_csv())
    assert Selection.read(path) == selection
    with path.open(newline="") as file:
        assert tuple(next(csv.reader(file))) == HEADER
    for text in ("", "a,b\n1,2\n", ",".join(HEADER) + "\nx.png,much,annotation,,\n", ",".join(HEADER) + "\nx.png\n"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"s\.csv: not a selection of training images \("):
            Selection.read(path)
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        Selection.read(tmp_path / "none.csv")


def test_a_difference_is_one_of_weights():
    one = Selection(
        (
            Row("a"),
            Row("b", 2.0, rule="oversample", reason="sex male x 2"),
            Row("c", 0.0, rule="drop"),
        )
    )
    assert one.difference(Selection((Row("a", reason="other"), Row("b", 2.0)))) == ""  # c: not trained on in either
    assert one.difference(Selection((Row("a"), Row("b", 2.5), Row("c")))) == "b had weight 2, now 2.5"
    assert one.difference(Selection((Row("b", 2.0),))) == "a had weight 1, now 0"
    assert one.difference(Selection((*one.rows[:2], Row("c")))) == "c had weight 0, now 1"


def test_the_text_counts_and_lists_what_a_rule_decided(mixed):
    selection = read(mixed[0])[1]
    lines = selection.to_text().splitlines()
    total = sum(row.weight for row in selection.rows)
    assert lines[0] == (f"12 training images: 9 trained on, {total:g} appearances per epoch, 3 left out")
    count = sum(row.rule == "oversample" for row in selection.rows)
    assert lines[1:5] == [
        "  data.drop: 1 image(s), weight 0",
        f"  data.oversample: {count} image(s), weight 2.5 to 7.5",
        "  data.quarantine: 1 image(s), weight 0",
        "  data.skip_unlabelled: 1 image(s), weight 0",
    ]
    table = lines[6:]
    assert table[0].split() == list(HEADER)
    assert len(table) == 1 + 3 + count
    assert len(selection.to_text(every=True).splitlines()) == 7 + 12
    ordinary = Selection((Row("a.png"),))
    assert ordinary.to_text().splitlines()[1:] == ["  no rule applies: every image has weight 1"]
    assert ordinary.to_text(every=True).splitlines()[-1].split() == ["a.png", "1", "annotation"]


def test_the_command_prints_and_writes_the_table(mixed, tmp_path, capsys):
    words, _ = mixed
    _, selection, _ = read(words)
    out = tmp_path / "new" / "s.csv"
    for extra, every in (([], False), (["all=true"], True)):  # the second replaces the first one's file
        assert main(["selection", *words, f"out={out}", *extra]) == 0
        assert capsys.readouterr().out == f"{selection.to_text(every=every)}\n{out}\n"
        assert Selection.read(out) == selection
    assert main(["selection", *words]) == 0
    assert capsys.readouterr().out == selection.to_text() + "\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.root=nowhere"], "data.root=nowhere: no such folder"),
        (["data=hnad"], "hnad"),
        (["oversample=2"], "oversample: no such option"),
        (["data.drop.bright=1e6"], "data.drop.bright=1e+06: no training image is brighter"),
        (["data.drop.dice={run:none,worst:3}"], "data.drop.dice.run=none: no such run in runs/"),
        (["data.oversample.age={..3:2}"], "data.oversample: no training image is age=..3"),
        (["all=yes"], "all=yes: expected true or false"),
        (["out=table.txt"], "out=table.txt: expected a file name that ends in .csv"),
        (["out=mine.csv"], "mine.csv: exists, and"),
        (["out=folder.csv"], "folder.csv: is a folder"),
        (["out=link.csv"], "link.csv: is a link"),
    ],
)
def test_bad_input_is_refused_and_writes_nothing(hands, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("image,dice\n")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to("nothing")
    root = [] if words[0].startswith("data.root") else [f"data.root={hands}"]
    assert main(["selection", *root, *words]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "mine.csv").read_text() == "image,dice\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.csv", "link.csv", "mine.csv"]


def test_the_factor_of_a_whole_set_may_apply_to_no_image_of_a_fold(mixed):
    """Weights are a table of the set: a fold's training part takes its rows as they are."""
    words, _ = mixed
    records, selection, data = read(words)
    sheet = read_metadata(data.root)
    ordinary = [r for r in records if selection.by_image[r.name].weight == 1]
    assert ordinary
    assert selection.weights(ordinary).tolist() == [1.0] * len(ordinary)
    assert all(sheet["sex"][record.group] != "female" for record in ordinary)
    assert math.isclose(sum(selection.trained_weights.values()), selection.weights(selection.trained(records)).sum())
