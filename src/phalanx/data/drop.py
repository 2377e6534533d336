"""The rules of ``data.drop``: unusually bright images, and images that an earlier run disagrees with."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..config import DropDice, SegmentData
from ..errors import ConfigError, DataError
from .brightness import BRIGHT, brightness, fence
from .images import read_grey
from .layouts import train_names
from .records import Record


def dropped(records: Sequence[Record], data: SegmentData, scores: Mapping[str, float]) -> dict[str, str]:
    """Reasons by name of the images that the rules of ``data.drop`` drop, with rule, value and limit.

    Args:
        records: annotated images.
        scores: out-of-fold scores by image of the run that ``data.drop.dice`` names.

    Raises:
        ConfigError: a rule drops nothing, so that the recipe would not be what it says; or an image has no score.
        DataError: an unreadable image, or scores of another data set.
    """
    if data.drop is None:
        return {}
    found = _bright(records, data.drop.bright) if data.drop.bright is not None else {}
    if data.drop.dice is not None:
        for name, reason in _by_score(records, data, data.drop.dice, scores).items():
            found[name] = f"{found[name]}; {reason}" if name in found else reason
    return found


def _bright(records: Sequence[Record], distances: float) -> dict[str, str]:
    """Images whose fraction of bright pixels is above Tukey's fence."""
    with ThreadPoolExecutor() as pool:
        fractions = list(pool.map(lambda record: brightness(read_grey(record.image)).fraction, records))
    limit = fence(fractions, distances)
    found = {
        record.name: f"bright: {value:.3%} of the pixels are {BRIGHT} or brighter, limit {limit:.3%}"
        for record, value in zip(records, fractions, strict=True)
        if value > limit
    }
    if not found:
        raise ConfigError(
            f"data.drop.bright={distances:g}: no training image is brighter than that (the most: "
            f"{max(fractions):.3%} of the pixels); give a smaller number, or leave the rule out"
        )
    return found


def _by_score(
    records: Sequence[Record], data: SegmentData, rule: DropDice, scores: Mapping[str, float]
) -> dict[str, str]:
    """Images with a low out-of-fold score in the run that the rule names."""
    foreign = sorted(scores.keys() - train_names(data))
    if foreign:
        raise DataError(
            f"data.drop.dice.run={rule.run}: was scored on {foreign[0]}, which is not a training image of {data.root} "
            f"({len(foreign)} such image(s)); name a run on this data set"
        )
    unknown = [record.name for record in records if record.name not in scores]
    if unknown:
        raise ConfigError(
            f"data.drop.dice.run={rule.run}: has no out-of-fold Dice of {unknown[0]} ({len(unknown)} such image(s)); "
            f"train all its folds first (bash train.sh fold=0..4 name={rule.run} ...), on all the images of this run"
        )
    order = sorted((scores[record.name], record.name) for record in records)
    if rule.worst:
        low = order[: rule.worst]
        limit = f"limit {low[-1][0]:.4f} (the {rule.worst} lowest)"
    else:
        assert rule.below is not None  # the configuration requires one of the two
        low = [(score, name) for score, name in order if score < rule.below]
        limit = f"limit {rule.below:g}"
    if not low:
        raise ConfigError(
            f"data.drop.dice.below={rule.below:g}: no training image is below that in {rule.run} (the lowest: "
            f"{order[0][0]:.4f}); give a larger number, or leave the rule out"
        )
    return {name: f"dice: out-of-fold Dice {score:.4f}, {limit}" for score, name in low}
