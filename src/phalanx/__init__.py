"""Phalanx: competition-grade segmentation of overlapping bones in hand X-rays."""

__version__ = "0.1.0"
