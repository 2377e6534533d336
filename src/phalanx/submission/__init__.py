"""The submission CSV: its rows, and the table of all images."""
