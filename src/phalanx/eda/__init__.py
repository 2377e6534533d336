"""Exploring a data set before training: rotation, shift from train to test, sizes, overlaps, odd images."""
