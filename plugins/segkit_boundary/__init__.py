"""Boundary metrics: how close the boundaries of the predicted classes are to the true ones."""

from __future__ import annotations

import segkit


@segkit.hookimpl
def segkit_metrics() -> dict[str, str]:
    """Offer the metrics."""
    return {
        "boundary_iou": "segkit_boundary.metrics:BoundaryIoU",
        "surface_dice": "segkit_boundary.metrics:SurfaceDice",
        "hausdorff95": "segkit_boundary.metrics:Hausdorff95",
    }
