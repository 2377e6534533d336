"""The source-confound test: it finds a planted source, stays silent without one, and does not see the object."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.labelled import CLASSES, words, write

from phalanx.checks.background import NAMES, measure_background
from phalanx.checks.confound import Confound, auc_of, find_confound, permute_labels, predict_unseen
from phalanx.cli import main
from phalanx.config.compose import compose
from phalanx.errors import DataError

GROUPED = {"data.folders.group_pattern": "^(P[0-9]+)-"}
SIDE = 96


def scan(kind: int, source: int, seed: int, shift: int = 0) -> np.ndarray:
    """A bright disc whose inside shows its class, on the noise of a source."""
    rng = np.random.default_rng(seed)
    noise = np.abs(rng.normal(8, (4.0, 7.0, 4.0)[source], (SIDE, SIDE))) + (0, 0, 5)[source]
    image = noise.astype(np.float32)
    centre, radius = tuple((SIDE // 2 + rng.integers(-4, 5, 2)).tolist()), int(rng.integers(22, 30))
    cv2.circle(image, centre, radius, float(rng.uniform(120, 200)), -1)
    cv2.circle(image, (centre[0] + shift, centre[1]), 4 + 4 * kind, 250.0, -1)
    return np.clip(image, 0, 255).astype(np.uint8)


def make_set(root: Path, source_of, patients: int = 45) -> Path:
    """Two images per patient; ``source_of(class, patient)`` is the source of all of a patient's images."""
    for patient in range(patients):
        kind = patient % 3
        for image in range(2):
            path = root / "train" / CLASSES[kind] / f"P{patient:03d}-{image}.png"
            write(path, scan(kind, source_of(kind, patient), 1000 * patient + image))
    return root


def outcome(root: Path, **changes) -> Confound:
    data = compose(words(root, "folders") | GROUPED).data
    return find_confound(data, workers=1, progress=False, **({"permutations": 99} | changes))


def test_a_planted_source_is_found(tmp_path, capsys):
    root = make_set(tmp_path / "set", lambda kind, patient: kind)
    line = [f"{k}={v}" for k, v in (words(root, "folders") | GROUPED).items() if k.startswith(("data", "work"))]
    report = tmp_path / "confound.json"
    assert main(["confound", *line, "permutations=99", f"json={report}", "progress=false"]) == 1
    values = json.loads(report.read_text())
    assert values["detected"]
    assert values["p"] == pytest.approx(0.01)
    assert values["macro_auc"] > 0.9
    assert values["interval"][0] > 0.5
    assert values["classes"]["flat"]["p"] == pytest.approx(0.01)
    assert values["by_features"]["noise"] > 0.9 > values["by_features"]["file"]
    assert "confounded:" in capsys.readouterr().out


def test_without_a_source_or_with_one_that_classes_share_it_is_silent(tmp_path):
    """The discs' insides differ by class in both sets: what is in the object is not seen."""
    for name, source_of in (("one", lambda kind, patient: 0), ("shared", lambda kind, patient: patient // 3 % 3)):
        found = outcome(make_set(tmp_path / name, source_of))
        assert not found.detected, found.to_text()
        assert found.p > 0.05
        assert 0.2 < found.macro_auc < 0.7
        assert found.verdict.startswith("no confound found")


@pytest.mark.parametrize(
    ("auc", "p", "detected", "trace", "begins"),
    [
        (0.98, 0.005, True, False, "confounded:"),
        (0.6, 0.01, True, False, "confounded:"),
        (
            0.546,
            0.005,
            False,
            True,
            "no confound found, but a trace:",
        ),  # of 4,000 patients whose slices differ by class
        (0.7, 0.02, False, False, "no confound found: the class cannot"),  # of few patients
        (0.5, 0.4, False, False, "no confound found: the class cannot"),
    ],
)
def test_a_trace_is_not_a_confound(auc, p, detected, trace, begins):
    each, span, kinds = np.array([auc, auc]), (auc - 0.01, auc + 0.01), {"noise": auc, "border": 0.5}
    found = Confound("set", ("a", "b"), 40, 20, 199, each, p, np.array([p, p]), span, kinds)
    assert (found.detected, found.trace) == (detected, trace)
    assert (found.to_json()["detected"], found.to_json()["trace"]) == (detected, trace)
    assert found.verdict.startswith(begins)
    assert ("most by noise" in found.verdict) == (p <= 0.01)


def test_a_class_that_is_told_on_its_own_is_not_lost_in_the_mean():
    classes, auc = tuple("abcdefgh"), np.array([0.95, *[0.5] * 6, np.nan])
    p_of_classes = np.array([0.005, *[0.9] * 6, np.nan])
    found = Confound("set", classes, 400, 200, 199, auc, 0.005, p_of_classes, (0.5, 0.6), {"noise": 0.56})
    assert found.macro_auc < 0.6
    assert (found.detected, found.trace) == (True, False)
    assert found.verdict.startswith("confounded: a can be told")
    weak = Confound(
        "set", classes, 400, 200, 199, auc, 0.2, np.where(auc > 0.9, 0.02, p_of_classes), None, {"noise": 0.5}
    )
    assert (weak.detected, weak.trace) == (False, False)


def test_what_is_inside_the_object_changes_no_feature(tmp_path):
    for name, one in (("a.png", scan(0, 0, 3)), ("b.png", scan(0, 0, 3, shift=8))):
        write(tmp_path / name, one)
    first, second = (measure_background(tmp_path / name) for name in ("a.png", "b.png"))
    assert first.values == pytest.approx(second.values, rel=1e-6, nan_ok=True)
    assert len(first.values) == sum(map(len, NAMES.values()))
    assert np.isfinite(first.values).all()


def test_features_say_what_their_names_say(tmp_path):
    names = [name for part in NAMES.values() for name in part]

    def features(image: np.ndarray, name: str = "x.png") -> dict[str, float]:
        write(tmp_path / name, image)
        return dict(zip(names, measure_background(tmp_path / name).values.tolist(), strict=True))

    base = features(scan(0, 0, 3))
    noisy, brighter = features(scan(0, 1, 3)), features(cv2.add(scan(0, 0, 3), 6))
    assert 3 < base["noise"] < 5  # half-normal at 8 +- 4
    assert noisy["noise"] > 1.4 * base["noise"]
    assert brighter["level"] == pytest.approx(base["level"] + 6, abs=0.5)
    assert brighter["noise"] == pytest.approx(base["noise"], rel=0.05)
    framed = scan(0, 0, 3)
    framed[:6] = 0
    assert features(framed)["border_step"] > base["border_step"] + 3
    assert features(framed)["border_top"] < base["border_top"] - 3
    assert features(framed)["border_zeros"] > base["border_zeros"] + 0.1
    smooth = cv2.GaussianBlur(scan(0, 0, 3), (3, 3), 0)
    assert features(smooth)["power_4"] < base["power_4"] - 1
    streaks = scan(0, 0, 3)
    streaks[::2] = cv2.add(streaks[::2], 10)
    assert features(streaks)["anisotropy"] > base["anisotropy"] + 0.5
    assert features(scan(0, 0, 3)[:64])["aspect"] == pytest.approx(np.log(96 / 64))
    jpeg = features(scan(0, 0, 3), "x.jpg")
    assert base["quantisation"] == 0 < jpeg["quantisation"]
    full = features(np.random.default_rng(0).integers(90, 200, (64, 64), np.uint8).clip(120))
    assert np.isfinite(full["height"])


def test_labels_are_permuted_by_patient():
    labels, patients = np.arange(12.0).reshape(6, 2), np.array([0, 0, 1, 1, 2, 2])
    for seed in range(5):
        found = permute_labels(labels, patients, np.random.default_rng(seed))
        assert sorted(found[:, 0].tolist()) == labels[:, 0].tolist()
        for rows in ([0, 1], [2, 3], [4, 5]):
            assert found[rows].tolist() in [labels[each].tolist() for each in ([0, 1], [2, 3], [4, 5])]
    uneven = permute_labels(np.array([[1.0], [2.0], [3.0]]), np.array([0, 0, 1]), np.random.default_rng(1))
    assert uneven.ravel().tolist() in ([1, 2, 3], [3, 3, 1])


def test_missing_labels_and_single_classes_are_left_out():
    features = np.random.default_rng(0).normal(size=(40, 3))
    labels = np.stack([features[:, 0] > 0, np.ones(40), np.full(40, np.nan)], axis=1)
    labels[::7, 0] = np.nan
    made = predict_unseen(features, labels, np.arange(40) % 4)
    found = auc_of(made, labels)
    assert found[0] > 0.9
    assert np.isnan(found[1:]).all()
    assert (made[:, 1:] == 0.5).all()


def test_bad_input_is_refused_in_one_line(tmp_path, capsys):
    few = make_set(tmp_path / "few", lambda kind, patient: 0, patients=3)
    with pytest.raises(DataError, match="5 at least"):
        outcome(few)
    assert main(["confound", "data=hand", f"data.root={few}"]) == 2
    assert "labels" in capsys.readouterr().err
    assert main(["confound", "data=brain", f"data.root={few}", "permutations=9"]) == 2
    assert "permutations=9" in capsys.readouterr().err
    assert main(["confound", "brain"]) == 2
