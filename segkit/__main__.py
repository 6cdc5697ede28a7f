# PYTHON_ARGCOMPLETE_OK
"""``python -m segkit``."""

import os
import sys


def main() -> int:
    """As :func:`segkit.cli.main`; while that is imported, Ctrl-C ends in a status too, and not in a traceback."""
    try:
        from segkit import cli
    except KeyboardInterrupt:
        return 130
    return cli.main(["completion"] if "_ARGCOMPLETE" in os.environ else None)  # a shell asks what may come next


if __name__ == "__main__":  # worker processes import this file too
    sys.exit(main())
