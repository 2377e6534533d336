"""What prediction needs besides this code: exact versions for a Python and platform, and their wheels by pip."""

import platform as system
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, one_line
from ..runtime.files import sha256_file

# imported by a prediction, whatever it predicts
COMMON = (
    "filelock", "numpy", "opencv-python-headless", "openpyxl", "pandas", "pillow", "pydantic", "pydicom", "pyyaml",
    "safetensors", "scipy", "tqdm",
)  # fmt: skip
TORCH = ("segmentation-models-pytorch", "timm", "torch", "torchvision", "ttach")
ONNX = ("onnxruntime",)
OF_ARCHITECTURES = {"swin_unetr": ("einops", "monai")}
PIP_PLATFORMS = 100  # versions of glibc that a manylinux tag is compatible with, at most


class Target(NamedTuple):
    """The machine that a bundle is for.

    Attributes:
        python: as ``3.12``.
        platform: tag of wheels, as ``manylinux_2_28_x86_64``; None: this machine.
    """

    python: str
    platform: str | None

    @property
    def is_here(self) -> bool:
        """Whether it has the Python and the platform of this process."""
        return self.platform is None and self.python == python_here()

    @property
    def machine(self) -> str:
        """System and processor, as ``Linux x86_64``."""
        if self.platform is None:
            return f"{system.system()} {system.machine()}"
        kind = "Darwin" if self.platform.startswith("macosx") else "Linux"
        found = re.search(r"(x86_64|aarch64|arm64|i686|ppc64le|s390x)$", self.platform)
        assert found is not None  # checked by the options
        return f"{kind} {found[1]}"

    @property
    def markers(self) -> dict[str, str]:
        """The values of environment markers there."""
        kind, machine = self.machine.split(" ", 1)
        return {
            "python_version": self.python, "python_full_version": f"{self.python}.0", "platform_system": kind,
            "sys_platform": kind.lower(), "platform_machine": machine, "os_name": "posix",
            "implementation_name": "cpython", "platform_python_implementation": "CPython", "extra": "",
        }  # fmt: skip

    def pip_words(self, *, explicit: bool = False) -> list[str]:
        """Options of ``pip download`` that fetch the wheels of that machine.

        Args:
            explicit: name Python and platform even if they are those of this process, as another will fetch them.
        """
        words = ["--only-binary=:all:"]
        if explicit or not self.is_here:
            words += ["--python-version", self.python, "--implementation", "cp"]
            words += [word for tag in self._tags() for word in ("--platform", tag)]
        return words

    def _tags(self) -> list[str]:
        """The platform's tag and those that it is compatible with: pip takes every one literally."""
        tag = self.platform or platform_here()
        if mac := re.fullmatch(r"macosx_(\d+)_(\d+)_(\w+)", tag):
            from packaging.tags import mac_platforms

            return list(mac_platforms((int(mac[1]), int(mac[2])), mac[3]))
        found = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", tag)
        if found is None:
            return [tag]
        tags = [f"manylinux_2_{number}_{found[2]}" for number in range(min(int(found[1]), PIP_PLATFORMS), 4, -1)]
        return [*tags, *(f"manylinux{year}_{found[2]}" for year in ("2014", "2010", "1"))]


def python_here() -> str:
    """Major and minor version of this Python, as ``3.12``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def platform_here() -> str:
    """The tag of wheels of this machine."""
    library, version = system.libc_ver()
    if library == "glibc":
        return f"manylinux_{version.replace('.', '_')}_{system.machine()}"
    return re.sub(r"[-.]", "_", sysconfig.get_platform())


def direct(*, onnx: bool, architectures: Iterable[str]) -> list[str]:
    """Names of the packages that the code of a prediction imports.

    Args:
        architectures: of the networks, as ``model.arch``; without effect on exported ones.
    """
    if onnx:
        return sorted([*COMMON, *ONNX])
    more = [name for arch in set(architectures) for name in OF_ARCHITECTURES.get(arch, ())]
    return sorted([*COMMON, *TORCH, *more])


def pinned(names: Sequence[str], target: Target) -> dict[str, str]:
    """Version of each package that the named ones need on a machine, themselves included.

    The versions are those that are installed here, with which the runs were checked; for another Python or platform
    those of requirements.txt.

    Raises:
        ConfigError: one of them is not installed here.
    """
    from packaging.requirements import Requirement

    locked = {} if target.is_here else locked_versions(target)
    found: dict[str, str] = {}
    done: set[tuple[str, str]] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        one = waiting.pop()
        name = canonical(one.name)
        installed = _installed(name)
        if installed is None:
            if name in locked:
                found[name] = locked[name]
                continue
            raise ConfigError(
                f"{one.name}: is needed for prediction and is not installed here; install it by bash setup.sh, then "
                "bundle again"
            )
        found[name] = locked.get(name, installed.version)
        for extra in ("", *one.extras):
            if (name, extra) in done:
                continue
            done.add((name, extra))
            needed = [Requirement(text) for text in installed.requires or []]
            waiting += [
                other for other in needed
                if other.marker is None or other.marker.evaluate({**target.markers, "extra": extra})
            ]  # fmt: skip
    return dict(sorted(found.items()))


@cache
def _installed(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def canonical(name: str) -> str:
    """A package's name as indexes spell it: ``Foo_Bar.baz`` is ``foo-bar-baz``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked_versions(target: Target) -> dict[str, str]:
    """Version by package of requirements.txt, as they are on a machine."""
    from packaging.requirements import Requirement

    package = Path(__file__).resolve().parents[1]
    path = next(p for p in (package / "requirements.txt", package.parents[1] / "requirements.txt") if p.is_file())
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            one = Requirement(line)
            if one.marker is None or one.marker.evaluate(target.markers):
                found[canonical(one.name)] = str(one.specifier).removeprefix("==")
    return found


def ranges(names: Sequence[str]) -> list[str]:
    """The direct packages with the versions that this code accepts, as lines of a list for pip."""
    from packaging.requirements import Requirement

    own = [Requirement(text) for text in metadata.distribution("phalanx").requires or []]
    accepted = {canonical(one.name): str(one.specifier) for one in own}
    return [f"{name}{accepted.get(canonical(name), '')}" for name in names]


def download(lines: Sequence[str], folder: Path, target: Target, torch_index: str | None) -> None:
    """Downloads the wheels of a list of requirements into a folder.

    Raises:
        ConfigError: pip cannot get one.
    """
    listed = folder / "requirements.in"
    listed.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    words = [
        sys.executable,
        "-m",
        "pip",
        *download_words(str(listed), str(folder), target.pip_words(), torch_index),
        "--quiet",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    listed.unlink()
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise ConfigError(
            f"wheels=true: pip cannot download the packages ({one_line(errors[-1] if errors else 'no message')}); with "
            "another build of torch give torch_index=URL, without network wheels=false and fetch them later"
        )


def download_words(listed: str, folder: str, words: Sequence[str], torch_index: str | None) -> list[str]:
    """The words of ``pip download`` for a list in a file.

    Args:
        words: of a target, as :meth:`Target.pip_words`.
    """
    more = ["--extra-index-url", torch_index] if torch_index else []
    return ["download", "--disable-pip-version-check", *words, *more, "-r", listed, "-d", folder]


def hashed(folder: Path) -> list[str]:
    """The wheels in a folder as lines of a list for pip, with their hashes, without this code's own."""
    lines = []
    for path in sorted(folder.glob("*.whl")):
        name, version = path.name.split("-")[:2]
        if canonical(name) != "phalanx":
            lines.append(f"{canonical(name)}=={version} --hash=sha256:{sha256_file(path)}")
    return lines


def described(versions: Mapping[str, Any]) -> list[str]:
    """Packages with exact versions, as lines of a list for pip."""
    return [f"{name}=={version}" for name, version in versions.items()]
