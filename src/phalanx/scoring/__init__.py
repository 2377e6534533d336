"""Dice and surface scores, comparisons and cross-fitting, without torch but in ``dice_torch``."""
