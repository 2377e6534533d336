"""Options of ensembles that all tasks share: members count once, and weights are one each."""

import pytest

from phalanx.config.words import typed
from phalanx.ensemble.boxes import FuseBoxes
from phalanx.ensemble.classify import VoteLabels
from phalanx.ensemble.options import EnsembleOptions
from phalanx.errors import ConfigError

KINDS = [(EnsembleOptions, "soft"), (VoteLabels, "soft"), (FuseBoxes, "wbf")]


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_members_and_weights_are_checked_alike(kind, mode):
    options = typed(kind, {"mode": mode, "members": "a,b,a/c", "weights": "2,1,1"})
    assert (options.members, options.votes) == (["a", "b", "a/c"], [2, 1, 1])
    for members, weights, message in (
        ("a,./a", None, "members: a is named twice"),
        ("a/b,a//b", None, "members: a/b is named twice"),
        ("a,b", "1", "weights: 1 for 2 members"),
        ("a,b", "1,0", "weights=1,0: whole numbers from 1"),
        ("a,b", "1,.5", "weights=1,.5: whole numbers from 1"),
    ):
        words = {"mode": mode, "members": members} | ({"weights": weights} if weights else {})
        with pytest.raises(ConfigError, match=f"^{message}"):
            typed(kind, words)


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_a_name_of_weights_is_a_checkpoint_of_runs(kind, mode):
    words = {"mode": mode, "members": "a,b", "weights": "best"}
    if kind is FuseBoxes:  # CSVs have none
        with pytest.raises(ConfigError, match="weights=best: whole numbers from 1"):
            typed(kind, words)
    else:
        assert typed(kind, words).weights == "best"
        assert typed(kind, words).votes is None
