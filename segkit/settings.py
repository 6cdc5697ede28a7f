"""The tables of a config that hold settings rather than components: keys, types, defaults and their meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(gt=0)]
Counts = Annotated[list[Count], Field(min_length=1)]
Pair = Annotated[list[Count], Field(min_length=2, max_length=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Below1 = Annotated[float, Field(ge=0, lt=1)]
FORMULAS = Literal["median_frequency", "sqrt_median_frequency", "inverse", "effective_number"]  # of class_weights
if TYPE_CHECKING:
    Number = int  # by the time it is used, the run has replaced "auto" by a number
else:
    Number = Count | Literal["auto"]
# by table: key of version 0.1 -> new key, or "" where it has gone
RENAMED = {"data": {"scan": ""}, "train": {"encoder_lr": "encoder_lr_mult"}}


class Settings(BaseModel):
    """Base class of a config's tables: unknown keys are refused, and no value is converted silently."""

    # validate_default costs nothing and keeps the defaults honest
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False)


class DataSettings(Settings):
    """``[data]``: how images are prepared for the network, the same in training, evaluation and prediction.

    Args:
        resize: a factor, or [height, width]; scores are still computed at the original size of each mask.
        cache: where decoded images are kept: none; ram; device; auto: on CUDA the device if they fit into 40 % of its
            free memory, else ram if they fit into 70 % of its free part; on a CPU none, because it saves little there.
        on_bad: stop at files that cannot be used, or skip them with a warning that names them.
        bands: the image channels to use, in this order, counted from 1; default: all.
        rgb: the channels, among those used, that pictures show as red, green and blue, or one channel as grey, counted
            from 1 and stretched from the 1st to the 99th percentile; default: the first three, or the first of two.
        no_data: NaN and infinite pixels: stop refuses such images; void makes these pixels void, and also those whose
            channels all hold the file's declared no-data value; a number: also those whose channels all hold it.
        allow_leaks: train even if the same image is in two splits.
    """

    resize: Annotated[float, Field(gt=0, le=8)] | Pair | None = None
    cache: Literal["auto", "none", "ram", "device"] = "auto"
    on_bad: Literal["stop", "skip"] = "stop"
    bands: Counts | None = None
    rgb: Annotated[Counts, Field(max_length=3)] | None = None
    no_data: Annotated[float, Field(strict=True)] | Literal["stop", "void"] = "stop"
    allow_leaks: bool = False


class AugmentSettings(Settings):
    """``[augment]``: one random view of every training image per epoch; pixels outside the image are void.

    Args:
        crop: size in pixels, or [height, width]; default: whole images, padded to the largest in the batch; auto: the
            largest square that fits into most images, and twice into memory, up to 512 pixels, on a CPU 256.
        scale: range of a random factor (log-uniform) by which the image is resized, in addition to data.resize.
        flip: probability of mirroring left and right; use 0 where left and right have a meaning.
        flip_vertical: probability of mirroring top and bottom; use 0.5 for images taken from above.
        rotation: largest angle in degrees; angles are drawn from -rotation..rotation.
        colour: strength of brightness, contrast, saturation and hue jitter; 0.5 is usual; for images other than 8-bit
            RGB only brightness and contrast change, independently for each channel.
        class_balanced: share of crops that are centred on a random class of the image; all classes but the most
            frequent one of the training set are drawn with equal probability; 0.33 is usual.
        max_class_share: a crop in which one class exceeds this share is drawn again, up to 9 times; 0.75 is usual.
    """

    crop: Number | Pair | None = None
    scale: Annotated[list[Positive], Field(min_length=2, max_length=2)] = [1.0, 1.0]
    flip: Share = 0.5
    flip_vertical: Share = 0.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    colour: Share = 0.0
    class_balanced: Share = 0.0
    max_class_share: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _consistent(self) -> AugmentSettings:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale = {self.scale}: the smaller factor must come first")
        if self.crop is None and self.class_balanced:
            raise ValueError(f"class_balanced = {self.class_balanced} chooses crops: give crop, in pixels, too")
        if self.crop is None and self.max_class_share < 1:
            raise ValueError(f"max_class_share = {self.max_class_share} chooses crops: give crop, in pixels, too")
        return self


class TrainSettings(Settings):
    """``[train]``: the training loop.

    Args:
        epochs: passes over the training images; default with minutes: as many as fit into the time.
        max_steps: end after this number of optimizer steps, even if epochs are left.
        minutes: time limit of the whole run, including evaluation and report: segkit measures the time of a step and
            fits the number of steps and the schedule to it; epochs and max_steps still apply, if reached first.
        repeat: passes over the data that count as one epoch, for small datasets; with minutes, an epoch is lengthened
            until evaluating val takes a twentieth of the time, but to no more than a third of the run.
        batch_size: images per step, over all devices and accumulated parts; auto: as many as fit into memory, up to 16,
            on a CPU 8.
        accumulate: number of parts that a batch is split into to save memory; means over pixels do not change.
        optimizer: adamw is the most common; `list optimizers` shows all, including those of plugins.
        lr: the highest learning rate; default: the optimizer's, which is 1e-3 for adamw and 0.01 for sgd.
        init_from: a run folder or a weights file (.safetensors, .pt, .pth) to start from: tensors that match the model
            by name and shape are loaded, the others stay initialised and are listed; a run's normalisation is reused.
        encoder_lr_mult: factor on lr for the model's encoder; 0.1 preserves more of pretrained weights; 0 freezes them
            and the statistics of the encoder's normalisation layers.
        weight_decay: not applied to biases and normalisation layers.
        momentum: momentum of sgd.
        schedule: how the learning rate falls after the warmup; poly has power 0.9.
        warmup: share of all steps in which the learning rate rises.
        clip_norm: largest norm of the gradient; 0 turns clipping off.
        ema: decay of the exponential moving average of the weights, which is evaluated; 0 turns it off.
        precision: auto uses bf16 where the device supports it in hardware.
        channels_last: memory layout; makes convolutions faster on CUDA and on CPUs with AMX.
        compile: use torch.compile for training; worthwhile for long runs on CUDA.
        cuda_graph: replay the network, compiled or not, as a CUDA graph; faster where a step is short; one crop size.
        deterministic: make runs on CUDA repeatable bit for bit; slower.
        seed: seed of all random numbers.
        device: auto, cpu, cuda, cuda:N or mps (Apple; not measured).
        workers: processes that load data; auto: on CUDA one per core available to this process, at most 8.
        patience: stop after this number of epochs without a better score; 0 turns it off.
        stop_on_collapse: end the run when the score on val stays at the floor; otherwise warn once.
        best: what selects the best checkpoint, measured on val: a metric, or loss.
        best_mode: whether a larger value of best is better; auto: smaller for loss, else the metric's higher_is_better.
        log_every: steps between two transfers of the loss from the device.
        checkpoint_minutes: minutes after which a checkpoint is written within an epoch: the most work a kill can lose.
        max_skipped: steps whose loss or gradient is NaN or infinite are skipped; end after this number in a row.
        sync_batch_norm: compute batch statistics over all processes of the run; on CUDA only.
    """

    epochs: Count | None = 50
    max_steps: Count | None = None
    minutes: Positive | None = None
    repeat: Count = 1
    batch_size: Number = 8
    accumulate: Count = 1
    optimizer: str = "adamw"
    lr: Positive = 1e-3
    init_from: Annotated[str, Field(min_length=1)] | None = None
    encoder_lr_mult: NotNegative = 1.0
    weight_decay: NotNegative = 0.01
    momentum: Below1 = 0.9
    schedule: Literal["poly", "cosine", "one_cycle", "constant"] = "poly"
    warmup: Share = 0.05
    clip_norm: NotNegative = 0.0
    ema: Below1 = 0.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    cuda_graph: bool = False
    deterministic: bool = False
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    device: str = "auto"
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    patience: Annotated[int, Field(ge=0)] = 0
    stop_on_collapse: bool = False
    best: str = "mean_iou"
    best_mode: Literal["auto", "max", "min"] = "auto"
    log_every: Count = 20
    checkpoint_minutes: Positive = 10.0
    max_skipped: Count = 10
    sync_batch_norm: bool = True

    @model_validator(mode="before")
    @classmethod
    def _by_time(cls, given: Any) -> Any:
        return {"epochs": None, **given} if isinstance(given, Mapping) and given.get("minutes") is not None else given

    @model_validator(mode="after")
    def _divisible(self) -> TrainSettings:
        if not (self.epochs or self.minutes or self.max_steps):
            raise ValueError("epochs = none: set minutes or max_steps, so that the run ends")
        if isinstance(self.batch_size, int) and self.batch_size % self.accumulate:
            raise ValueError(f"accumulate = {self.accumulate} must divide batch_size = {self.batch_size}")
        return self


class OutputSettings(Settings):
    """``[output]``: the run folder.

    Args:
        dir: default: runs/<name of the config>.
        samples: number of images whose predictions are drawn after each epoch and at the end; 0 turns it off.
    """

    dir: str | None = None
    samples: Annotated[int, Field(ge=0)] = 4


TABLES: dict[str, type[Settings]] = {
    "data": DataSettings,
    "augment": AugmentSettings,
    "train": TrainSettings,
    "output": OutputSettings,
}
