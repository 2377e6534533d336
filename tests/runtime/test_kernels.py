"""The choice of kernels by an environment variable."""

import importlib.util

import pytest

from phalanx.errors import ConfigError
from phalanx.runtime import kernels as module


@pytest.fixture(autouse=True)
def fresh():
    module.kernels.cache_clear()
    yield
    module.kernels.cache_clear()


def test_the_default_is_torch_and_an_empty_variable_is_the_default(monkeypatch):
    monkeypatch.delenv(module.VARIABLE, raising=False)
    assert module.kernels() == "torch"
    module.kernels.cache_clear()
    monkeypatch.setenv(module.VARIABLE, "")
    assert module.kernels() == "torch"


def test_the_variable_is_read_once(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    monkeypatch.setenv(module.VARIABLE, "triton")
    assert module.kernels() == "triton"
    monkeypatch.setenv(module.VARIABLE, "torch")
    assert module.kernels() == "triton"


def test_an_unknown_value_is_refused(monkeypatch):
    monkeypatch.setenv(module.VARIABLE, "cuda")
    with pytest.raises(ConfigError, match=r"PHALANX_KERNELS=cuda: not a kind of kernels; set torch or triton"):
        module.kernels()


def test_triton_is_refused_where_it_is_not_installed(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "triton" else found(name))
    monkeypatch.setenv(module.VARIABLE, "triton")
    with pytest.raises(ConfigError, match=r"Triton is not installed; install it, or set PHALANX_KERNELS=torch"):
        module.kernels()
