"""Files of `phalanx calibrate`: what they do to probabilities, and what they are refused for."""

import json

import numpy as np
import pytest

from phalanx.errors import ConfigError, DataError
from phalanx.runtime.files import write_report
from phalanx.scoring.calibration_file import KIND, Calibration


def file_of(**changes) -> Calibration:
    values = {"run": "r", "run_hashes": {}, "classes": ["a", "b"], "head": "sigmoid", "temperature": [2.0, 1.0]}
    return Calibration(**(values | {"thresholds": [0.3, 0.6]} | changes))


def test_sigmoids_are_divided_by_the_temperature_of_their_class_in_any_order():
    one = file_of()
    p = np.array([[0.9, 0.2]])
    want = 1 / (1 + np.exp(-np.log(9) / 2))  # the logit of .9 is log 9
    assert one.apply("x", p, ["a", "b"], "sigmoid", None) == pytest.approx(np.array([[want, 0.2]]))
    assert want == pytest.approx(0.75)
    turned = one.apply("x", p[:, ::-1], ["b", "a"], "sigmoid", None)
    assert turned == pytest.approx(np.array([[0.2, want]]))
    assert one.limits(["b", "a"]).tolist() == [0.6, 0.3]


def test_a_softmax_has_one_temperature():
    one = file_of(head="softmax", temperature=[2.0, 2.0], thresholds=None)
    found = one.apply("x", np.array([[0.9, 0.1]]), ["a", "b"], "softmax", None)
    assert found == pytest.approx(np.array([[0.75, 0.25]]))
    assert one.limits(["a", "b"]) is None


def test_nothing_is_calibrated_twice_and_a_temperature_of_one_changes_no_digit():
    one, p = file_of(), np.array([[0.9, 1e-12]])
    assert one.apply("x", p, ["a", "b"], "sigmoid", one.digest) is p
    assert file_of(temperature=[1, 1]).apply("x", p, ["a", "b"], "sigmoid", None) is p
    with pytest.raises(DataError, match="another file"):
        one.apply("x", p, ["a", "b"], "sigmoid", file_of(temperature=[3, 1]).digest)
    assert file_of(run="other", report={"images": 3}).digest == one.digest
    assert file_of(thresholds=[0.3, 0.5]).digest != one.digest


@pytest.mark.parametrize(
    ("classes", "head", "why"),
    [(["a", "c"], "sigmoid", "'b'"), (["a"], "sigmoid", "1 classes"), (["a", "b"], "softmax", "head=softmax"),
     (["a", "b"], None, "head=unknown")],
)  # fmt: skip
def test_other_classes_and_heads_are_refused(classes, head, why):
    with pytest.raises(DataError, match=why):
        file_of().check("x", classes, head)


def test_a_file_is_read_as_it_was_written(tmp_path):
    path, one = tmp_path / "c.json", file_of()
    write_report(path, KIND, one.model_dump(mode="json", exclude={"format"}))
    assert Calibration.read(path) == one


@pytest.mark.parametrize(
    "changes",
    [{"temperature": [2.0]}, {"temperature": [0.0, 1.0]}, {"thresholds": [0.5]}, {"thresholds": [0.5, 1.0]},
     {"head": "softmax"}, {"format": "phalanx-postprocess-1"}, {"classes": []}, {"mine": 1}],
    ids=str,
)  # fmt: skip
def test_damaged_files_are_refused_in_one_line(tmp_path, changes):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(file_of().model_dump(mode="json") | changes))
    with pytest.raises(ConfigError, match="postprocess=") as caught:
        Calibration.read(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file; make it with phalanx calibrate"):
        Calibration.read(tmp_path / "c.json")
