"""Exploratory data analysis: rotation, shift from train to test, sizes, overlaps, outliers."""
