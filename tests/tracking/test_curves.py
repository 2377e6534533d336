"""The table of a training's curves, from logs of this version and of earlier ones."""

import csv

import pytest

from phalanx.tracking.curves import CurvesFile, curves_of
from phalanx.tracking.json_lines import Event
from phalanx.tracking.logger import Logger

METRIC = {"name": "dice", "higher_is_better": True, "decimals": 4}
START = Event("start", 0, 1.0, {"steps": 30, "epochs": 3, "metric": METRIC, "trained_by": "dice",
                                "lr_plan": [[1, 1e-4], [30, 0.0]]})  # fmt: skip


def epochs(numbers, first=1):
    """Events of epochs of ten steps; ``first``: the number that the log gives the first epoch."""
    for number in numbers:
        found = {"loss": 1 / number, "loss/bce": 0.5 / number, "dice": 0.1 * number, "lr": 1e-4}
        yield Event("epoch", 10 * number, 1.0, {"epoch": number - 1 + first, **found})


def validation(step, value):
    classes = {"held_out/dice/class/a": value - 0.1, "held_out/dice/class/b/c": value + 0.1}
    return Event("validate", step, 1.0, {"epoch": step // 10, "held_out/dice": value, **classes,
                                         "held_out/dice/group/rotated": value / 2})  # fmt: skip


def test_a_row_per_step_has_all_that_was_logged_there():
    found = curves_of([START, *epochs([1, 2]), validation(20, 0.5), validation(25, 0.625), *epochs([3])])
    assert [(row["step"], row["epoch"]) for row in found.rows] == [(10, 1), (20, 2), (25, 3), (30, 3)]
    assert found.points("held_out/dice") == [(2.0, 0.5), (2.5, 0.625)]
    assert found.points("loss") == [(1.0, 1.0), (2.0, 0.5), (3.0, pytest.approx(1 / 3))]
    assert found.metric.name == found.trained_by == "dice"
    assert found.plan == [(1.0, 1e-4), (30.0, 0.0)]
    assert found.by_class() == {"dice": {"a": "held_out/dice/class/a", "b/c": "held_out/dice/class/b/c"}}
    assert found.by_group() == {"dice": {"rotated": "held_out/dice/group/rotated"}}
    rows = list(csv.DictReader(found.to_csv().splitlines()))
    assert len(rows) == 4
    assert rows[1]["held_out/dice/class/b/c"] == "0.6"
    assert rows[0]["held_out/dice"] == rows[2]["loss"] == ""


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("start", [True, False])
def test_epochs_count_from_one_whatever_the_log_counts_from(first, start):
    """An earlier version counted from 0, and its start line did not say how many epochs there are."""
    old = Event("start", 0, 1.0, {"steps": 30, "metric": METRIC})
    found = curves_of([*([old] if start else []), *epochs([1, 2, 3], first), validation(15, 0.5)])
    assert [(row["step"], row["epoch"]) for row in found.rows] == [(10, 1), (15, 2), (20, 2), (30, 3)]
    assert found.points("held_out/dice") == [(1.5, 0.5)]
    assert found.metric.name == "dice"


def test_a_log_that_was_continued_by_a_newer_version_counts_on():
    found = curves_of([*epochs([1, 2], 0), *epochs([3, 4], 1)])
    assert [row["epoch"] for row in found.rows] == [1, 2, 3, 4]


def test_a_log_without_epochs_counts_steps():
    found = curves_of([validation(25, 0.5)])
    assert found.points("held_out/dice") == [(25, 0.5)]
    assert "epoch" not in found.rows[0]
    assert curves_of([]).rows == []


@pytest.mark.parametrize(
    "values", [{"metric": 3}, {"metric": {"name": 3}}, {"lr_plan": [1, ["a", 2], [3]]}, {"steps": 0, "epochs": 0}]
)
def test_odd_values_of_a_log_are_left_out(values):
    found = curves_of([Event("start", 0, 1.0, values), *epochs([1, 2])])
    assert len(found.rows) == 2
    assert found.plan == []


def test_the_file_follows_the_log_and_has_no_row_twice_after_a_kill(config, folder):
    def rows():
        with (folder / "curves.csv").open(newline="") as file:
            return [(int(row["step"]), row["loss"]) for row in csv.DictReader(file)]

    with Logger(config(), folder) as log:
        log.start(0)
        log("start", 0, **START.values)
        assert not (folder / "curves.csv").exists()
        for event in epochs([1, 2, 3]):
            log(event.name, event.step, **event.values)
            assert rows()[-1][0] == event.step
    before = rows()
    with Logger(config(), folder) as log:  # continues after step 20: the third epoch is trained again
        log.start(20)
        assert rows() == before[:2]
        log("start", 20, **START.values)
        for event in epochs([3]):
            log(event.name, event.step, **event.values)
    assert rows() == before


def test_a_silent_process_writes_no_curves(config, folder):
    with Logger(config(), folder, silent=True) as log:
        log.start(0)
        for event in epochs([1]):
            log(event.name, event.step, **event.values)
    assert not (folder / "curves.csv").exists()


def test_a_link_in_the_place_of_the_file_is_refused(folder, tmp_path):
    from phalanx.errors import OutputError

    (folder / "curves.csv").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match=r"curves\.csv"):
        CurvesFile(folder).start(epochs([1]))
    assert not (tmp_path / "elsewhere").exists()
