"""Says what to change where a run learns next to nothing, or its training images alone; advice.txt holds it too.

The advice is printed with the core's warning that a run has collapsed, and at the end of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import segkit

if TYPE_CHECKING:
    from segkit.engine.trainer import Result, Run

# tryfirst: a report shows the advice


@segkit.hookimpl(tryfirst=True)
def segkit_run_started(run: Run) -> None:
    """Remove the advice of a run that this one replaces."""
    if run.first_epoch == 1:
        (run.folder / "advice.txt").unlink(missing_ok=True)


@segkit.hookimpl(tryfirst=True)
def segkit_epoch_ended(run: Run, metrics: Mapping[str, Any]) -> None:
    """Advise once, in the epoch at which the run counts as collapsed."""
    from segkit_advice import remedies

    if metrics.get("collapsed"):
        run.warn(remedies.write(run.folder, remedies.for_collapse(run.folder)))
    elif not remedies.stuck(metrics["val"]):  # it has recovered
        remedies.write(run.folder, "")


@segkit.hookimpl(tryfirst=True)
def segkit_run_ended(run: Run, result: Result) -> str | None:
    """Advise at the end; what was printed after an epoch is not printed again."""
    from segkit_advice import remedies

    text = remedies.for_collapse(run.folder) if result.collapsed else remedies.for_memorised(run.folder)
    printed = result.collapsed and any(line.get("collapsed") for line in segkit.read_run(run.folder).epochs)
    remedies.write(run.folder, text)
    return None if printed else text
