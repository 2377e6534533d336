"""The commands: help at once and complete, a guess at what was meant."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from phalanx import cli
from phalanx.config.compose import config_folder
from phalanx.ensemble.options import FLAT, EnsembleOptions, InferOptions

HEAVY = ("torch", "hydra", "pydantic", "pandas", "cv2", "numpy", "yaml", "lightning", "matplotlib")
PROBE = f"""
import sys
from phalanx.cli import COMMANDS, main
for words in ([], ["--help"], ["--version"], *([name, word] for name in COMMANDS for word in ("--help", "-h"))):
    assert main(words) == 0, words
loaded = sorted(set({HEAVY!r}) & set(sys.modules))
sys.exit(f"help imports {{loaded}}" if loaded else 0)
"""


def help_of(command, capsys) -> str:
    assert cli.main([command, "--help"]) == 0
    return capsys.readouterr().out


def test_help_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in cli.COMMANDS:
        assert f"phalanx {name}" in done.stdout


def test_help_wins_over_other_words(capsys):
    assert cli.main(["train", "fold=99", "--nonsense", "--help"]) == 0
    assert "fold=0..4" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "kind"), [("infer", InferOptions), ("ensemble", EnsembleOptions)])
def test_help_names_every_option_of_prediction(command, kind, capsys):
    text = help_of(command, capsys)
    spelled = {field: key for key, field in FLAT.items()}
    missing = [name for name in kind.model_fields if f"{spelled.get(name, name)}=" not in text]
    assert not missing


def test_help_of_train_names_every_choice(capsys):
    text = help_of("train", capsys)
    folders = [p.name for p in config_folder().iterdir() if p.is_dir() and any(p.glob("*.yaml")) and p.name != "sweep"]
    missing = [name for name in [*folders, "fold", "name"] if f"{name}=" not in text]
    assert not missing


@pytest.mark.parametrize("command", ["score", "compare", "phantom", "picture"])
def test_help_names_every_flag_that_the_command_reads(command, capsys):
    text = help_of(command, capsys)
    flags = set(re.findall(r'"(--[a-z-]+)"', inspect.getsource(cli.COMMANDS[command][0])))
    assert flags
    assert not [flag for flag in flags if flag not in text]


def test_the_main_help_names_every_command(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert not [name for name in cli.COMMANDS if f"phalanx {name}" not in text]


@pytest.mark.parametrize(("word", "meant"), [("trian", "train"), ("ensembel", "ensemble"), ("scores", "score")])
def test_an_unknown_command_is_met_with_the_nearest(word, meant, capsys):
    assert cli.main([word, "fold=0"]) == 2
    out = capsys.readouterr()
    assert out.err == f"phalanx {word}: {word}: no such command; did you mean {meant}? See --help\n"
    assert out.out == ""


def test_version(capsys):
    from phalanx import __version__

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_a_stopped_command_says_how_to_go_on(monkeypatch, capsys):
    def stop(words):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "train", (stop, ""))
    assert cli.main(["train"]) == 130
    assert "stopped; the same command continues" in capsys.readouterr().err


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch):
    def broken(words):
        raise KeyError("ours")

    monkeypatch.setitem(cli.COMMANDS, "train", (broken, ""))
    with pytest.raises(KeyError):
        cli.main(["train"])


def test_as_a_module_it_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "phalanx", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "phalanx train" in done.stdout
    assert Path(cli.__file__).with_name("__main__.py").is_file()
