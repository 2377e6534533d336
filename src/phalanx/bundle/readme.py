"""``README.md`` of a bundle: what it predicts, how, and what whoever publishes it must know."""

from collections.abc import Iterable, Sequence

from .manifest import Manifest

KINDS = {"run": "one run", "vote": "a vote", "prediction": "one run, as a CSV was predicted"}


def readme(manifest: Manifest) -> str:
    """The text."""
    packages = (
        f"`wheels/` has all packages for Python {manifest.python} on {manifest.machine}."
        if manifest.wheels
        else f"`bash fetch_wheels.sh` downloads the packages of `requirements.txt` into `wheels/`, for Python "
        f"{manifest.python} on {manifest.machine}; with `PHALANX_ENV=present` those of the present Python are used."
    )
    folds = [
        [
            run.name, fold.fold, fold.metric or "-", "-" if fold.value is None else f"{fold.value:.4f}",
            str(fold.images), fold.snapshot["name"] if fold.snapshot else "-", fold.weights_sha256[:16],
        ]
        for run in manifest.runs for fold in run.folds
    ]  # fmt: skip
    weights = [[one.name, one.source, one.licence] for one in manifest.pretrained]
    steps = [
        f"{number}. `{step.command}` of {', '.join(f'`{name}`' for name in step.members)}"
        + "".join(f" `{word}`" for word in step.words)
        + "".join(f" `{key}={place}`" for key, place in step.files.items())
        for number, step in enumerate(manifest.steps, 1)
    ]
    warnings = "".join(f"\n**Warning**: {line}.\n" for line in manifest.warnings)
    return "\n".join([
        f"# {manifest.name}", "",
        f"Predicts with {KINDS[manifest.kind]} of Phalanx {manifest.phalanx}, on a machine without network:", "",
        "```bash", "bash infer.sh data.root=DIR out=FILE.csv", "```", "",
        f"`bash infer.sh --help` has the other options. {packages} `SHA256SUMS` has the hashes of all files, which "
        "`infer.sh` compares first, and `manifest.json` all that is known of the runs.", "",
        "## Steps", "", *steps, "",
        "## Folds", "",
        _table(["run", "fold", "metric", "out of fold", "images", "snapshot of the data", "weights (SHA-256)"], folds),
        "## Licences of pretrained weights", "",
        _table(["weights", "source", "licence"], weights) + warnings,
    ])  # fmt: skip


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
