"""Runs tests as if on other processors: the vector instructions of torch, oneDNN and MKL are restricted, one by one.

    python tests/processors.py                           # the whole suite under every setting: hours
    python tests/processors.py --quick                   # the numeric tests, on one thread, where all are restricted
    python tests/processors.py --only avx2,sse --threads 1,2 tests/engine/test_fit.py    # some settings, some tests
    python tests/processors.py --demo                    # also the quick demo, under every setting

Results of float32 differ between processors in their last digits, since sums are added up in another order. A test
that amplifies those digits passes on one processor and fails on another; another order of summation shows it.
Instruction sets can only be taken away: no setting emulates a newer processor, nor another vendor's choice of kernels
for the same instructions.

Each setting is verified first, by what the three libraries report of themselves in a process of its own. One that
changes nothing on this processor is listed and not run. The exit code is 1 if a test fails or if no setting changes
anything, and 2 for a mistake on the command line.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
NUMERIC = [
    f"tests/{name}" for name in
    ("engine", "runs", "runtime", "losses", "models", "masks", "scoring", "ensemble", "predict", "tasks", "augment",
     "profiling", "eda", "test_end_to_end.py")
]  # fmt: skip
PROBE = """
import torch
print("ATen:", torch.backends.cpu.get_cpu_capability())
conv = torch.nn.Conv2d(16, 16, 3)
with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
    conv(torch.ones(4, 16, 32, 32))
with torch.backends.mkl.verbose(torch.backends.mkl.VERBOSE_ON):
    torch.ones(64, 64) @ torch.ones(64, 64)
"""


class Setting(NamedTuple):
    """Environment variables, and what they stand for."""

    name: str
    variables: dict[str, str]
    emulates: str


class Count(NamedTuple):
    """Tests that passed, that were skipped, and the names of those that failed."""

    passed: int
    skipped: int
    failed: list[str]


SETTINGS = [
    Setting("native", {}, "this processor"),
    Setting("aten-default", {"ATEN_CPU_CAPABILITY": "default"}, "torch's own kernels without vector instructions"),
    Setting("aten-avx2", {"ATEN_CPU_CAPABILITY": "avx2"}, "torch's own kernels with AVX2"),
    Setting("onednn-avx512", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "convolutions of the first AVX-512 processors"),
    Setting("onednn-avx2", {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "convolutions with AVX2"),
    Setting("onednn-avx", {"ONEDNN_MAX_CPU_ISA": "AVX"}, "convolutions with AVX"),
    Setting("onednn-sse41", {"ONEDNN_MAX_CPU_ISA": "SSE41"}, "convolutions with SSE 4.1"),
    Setting("mkl-avx2", {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}, "matrix products with AVX2 (Intel only)"),
    Setting("mkl-sse42", {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}, "matrix products with SSE 4.2 (Intel only)"),
    Setting("mkl-cbwr-avx2", {"MKL_CBWR": "AVX2"}, "reproducible matrix products with AVX2"),
    Setting("mkl-cbwr-compatible", {"MKL_CBWR": "COMPATIBLE"}, "reproducible matrix products of any x86 processor"),
    Setting(
        "avx512-mkl-avx2",
        {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
        "an AVX-512 processor on which MKL stays with AVX2",
    ),
    Setting(
        "avx2",
        {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
        "a processor with AVX2 and not AVX-512",
    ),
    Setting(
        "sse",
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
        "a processor without AVX",
    ),
]  # fmt: skip
QUICK = ("native", "avx512-mkl-avx2", "avx2", "sse")
RESTRICTING = {name for setting in SETTINGS for name in setting.variables}


def environment(setting: Setting, threads: int) -> dict[str, str]:
    """The environment of a process under a setting; what the caller has set of its variables does not count."""
    inherited = {key: value for key, value in os.environ.items() if key not in RESTRICTING}
    return inherited | setting.variables | {"OMP_NUM_THREADS": str(threads), "NO_ALBUMENTATIONS_UPDATE": "1"}


def instructions(setting: Setting) -> str:
    """The vector instructions that each library reports in a process under a setting."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment(setting, 1), capture_output=True, text=True, check=True
    )
    return summary(done.stdout)


def summary(output: str) -> str:
    """The probe's output in one line: the instructions of ATen, of oneDNN and of MKL, which may be absent."""
    found = {"ATen": "unknown", "oneDNN": "unknown", "MKL": "unknown"}
    for line in output.splitlines():
        if line.startswith("ATen: "):
            found["ATen"] = line.removeprefix("ATen: ")
        elif "info,cpu,isa:" in line:
            found["oneDNN"] = line.split("isa:", 1)[1]
        elif line.startswith("MKL_VERBOSE") and "architecture " in line:
            about = line.split("architecture ", 1)[1].split(" enabled processors")[0].split(", Lnx")[0]
            found["MKL"] = about
        elif line.startswith("MKL_VERBOSE") and "CNR:" in line:
            mode = line.split("CNR:", 1)[1].split()[0]
            if mode != "OFF":
                found["MKL"] += f", CBWR {mode}"
    return "; ".join(f"{name} {value}" for name, value in found.items())


def run_tests(setting: Setting, threads: int, words: list[str]) -> Count:
    """Runs pytest in a process under a setting; a run that ends without a report counts as a failure."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        processes = max(1, 2 // threads)
        command = [sys.executable, "-m", "pytest", "-q", "-n", str(processes), "--dist", "loadfile", *words]
        done = subprocess.run(
            [*command, f"--junitxml={report}"],
            env=environment(setting, threads),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        found = read_report(report) if report.is_file() else Count(0, 0, [])
    if done.returncode and not found.failed:
        print(done.stdout[-2000:], file=sys.stderr)
        return found._replace(failed=[f"pytest (exit code {done.returncode})"])
    return found


def read_report(path: Path) -> Count:
    """The counts of a JUnit file."""
    passed, skipped, failed = 0, 0, []
    for case in ElementTree.parse(path).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return Count(passed, skipped, failed)


def run_demo(setting: Setting, threads: int) -> list[str]:
    """Runs the quick demo in an empty folder; what failed."""
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [sys.executable, "-m", "phalanx", "demo", "quick=true"],
            env=environment(setting, threads),
            cwd=place,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    if done.returncode:
        print(done.stdout[-2000:], file=sys.stderr)
        return [f"demo (exit code {done.returncode})"]
    return []


def chosen(words: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options, and the words for pytest: paths and its own options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [setting.name for setting in SETTINGS]
    parser.add_argument("--quick", action="store_true", help=f"numeric tests under {', '.join(QUICK)}, on one thread")
    parser.add_argument("--only", metavar="NAME,...", help=f"settings out of {', '.join(names)}")
    parser.add_argument("--threads", metavar="N,...", help="numbers of threads (default: 1,2)")
    parser.add_argument("--demo", action="store_true", help="also run the quick demo under every setting")
    parser.add_argument("--probe", action="store_true", help="only report what each setting changes")
    options, rest = parser.parse_known_args(words)
    options.only = options.only.split(",") if options.only else list(QUICK) if options.quick else names
    for name in options.only:
        if name not in names:
            parser.error(f"--only {name}: no such setting; one of {', '.join(names)}")
    try:
        options.threads = [int(n) for n in (options.threads or ("1" if options.quick else "1,2")).split(",")]
    except ValueError:
        parser.error(f"--threads {options.threads}: expected numbers, as in 1,2")
    if options.quick and not any(not word.startswith("-") for word in rest):
        rest = [*NUMERIC, *rest]
    return options, rest


def main(words: list[str] | None = None) -> int:
    options, rest = chosen(words)
    native = instructions(SETTINGS[0])
    changed: Mapping[str, str] = {s.name: instructions(s) for s in SETTINGS if s.name in options.only}
    failures = 0
    for setting in [s for s in SETTINGS if s.name in changed]:
        print(f"\n{setting.name}: {setting.emulates}\n    {changed[setting.name]}", flush=True)
        if setting.variables and changed[setting.name] == native:
            print("    changes nothing on this processor; not run", flush=True)
            continue
        for threads in [] if options.probe else options.threads:
            began = time.monotonic()
            passed, skipped, failed = run_tests(setting, threads, rest)
            failed += run_demo(setting, threads) if options.demo else []
            failures += len(failed)
            seconds = time.monotonic() - began
            print(
                f"    {threads} thread{'s' * (threads > 1)}: {passed} passed, {len(failed)} failed, {skipped} skipped "
                f"in {seconds:.0f} s",
                *(f"\n        {name}" for name in failed),
                sep="",
                flush=True,
            )
    restricted = [name for name in changed if name != "native"]
    if restricted and all(changed[name] == native for name in restricted):
        print("\nNo setting changes anything on this processor: nothing was emulated", file=sys.stderr)
        return 1
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
