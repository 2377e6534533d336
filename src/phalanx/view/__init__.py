"""One local page to browse images and runs, to review annotations in doubt, and to try a run on an image."""
