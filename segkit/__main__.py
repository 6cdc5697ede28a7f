# PYTHON_ARGCOMPLETE_OK
"""``python -m segkit``."""

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
    return cli.main(["completion"] if "_ARGCOMPLETE" in os.environ else None)  # a shell asks what may come next


if __name__ == "__main__":  # worker processes import this file too
    sys.exit(main())
