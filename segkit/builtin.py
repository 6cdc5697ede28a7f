"""The core's own components, offered through the hooks that every plugin uses."""

from __future__ import annotations

from segkit.hookspecs import hookimpl


@hookimpl
def segkit_models() -> dict[str, str]:
    """Two models: one written from scratch, and the baseline to compare it with."""
    return {"unet": "segkit.model.unet:UNet", "smp": "segkit.model.smp:Smp"}


@hookimpl
def segkit_metrics() -> dict[str, str]:
    """What is read off the one confusion matrix."""
    return {
        "mean_iou": "segkit.metric.scores:MeanIoU",
        "pixel_accuracy": "segkit.metric.scores:PixelAccuracy",
        "mean_accuracy": "segkit.metric.scores:MeanAccuracy",
        "mean_dice": "segkit.metric.scores:MeanDice",
        "frequency_weighted_iou": "segkit.metric.scores:FrequencyWeightedIoU",
        "precision": "segkit.metric.scores:Precision",
        "recall": "segkit.metric.scores:Recall",
    }


@hookimpl
def segkit_optimizers() -> dict[str, str]:
    """The two that are best known."""
    return {name: f"segkit.engine.optim:{name}" for name in ("adamw", "sgd")}


@hookimpl
def segkit_commands() -> dict[str, str]:
    """The commands that need no plugin."""
    return {"run": "segkit.cli.run:Run", "evaluate": "segkit.cli.run:Evaluate"}
