"""Masks as run lengths, bit-planes and stacks of classes. Only ``planes_torch`` imports torch."""
