"""Threads that wait leave their core to others."""

import os
import subprocess
import sys

import pytest

from phalanx.runtime.waiting import CHOICES, wait_briefly

PROGRAM = """
from phalanx.cli import main
main(["score", "nothing", "nothing"])
import torch
"""


@pytest.mark.parametrize("chosen", [{}, {"GOMP_SPINCOUNT": "9"}, {"OMP_WAIT_POLICY": "active"}])
def test_the_users_choice_is_kept(chosen, monkeypatch):
    for name in CHOICES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    wait_briefly()
    assert {name: os.environ[name] for name in CHOICES if name in os.environ} == (chosen or {"GOMP_SPINCOUNT": "3000"})


@pytest.mark.skipif(sys.platform != "linux", reason="another OpenMP")
def test_every_command_sets_it_before_torch_is_loaded():
    environment = {key: value for key, value in os.environ.items() if key not in CHOICES}
    environment["OMP_DISPLAY_ENV"] = "verbose"  # OpenMP prints what it has read
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert "GOMP_SPINCOUNT = '3000'" in done.stderr
