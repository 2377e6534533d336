"""A Slurm on this machine, where there can be one."""

import pytest
from tests.slurm_machine import Machine, why_not


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A controller and two nodes; skips, with the reason, where there can be none."""
    if reason := why_not():
        pytest.skip(reason)
    machine = Machine(tmp_path_factory.mktemp("slurm"))
    before = pytest.MonkeyPatch()
    before.setenv("SLURM_CONF", str(machine.conf))
    yield machine
    before.undo()
    machine.close()
