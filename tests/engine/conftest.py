"""Recipes as the engine gets them."""

import pytest

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
