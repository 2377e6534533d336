"""Pretrained weights of encoders: where they are stored, and whether those that are not can be fetched."""

import threading
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..runtime.terminal import say
from .libraries import without_wandb

SECONDS = 10.0  # that a server may take to answer


def prepare_fetch(encoder: str, weights: str) -> None:
    """Prints that the weights of an encoder are being fetched, unless they are stored on this machine.

    The libraries that fetch them try for long and print nothing.

    Args:
        encoder: as smp names it; ``tu-`` before a name of timm's.

    Raises:
        ConfigError: the server does not answer within ``SECONDS``.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or is_stored(encoder, weights):
        return
    text = f"model.weights={weights}: fetching the pretrained weights of {encoder} from {constants.ENDPOINT} ..."
    say(text)
    if not answers(constants.ENDPOINT, SECONDS):
        raise ConfigError(
            f"model.weights={weights}: the pretrained weights of {encoder} are not on this machine, and "
            f"{constants.ENDPOINT} does not answer within {SECONDS:g} s. Train from scratch with model.weights=none, "
            "or name a local file with model.weights=/path/to/file.safetensors"
        )


def is_stored(encoder: str, weights: str) -> bool:
    """Whether the weights are on this machine, or nothing is known about where they come from."""
    import torch
    from huggingface_hub import try_to_load_from_cache

    with without_wandb():
        import segmentation_models_pytorch as smp
        import timm

    known: dict[str, Any] = smp.encoders.encoders
    if encoder in known:
        settings = known[encoder]["pretrained_settings"].get(weights)
        sources = [(settings["repo_id"], settings["revision"])] if settings else []
    else:
        config = timm.get_pretrained_cfg(encoder.partition("-")[2])
        if config is not None and isinstance(config.url, str) and config.url and not config.hf_hub_id:
            return (Path(torch.hub.get_dir()) / "checkpoints" / Path(config.url).name).is_file()
        sources = [(config.hf_hub_id, None)] if config is not None and config.hf_hub_id else []
    files = ("model.safetensors", "pytorch_model.bin")
    return not sources or any(
        isinstance(try_to_load_from_cache(repository, file, revision=revision), str)
        for repository, revision in sources
        for file in files
    )


def answers(address: str, seconds: float) -> bool:
    """Whether a web server gives any answer within some seconds, looking up its name included."""
    found: list[bool] = []

    def ask() -> None:
        import ssl
        import urllib.error
        import urllib.request

        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds).close()
            found.append(True)
        except urllib.error.HTTPError:
            found.append(True)
        except urllib.error.URLError as error:  # of a certificate: the libraries may trust it
            found.append(isinstance(error.reason, ssl.SSLError))
        except (OSError, ValueError):
            found.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(found and found[0])
