"""The command ``bench``: how fast a config trains on a machine, and what that is of what the machine can do."""

from __future__ import annotations

from collections.abc import Mapping

import segkit


@segkit.hookimpl
def segkit_commands() -> Mapping[str, str]:
    """Offer the command."""
    return {"bench": "segkit_bench.command:Bench"}
