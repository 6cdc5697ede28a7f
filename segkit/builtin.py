"""The core's components, offered through the same hooks as those of plugins."""

from __future__ import annotations

from segkit.hookspecs import hookimpl


@hookimpl
def segkit_models() -> dict[str, str]:
    """A U-Net written from scratch, and the models of segmentation_models_pytorch as baselines."""
    return {"unet": "segkit.model.unet:UNet", "smp": "segkit.model.smp:Smp"}


@hookimpl
def segkit_metrics() -> dict[str, str]:
    """The metrics computed from the shared confusion matrix."""
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
    """The two most common optimizers."""
    return {name: f"segkit.engine.optim:{name}" for name in ("adamw", "sgd")}


@hookimpl
def segkit_commands() -> dict[str, str]:
    """The command that trains."""
    return {"run": "segkit.cli.run:Run"}
