"""The commands ``list``, ``show`` and ``plugins``, which show what is installed, and ``completion`` for the shell."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_commands() -> dict[str, str]:
    """Offer the commands."""
    return {
        "list": "segkit_inspect.listing:List",
        "plugins": "segkit_inspect.listing:Plugins",
        "show": "segkit_inspect.show:Show",
        "completion": "segkit_inspect.completion:Completion",
    }
