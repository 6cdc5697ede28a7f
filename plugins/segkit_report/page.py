"""Pages of one file: text, style, pictures and the script that sorts tables; nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError
from markupsafe import Markup

import segkit
from segkit.data.plain import plain
from segkit.engine.run_folder import write_atomically
from segkit.errors import RunFolderError, printable
from segkit_report.beside import beside
from segkit_report.content import content
from segkit_report.differences import differences
from segkit_report.story import Story


def write_report(story: Story, path: Path) -> None:
    """Write the report of a run.

    Raises:
        RunFolderError: what is in the run folder does not make sense.
        WriteError: ``path`` cannot be written; what was there is intact.
    """
    with _sensible(str(story.folder), "no report can be made of it"):
        text = render("report.html", content(story))
    _write(text, path)


def write_comparison(stories: Sequence[Story], path: Path) -> None:
    """Write a page that sets runs side by side.

    Raises:
        RunFolderError: what is in a run folder does not make sense.
        WriteError: ``path`` cannot be written; what was there is intact.
    """
    with _sensible(" or ".join(str(story.folder) for story in stories), "they cannot be compared"):
        changed = differences([story.facts.settings for story in stories])
        text = render("compare.html", beside(stories, changed))
    _write(text, path)


def render(template: str, values: dict[str, Any]) -> str:
    """A template filled in, with its style and script."""
    script, style = (
        files(__package__).joinpath("templates", name).read_text("utf-8") for name in ("sort.js", "style.css")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    own = {"script": Markup(script), "style": Markup(style), "digest": digest, "version": segkit.__version__}
    return _environment().get_template(template).render(values, **own)


def _write(text: str, path: Path) -> None:
    """A page, whole or not at all."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")), durable=False)


@cache
def _environment() -> Environment:
    """The templates: all text is escaped, and a name that is not there is an error."""
    environment = Environment(
        loader=PackageLoader("segkit_report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": _score,
        "percent": lambda value: "–" if value is None else f"{100 * value:.2f} %",
        "count": lambda value: f"{value:,}".replace(",", "\u202f"),
        "text": printable,
        "json": lambda value: json.dumps(plain(value), indent=2, ensure_ascii=False),
        "svg": Markup,
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
    }
    return environment


def _score(value: Any) -> str:
    """Three decimals; a dash for what there is none of."""
    known = isinstance(value, int | float) and math.isfinite(value)
    return f"{value:.3f}" if known else "–"


@contextlib.contextmanager
def _sensible(folder: str, else_: str) -> Iterator[None]:
    """What was read is worked with here; files that are JSON may still hold anything.

    Raises:
        RunFolderError: they do.
    """
    try:
        with _undisturbed():
            yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError, UndefinedError) as error:
        told = f"{type(error).__name__}: {error}"
        raise RunFolderError(f"{folder} is damaged: {else_} ({told})") from error


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Draw without a word: matplotlib tells of caches that it builds, and of letters that its own font lacks."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logger.setLevel(logging.CRITICAL)
            yield
    finally:
        logger.setLevel(level)
