import json
import math

import pytest

from phalanx.errors import DataError
from phalanx.tracking.json_lines import Event, JsonLines


def test_lines_after_the_checkpoint_and_a_torn_one_are_dropped(tmp_path):
    lines = JsonLines(tmp_path / "log.jsonl")
    assert lines.rewind(0) == []
    for step in range(1, 6):
        lines.append(Event("epoch", step, 1.5, {"loss": 0.5}))
    with lines.path.open("a") as file:
        file.write('{"event": "epoch", "st')
    assert lines.rewind(3) == [Event("epoch", step, 1.5, {"loss": 0.5}) for step in (1, 2, 3)]
    lines.append(Event("epoch", 4, 2.0, {"loss": 0.25}))
    found = [json.loads(line) for line in lines.path.read_text().splitlines()]
    assert [line["step"] for line in found] == [1, 2, 3, 4]
    assert found[-1] == {"event": "epoch", "step": 4, "time": 2.0, "loss": 0.25}


@pytest.mark.parametrize(
    "odd", ["[]", "3", '{"step": 1}', "null", '{"event": "a", "step": -1, "time": 1.0}', "{", "\0"]
)
def test_a_line_that_is_no_event_is_named_and_stays(tmp_path, odd):
    lines = JsonLines(tmp_path / "log.jsonl")
    lines.path.write_text(text := f'{{"event": "epoch", "step": 1, "time": 1.0}}\n{odd}\n')
    with pytest.raises(DataError, match=r"log\.jsonl: line 2 .*; remove what is damaged, or delete the file"):
        lines.rewind(9)
    assert lines.path.read_text() == text


def test_events_that_are_made_again_are_dropped_and_still_returned(tmp_path):
    lines = JsonLines(tmp_path / "log.jsonl")
    events = [Event("epoch", 1, 1.0, {"loss": math.nan}), Event("held_out", 1, 2.0, {"dice": 0.5})]
    for event in events:
        lines.append(event)
    assert [event.name for event in lines.rewind(1, ("held_out",))] == ["epoch", "held_out"]
    assert [event.name for event in lines.rewind(1)] == ["epoch"]


def test_numbers_are_finite_and_no_switches():
    values = {"loss": 1, "nan": math.nan, "inf": math.inf, "on": True, "text": "halved", "scales": [1.0], "lr": 1e-3}
    event = Event("epoch", 1, 0.0, values)
    assert event.numbers() == {"loss": 1.0, "lr": 1e-3}
    assert event.text() == "halved"
    assert Event("epoch", 1, 0.0, {"text": 3}).text() is None
