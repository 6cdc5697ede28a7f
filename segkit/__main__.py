# PYTHON_ARGCOMPLETE_OK
"""``python -m segkit``."""

import gc
import os
import sys
import time

BEGAN = time.monotonic()  # before plugins and torch are imported, which takes a while


def main() -> int:
    """As :func:`segkit.cli.main`; while that is imported, Ctrl-C ends in a status too, and not in a traceback."""
    try:
        from segkit import cli, signals
    except KeyboardInterrupt:
        return 130
    signals.command_began = BEGAN
    try:
        return cli.main(["completion"] if "_ARGCOMPLETE" in os.environ else None)  # a shell asks what may come next
    finally:
        gc.freeze()  # Python's end would look through all of torch for cycles, which takes a second


if __name__ == "__main__":  # worker processes import this file too
    sys.exit(main())
