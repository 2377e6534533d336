"""Self-contained HTML pages of runs, explorations and checks: what they show, and how it becomes one file."""
