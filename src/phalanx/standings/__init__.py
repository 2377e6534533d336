"""Runs, votes and CSVs in tables: where each stands, and in what their recipes differ."""
