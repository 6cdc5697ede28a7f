# PYTHON_ARGCOMPLETE_OK
"""``python -m segkit``."""

import gc
import os
import sys
import time

BEGAN = time.monotonic()  # before the slow imports of plugins and torch


def main() -> int:
    """Call :func:`segkit.cli.main`; Ctrl-C during its import gives an exit status too, instead of a traceback."""
    try:
        from segkit import cli, signals
    except KeyboardInterrupt:
        return 130
    signals.command_began = BEGAN
    try:
        return cli.main(["completion"] if "_ARGCOMPLETE" in os.environ else None)  # called by shell completion
    finally:
        gc.freeze()  # otherwise Python searches all of torch for cycles at exit, which takes a second


if __name__ == "__main__":  # worker processes import this file too
    sys.exit(main())
