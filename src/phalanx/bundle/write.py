"""Writes a bundle: into a folder next to its place, which is renamed once all of it is there."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from .. import __version__
from ..errors import ConfigError
from ..runs.checkpoint import copy_weights
from ..runs.pretrained import pretrained_of, warnings_of
from ..runs.reader import FORMAT, FoldRun
from ..runtime.files import sync_folder, write_json, write_text
from ..runtime.provenance import commit
from ..runtime.reading import open_regular
from ..runtime.removal import remove_tree
from ..runtime.terminal import say
from ..runtime.work import clear_work, work_folder
from . import requirements
from .manifest import MANIFEST, SUMS, FoldAbout, Manifest, RunAbout, sums_text
from .options import BundleOptions
from .plan import Plan, Taken
from .readme import readme
from .wheel import make_wheel

PARTS = {
    "runs", "exports", "files", "wheels", MANIFEST, SUMS, "infer.sh", "fetch_wheels.sh", "requirements.txt",
    "ranges.txt", "README.md",
}  # fmt: skip
CHUNK = 1 << 22
Export = Callable[[Taken, Path], object]


def check_place(out: Path) -> None:
    """Refuses a place for a bundle before the work is done. Raises ConfigError."""
    if out.exists() or out.is_symlink():
        clear_work(out, remove_bundle)
        raise ConfigError(f"{out}: exists; move it away, or change out=")


def write_bundle(plan: Plan, options: BundleOptions, out: Path, export: Export) -> Manifest:
    """Writes a bundle to ``out``, which must not exist; returns its manifest. Killed, it leaves nothing of that name.

    Args:
        export: makes an ONNX export of a run in a folder that does not exist.

    Raises:
        ConfigError: ``out`` exists, a package is not installed, pip fails, or a run cannot be exported.
        DataError, TrainingError: a run's folder is damaged.
        Held: another process is making ``out``.
    """
    check_place(out)
    architectures = [_architecture(folder) for one in plan.taken for folder in one.folders]
    names = requirements.direct(onnx=plan.onnx, architectures=architectures)
    versions = requirements.pinned(names, options.target)
    out.parent.mkdir(parents=True, exist_ok=True)
    with work_folder(out, remove_bundle) as aside:
        for place, source in plan.files.items():
            copy_file(source, aside / place)
        runs = [_add(one, aside, plan.onnx, export) for one in plan.taken]
        (aside / "wheels").mkdir()
        make_wheel(aside / "wheels")
        lines = requirements.described(versions)
        if options.wheels:
            say(f"downloading {len(lines)} packages for Python {options.target.python} on {options.target.machine} ...")
            requirements.download(lines, aside / "wheels", options.target, options.torch_index)
            lines = requirements.hashed(aside / "wheels")
        warnings = warnings_of(fold.weights for run in runs for fold in run.folds)
        manifest = Manifest(
            name=plan.name, kind=plan.kind, networks=options.format, steps=plan.steps, runs=runs, phalanx=__version__,
            commit=commit(), python=options.target.python, machine=options.target.machine, platform=options.platform,
            requirements=[line.partition(" ")[0] for line in lines], wheels=options.wheels, warnings=warnings,
        )  # fmt: skip
        write_json(aside / MANIFEST, manifest.to_json())
        write_text(aside / "requirements.txt", "".join(f"{line}\n" for line in lines))
        write_text(aside / "ranges.txt", "".join(f"{line}\n" for line in requirements.ranges(names)))
        write_text(aside / "README.md", readme(manifest))
        _write_scripts(aside, manifest, options)
        files = [path for path in aside.rglob("*") if path.is_file()]
        write_text(aside / SUMS, sums_text(aside, [path.relative_to(aside).as_posix() for path in files]))
        aside.rename(out)
        sync_folder(out.parent)
    return manifest


def _architecture(folder: Path) -> str:
    return str((FoldRun(folder).recipe.get("model") or {}).get("arch", ""))


def _add(one: Taken, aside: Path, onnx: bool, export: Export) -> RunAbout:
    """Adds a run, or its export, to the bundle."""
    folds = sorted((FoldRun(folder) for folder in one.folders), key=lambda fold: str(fold.folder))
    hashes = {}
    for fold in folds:
        place = aside / one.place / fold.name
        value = fold.weights_digest(one.checkpoint)
        if value is None:
            raise ConfigError(f"{fold.folder}: has no {one.checkpoint} weights yet; train it first (bash train.sh)")
        hashes[fold.name] = value if onnx else copy_weights(fold.folder / one.checkpoint, place / "final")
        if onnx:
            continue
        write_text(place / "config.yaml", yaml.safe_dump({"format": FORMAT, **_recipe(fold)}, sort_keys=False))
        copy_file(fold.folder / "environment.json", place / "environment.json")
        if (fold.recipe.get("model") or {}).get("metadata"):  # whose sheet is found by the patients
            copy_file(fold.folder / "folds.csv", place / "folds.csv")
    if onnx:
        export(one, aside / one.place)
    elif one.thresholds is not None:
        copy_file(one.thresholds, aside / one.place / one.thresholds.name)
    return RunAbout(
        name=one.name, place=one.place, task=str(folds[0].recipe.get("task", "segment")), checkpoint=one.checkpoint,
        folds=[_about(fold, hashes[fold.name]) for fold in folds], config=_recipe(folds[0]),
    )  # fmt: skip


def _recipe(fold: FoldRun) -> dict[str, Any]:
    """The configuration without the place of its data set, which is elsewhere and nobody else's business."""
    recipe = dict(fold.recipe)
    if isinstance(recipe.get("data"), dict) and recipe["data"].get("root"):
        recipe["data"] = {**recipe["data"], "root": "data"}
    return {**recipe, "runs": "runs"}


def _about(fold: FoldRun, digest: str) -> FoldAbout:
    """What is recorded of a fold."""
    result, pretrained = fold.result, pretrained_of(fold)
    packages = fold.environment.get("packages")
    return FoldAbout(
        fold=fold.name, weights_sha256=digest, metric=None if result is None else result.metric.name,
        value=None if result is None else result.value, images=0 if result is None else result.images,
        snapshot=None if fold.snapshot is None else {key: str(fold.snapshot[key]) for key in ("name", "digest")},
        pretrained=pretrained.weights._asdict(), recorded=pretrained.recorded,
        python=fold.environment.get("python"), commit=fold.environment["commit"],
        packages=packages if isinstance(packages, dict) else {},
    )  # fmt: skip


def _write_scripts(aside: Path, manifest: Manifest, options: BundleOptions) -> None:
    platform = options.target.pip_words(explicit=True)
    words = requirements.download_words("requirements.txt", "wheels", platform, options.torch_index)
    values = {
        "@NAME@": shlex.quote(manifest.name), "@PYTHON@": manifest.python, "@MACHINE@": manifest.machine,
        "@WORDS@": shlex.join(words),
    }  # fmt: skip
    scripts = Path(__file__).parent / "scripts"
    for path in sorted(scripts.glob("*.sh")):
        if path.name == "fetch_wheels.sh" and manifest.wheels:
            continue
        text = path.read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(key, value)
        write_text(aside / path.name, text)
        (aside / path.name).chmod(0o755)


def copy_file(source: Path, target: Path) -> None:
    """Copies a regular file. Raises OSError that names ``target`` if that cannot be written."""
    with open_regular(source) as old:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as new:
                while block := old.read(CHUNK):
                    new.write(block)
        except OSError as error:
            error.filename = str(target)
            raise


def remove_bundle(folder: Path) -> None:
    """Removes a bundle if it is there; OutputError if anything else is in it."""
    remove_tree(folder, lambda name: name.partition("/")[0].lstrip(".").partition(".part")[0].split(".tmp")[0] in PARTS)


def size_of(folder: Path) -> tuple[int, int]:
    """Files of a bundle and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)
