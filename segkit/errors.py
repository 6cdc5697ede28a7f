"""Every exception segkit raises on purpose, and the issues of a data set: collected, and merged over its files.

A message says where (config path or file), what was given, what is allowed and what to do; commands print it without a
traceback. The tree::

    SegkitError
      ConfigError           a config file, an override or an option
      PluginError           a plugin that is broken or needs something that is missing
      ComponentNotFound     (also a KeyError) no such model, loss, dataset, metric or command
      DataError             images and masks
        LabelError          a mask that is lossy, holds wrong values or has a wrong size
      ModelError            a model that cannot be built, or weights that do not fit it
        NotFiniteError      a model whose output is NaN or infinite
      CheckpointError       a checkpoint that is missing, damaged or of another model
      RunFolderError        a run folder that cannot be used
        WriteError          a file in it that cannot be written, for example because the disk is full
      TrainingError         training that cannot continue
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal

_LONGEST = 300  # characters kept of another library's message; some messages contain whole inputs


class SegkitError(Exception):
    """Base class: a problem that the user can correct, described completely by its message."""

    exit_status = 2


class ConfigError(SegkitError):
    """A config, an override or an option is wrong; ``problems`` lists every problem found."""

    def __init__(self, problems: str | Sequence[str], where: str = "") -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        self.where = where
        lines = [f"{where}: {p}" if where else p for p in self.problems]
        super().__init__("\n".join(lines))


class PluginError(SegkitError):
    """A plugin is broken, or needs something that is missing."""


class ComponentNotFound(SegkitError, KeyError):
    """No component has this name, or several have it and the plugin must be named too."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


@dataclass(frozen=True)
class Issue:
    """A problem of one file, of several files or of a whole split.

    An issue of one file names it in ``file``. Its ``what`` and ``advice`` are the same for every file with this
    problem, so that :func:`merged` can merge the issues of many files.

    Attributes:
        kind: a short identifier, such as ``lossy_mask``.
        file: the path of the file, for an issue of one file; else "".
        what: the problem.
        advice: what to do about it.
        detail: details of this file alone.
        wrong: stored labels or colours that are not allowed -> pixels.
        stored: all stored labels or colours of a mask -> pixels.
        severity: an ``error`` stops a run, a ``warning`` is printed.
        split: the splits with this issue, separated by commas; "" if unknown.
        files: all files concerned, by path or by the dataset's name of the sample.
        skippable: whether ``data.on_bad = "skip"`` leaves these files out.
        ways: what the problem may mean, the likeliest first -> the options that say so, of ``[dataset]``, or of
            ``[data]`` with the prefix ``data.``; ``init`` asks which is right. "" needs no question: the files show it.
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
    ways: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The message without the split."""
        if not self.file:
            return self.what + (f"; {self.advice}" if self.advice else "")
        detail = f" ({self.detail})" if self.detail else ""
        return one_line(f"{self.file}: {self.what}{detail}") + (f"; {self.advice}" if self.advice else "")

    def record(self) -> dict[str, Any]:
        """The issue as ``run.json`` and ``check --json`` store it."""
        record = {"kind": self.kind, "severity": self.severity, "split": self.split, "text": self.text}
        return {**record, "files": self.files, "of_file": self.skippable}

    def __str__(self) -> str:
        return f"{self.split}: {self.text}" if self.split else self.text


class DataWarning(UserWarning):
    """A warning of a data set that is built; it becomes an :class:`Issue` with these ``ways``."""

    def __init__(self, text: str, ways: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(text)
        self.ways = ways


class DataError(SegkitError):
    """An image, a mask, a folder or a split cannot be used; ``issue`` holds the parts of the message for one file."""

    issue: Issue | None = None

    def __init__(self, message: object, issue: Issue | None = None) -> None:
        super().__init__(str(message))
        self.issue = message if isinstance(message, Issue) else issue


class LabelError(DataError):
    """A mask cannot be used: JPEG, out-of-range values, or another size than its image."""


class ModelError(SegkitError):
    """A model cannot be built, or weights do not fit it."""


class NotFiniteError(ModelError):
    """The largest logit of a pixel is NaN or infinite, so the pixel has no class."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where}: the model's output is NaN or infinite, so there is no class; its weights may have diverged, or "
            "16-bit numbers overflow (precision fp32 avoids that)"
        )


class CheckpointError(SegkitError):
    """A checkpoint is missing, damaged, unsafe or belongs to another model."""


class RunFolderError(SegkitError):
    """The run folder is in use, finished, read-only or not a folder."""


class WriteError(RunFolderError):
    """A file could not be written, for example because the disk is full; the previous file is intact."""

    exit_status = 1


class TrainingError(SegkitError):
    """Training cannot continue, for a reason that is not a mistake in the config."""

    exit_status = 1


def one_line(text: object) -> str:
    """Escape everything that ``str.isprintable`` refuses, line breaks too, so that a terminal shows it as text.

    File names, class names and config texts may come from strangers. Unescaped, ``\\x1b[`` starts a terminal command,
    U+202E reverses the text after it, and a line break lets a name look like a separate line of output.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in str(text)
    )


def reason(error: BaseException) -> str:
    """Why a file could not be read or written, without the system's error numbers such as ``[Errno 2]``."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return str(getattr(error, "strerror", None) or error)


def cause(error: BaseException) -> str:
    """Describe an exception of other code in one line: type, message and, where known, file and line."""
    message = " ".join(str(error).split())
    shown = message if len(message) <= _LONGEST else f"{message[:_LONGEST]} ..."
    text = f"{type(error).__name__}: {shown}".removesuffix(": ")
    frames = [f for f in traceback.extract_tb(error.__traceback__)[1:] if "importlib" not in f.filename]
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text


def did_you_mean(given: object, allowed: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` where an allowed word is close to the given one, else ``""``."""
    close = get_close_matches(str(given)[:_LONGEST], list(allowed), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def first_few(items: Sequence[str], most: int = 5) -> str:
    """Join the first few items: ``"a, b, c and 12 more"``."""
    shown = ", ".join(map(one_line, items[:most]))
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown


_gathered: ContextVar[list[Issue] | None] = ContextVar("gathered", default=None)


def merged(issues: Iterable[Issue]) -> list[Issue]:
    """Merge issues of equal ``kind`` and ``what`` into one each; a file counts once.

    The text becomes ``"12 files: what is wrong: a.png, ... and 7 more; what to do"``.
    """
    groups: dict[tuple[str, str], list[Issue]] = {}
    for issue in issues:
        groups.setdefault((issue.kind, issue.what), []).append(issue)
    return [*map(_merge, groups.values())]


def _merge(group: Sequence[Issue]) -> Issue:
    split = ", ".join(dict.fromkeys(each.split for each in group))
    group = list({each.file: each for each in group}.values())
    first, wrong = group[0], Counter[Any]()
    for each in group:
        wrong.update(each.wrong)
    masks = Counter(label for each in group for label in each.wrong)
    text = replace(first, advice="").text
    if len(group) > 1:
        counted = [f"{label} ({wrong[label]:,} pixels in {masks[label]} of them)" for label, _ in wrong.most_common()]
        alike = {each.detail for each in group} == {first.detail}
        details = (
            f", {first_few(counted)}" if wrong else f" ({one_line(first.detail)})" if alike and first.detail else ""
        )
        names = [f"{each.file} ({each.detail})" if each.detail and not details else each.file for each in group]
        text = f"{len(group)} files: {one_line(first.what)}{details}: {first_few(names)}"
    files = tuple(each.file for each in group if each.file)  # none, for issues of whole splits
    return replace(first, file="", what=text, detail="", wrong=wrong, stored={}, split=split, files=files)


@contextmanager
def gathered() -> Iterator[list[Issue]]:
    """Collect the issues passed to :func:`refuse` in a list instead of raising; the dataset skips the files at fault.

    Raises:
        DataError: the body raised a DataError; if there are collected issues, the message lists these instead.
    """
    issues: list[Issue] = []
    token = _gathered.set(issues)
    try:
        yield issues
    except DataError as error:
        if issues:
            raise DataError("\n".join(map(str, merged(issues)))) from error
        raise
    finally:
        _gathered.reset(token)


def refuse(issues: Sequence[Issue]) -> None:
    """Report all issues of a dataset's files together, before any file is read.

    Raises:
        DataError: there are issues, and no :func:`gathered` context collects them.
    """
    collected = _gathered.get()
    if collected is not None:
        collected.extend(issues)
    elif issues:
        raise DataError("\n".join(map(str, merged(issues))), issues[0] if len(issues) == 1 else None)
