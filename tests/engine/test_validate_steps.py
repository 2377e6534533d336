"""``validate_steps``: held-out images measured within epochs, for a curve over iterations, without any other effect."""

import pytest
from tests.engine.stopping import Stopped, stopping
from tests.label_maps import make, words

from phalanx.config.compose import compose
from phalanx.data.quarantine import kept_records
from phalanx.engine.fit import fit
from phalanx.errors import ConfigError
from phalanx.runs.reader import FoldRun
from phalanx.tasks.segment import Segment

pytestmark = pytest.mark.usefixtures("one_thread")
RULE = "{positive:diseased,negative:normal,iou:0.25}"


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return make(tmp_path_factory.mktemp("steps") / "set")


def trained(maps, runs, name, kind=Segment, **changes):
    options = {"runs": runs, "name": name, "epochs": 4, "batch": 2, "validate_every": 4} | changes
    config = compose(words(maps, **options))
    return FoldRun(fit(config, 0, kept_records(config.data, report=False), kind))


def points(run):
    """Step, and F1 of images of each line of a validation."""
    return [(line["step"], line.get("held_out/image_f1")) for line in run.log("validate")]


def test_they_are_logged_within_epochs_and_change_no_weight(maps, tmp_path):
    plain = trained(maps, tmp_path, "plain")
    often = trained(maps, tmp_path, "often", validate_steps=3, image_f1=RULE)
    assert [step for step, _ in points(plain)] == [16]  # 8 images in steps of 2, 4 epochs
    assert [step for step, _ in points(often)] == [3, 6, 9, 12, 15, 16]  # 12 is the end of an epoch
    assert all(value is not None and 0 <= value <= 1 for _, value in points(often))
    assert plain.weights_digest() == often.weights_digest()
    assert plain.log("validate")[-1]["held_out/dice"] == often.log("validate")[-1]["held_out/dice"]
    assert "held_out/image_f1" not in plain.log("validate")[-1]


def test_without_validation_by_epochs_there_is_no_best(maps, tmp_path):
    run = trained(maps, tmp_path, "steps", validate_steps=8, validate_every=0)
    assert [step for step, _ in points(run)] == [8, 16]
    assert not (run.folder / "best").exists()


def test_a_stopped_run_logs_each_step_once(maps, tmp_path):
    whole = trained(maps, tmp_path, "whole", validate_steps=3, image_f1=RULE)
    options = {"validate_steps": 3, "image_f1": RULE, "checkpoint_minutes": 1e-9}  # saved after each step
    with pytest.raises(Stopped):
        trained(maps, tmp_path, "stopped", stopping(8), **options)
    again = trained(maps, tmp_path, "stopped", **options)
    assert points(again) == points(whole)
    assert again.weights_digest() == whole.weights_digest()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{positive:diseesed}", "image_f1.positive: 'diseesed' is not a class; did you mean diseased?"),
        ("{positive:diseased,negative:normal,both:most_confident}", "masks have no score"),
    ],
)
def test_a_rule_that_cannot_count_is_refused(maps, tmp_path, rule, message):
    with pytest.raises(ConfigError, match=message):
        compose(words(maps, runs=tmp_path, name="odd", image_f1=rule))
