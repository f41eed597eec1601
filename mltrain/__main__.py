"""`python -m mltrain`, and `accelerate launch mltrain`, which runs this folder as a script."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    if not __package__:
        # Run as a folder: its modules must not stand in for libraries of the same names.
        sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from mltrain.cli.main import main

    sys.exit(main())
