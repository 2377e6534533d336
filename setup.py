"""Adds to wheels what lies outside src/ and is read at run time: configs/, and the versions of requirements.txt.

All else is in pyproject.toml. An editable installation reads these files where they are.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithConfigs(build_py):
    """Builds the package with a copy of configs/ and requirements.txt in it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib) / "phalanx"
            shutil.copytree(ROOT / "configs", package / "configs", dirs_exist_ok=True)
            shutil.copyfile(ROOT / "requirements.txt", package / "requirements.txt")


setup(cmdclass={"build_py": BuildWithConfigs})
