"""The import arrows of the design: each package reads only those below it, and scoring needs no torch."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import phalanx

ROOT = Path(phalanx.__file__).parent
COMMON = {"commit", "config", "errors", "files", "measures", "processes"}
COMMANDS = {
    "cli",
    "__main__",
    "demo",
    "fanout",
    "scoring",
    "votes",
    "hard",
    "commands",
    "compose",
    "roots",
    "sweep",
    "words",
    "decide",
    "out_of_fold",
    "options",
}
BASE = {"data", "augment", "metrics", "models", "losses", "submit"}

# what each package may import beside itself and COMMON
ALLOWED = {
    "submit": set(),
    "models": set(),
    "losses": set(),
    "metrics": {"losses", "submit"},
    "augment": {"data", "submit"},
    "data": {"augment", "submit"},
    "phantom": {"data.polygons", "data.planes", "submit"},
    "engine": BASE | {"predict"},
    "predict": BASE | {"engine"},
    "tasks": BASE | {"engine", "predict"},
    "explain": BASE | {"engine", "predict", "tasks"},
}


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in ROOT.rglob("*.py")}


def imports(name):
    """Modules of ours that a module imports, anywhere in it, as dotted names below phalanx."""
    path, found = MODULES[name], set()
    package = list(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            elif (node.module or "").split(".")[0] == "phalanx":
                base = node.module.split(".")[1:]
            else:
                continue
            base = [part for part in base if part]
            for alias in node.names:
                whole = ".".join([*base, alias.name])
                found.add(whole if whole in MODULES else ".".join(base))
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("phalanx.") for a in node.names if a.name.startswith("phalanx.")}
    return found - {""}  # __init__ holds the version alone


def test_the_reader_of_imports_sees_relative_absolute_and_late_ones():
    assert {"config", "errors", "submit.table"} <= imports("votes") | imports("tasks.segment") | imports("scoring")
    assert "data.planes" in imports("data.polygons")
    assert "losses.bits" in imports("metrics.dice")
    assert {"compose", "engine.fit", "data.folds"} <= imports("commands.training") | imports("commands.datasets")
    assert all(target in MODULES for name in MODULES for target in imports(name))


def reads(importer, target):
    package = importer.split(".")[0]
    own = target.split(".")[0] == package
    return own or target in COMMON or bool({target, target.split(".")[0]} & ALLOWED[package])


def upward(names):
    return {f"{name} -> {t}" for name in names for t in imports(name) if not reads(name, t)}


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_arrows_point_down(package):
    assert upward(name for name in MODULES if name.split(".")[0] == package) == set()


def test_every_package_has_its_place():
    tops = {name.split(".")[0] for name in MODULES} - {""}
    assert tops - set(ALLOWED) - COMMON - COMMANDS - {"__init__"} == set()


def test_the_common_modules_read_nothing_but_each_other():
    common = [name for name in MODULES if name.split(".")[0] in COMMON]
    assert all({target.split(".")[0] for target in imports(name)} <= COMMON for name in common)


def test_models_and_losses_read_only_config_and_errors():
    names = [name for name in MODULES if name.split(".")[0] in ("models", "losses")]
    targets = {t for name in names for t in imports(name) if t.split(".")[0] != name.split(".")[0]}
    assert targets <= {"config", "errors"}


def test_only_commands_compose_configs():
    assert {name.split(".")[0] for name in MODULES if "compose" in imports(name)} <= COMMANDS


def test_no_module_reads_itself_by_a_detour():
    """Raises CycleError, which names the circle."""
    list(TopologicalSorter({name: imports(name) for name in MODULES if name}).static_order())


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (
            "phalanx.submit.score, phalanx.submit.vote, phalanx.submit.agreement, phalanx.submit.compare",
            ["torch", "pandas", "cv2", "hydra", "pydantic", "albumentations"],
        ),
        ("phalanx.cli", ["torch", "pandas", "cv2", "hydra", "numpy"]),
        ("phalanx.compose, phalanx.config", ["torch", "cv2", "numpy"]),
        ("phalanx.augment.warp", ["torch", "albumentations"]),
    ],
)
def test_what_starts_fast_loads_nothing_heavy(modules, heavy):
    code = f"import sys, {modules}; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_scoring_and_voting_by_command_load_no_torch(tmp_path):
    """Each word list is a whole command line, run in one process after the other has left its files."""
    code = """
import sys
from phalanx.cli import main
from phalanx.submit.table import write
for name in "abc":
    write(f"{name}.csv", [("i", ["1 15"])], ["x"], {"i": (3, 5)})
for words in (
    "score a.csv b.csv surface=1", "compare a.csv b.csv c.csv", "ensemble mode=hard members=a.csv,b.csv,c.csv",
    "ledger add a.csv", "leaderboard",
):
    assert main(words.split()) == 0, words
print(*[m for m in ("torch", "pandas", "hydra", "albumentations", "lightning") if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr.split()) == (0, [])
