"""Advises what to change if a run learns almost nothing or memorises its training images; also writes advice.txt.

The advice is printed with the core's warning that a run has collapsed, and at the end of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import segkit

# tryfirst: reports read the advice


@segkit.hookimpl(tryfirst=True)
def segkit_epoch_ended(run: segkit.Run, metrics: Mapping[str, Any]) -> None:
    """Print and write advice in the epoch in which the run is declared collapsed."""
    from segkit_advice import remedies

    if metrics.get("collapsed"):
        run.warn(remedies.write(run.folder, remedies.for_collapse(run.folder)))


@segkit.hookimpl(tryfirst=True)
def segkit_run_ended(run: segkit.Run, result: segkit.Result) -> str | None:
    """Write the final advice, and return it for printing unless it was printed after an epoch."""
    from segkit_advice import remedies

    text = remedies.for_collapse(run.folder) if result.collapsed else remedies.for_memorised(run.folder)
    printed = result.collapsed and any(line.get("collapsed") for line in segkit.read_run(run.folder).epochs)
    remedies.write(run.folder, text)
    return None if printed else text
