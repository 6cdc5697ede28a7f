"""Renders self-contained HTML pages: text, style, pictures and the script that sorts tables are in one file."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError
from markupsafe import Markup

import segkit
from segkit.errors import RunFolderError, one_line
from segkit.files import write_atomically
from segkit_report.compare import Splits, comparison
from segkit_report.report import content
from segkit_report.story import Story


def write_report(story: Story, path: Path) -> None:
    """Write the report of a run.

    Raises:
        RunFolderError: files in the run folder are damaged.
        WriteError: ``path`` cannot be written; an existing file is left intact.
    """
    _write(path, "report.html", lambda: content(story), [story], "no report can be made of it")


def write_comparison(stories: Sequence[Story], path: Path, ensemble: Splits) -> None:
    """Write a page that compares runs; raises the same errors as :func:`write_report`."""
    _write(path, "compare.html", lambda: comparison(stories, ensemble), stories, "they cannot be compared")


def _write(
    path: Path, template: str, values: Callable[[], dict[str, Any]], stories: Sequence[Story], otherwise: str
) -> None:
    """Render and write a page, and report errors of invalid run data as RunFolderError; silence matplotlib."""
    logger = logging.getLogger("matplotlib")  # logs building its cache, and characters missing in the font
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            text = _render(template, values())
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError, UndefinedError) as error:
        folders = " or ".join(str(story.folder) for story in stories)
        raise RunFolderError(f"{folders} is damaged: {otherwise} ({type(error).__name__}: {error})") from error
    finally:
        logger.setLevel(level)
    write_atomically(path, lambda file: file.write(text.encode()), durable=False)


def _render(template: str, values: dict[str, Any]) -> str:
    """Render a template with its style and script."""
    script, style = ((files(__package__) / "templates" / name).read_text("utf-8") for name in ("sort.js", "style.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    own = {"script": Markup(script), "style": Markup(style), "digest": digest, "version": segkit.__version__}
    return _environment().get_template(template).render(values, **own)


@cache
def _environment() -> Environment:
    """Return the template environment: all text is escaped, and unknown names are errors."""
    environment = Environment(
        loader=PackageLoader("segkit_report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": lambda value: f"{value:.3f}" if isinstance(value, int | float) and math.isfinite(value) else "–",
        "percent": lambda value: "–" if value is None else f"{100 * value:.2f} %",
        "count": lambda value: f"{value:,}".replace(",", "\u202f"),
        "text": lambda text: "\n".join(map(one_line, str(text).split("\n"))),
        "json": lambda value: json.dumps(value, indent=2, ensure_ascii=False, default=str),
        "svg": Markup,
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
    }
    return environment
