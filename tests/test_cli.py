"""The commands: help at once and complete, a guess at what was meant."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from phalanx import cli
from phalanx.commands.args import plain_words
from phalanx.config.compose import config_folder
from phalanx.ensemble.options import EnsembleOptions, InferOptions
from phalanx.ensemble.tune import TuneOptions
from phalanx.errors import ConfigError
from phalanx.phantom.hand import HandOptions
from phalanx.predict.export import ExportOptions
from phalanx.visualize.overlay import PictureOptions

HEAVY = ("torch", "hydra", "pydantic", "pandas", "cv2", "numpy", "yaml", "matplotlib")
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


TYPED = {
    "infer": InferOptions, "ensemble": EnsembleOptions, "export": ExportOptions, "tune": TuneOptions,
    "phantom": HandOptions, "picture": PictureOptions,
}  # fmt: skip


@pytest.mark.parametrize("command", TYPED)
def test_help_names_every_option(command, capsys):
    text, kind = help_of(command, capsys), TYPED[command]
    spelled = {field: key for key, field in kind.SPELLED.items()}
    missing = [name for name in kind.model_fields if f"{spelled.get(name, name)}=" not in text]
    assert not missing


def test_help_of_train_names_every_choice(capsys):
    text = help_of("train", capsys)
    folders = [p.name for p in config_folder().iterdir() if p.is_dir() and any(p.glob("*.yaml")) and p.name != "sweep"]
    missing = [name for name in [*folders, "fold", "name"] if f"{name}=" not in text]
    assert not missing


@pytest.mark.parametrize("command", ["score", "compare", "check", "plan", "claims", "folds", "eda"])
def test_help_names_every_key_that_the_command_takes_out(command, capsys):
    text = help_of(command, capsys)
    source = inspect.getsource(cli.COMMANDS[command][0])
    keys = set(re.findall(r'(?:pop\(|switch\(pairs, )"([a-z_]+)"', source)) | (
        {"json"} if "report_path" in source else set()
    )
    assert keys
    assert not [key for key in keys - {"fold"} if f"{key}=" not in text]


@pytest.mark.parametrize("words", [["--json", "x"], ["--json=x"], ["json=x"]])
def test_a_flag_is_read_as_key_and_value(words):
    assert plain_words(["a.csv", *words, "--partial", "size=3x4"]) == ["a.csv", "json=x", "partial=true", "size=3x4"]


@pytest.mark.parametrize("words", [["--json"], ["--json", "--partial"], ["--json="], ["--"], ["--=x"]])
def test_a_flag_without_a_value_is_refused(words):
    with pytest.raises(ConfigError, match="needs a value"):
        plain_words(words)


def test_every_command_takes_both_spellings(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["phantom", "hand", "--patients", "1", "--test-patients", "1", "--size", "128", "--out", "a"]) == 0
    assert cli.main(["phantom", "hand", "patients=1", "test_patients=1", "size=128", "out=b"]) == 0
    files = [{p.relative_to(f): p.read_bytes() for p in Path(f).rglob("*.png")} for f in ("a", "b")]
    assert files[0] == files[1] != {}
    assert cli.main(["folds", "--data.root", "a", "--out=f.csv", "--folds", "2"]) == 2
    assert "folds=2: only one patient" in capsys.readouterr().err


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


def test_a_command_of_an_earlier_version_is_refused_with_its_new_name(capsys):
    assert cli.main(["decide", "members=a"]) == 2
    assert capsys.readouterr().err == "phalanx decide: decide: no such command; it is now tune\n"


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


def test_temporary_files_of_a_killed_command_go_with_the_next(tmp_path):
    code = (
        "import os, signal, sys, tempfile; from phalanx import cli; sys.argv[1:] = ['folds']\n"
        "def die(words): tempfile.mkdtemp(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "cli.COMMANDS['folds'] = (die, '')\n"
        "cli.main()"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, timeout=60)
    assert killed.returncode == -9
    assert len(list(tmp_path.rglob("tmp*"))) == 1
    subprocess.run([sys.executable, "-m", "phalanx", "leaderboard"], env=environment, cwd=tmp_path, timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_as_a_module_it_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "phalanx", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "phalanx train" in done.stdout
    assert Path(cli.__file__).with_name("__main__.py").is_file()
