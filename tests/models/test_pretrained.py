"""Pretrained weights: said at once, given up soon, and not asked for if they are stored."""

import socket
import threading
import time

import pytest

from phalanx.config import SegmentModel
from phalanx.errors import ConfigError
from phalanx.models import pretrained
from phalanx.models.build import build


@pytest.fixture
def silent():
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing():
    """The address of a server that answers 404."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            one, _ = server.accept()
            one.recv(65536)
            one.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            one.close()

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pretrained, "SECONDS", 0.5)


def test_a_server_that_does_not_answer_is_given_up(silent):
    began = time.monotonic()
    assert not pretrained.answers(silent, 0.5)
    assert time.monotonic() - began < 5


def test_any_answer_is_one(refusing):
    assert pretrained.answers(refusing, 30)


def test_an_address_that_does_not_exist_does_not_answer():
    assert not pretrained.answers("http://127.0.0.1:1", 30)
    assert not pretrained.answers("nonsense", 30)


@pytest.mark.parametrize(
    "model", [{"arch": "fpn", "encoder": "resnet18"}, {"arch": "fpn", "encoder": "tu-resnet18.a1_in1k"}]
)
def test_the_fetch_is_said_at_once_and_given_up_soon(model, silent, monkeypatch, capsys):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", silent)
    with pytest.raises(ConfigError, match=r"does not answer within .* Train from scratch with model\.weights=none"):
        build(SegmentModel(**model, pointrend=None), classes=2, size=64)
    assert f"fetching the pretrained weights of {model['encoder']} from {silent}" in capsys.readouterr().out


def test_what_is_stored_is_not_fetched(monkeypatch, capsys, tmp_path):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *names, **more: str(tmp_path / "there"))
    pretrained.prepare_fetch("resnet18", "imagenet")
    assert not capsys.readouterr().out


def test_a_name_of_no_weights_is_left_to_the_library(capsys):
    assert pretrained.is_stored("resnet18", "imagnet")
    pretrained.prepare_fetch("resnet18", "imagnet")
    assert not capsys.readouterr().out
