"""Every exception segkit raises on purpose.

A message says where (config path or file), what was given, what is allowed and what to do; the
command prints it as it is, without a traceback. The tree::

    SegkitError
      ConfigError           a config file, an override or an option
      PluginError           a plugin that is broken or needs something that is missing
      ComponentNotFound     (also a KeyError) no such model, loss, dataset, metric or command
      DataError             images and masks
        LabelError          a mask that cannot be what it claims to be
        DownloadError       an archive that could not be fetched, verified or unpacked
      ModelError            a model that cannot be built, or weights that do not fit it
        NotFiniteError      a model whose output is NaN or infinite
      CheckpointError       a checkpoint that is missing, damaged or of another model
      RunFolderError        a run folder that cannot be used
        WriteError          a file in it that cannot be written, as the disk is full
      TrainingError         training that cannot go on
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

_LONGEST = 300  # letters of somebody else's message; some print what they were working on
_CORE = str(Path(__file__).parent)


class SegkitError(Exception):
    """Base class: a mistake that the user can correct; its message says all there is to say."""

    exit_status = 2


class ConfigError(SegkitError):
    """A config, an override or an option is wrong; ``problems`` holds every one that was found."""

    def __init__(self, problems: str | Sequence[str], where: str = "") -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        self.where = where
        lines = [f"{where}: {p}" if where else p for p in self.problems]
        super().__init__("\n".join(lines))


class PluginError(SegkitError):
    """A plugin is broken, or needs something that is not there."""


class ComponentNotFound(SegkitError, KeyError):
    """No component has this name, or several have and the plugin must be named."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


@dataclass(frozen=True)
class Issue:
    """What is wrong with one file, or odd about several files or a whole split.

    An issue of one file names it as ``file`` and says the same as for any other such file in ``what`` and ``advice``,
    so that issues of many files can be merged into one (see :mod:`segkit.data.issues`).

    Attributes:
        kind: one word for it, as ``lossy_mask``.
        file: the path of the one file it is about; "" where it is about several files or a split.
        what: what is wrong.
        advice: what to do about it.
        detail: what is particular to this file.
        wrong: stored labels or colours that are not allowed -> pixels.
        stored: all the stored labels or colours of a mask -> pixels.
        severity: an ``error`` stops a run, a ``warning`` is printed.
        split: the splits it was found in, separated by commas; "" where that is not known.
        files: all files it is about, by path or by the dataset's name of the sample.
        skippable: whether ``data.on_bad = "skip"`` leaves these files out.
    """

    kind: str
    file: str = ""
    what: str = ""
    advice: str = ""
    detail: str = ""
    wrong: Mapping[Any, int] = field(default_factory=dict)
    stored: Mapping[Any, int] = field(default_factory=dict)
    severity: Literal["error", "warning"] = "error"
    split: str = ""
    files: tuple[str, ...] = ()
    skippable: bool = False

    @property
    def text(self) -> str:
        """The message without the split."""
        if not self.file:
            return self.what + (f"; {self.advice}" if self.advice else "")
        detail = f" ({self.detail})" if self.detail else ""
        return one_line(f"{self.file}: {self.what}{detail}") + (f"; {self.advice}" if self.advice else "")

    def record(self) -> dict[str, Any]:
        """What ``run.json`` and ``check --json`` hold."""
        own = {"kind": self.kind, "severity": self.severity, "split": self.split, "text": self.text}
        return {**own, "files": self.files, "of_file": self.skippable}

    def __str__(self) -> str:
        return f"{self.split}: {self.text}" if self.split else self.text


class DataError(SegkitError):
    """An image, a mask, a folder or a split cannot be used; ``issue`` says it in parts where it is a file's."""

    issue: Issue | None = None

    def __init__(self, message: object, issue: Issue | None = None) -> None:
        super().__init__(str(message))
        self.issue = message if isinstance(message, Issue) else issue

    def retold(self, message: str) -> DataError:
        """The error in other words; of a subclass with a constructor of its own, which takes other things, its base."""
        kind = type(self) if type(self).__init__ is DataError.__init__ else DataError
        return kind(message, self.issue)


class LabelError(DataError):
    """A mask is not what it claims to be: JPEG, out-of-range values, another size than its image."""


class DownloadError(DataError):
    """An archive could not be fetched, did not match its checksum or is not safe to unpack."""


class ModelError(SegkitError):
    """A model cannot be built, or weights do not fit it."""


class NotFiniteError(ModelError):
    """The largest logit of a pixel is NaN or infinite: it has no class."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where}: the model's output is NaN or infinite, so there is no class; its weights may have diverged, or "
            "16 bits overflow (precision fp32 has the range)"
        )


class CheckpointError(SegkitError):
    """A checkpoint is missing, damaged, unsafe or belongs to another model."""


class RunFolderError(SegkitError):
    """The run folder is in use, finished, read-only or not a folder."""


class WriteError(RunFolderError):
    """A file could not be written, as the disk is full; what was there before is intact."""

    exit_status = 1


class TrainingError(SegkitError):
    """Training cannot go on, for a reason that is not a mistake in the config."""

    exit_status = 1


def one_line(text: object) -> str:
    """Text that a terminal only shows: what ``str.isprintable`` refuses, line breaks too, stands as its escape.

    File names, class names and texts of a config may be a stranger's. As they are, ``\\x1b[`` begins an order to the
    terminal, U+202E turns around what follows, and a line break lets a name pretend to be a line of its own.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in str(text)
    )


def reason(error: BaseException) -> str:
    """Why a file could not be read or written, in words: without the system's numbers, as ``[Errno 2]``."""
    if isinstance(error, UnicodeDecodeError):
        return "it is no text in UTF-8"
    inner = getattr(error, "reason", None)  # of an address that could not be opened
    return reason(inner) if isinstance(inner, OSError) else str(getattr(error, "strerror", None) or error)


def cause(error: BaseException) -> str:
    """An exception of somebody else's code in one line: type, message and, where known, file and line.

    Where it was raised in the core, the place is that of the call.
    """
    message = " ".join(str(error).split())
    shown = message if len(message) <= _LONGEST else f"{message[:_LONGEST]} ..."
    text = f"{type(error).__name__}: {shown}".removesuffix(": ")
    frames = [f for f in traceback.extract_tb(error.__traceback__)[1:] if "importlib" not in f.filename]
    frames = [f for f in frames if not f.filename.startswith(_CORE)] or frames
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text


def did_you_mean(given: object, allowed: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` where an allowed word is close to the given one, else ``""``."""
    close = get_close_matches(str(given)[:_LONGEST], list(allowed), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def first_few(items: Sequence[str], most: int = 5) -> str:
    """The first few items as text: ``"a, b, c and 12 more"``."""
    shown = ", ".join(map(one_line, items[:most]))
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown
