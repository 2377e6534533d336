"""``python -m phalanx``."""

import sys

from .cli import main
from .jobs.lifeline import end_with_starter

if __name__ == "__main__":  # processes that we start read this file again
    end_with_starter()
    sys.exit(main())
