"""The command ``bench``: measures training speed on this machine and compares it with the machine's limits."""

from __future__ import annotations

from collections.abc import Mapping

import segkit


@segkit.hookimpl
def segkit_commands() -> Mapping[str, str]:
    """Offer the command."""
    return {"bench": "segkit_bench.command:Bench"}
