"""The command that makes bundles, and the prediction with one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .args import split_places

if TYPE_CHECKING:
    from ..bundle.plan import Taken

BUNDLE = """\
phalanx bundle RUN|FILE.csv [out=bundle] key=value ...

Writes a folder with all that another machine needs to predict without network, such as a notebook of a competition:
weights of all folds and members without the state of training, this code as a wheel, the list of packages with exact
versions, manifest.json (runs, folds, metric, versions, snapshots, configuration, licences of pretrained weights),
hashes of all files, and one command: bash infer.sh data.root=DIR out=FILE.csv. It writes the CSV that phalanx infer or
ensemble writes here.

  RUN                    a run's name or folder, or the folder of one fold. Options of phalanx infer that change its
                         prediction may follow, as tta=hflip or postprocess=FILE; they become part of the bundle
  FILE.csv               a vote or a prediction: the command that its sidecar records, with its members, their votes,
                         thresholds and tuned files. Members that are CSVs or stored maps are predicted again too
  out=DIR                must not exist
  format=torch|onnx      onnx: ONNX files instead of weights (phalanx export), predicted by onnxruntime on the CPU; far
                         fewer packages. Masks and labels alone: detectors cannot be exported
  wheels=true            download the packages, too (pip download); otherwise the bundle has fetch_wheels.sh for that
  python=3.12            Python of the other machine (default: this one's)
  platform=manylinux_2_28_x86_64   its platform, as pip has it (default: this one)
  torch_index=URL        a package index with another build of torch, such as PyTorch's own for CPU-only builds
  weights=final|best|last   checkpoint of a run, as for infer
  data.root=DIR          format=onnx: the data set of the image to compare on, or images=DIR of a plain folder
  runs=DIR               folder of the runs (default: runs)

infer.sh makes an environment from wheels/ once; PHALANX_ENV=present uses the packages of a Python that has them. Where
Phalanx is installed, phalanx infer bundle=DIR does the same without that.
"""

MADE_HERE = ("data.root", "images", "out", "device", "devices", "workers", "batch", "precision", "progress")


def bundle(words: Sequence[str]) -> None:
    """``phalanx bundle``."""
    places, pairs = split_places(words)
    if len(places) != 1:
        raise ConfigError(
            f"expected one RUN or FILE.csv, got {' '.join(places) or 'nothing'}; see phalanx bundle --help"
        )

    from ..bundle.options import BundleOptions
    from ..bundle.plan import plan_csv, plan_run
    from ..bundle.write import check_place, size_of, write_bundle
    from ..config.words import typed
    from ..runtime.files import sha256_file
    from ..runtime.sidecar import is_csv
    from .task_of import task_of_run
    from .tasks import TASKS

    own = {key: value for key, value in pairs.items() if key in (*BundleOptions.model_fields, "data.root")}
    more = {key: value for key, value in pairs.items() if key not in own}
    options: BundleOptions = typed(BundleOptions, own)
    out, onnx = options.out or Path("bundle"), options.format == "onnx"
    name = places[0]
    if is_csv(name):
        if more or options.weights != "final":
            key = next(iter(more), "weights")
            raise ConfigError(
                f"{key}: {name} was made with its own options, which its sidecar records; leave it out, or make the "
                "CSV with it"
            )
        plan = plan_csv(Path(name), onnx=onnx)
    else:
        task = TASKS[task_of_run(name, options.runs)]
        if wrong := [key for key in more if key in (*MADE_HERE, "part", "maps")]:
            raise ConfigError(f"{wrong[0]}: is an option of infer.sh in the bundle, not of the bundle; leave it out")
        typed(task.infer_options(), more)
        plan = plan_run(name, options.runs, options.weights, more, onnx=onnx)
    check_place(out)

    def export(one: "Taken", folder: Path) -> None:
        from ..predict.exported import ExportOptions

        given = ExportOptions(out=folder, weights=one.checkpoint, root=options.root, images=options.images)
        TASKS[task_of_run(str(one.source), options.runs)].export(str(one.source), given)

    manifest = write_bundle(plan, options, out, export)
    for line in manifest.warnings:
        print(f"WARNING: {line}", flush=True)
    files, size = size_of(out)
    print(
        f"{out}: {files} files, {size / 1e6:.1f} MB; SHA-256 of SHA256SUMS {sha256_file(out / 'SHA256SUMS')}",
        flush=True,
    )


def infer_bundle(pairs: dict[str, str]) -> None:
    """``phalanx infer bundle=DIR``: the steps of a bundle, the last one into ``out``.

    Raises:
        ConfigError: an option that the bundle decides, or no images. DataError: the bundle is damaged.
    """
    from ..bundle.manifest import Manifest
    from ..bundle.predict import Places, pairs_of, rename_members
    from ..config import nearest
    from ..errors import shown
    from ..runtime.leftovers import temporary_folder
    from .task_commands import record_command
    from .task_of import task_of_members
    from .tasks import TASKS

    folder = Path(pairs.pop("bundle"))
    for key in pairs:
        if key not in MADE_HERE:
            raise ConfigError(
                f"{key}: is not an option of a bundle, whose predictions are decided{nearest(key, MADE_HERE)}"
            )
    if not pairs.keys() & {"data.root", "images"}:
        raise ConfigError("data.root=: name the data set whose test images are predicted, or images=, a plain folder")
    manifest = Manifest.read(folder)
    for line in manifest.warnings:
        print(f"WARNING: {shown(line)}", flush=True)
    out = Path(pairs.get("out", f"submissions/{manifest.name}.csv"))
    with temporary_folder() as home:
        places = Places(folder, home / "steps", out)
        for number, step in enumerate(manifest.steps):
            last = number == len(manifest.steps) - 1
            if len(manifest.steps) > 1:
                print(f"step {number + 1} of {len(manifest.steps)}: {step.command} {step.result}", flush=True)
            names, words = pairs_of(step, places, pairs, last=last)
            task = TASKS[task_of_members(names, folder / "runs")]
            if step.command == "infer":
                task.infer(names, words)
            else:
                record_command(task.vote(words), "ensemble", names, words)
                print(words["out"], flush=True)
        rename_members(out, manifest.steps[-1], places)
