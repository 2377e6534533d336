"""What a command does for a task: every task has every command, if only to say which one does the work."""

import pytest
import yaml

from phalanx.cli import main
from phalanx.commands.tasks import TASKS
from phalanx.config import CONFIGS


def test_each_task_that_can_be_configured_has_its_commands():
    assert set(TASKS) == set(CONFIGS)


@pytest.mark.parametrize(
    ("task", "remedy"), [("classify", "phalanx calibrate fits"), ("restore", "predicts no labels to vote or score")]
)
def test_a_run_that_has_nothing_to_tune_says_what_else_there_is(task, remedy, tmp_path, capsys):
    folder = tmp_path / "one" / "fold0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"format": 2, "task": task}))
    assert main(["tune", "members=one", f"runs={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert remedy in error
    assert len(error.splitlines()) == 1
