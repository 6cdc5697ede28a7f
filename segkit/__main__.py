# PYTHON_ARGCOMPLETE_OK
"""``python -m segkit``."""

import gc
import os
import sys


def main() -> int:
    """Call :func:`segkit.cli.main`."""
    from segkit import cli

    try:
        return cli.main(["completion"] if "_ARGCOMPLETE" in os.environ else None)  # called by shell completion
    finally:
        gc.freeze()  # otherwise Python searches all of torch for cycles at exit, which takes a second


if __name__ == "__main__":  # worker processes import this file too
    sys.exit(main())
