"""What trainings on a CPU stand in for a GPU with."""

import pytest
from tests.engine.simulated_graph import SimulatedGraph


@pytest.fixture
def simulated(monkeypatch):
    """Trainings with ``cuda_graphs`` record simulated graphs; returns what these have done."""
    monkeypatch.setattr("phalanx.engine.graph.obstacle", lambda config, device: None)
    monkeypatch.setattr("phalanx.engine.graph.graph_on", SimulatedGraph)
    monkeypatch.setattr(SimulatedGraph, "told", [])
    return SimulatedGraph.told
