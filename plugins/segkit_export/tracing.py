"""From a module to a graph: what torch's exporters print is kept back, what they cannot do is told in a line."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from segkit.errors import ModelError, SegkitError, one_line
from segkit_export.graph import Deployed

ANY_SIZE = ("batch", "height", "width")  # what an exported graph leaves open, the most first
FREEDOMS = (ANY_SIZE, ("batch",), ())


def trace(module: Deployed, image: Tensor, free: tuple[str, ...]) -> torch.export.ExportedProgram:
    """The graph of a module, with the dimensions that ``free`` names left open.

    Args:
        module: in evaluation mode.
        image: uint8 ``[B,3,H,W]``; the dimensions that are not free stay as they are here.
        free: of :data:`FREEDOMS`.

    Raises:
        ModelError: torch.export cannot follow it.
    """
    least = {"batch": 0, "height": module.least, "width": module.least}
    dimensions: dict[int, Any] = {
        number: torch.export.Dim(name, min=least[name])
        for number, name in ((0, "batch"), (2, "height"), (3, "width"))
        if name in free
    }
    with quiet("torch.export cannot follow the model"), torch.no_grad():
        return torch.export.export(module, (image,), dynamic_shapes={"image": dimensions})


@contextlib.contextmanager
def quiet(failure: str) -> Iterator[None]:
    """Keep warnings, logs and prints off the terminal.

    Args:
        failure: how the message begins where something is raised.

    Raises:
        ModelError: in place of whatever is raised.
    """
    before = logging.root.manager.disable
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            logging.disable(logging.CRITICAL)
            yield
    except (SegkitError, MemoryError, OSError):
        raise
    except Exception as error:
        raise ModelError(f"{failure}: {type(error).__name__}: {_cause(error)}") from error
    finally:
        logging.disable(before)


def _cause(error: BaseException) -> str:
    """The first line of the error that began it; torch's own goes on for pages."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(lines[0] if lines else "")[:200]
