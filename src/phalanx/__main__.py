"""``python -m phalanx``."""

import sys

from .cli import main

if __name__ == "__main__":  # processes that we start read this file again
    sys.exit(main())
