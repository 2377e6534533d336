"""The option ``f1_iou=`` of commands that score and compare."""

import re

from ..config import validate_as
from ..config.f1_iou import F1AtIoU
from ..config.plain import NotPlain, parse_plain
from ..errors import ConfigError, brief

EXAMPLE = "{positive:diseased,negative:normal,iou:0.5}"


def f1_rules(pairs: dict[str, str]) -> list[F1AtIoU]:
    """The rules in ``f1_iou=``, taken out of the pairs: one mapping, or a list with one for each disease.

    Raises:
        ConfigError: not a mapping or list of mappings, an unknown key or an invalid value, a disease twice.

    >>> [rule.iou for rule in f1_rules({"f1_iou": "[{positive:a,iou:.25},{positive:b}]"})]
    [0.25, 0.5]
    """
    if "f1_iou" not in pairs:
        return []
    text = pairs.pop("f1_iou")
    try:
        found = parse_plain(re.sub(r":(?=\S)", ": ", text))  # as in Hydra, spaces are optional
    except NotPlain as error:
        raise ConfigError(f"f1_iou={brief(text)[1:-1]}: not a value ({str(error).partition(' at line')[0]})") from None
    values = found if isinstance(found, list) else [found]
    if not values or not all(isinstance(value, dict) for value in values):
        raise ConfigError(
            f"f1_iou={brief(text)[1:-1]}: expected a mapping or a list of them, in quotes, as the shell replaces "
            f'braces: "f1_iou={EXAMPLE}"'
        )
    rules = [validate_as(F1AtIoU, value, "f1_iou") for value in values]
    names = [rule.positive for rule in rules]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"f1_iou: {twice} is positive in two rules; give each disease one")
    return rules
