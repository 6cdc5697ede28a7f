"""A script that starts processes which run it anew has to hold its calls back from them: ``__name__ == "__main__"``."""

from __future__ import annotations

import ast
import multiprocessing
import sys
from pathlib import Path
from types import FrameType

from segkit.errors import ConfigError

GUARD = 'put the call of segkit under `if __name__ == "__main__":`, or set workers=0'


def refuse_unguarded(workers: int | str) -> None:
    """Refuse to start processes, where each would begin by running the script that is under way, and start its own.

    So it is with the start methods spawn (Windows, macOS) and forkserver (Linux from Python 3.14 on); a process that is
    forked runs nothing anew, and neither does one that a notebook starts.

    Raises:
        ConfigError: a script has no guard around its call, or this is such a process already.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # true while a new process runs the script
        raise ConfigError(f"a process that loads data runs the script that has started it, and calls segkit: {GUARD}")
    # asked so that it stays to be set: multiprocessing refuses that once a context was made
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if workers in (0, "auto") or method == "fork":
        return
    frame: FrameType | None = sys._getframe()
    while frame and not _is_script(frame):
        frame = frame.f_back
    if frame is None:
        return
    place, line = frame.f_globals["__file__"], frame.f_lineno
    why = (
        f"each process that loads data (workers={workers}) begins by running this script anew, as Python's start "
        f"method is {method} here"
    )
    if not Path(place).is_file():  # it came from the standard input
        raise ConfigError(f"{place}: {why}, and it is no file; save it as one, or set workers=0")
    if not _is_guarded(Path(place), line):
        raise ConfigError(f"{place}, line {line}: {why}; {GUARD}")


def _is_script(frame: FrameType) -> bool:
    """Whether a frame is that of the script itself, not of text that the script has executed."""
    place = frame.f_globals.get("__file__")
    if not place or frame.f_code.co_name != "<module>" or frame.f_globals.get("__name__") != "__main__":
        return False
    return Path(place).absolute() == Path(frame.f_code.co_filename).absolute()


def _is_guarded(script: Path, line: int) -> bool:
    """Whether a line stands within an ``if`` that asks for ``__name__``; true where that cannot be told."""
    try:
        nodes = ast.walk(ast.parse(script.read_bytes()))
    except (OSError, SyntaxError, ValueError):
        return True
    around = [node for node in nodes if isinstance(node, ast.If) and node.lineno <= line <= (node.end_lineno or line)]
    return any(isinstance(each, ast.Name) and each.id == "__name__" for node in around for each in ast.walk(node.test))
