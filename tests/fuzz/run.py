"""Tries the readers of all formats for long: an hour by default, shared by the formats, one process each at a time.

python -m tests.fuzz.run [--seconds 3600] [--processes 2] [--seed 0] [--only NAME,NAME] [--json FILE]
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from .harness import Format, Report, fuzz, summary


def all_formats(place: Path) -> list[Format]:
    """The formats of all modules here that have some; their good files are made below ``place``."""
    found: list[Format] = []
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.fuzz.{path.stem}")
        if hasattr(module, "formats"):
            folder = place / path.stem
            folder.mkdir()
            found += module.formats(folder)
    names = [form.name for form in found]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    return found


def run(
    place: Path,
    seconds: float,
    *,
    processes: int = 2,
    seed: int = 0,
    only: list[str] | None = None,
    done: Callable[[Report], None] = lambda report: None,
) -> list[Report]:
    """Tries each format for its share of ``seconds``; ``done`` is called with each report as soon as it is there."""
    formats = [form for form in all_formats(place) if not only or form.name in only]
    share = seconds * processes / max(1, len(formats))

    def one(form: Format) -> Report:
        folder = place / form.name.replace(" ", "_")
        folder.mkdir()
        report = fuzz(form, folder, seconds=share, seed=seed)
        done(report)
        return report

    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(one, formats))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    place = Path(tempfile.mkdtemp(prefix="fuzz."))  # with the files of findings
    only = [name for name in given.only.split(",") if name]
    reports = list[Report]()

    def done(report: Report) -> None:  # an hour's work is not lost with the last format
        reports.append(report)
        print(summary([report]), flush=True)
        if given.json:
            given.json.write_text(json.dumps([asdict(r) for r in reports], indent=1) + "\n", encoding="utf-8")

    run(place, given.seconds, processes=given.processes, seed=given.seed, only=only, done=done)
    print(summary(reports).splitlines()[-1])
    print(f"files of findings: {place}")
    return int(any(report.findings for report in reports))


if __name__ == "__main__":
    sys.exit(main())
