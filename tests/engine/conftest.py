"""Recipes as the engine gets them."""

import pytest
import torch

from phalanx.compose import compose, split_words


@pytest.fixture
def recipe(tiny, tmp_path):
    """A composed configuration whose runs lie in the test's folder: recipe("unet", batch=2)."""
    return lambda model="unet", **changes: compose(
        split_words(tiny(model, runs=tmp_path / "runs", name="r", **changes))
    )


@pytest.fixture
def records(hands):
    from phalanx.data.records import train_records

    return train_records(hands)


@pytest.fixture
def one_thread():
    """Torch computes on one thread, so that sums are added up in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
