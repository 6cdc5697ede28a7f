"""Commands for plugin authors: ``new-plugin`` writes a package, and ``check-plugin`` checks its contract."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_commands() -> dict[str, str]:
    """Offer the commands."""
    return {
        "new-plugin": "segkit_scaffold.new_plugin:NewPlugin",
        "check-plugin": "segkit_scaffold.check_plugin:CheckPlugin",
    }
