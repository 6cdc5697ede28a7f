"""The loss ``poly``, for segkit."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_losses() -> dict[str, str]:
    """Offer the loss; it is imported when it is used, not before."""
    return {"poly": "segkit_poly.loss:PolyLoss"}
