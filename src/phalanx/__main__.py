"""``python -m phalanx``."""

import sys

from .runtime.lifeline import end_with_starter

if __name__ == "__main__":  # processes that we start read this file again
    end_with_starter()

    from .cli import main

    sys.exit(main())
