"""The demo of pets without its trainings: its commands are ones that exist, and its table is that of their scores."""

import json
from pathlib import Path

import pytest

from phalanx.cli import COMMANDS, main
from phalanx.commands.demo_pet import BOXES, MASKS, RULES, run_pet
from phalanx.commands.f1_iou import f1_rules
from phalanx.config.compose import compose, split_words
from phalanx.config.f1_iou import F1AtIoU
from phalanx.errors import PhalanxError

FIGURES = {"images": 50, "tp": 9, "fp": 2, "fn": 6, "tn": 33, "f1": 0.6923, "accuracy": 0.84,
           "intervals": {"f1": [0.5, 0.8]}}  # fmt: skip


@pytest.fixture
def called(tmp_path, monkeypatch):
    """A recorder of command lines, which writes scores as `phalanx score` does."""
    (tmp_path / "configs").symlink_to(Path("configs").resolve())
    monkeypatch.chdir(tmp_path)
    lines = []

    def call(words):
        lines.append(words)
        if words[0] == "score":
            report = Path(next(word for word in words if word.startswith("json=")).removeprefix("json="))
            report.parent.mkdir(parents=True, exist_ok=True)
            ious = {"normal": 0.8, "diseased": 0.7} | ({"background": 0.99} if MASKS in words[1] else {})
            found = {"f1_iou": [FIGURES | {"class_iou": ious}]}
            found["metrics"] = {"map": {"value": 0.41}, "map50": {"value": 0.93}}
            report.write_text(json.dumps(found))
        return int(words[0] == "check")  # it finds what is planted

    return lines, call


@pytest.mark.parametrize("quick", [True, False])
def test_every_step_is_a_command_with_options_that_it_has(called, quick):
    lines, call = called
    run_pet(quick=quick, call=call)
    assert {words[0] for words in lines} <= COMMANDS.keys()
    for words in lines:
        if words[0] in ("train", "eda", "check"):
            pairs = split_words(words[1:])
            config = compose({key: value for key, value in pairs.items() if key not in ("fold", "out", "json")})
            assert config.task == ("detect" if "boxes" in str(pairs) or "hips" in str(pairs) else "segment")
        if words[0] == "score":
            (rule,) = f1_rules(dict(word.split("=", 1) for word in words if word.startswith("f1_iou=")))
            assert rule in RULES.values()


def test_the_table_has_the_scores_and_says_whether_the_disease_is_found(called, capsys):
    lines, call = called
    summary = run_pet(quick=True, call=call)
    assert summary["scores"][MASKS]["found"] == 9
    assert summary["scores"][BOXES]["map"] == 0.41
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if line.startswith(BOXES))
    assert row.split() == [BOXES, "0.6923", "0.50", "to", "0.80", "0.8400", "-", "0.8000", "0.7000", "0.4100", "0.9300"]
    assert "livers: 9 of 15 diseased images are found, 2 of 35 others are called diseased" in text
    assert json.loads(Path("runs/demo_pet_quick/summary.json").read_text()) == json.loads(json.dumps(summary))
    count = len(lines)
    run_pet(quick=True, call=call)  # all is done
    assert len(lines) == count


def test_a_step_that_fails_ends_the_demo(called):
    lines, call = called
    with pytest.raises(PhalanxError, match="the step 'thresholds' failed"):
        run_pet(quick=True, call=lambda words: 2 if words[0] == "tune" else call(words))
    run_pet(quick=True, call=call)
    assert [words[0] for words in lines].count("train") == 2


def test_unknown_jobs_are_one_line(capsys):
    assert main(["demo", "job=pets"]) == 2
    assert "known: hand, ultrasound, brain, pet" in capsys.readouterr().err
    assert all(isinstance(rule, F1AtIoU) for rule in RULES.values())
