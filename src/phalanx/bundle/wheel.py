"""This code as a wheel: built from its sources, or packed again from the wheel that it was installed from."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

from ..errors import ConfigError, OutputError, one_line
from ..runtime.leftovers import temporary_folder

SOURCES = ("src", "configs", "pyproject.toml", "setup.py", "requirements.txt", "README.md", "LICENSE")
EPOCH = "315532800"  # 1980, the first year that a zip file can contain: equal sources make equal wheels
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


def make_wheel(folder: Path) -> Path:
    """Writes the wheel of the code that runs into a folder; returns its path.

    Raises:
        ConfigError: the sources cannot be built, or are not whole. OSError: the folder cannot be written.
    """
    package = Path(__file__).resolve().parents[1]
    root = package.parents[1]
    if (root / "pyproject.toml").is_file() and package == root / "src" / "phalanx":
        return _built(root, folder)
    return _packed_again(package, folder)


def _built(root: Path, folder: Path) -> Path:
    """The wheel of a source tree. It is built from a copy, as building leaves files next to the sources."""
    with temporary_folder() as home:
        copy = home / "sources"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in SOURCES:
            if not (root / name).exists():
                raise ConfigError(f"{root / name}: is missing, and a wheel is built from it; restore it")
            if (root / name).is_dir():
                shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copyfile(root / name, copy / name)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            [sys.executable, "-c", BUILD, str(folder.absolute())], cwd=copy, env=environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        shutil.rmtree(copy, ignore_errors=True)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise ConfigError(
            f"{root}: its wheel cannot be built ({one_line(lines[-1])}); it takes setuptools 77 or later, which "
            "setup.sh installs"
        )
    return folder / done.stdout.strip().splitlines()[-1]


def _packed_again(package: Path, folder: Path) -> Path:
    """The wheel that a package was installed from: its files, as the installation lists them."""
    found = metadata.distribution("phalanx")
    base = package.parent
    files = sorted(
        path.as_posix() for path in found.files or []
        if path.parts[0] in ("phalanx", f"phalanx-{found.version}.dist-info") and "__pycache__" not in path.parts
    )  # fmt: skip
    installers = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD")
    files = [name for name in files if not (".dist-info/" in name and Path(name).name in installers)]
    if "phalanx/cli.py" not in files or Path(str(found.locate_file("phalanx"))).resolve() != package:
        raise ConfigError(
            f"{package}: is neither in a source tree nor installed from a wheel, so no wheel can be made of it; "
            "install Phalanx by setup.sh or pip"
        )
    path = folder / f"phalanx-{found.version}-py3-none-any.whl"
    records = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name in files:
            try:
                data = (base / name).read_bytes()
            except FileNotFoundError:
                raise OutputError(f"{base / name}: is missing from this installation; install Phalanx again") from None
            value = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            records.append(f"{name},sha256={value},{len(data)}")
            wheel.writestr(_entry(name), data)
        record = f"phalanx-{found.version}.dist-info/RECORD"
        wheel.writestr(_entry(record), "\n".join([*records, f"{record},,"]) + "\n")
    return path


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
    return entry
