"""The shell scripts: valid, help without an environment, set-up once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.name for path in ROOT.glob("*.sh"))
COMMANDS = ["train", "infer", "ensemble", "demo"]


def bash(*words: str, **variables: object) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("PHALANX_VENV", "TORCH_INDEX", "PYTHON")}
    # a test that goes wrong must not begin to install gigabytes
    env = kept | {"PYTHON": sys.executable, "PIP_NO_INDEX": "1"} | {key: str(value) for key, value in variables.items()}
    return subprocess.run(["bash", *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


def test_there_are_the_promised_ones():
    assert {"train.sh", "infer.sh", "ensemble.sh", "demo.sh", "test.sh", "setup.sh"} <= set(SCRIPTS)


@pytest.mark.parametrize("script", [*SCRIPTS, ".ci/run"])
def test_scripts_are_valid_bash(script):
    done = bash("-n", script)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", [*COMMANDS, "test"])
def test_help_prepares_nothing(script, tmp_path):
    venv = tmp_path / "venv"
    done = bash(f"{script}.sh", "--help", PHALANX_VENV=venv)
    assert done.returncode == 0, done.stderr
    assert f"{script}.sh" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.fixture
def prepared(tmp_path):
    """A set-up environment, as far as the scripts can tell; its commands tell how they were called.

    It was chosen by a Python that is not there: a script that does not find it ready stops instead of installing.
    """
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    for name in ("phalanx", "python"):
        command = venv / "bin" / name
        command.write_text(f'#!/usr/bin/env bash\necho "{name}" "$@"\n')
        command.chmod(0o755)
    texts = [(ROOT / name).read_text().rstrip("\n") for name in ("requirements.txt", "pyproject.toml")]
    (venv / "ready").write_text("".join([*texts, str(ROOT)]))
    (venv / "choice").write_text("/no/such/python ")
    return venv


def with_it(script, *words, venv, **variables):
    return bash(script, *words, **({"PHALANX_VENV": venv, "PYTHON": "/no/such/python"} | variables))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_ready_environment_is_used_at_once_and_words_arrive_whole(prepared, command):
    done = with_it(f"{command}.sh", "a=b c", "d=*", venv=prepared)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"phalanx {command} a=b c d=*\n", "")
    assert not prepared.with_name("venv.lock").exists()


def test_tests_run_in_the_environment(prepared):
    assert with_it("test.sh", "-m", "slow", venv=prepared).stdout == "python -m pytest -n 2 --dist loadfile -m slow\n"


def stale(venv):
    (venv / "ready").write_text((venv / "ready").read_text().replace("torch==", "torch==0."))


def unfinished(venv):
    (venv / "ready").unlink()


@pytest.mark.parametrize("spoil", [stale, unfinished, None])
def test_another_lock_or_wish_is_not_the_ready_environment(prepared, spoil):
    wish = {} if spoil else {"TORCH_INDEX": "https://example.org"}
    if spoil:
        spoil(prepared)
    done = with_it("train.sh", "fold=0", venv=prepared, **wish)
    assert done.returncode == 2
    assert done.stderr.startswith("setup: no Python 3.11 or later found (/no/such/python); install one")
    assert done.stdout == ""


def test_a_link_in_the_place_of_the_lock_costs_nothing(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "venv.lock").symlink_to(tmp_path / "precious")
    done = bash("setup.sh", PHALANX_VENV=tmp_path / "venv", PYTHON="/no/such/python")
    assert done.returncode == 2
    assert (tmp_path / "precious").read_text() == "precious"
