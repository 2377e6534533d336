"""Options of ``bundle``."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ..config import Strict
from .requirements import Target, python_here

# as pip has it; no Windows, which has no bash
PLATFORM = (
    r"^(manylinux(_\d{1,2}_\d{1,3}|20\d\d|1)|linux|musllinux_\d_\d|macosx_\d{2}_\d{1,2})_"
    r"(x86_64|aarch64|arm64|i686|ppc64le|s390x)$"
)


class BundleOptions(Strict):
    """Options of ``bundle``, without those of a run's prediction."""

    SPELLED: ClassVar = {"data.root": "root"}

    out: Path | None = None
    format: Literal["torch", "onnx"] = "torch"
    wheels: bool = False
    python: Annotated[str, Field(pattern=r"^3\.1[1-9]$")] | None = None
    platform: Annotated[str, Field(pattern=PLATFORM)] | None = None
    torch_index: str | None = None
    weights: Literal["final", "best", "last"] = "final"
    root: Path | None = None  # of the image to compare an export on, as images
    images: Path | None = None
    runs: Path = Path("runs")

    @property
    def target(self) -> Target:
        """The machine that the bundle is for."""
        return Target(self.python or python_here(), self.platform)
