"""The command ``compare``: several runs side by side, and what differs in their configs."""

from __future__ import annotations

from collections.abc import Mapping

import segkit


@segkit.hookimpl
def segkit_commands() -> Mapping[str, str]:
    """Offer the command."""
    return {"compare": "segkit_report.command:Compare"}
