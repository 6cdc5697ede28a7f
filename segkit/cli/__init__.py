"""The command ``python -m segkit``: runs a subcommand, and turns errors into one line and an exit status.

Commands are looked up by name like all components; the class of a command builds its parser.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Sequence
from inspect import getdoc
from pathlib import Path
from typing import Any, NoReturn

import segkit
from segkit.cli.output import Stream, as_options, hanging, messages, rank, table
from segkit.errors import ComponentNotFound, PluginError, SegkitError, did_you_mean
from segkit.registry import commands

INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
READER_LEFT = 141  # 128 + SIGPIPE
STATUSES = """exit status:
  0              done
  1              failed in part: a bad image, a failed check, training broke off
  2              a mistake in the command line, a config, data or a run folder
  129, 130, 143  stopped by a closed terminal, Ctrl-C or SIGTERM; a run is saved
  141            the reader closed the output, as in `segkit list | head -1`
"""
GRACE = 2.0  # seconds for the main process to report an error: torchrun ends it as soon as another process exits


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status; options that do not parse raise ``SystemExit(2)``."""
    with contextlib.redirect_stdout(Stream(sys.stdout)), contextlib.redirect_stderr(Stream(sys.stderr)):
        status = _status(arguments)
    if status and os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
        if rank() != "0":
            time.sleep(GRACE)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)  # gloo's threads may still serve other processes and would crash Python's normal exit
    return status


def _status(arguments: Sequence[str] | None) -> int:
    warnings.showwarning = _show_warning
    warnings.filterwarnings("ignore", module=r"(PIL|rasterio)\b")  # see segkit.data.read.ODD_METADATA
    with contextlib.suppress(AttributeError):  # standard output was replaced by another object
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a class may be named "ü"
    try:
        status = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except KeyboardInterrupt as error:  # its subclass Interrupted has a message
        if rank() == "0":
            print(f"segkit: {as_options(error) or 'interrupted'}", file=sys.stderr)
        return getattr(error, "status", INTERRUPTED)
    except BrokenPipeError:  # as in `segkit list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it exits
        return READER_LEFT
    except Exception as error:
        message, status = _explained(error)
        if not message:
            raise
        if type(error).__name__ != "MainProcessFailed":  # else the main process has printed the error
            process = "" if rank() == "0" else f" (process {rank()})"
            print(f"segkit{process}: {as_options(message)}", file=sys.stderr)
    return status


def _run(arguments: Sequence[str]) -> int:
    program = "python -m segkit" if Path(sys.argv[0]).parts[-2:] == ("segkit", "__main__.py") else "segkit"
    if not arguments or arguments[0].startswith("-"):
        return _help(program, arguments)
    name = arguments[0]
    for each in () if commands.matches(name) else commands.components():
        with contextlib.suppress(PluginError):
            if name in getattr(each.load(), "synonyms", ()):  # names of the same command in other tools
                raise ComponentNotFound(
                    f"there is no command '{name}'; did you mean '{each.name}'? `{each.name} --help`"
                )
    command = commands.find(name).load()
    parser = _Command(
        f"{program} {name}",
        description=hanging(getdoc(command) or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=STATUSES,
    )
    command.add_arguments(parser)
    parsed = parser.parse_intermixed_args(arguments[1:])  # accepts `run CONFIG --resume train.epochs=9`
    given = vars(parsed)
    with messages(aside="_document" in given and given["json"] is True, quiet=given.get("quiet", False)):
        return int(command.run(parsed) or 0)


class _Command(argparse.ArgumentParser):
    """A parser that suggests the option, or the override, that was probably meant."""

    def error(self, message: str) -> NoReturn:
        for action in self._actions:
            if action.nargs == "*":  # parse_intermixed_args lists it as missing whenever another argument is
                message = message.replace(f", {action.metavar or action.dest}", "")
        if message.startswith("unrecognized arguments: "):
            overrides = any(action.dest == "overrides" for action in self._actions)
            hint = "; keys of the config are set without dashes, as in train.epochs=3" if overrides else ""
            message += did_you_mean(re.split("[ =]", message)[2], self._option_string_actions) or hint
        super().error(message)


def _help(program: str, options: Sequence[str]) -> int:
    """Print all commands, or the version."""
    entries = []
    for component in commands.components():
        command: Any = None
        with contextlib.suppress(PluginError):
            command = component.load()
        about = (getdoc(command) or "").partition("\n")[0] if command else ""
        entries.append((getattr(command, "first", math.inf), commands.shortest_name(component), about))
    rows = table([(name, about) for _, name, about in sorted(entries)], flexible=1)
    parser = argparse.ArgumentParser(
        program,
        f"{program} [--help] [--version] COMMAND ...",
        (segkit.__doc__ or "").partition("\n")[0],
        f"commands:\n{rows}\n\n{STATUSES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"segkit {segkit.__version__}")
    parser.parse_args(options)
    parser.print_help()
    return 0


def _explained(error: Exception) -> tuple[str, int]:
    """The message for the user about an error, and the exit status; "" for an unexpected error."""
    short = re.search("(can't|Cannot) allocate memory|out of memory", str(error))  # messages of torch and of the system
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError | OSError) and short):
        return f"out of memory: a smaller train.batch_size, augment.crop or model helps ({str(error)[:200]})", 1
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:  # not about a named file
        return f"the output could not be written completely: {error.strerror}", 1
    return (str(error), error.exit_status) if isinstance(error, SegkitError) else ("", 1)


def _show_warning(message: Warning | str, *_details: Any, **_more: Any) -> None:
    """Print a warning in one line, without its place in the source, which is of no use to a user of the command."""
    print(f"warning: {message}", file=sys.stderr)
