"""Failures of an earlier run as training images: which they are, how they are trained on, what is refused."""

import shutil

import numpy as np
import pytest
from tests.labelled import CLASSES, make_folders, make_table, words

from phalanx.cli import main
from phalanx.config import Hard
from phalanx.config.compose import compose
from phalanx.data.hard import Mined, confused_pairs, confusions, failures_on, hard_rows
from phalanx.data.quarantine import kept_records
from phalanx.data.records import Record
from phalanx.data.selection import Selection
from phalanx.errors import ConfigError, DataError, TrainingError
from phalanx.runs.reader import FoldRun
from phalanx.submission.probabilities import write_probabilities
from phalanx.tasks.mining import select_with_failures

NAN = float("nan")


def mined(probabilities, labels, *, softmax=False, run="base"):
    p, y = np.array(probabilities, float), np.array(labels, float)
    predicted = np.arange(p.shape[1]) == p.argmax(1)[:, None] if softmax else p >= 0.5
    images = tuple(f"{n}.png" for n in range(len(p)))
    return Mined(run, tuple(CLASSES[: p.shape[1]]), images, p, predicted, y)


def test_a_failure_is_one_class_where_only_the_other_is():
    found = mined(
        [
            [0.2, 0.9, 0.1],  # up taken for flat
            [0.8, 0.7, 0.1],  # flat added to up
            [0.8, 0.7, 0.1],  # both are there
            [0.1, 0.6, 0.1],  # nothing is there: no pair
            [0.2, 0.1, 0.1],  # missed, and nothing instead
            [0.9, 0.1, 0.8],  # slant added to up, which is no pair here
            [0.2, 0.9, 0.1],  # flat is not labelled
            [0.9, 0.2, 0.9],  # flat taken for up and for slant
        ],
        [[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [1, NAN, 0], [0, 1, 0]],
    )
    failures = failures_on(found, [("flat", "up")])
    assert [(one.image, one.shown, one.taken, one.missed) for one in failures] == [
        ("0.png", "up", "flat", True), ("1.png", "up", "flat", False), ("7.png", "flat", "up", True),
    ]  # fmt: skip
    assert failures[0].reason("base") == "up taken for flat with 0.90 out of fold by base"
    assert failures[1].reason("base") == "flat added to up with 0.70 out of fold by base"
    assert confusions(found) == {("up", "flat"): 3, ("up", "slant"): 1, ("flat", "slant"): 1}
    assert confused_pairs(found) == [("up", "flat")]


def test_the_confusions_of_a_softmax_are_those_of_its_matrix():
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(3), 200), np.eye(3)[rng.integers(3, size=200)]
    found = mined(p, y, softmax=True)
    matrix = np.zeros((3, 3), int)
    np.add.at(matrix, (y.argmax(1), p.argmax(1)), 1)
    names = list(found.classes)
    for (a, b), count in confusions(found).items():
        i, j = names.index(a), names.index(b)
        assert count == matrix[i, j] + matrix[j, i]


RECORDS = [Record(f"{n}.png", f"P{n}", None, None) for n in range(8)]  # type: ignore[arg-type]
P = [[0.2, 0.9], [0.3, 0.7], [0.9, 0.1], [0.8, 0.1], [0.7, 0.2], [0.1, 0.9], [0.1, 0.8], [0.9, 0.1]]
Y = [[1, 0], [1, 0], [1, 0], [1, 0], [1, 0], [0, 1], [0, 1], [0, 1]]


def test_failures_are_trained_on_with_right_images_of_their_class():
    rows = hard_rows(RECORDS, Hard(run="base", pairs=[("up", "flat")]), mined(P, Y), seed=0)
    assert {name for name, row in rows.items() if row.weight and "right" not in row.reason} == {
        "0.png", "1.png", "7.png",
    }  # fmt: skip
    right = [row for row in rows.values() if "right" in row.reason]
    assert {row.weight for row in rows.values()} == {0.0, 1.0}
    assert len(rows) == len(RECORDS)
    assert sum("right about up" in row.reason for row in right) == 2  # of three
    assert sum("right about flat" in row.reason for row in right) == 1
    alone = hard_rows(RECORDS, Hard(run="base", per_failure=0), mined(P, Y), seed=0)
    assert sum(row.weight for row in alone.values()) == 3
    drawn = {tuple(sorted(hard_rows(RECORDS, Hard(run="base"), mined(P, Y), seed=s).items())) for s in range(9)}
    assert len(drawn) > 1  # another seed, other right images
    every = hard_rows(RECORDS[:7], Hard(run="base", keep="all", weight=2.5), mined(P, Y), seed=0)
    assert {name: row.weight for name, row in every.items()} == {"0.png": 2.5, "1.png": 2.5}  # 7.png is in quarantine


def test_a_run_without_failures_is_refused():
    with pytest.raises(ConfigError, match=r"run=base: no training image fails on up/flat out of fold"):
        hard_rows(RECORDS, Hard(run="base", pairs=[("up", "flat")]), mined(Y, Y), seed=0)
    with pytest.raises(ConfigError, match="no training image fails on any pair of classes"):
        hard_rows(RECORDS, Hard(run="base"), mined(Y, Y), seed=0)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{run:base,weight:2}", r"data\.hard\.weight: only for keep=all"),
        ("{run:base,keep:all,per_failure:2}", r"data\.hard\.per_failure: only for keep=only"),
        ("{run:base,keep:all,weight:1}", "weight=1"),
        ("{run:base,pairs:[[up,down]]}", r"hard\.pairs: 'down' is not a class"),
        ("{run:base,pairs:[[up,up]]}", "up with itself"),
        ("{run:base,pairs:[[up,flat],[flat,up]]}", "flat and up appear twice"),
        ("{run:base,pairs:[]}", "at least 1 item"),
        ("{pairs:[[up,flat]]}", r"data\.hard\.run: missing"),
    ],
)
def test_an_impossible_rule_is_one_line(tmp_path, rule, message):
    with pytest.raises(ConfigError, match=message):
        compose(words(tmp_path, "table", data__hard=rule))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, one_thread_module):
    """A data set and a run ``base`` of one epoch, whose out-of-fold probabilities are half wrong by construction."""
    place = tmp_path_factory.mktemp("mined")
    root = make_table(place / "set")
    base = [f"{k}={v}" for k, v in words(root, "table", runs=place / "runs", name="base", epochs=1).items()]
    assert main(["train", *base, "fold=0,1"]) == 0
    mistake(place / "runs/base", every=2)
    return place


def mistake(run, every):
    """Replaces out-of-fold probabilities by the labels, but that each so-manieth image has up and flat exchanged."""
    for fold in (0, 1):
        folder = run / f"fold{fold}"
        rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
        held = {image for image, number in FoldRun(folder).folds.items() if number == fold}
        rows = [row for row in rows if row[0] in held]
        values = np.array([[float(cell or 0) for cell in row[1:]] for row in rows]) * 0.8 + 0.1
        for n, row in enumerate(rows):
            if int(row[0][:3]) % every == 0:
                values[n, :2] = values[n, 1::-1]
        (folder / "oof.csv").unlink()
        (folder / "oof.json").unlink()
        write_probabilities(folder / "oof.csv", [row[0] for row in rows], CLASSES, values, "sigmoid", run_hashes={})


@pytest.fixture(scope="module")
def one_thread_module():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def config_of(place, **changes):
    changes = {"runs": place / "runs", "name": "new", "data__hard": "{run:base,pairs:[[up,flat]]}"} | changes
    return compose(words(place / "set", "table", **changes))


def test_a_selection_shows_rule_and_reason(trained, capsys, tmp_path):
    pairs = words(trained / "set", "table", runs=trained / "runs", data__hard="{run:base,pairs:[[up,flat]]}")
    out = tmp_path / "selection.csv"
    assert main(["selection", *(f"{k}={v}" for k, v in pairs.items()), f"out={out}"]) == 0
    text = capsys.readouterr().out
    assert "data.hard: 24 image(s), weight 0 to 1" in text
    assert "up taken for flat with 0.90 out of fold by base" in text
    found = Selection.read(out)
    config = config_of(trained)
    assert found.trained_weights == select_with_failures(config, kept_records(config.data)).trained_weights
    hard = [row for row in found.rows if "taken" in row.reason]
    assert hard
    assert all(int(row.image[:3]) % 2 == 0 for row in hard)


def test_a_change_of_the_mined_run_refuses_to_continue(trained, tmp_path):
    from phalanx.engine.fit import fit
    from phalanx.tasks.classify import Classify

    shutil.copytree(trained / "runs", tmp_path / "runs")
    config = compose(
        words(trained / "set", "table", runs=tmp_path / "runs", name="new", data__hard="{run:base,keep:all}", epochs=1)
    )
    records = kept_records(config.data)
    folder = fit(config, 0, records, Classify)
    rows = Selection.read(folder / "selection.csv")
    assert set(rows.trained_weights.values()) == {1.0, 3.0}
    mistake(tmp_path / "runs/base", every=3)
    with pytest.raises(TrainingError, match="another selection of training images"):
        fit(config, 1, records, Classify)


def test_a_run_that_cannot_be_mined_is_one_line(trained, tmp_path):
    def select(**changes):
        config = config_of(trained, **changes)
        return select_with_failures(config, kept_records(config.data))

    with pytest.raises(ConfigError, match=r"data\.hard\.run=bass: bass: no trained run .*did you mean base"):
        select(data__hard="{run:bass}")
    other = config_of(trained)
    other.data = other.data.model_copy(update={"classes": ["up", "flat"]})
    with pytest.raises(DataError, match=r"data\.hard\.run=base: has the classes up, flat, slant, this recipe has up"):
        select_with_failures(other, [])
    runs = tmp_path / "runs"
    shutil.copytree(trained / "runs/base/fold0", runs / "base/fold0")
    with pytest.raises(ConfigError, match=r"has no out-of-fold prediction of \d+.png .* finish all its folds first"):
        select(runs=runs)
    (runs / "base/fold0/done.json").unlink()
    with pytest.raises(DataError, match=r"data\.hard\.run=base: .* has no finished fold with held-out images"):
        select(runs=runs)
    root = make_folders(tmp_path / "other")
    foreign = compose(words(root, "folders", runs=trained / "runs", name="new", data__hard="{run:base}"))
    with pytest.raises(DataError, match="which is not a training image of"):
        select_with_failures(foreign, kept_records(foreign.data))
