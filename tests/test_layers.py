"""The floors of the package: imports point down, no package reads itself by a detour, and what is light stays light."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import phalanx

ROOT = Path(phalanx.__file__).parent
FLOORS = """
__main__
cli
commands
view report
sweep profiling review show standings bundle
tasks ensemble
predict engine
checks eda visualize runs jobs tracking
data scoring voting
augment losses models submission
phantom masks config runtime
errors
"""  # the highest first; packages of one line do not read each other in a circle
FLOOR = {name: number for number, line in enumerate(FLOORS.split("\n")) for name in line.split()}


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in ROOT.rglob("*.py")}


@cache
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
    assert {"config", "errors", "submission.table"} <= imports("ensemble.run") | imports("tasks.segment")
    assert "masks.planes" in imports("data.polygons")
    assert "masks.planes_torch" in imports("scoring.dice_torch")
    assert {"config.compose", "engine.fit", "data.folds"} <= imports("commands.training") | imports("commands.datasets")
    assert all(target in MODULES for name in MODULES for target in imports(name))


def package(name):
    return name.split(".")[0]


@cache
def arrows():
    return sorted(
        (name, target) for name in MODULES if name for target in imports(name) if package(name) != package(target)
    )


def test_every_package_has_a_floor_and_no_module_lies_loose():
    assert {package(name) for name in MODULES} - {"", "__init__"} == set(FLOOR)
    loose = {name for name in MODULES if "." not in name and MODULES[name].name != "__init__.py"}
    assert loose <= {"cli", "errors", "__main__"}


def test_imports_point_down():
    assert [f"{name} -> {target}" for name, target in arrows() if FLOOR[package(name)] > FLOOR[package(target)]] == []


def test_no_package_reads_itself_by_a_detour():
    """Raises CycleError, which names the circle."""
    graph = {name: {package(target) for source, target in arrows() if package(source) == name} for name in FLOOR}
    list(TopologicalSorter(graph).static_order())


def test_models_and_losses_read_only_what_is_below_them():
    targets = {package(target) for name, target in arrows() if package(name) in ("models", "losses")}
    assert targets <= {"config", "errors", "masks", "runtime"}


def test_only_commands_and_sweeps_compose_configs():
    assert {package(name) for name in MODULES if "config.compose" in imports(name)} <= {
        "cli",
        "commands",
        "sweep",
        "config",
    }


TASK_ONLY = ("masks", "losses", "scoring", "voting", "submission")


def test_the_engine_knows_no_task():
    """Neither by imports, its own or those of what it imports, nor by the name of a task's metric."""
    general = [name for name in MODULES if package(name) in ("engine", "runs", "jobs", "tracking")]
    assert len(general) > 25
    code = f"import sys, {', '.join(f'phalanx.{name}' for name in general)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[1] for name in done.stdout.split() if name.startswith("phalanx.")}
    assert {"engine", "runs", "jobs", "tracking"} <= loaded
    assert loaded.isdisjoint(TASK_ONLY)
    assert [name for name in general if "dice" in MODULES[name].read_text().lower()] == []


def test_the_engine_prints_by_one_function():
    """Which leaves a progress bar whole; a training has one."""
    printing = [name for name in MODULES if package(name) in ("engine", "tracking")]
    assert [name for name in printing if "print(" in MODULES[name].read_text()] == []


TORCH_FREE = ("masks", "submission", "voting", "scoring", "config", "phantom", "errors", "runs.reader", "runs.ledger")


def test_masks_tables_votes_and_scores_load_no_torch():
    names = [name for name in MODULES if name.startswith(TORCH_FREE) and not name.endswith("_torch")]
    code = f"import sys, {', '.join(f'phalanx.{name}' for name in names)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
    readers = {name for name in MODULES if package(name) == "runtime" and "\nimport torch" in MODULES[name].read_text()}
    assert readers == {"runtime.device", "runtime.distributed"}


def test_no_module_reads_itself_by_a_detour():
    """Raises CycleError, which names the circle."""
    list(TopologicalSorter({name: imports(name) for name in MODULES if name}).static_order())


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (
            "phalanx.scoring.score, phalanx.voting.vote, phalanx.voting.agreement, phalanx.scoring.compare",
            ["torch", "pandas", "cv2", "hydra", "pydantic", "albumentations"],
        ),
        ("phalanx.cli", ["torch", "pandas", "cv2", "hydra", "numpy"]),
        ("phalanx.config.compose, phalanx.config", ["torch", "cv2", "numpy"]),
        ("phalanx.augment.warp", ["torch", "albumentations"]),
    ],
)
def test_what_starts_fast_loads_nothing_heavy(modules, heavy):
    code = f"import sys, {modules}; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# by a plain training or prediction; several of them take longer to import than all that is used
UNUSED = [
    "wandb", "mlflow", "tensorboard", "torch.utils.tensorboard", "lightning", "torchmetrics", "scipy", "sklearn",
    "matplotlib", "pandas", "albumentations", "onnx", "onnxruntime", "ttach", "openpyxl", "pydicom", "pycocotools",
    "pytorch_grad_cam",
]  # fmt: skip


def test_predicting_and_training_import_only_what_they_use():
    code = f"""
import sys
from phalanx.config import Optim, SegmentModel
from phalanx.models.build import build
from phalanx.predict import members, opening, run
network = build(SegmentModel(arch="unet", encoder="tu-test_resnet", weights="none", pointrend=None), classes=2, size=64)
print("predicting", *[name for name in {[*UNUSED, "hydra"]} if name in sys.modules])
from phalanx.config import compose
from phalanx.data import quarantine, root
from phalanx.engine import fit, optim
from phalanx.runs import ledger
from phalanx.tasks import segment
optim.build_optimizer(network, Optim()).step()
print("training", *[name for name in {UNUSED} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["predicting", "training"]


def test_classifiers_and_denoisers_import_only_what_they_use():
    """As the test above; a classifier's encoder is timm's, a denoiser has none."""
    code = f"""
import sys
from phalanx.config import ClassifyModel, Optim
from phalanx.models.classifier import build_classifier
from phalanx.predict import classify, explain, restore, restored_set
model = ClassifyModel(encoder="test_resnet", head="sigmoid", weights="none")
network = build_classifier(model, classes=2, size=64, channels=3, pretrained=False)
print("predicting", *[name for name in {[*UNUSED, "hydra"]} if name in sys.modules])
from phalanx.config import compose
from phalanx.data import quarantine, root
from phalanx.engine import fit, optim
from phalanx.runs import ledger
from phalanx.tasks import classify, restore
optim.build_optimizer(network, Optim()).step()
print("training", *[name for name in {UNUSED} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["predicting", "training"]


def test_a_check_of_labels_imports_only_what_it_uses(tmp_path):
    """A whole command on a few images: scipy and sklearn take longer to import than it takes."""
    code = f"""
import sys
from phalanx.cli import main
assert main("phantom ultrasound patients=3 test_patients=2 size=128 seed=1 workers=1 out=set".split()) == 0
assert main("check data=ultrasound data.root=set workers=1".split()) in (0, 1)
print("imported", *[name for name in {[*UNUSED, "torch"]} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["imported", "openpyxl"]  # of the sheet of patients


def test_after_timm_wandb_can_be_imported_and_what_was_imported_stays(monkeypatch):
    """Without importing either: the names stand for them."""
    from phalanx.models.libraries import without_wandb

    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with without_wandb(), pytest.raises(ImportError):
        import wandb
    assert "wandb" not in sys.modules
    stand_in = ModuleType("wandb")
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    with without_wandb():
        import wandb

        assert wandb is stand_in
    assert sys.modules["wandb"] is stand_in


def test_scoring_and_voting_by_command_load_no_torch(tmp_path):
    """Each word list is a whole command line, run in one process after the other has left its files."""
    code = """
import sys
from phalanx.cli import main
from phalanx.submission.table import write
for name in "abc":
    write(f"{name}.csv", [("i", ["1 15"])], ["x"], {"i": (3, 5)})
for words in (
    "score a.csv b.csv surface=1", "compare a.csv b.csv c.csv", "ensemble mode=hard members=a.csv,b.csv,c.csv",
    "ledger add a.csv", "leaderboard",
):
    assert main(words.split()) == 0, words
print(*[m for m in ("torch", "pandas", "hydra", "albumentations") if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr.split()) == (0, [])
