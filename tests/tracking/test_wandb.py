"""What of Weights & Biases needs a server or an account, with both replaced."""

from types import SimpleNamespace

import pytest

from phalanx.tracking import wandb as adapter
from phalanx.tracking.json_lines import Event
from phalanx.tracking.tracker import Run


@pytest.fixture
def server(monkeypatch):
    """A run online of which the server has the rows up to step 19, and what is sent to it."""
    sent, asked = [], {}
    run = SimpleNamespace(step=20, offline=False, log=lambda row, step: sent.append((step, row)))
    monkeypatch.setattr("wandb.init", lambda **options: asked.update(options) or run)
    return SimpleNamespace(sent=sent, asked=asked)


def test_online_only_rows_are_sent_that_the_server_lacks(server, tmp_path, monkeypatch):
    """Row 20 is one that a kill lost on the way; rows of steps done again would be refused."""
    monkeypatch.setenv("WANDB_MODE", "online")
    history = [Event("epoch", step, 0.0, {"loss": 1.0}) for step in (10, 20)]
    run = Run(tmp_path, tmp_path, "r", "fold0", "a1", 20, {"epochs": 3}, history)
    tracker = adapter.WeightsAndBiases(run)
    tracker.write(Event("epoch", 15, 0.0, {"loss": 2.0}))
    tracker.write(Event("memory", 25, 0.0, {"text": "no number"}))
    tracker.write(Event("epoch", 30, 0.0, {"loss": 0.5}))
    assert server.sent == [(20, {"loss": 1.0}), (30, {"loss": 0.5})]
    assert (server.asked["id"], server.asked["resume"], server.asked["mode"]) == ("a1", "allow", None)


@pytest.mark.parametrize(
    ("mode", "logged_in", "expected"),
    [("", False, "offline"), ("", True, None), ("offline", False, None), ("disabled", False, None)],
)
def test_without_an_account_it_records_offline_and_says_so(mode, logged_in, expected, monkeypatch, capsys):
    import wandb

    def login(*, prompt, verify):
        assert not prompt, "would wait for a human"
        return logged_in

    wandb.teardown()  # its settings are read once per process
    monkeypatch.setattr("wandb.login", login)
    monkeypatch.setenv("WANDB_MODE", mode) if mode else monkeypatch.delenv("WANDB_MODE")
    assert adapter._mode() == expected
    assert ("not logged in" in capsys.readouterr().out) == (expected == "offline")
    wandb.teardown()


def test_the_user_s_environment_wins(server, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "7")
    adapter.WeightsAndBiases(Run(tmp_path, tmp_path, "r", "fold0", "a1", 0, {}, []))
    given = server.asked["settings"].model_dump(exclude_unset=True)
    assert given.keys() & {"project", "init_timeout"} == set()
    assert given["symlink"] is False
    assert given["finish_timeout"] == 120
