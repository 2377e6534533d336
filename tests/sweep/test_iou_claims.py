"""Claims about IoU over all pixels: against counts by hand, the bootstrap, and a sweep that is trained."""

import dataclasses
import json

import numpy as np
import pytest
from tests.label_maps import make, words

from phalanx.cli import main
from phalanx.config import validate_as
from phalanx.config.compose import config_folder
from phalanx.errors import ConfigError, DataError
from phalanx.runs.reader import FoldRun
from phalanx.sweep.claims import document
from phalanx.sweep.iou_claims import PairedIoU, collapse_text, counts_by_seed, iou_of
from phalanx.sweep.results import read_results
from phalanx.sweep.table import Collapse, Table, read_table
from phalanx.sweep.trials import iou_curve
from phalanx.sweep.verdict import gain_of

RULE = Collapse(label="diseased", iou=0.1)


def result(invented, row, seed, pixels, **changes):
    """An invented result whose pixels are int[P, 2, 3]."""
    made = invented(row, seed, np.zeros((len(pixels), 3)), **changes)
    return dataclasses.replace(made, pixels=dict(zip(made.patients, np.asarray(pixels).tolist(), strict=True)))


def drawn(rng, patients, quality):
    """Pixels of patients, of whom few have the last class: int[P, 2, 3]."""
    either = rng.integers(50, 400, (patients, 3)) * (rng.random((patients, 3)) < [1, 1, 0.3])
    shared = rng.binomial(either, np.clip(rng.normal(quality, 0.15, (patients, 3)), 0, 1))
    return np.stack([shared, either], axis=1)


def test_pixels_of_all_patients_and_folds_are_added_before_they_are_divided(invented):
    one = result(invented, "a", 0, [[[10, 0, 0], [20, 0, 5]], [[30, 0, 1], [40, 0, 5]]])
    two = dataclasses.replace(one, fold=1, pixels={"p0-0": [[5, 0, 0], [10, 0, 0]], "q": [[5, 0, 9], [30, 0, 90]]})
    counts = counts_by_seed([one, two])
    assert list(counts) == [0]
    assert iou_of(counts[0], [0]) == 50 / 100
    assert iou_of(counts[0], [1]) == 1  # nobody has it, or predicts it
    assert iou_of(counts[0], [0, 2]) == pytest.approx((0.5 + 10 / 100) / 2)


def test_rows_are_paired_by_seed_and_fold_on_the_same_patients(invented):
    rng = np.random.default_rng(0)
    ours = [result(invented, "a", seed, drawn(rng, 5, 0.8)) for seed in (0, 1)]
    base = [result(invented, "b", seed, drawn(rng, 5, 0.4)) for seed in (1, 2)]
    found = PairedIoU.of(ours, base)
    expected = iou_of(counts_by_seed(ours)[1], [2]) - iou_of(counts_by_seed(base)[1], [2])
    np.testing.assert_allclose(found.by_seed([2]), [expected])
    assert PairedIoU.of(ours, [result(invented, "b", 0, drawn(rng, 4, 0.4))]).pairs == ()


@pytest.mark.parametrize("classes", [[0, 1, 2], [2]])
def test_the_variance_over_patients_is_that_of_the_bootstrap(invented, classes):
    rng, count = np.random.default_rng(1), 120
    sides = [[drawn(rng, count, quality) for _ in range(2)] for quality in (0.8, 0.6)]
    names = {"images": dict.fromkeys(map(str, range(count)), 1)}  # the same patients under both seeds

    def named(row):
        made = [invented("r", seed, np.zeros((count, 3)), **names) for seed in range(2)]
        pixels = [dict(zip(map(str, range(count)), row[seed].tolist(), strict=True)) for seed in range(2)]
        return [dataclasses.replace(one, pixels=each) for one, each in zip(made, pixels, strict=True)]

    found = PairedIoU.of(*map(named, sides)).patient_variance(classes)

    def iou(pixels):
        shared, either = pixels.sum(0)[:, classes]
        return np.mean(shared / either)

    draws = rng.integers(0, count, (4000, count))
    means = [np.mean([iou(a[d]) - iou(b[d]) for a, b in zip(*sides, strict=True)]) for d in draws]
    assert found == pytest.approx(np.var(means), rel=0.12)


def test_a_gain_of_nothing_is_within_its_interval_and_a_large_one_outside(invented):
    rng = np.random.default_rng(2)

    def row(quality):
        return [result(invented, "r", seed, drawn(rng, 60, quality)) for seed in range(3)]

    same, base, better = row(0.6), row(0.6), row(0.9)
    pairs = [PairedIoU.of(same, base), PairedIoU.of(better, base)]
    assert gain_of(pairs[0], pairs[1:], [2]).sign == 0
    assert gain_of(pairs[1], pairs[:1], [2]).sign == 1


def test_a_column_says_when_each_seed_left_the_collapse(invented):
    curves = [[[40, 0.0], [80, 0.12], [120, 0.7]], [[40, 0.05], [120, 0.09]]]
    rows = [dataclasses.replace(invented("a", k, np.zeros((1, 3))), iou_curve=one) for k, one in enumerate(curves)]
    assert collapse_text(rows, RULE) == "80 of 120 (0.120; 0.700), never in 120 (0.090)"


TABLE = """
title: Discs
why: Which weights find the disease?
scored_on: test
claims: iou
classes: [diseased]
collapse: {{label: diseased, iou: 0.1}}
overrides: {overrides}
rows:
  - {{name: plain, source: a report, overrides: [optim.lr=1e-9]}}
  - {{name: faster, source: a report, baseline: plain, outcome: worked}}
"""


@pytest.fixture
def discs(place):
    """A place with a table of label maps in configs/sweep, and the word that names their folder."""
    root = make(place / "discs", train=16, test=8, every=2)
    changes = {"epochs": 4, "validate_steps": 2}
    pairs = {
        key: value for key, value in words(root, **changes).items() if key not in ("data.root", "workers", "device")
    }
    listed = json.dumps([f"{key}={value}" for key, value in pairs.items() if key != "progress"])
    (config_folder() / "sweep" / "discs.yaml").write_text(TABLE.format(overrides=listed))
    (place / "configs/experiment/claims_tiny.yaml").write_text("# @package _global_\nepochs: 2\n")
    return ["sweep", "discs", "scale=tiny", "seeds=0", f"data.root={root}", "workers=0", "device=cpu", "progress=false"]


def test_a_sweep_keeps_pixels_and_curve_and_the_page_shows_them(discs, place, capsys):
    assert main(discs) == 0
    found = {one.row: one for one in read_results()}
    for one in found.values():
        assert list(one.pixels) == list(one.patients)
        assert [step for step, _ in one.iou_curve] == [2, 4, 6, 8]  # 8 images in batches of 4, 4 epochs
    faster, page = found["faster"], document().split("## Discs")[1].split("\n## ")[0]
    value = iou_of(counts_by_seed([faster])[0], [faster.classes.index("diseased")])
    (line,) = [line for line in page.splitlines() if line.startswith("| faster |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert "| our IoU of diseased (seeds) |" in page
    assert cells[5] == f"{value:.3f} (1)"
    assert cells[6] == collapse_text([faster], RULE)
    gain = value - iou_of(counts_by_seed([found["plain"]])[0], [faster.classes.index("diseased")])
    assert cells[7] == f"{gain:+.4f}; {gain:+.4f}"

    bare = dataclasses.replace(faster, pixels=None)  # as of a table without claims about IoU
    bare.write()
    assert f"`{bare.path().relative_to('results/sweep')}`: has no pixels, which IoU needs" in document()
    capsys.readouterr()
    assert main(discs) == 0
    assert "discs/plain seed 0 fold 0: Dice" in (text := capsys.readouterr().out)
    assert text.count("as it was") == 1
    assert {one.row: one.pixels for one in read_results()} == {name: one.pixels for name, one in found.items()}


def test_a_log_without_iou_is_one_line(tmp_path):
    lines = [{"event": "validate", "step": 5, "time": 1.0, "epoch": 1, "held_out/dice": 0.5}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=r"its log has no IoU of diseased, which the table's collapse needs"):
        iou_curve(FoldRun(tmp_path), "diseased")
    lines += [{**lines[0], "step": step, "held_out/iou/class/diseased": step / 100} for step in (10, 15)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert iou_curve(FoldRun(tmp_path), "diseased") == [[10, 0.1], [15, 0.15]]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ({"p0-0": [[1, 1, 1], [2, 2, 2]]}, "pixels of other patients"),
        (
            {"p0-0": [[1, 1, 1], [2, 2, 2]], "p0-1": [[1, 1], [2, 2]]},
            "pixels of p0-1 that are not two counts per class",
        ),
        ({"p0-0": [[3, 1, 1], [2, 2, 2]], "p0-1": [[0, 0, 0]] * 2}, "pixels of p0-0 that are not two counts per class"),
        ({"p0-0": [[-1, 1, 1], [2, 2, 2]], "p0-1": [[0, 0, 0]] * 2}, "whole number"),
        ({"p0-0": 3, "p0-1": [[0, 0, 0]] * 2}, "pixels of p0-0"),
        ([], "pixels"),
    ],
)
def test_damaged_pixels_are_one_line(tmp_path, invented, pixels, message):
    made = result(invented, "a", 0, np.zeros((2, 2, 3), int))
    made.write(tmp_path)
    assert read_results(tmp_path) == [made]
    path = made.path(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pixels": pixels}))
    with pytest.raises(DataError, match=message):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gap": True}, "gap: is one of Dice; leave out claims"),
        ({"claims": "area"}, "claims"),
        ({"collapse": {"label": "diseased", "iou": 1.0}}, "collapse"),
        ({"task": "classify", "experiment": "ultrasound", "at": {"small": []}}, "claims, classes, collapse: only for"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(changes, message):
    base = {
        "name": "t", "title": "T", "why": "w", "scored_on": "test", "claims": "iou",
        "rows": [{"name": "a", "source": "s"}],
    }  # fmt: skip
    with pytest.raises(ConfigError, match=message):
        validate_as(Table, base | changes)


@pytest.mark.parametrize("changes", [{"classes": ["diseesed"]}, {"collapse": {"label": "diseesed", "iou": 0.1}}])
def test_a_class_that_the_data_does_not_have_is_refused_before_anything_is_trained(changes):
    table = read_table("pet")
    wrong = validate_as(Table, table.model_dump(mode="json") | changes)
    with pytest.raises(
        ConfigError, match=r"pet\.yaml, plain at scale small: 'diseesed' is not a class; did you mean dis"
    ):
        wrong.config(wrong.row("plain"), "small", 0)


def test_the_tables_of_pets_claim_the_iou_of_the_disease():
    for name in ("pet", "pet_optimizers"):
        table = read_table(name)
        assert (table.claims, table.classes, table.collapse) == ("iou", ["diseased"], RULE)
        for row in table.rows:
            assert "diseased" in table.config(row, "small", 0).data.classes
