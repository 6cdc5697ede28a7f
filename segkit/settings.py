"""The tables of a config that are not components: what each key means, and why its default is what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

Count = Annotated[int, Field(gt=0)]
Counts = Annotated[list[Count], Field(min_length=1)]
Pair = Annotated[list[Count], Field(min_length=2, max_length=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Below1 = Annotated[float, Field(ge=0, lt=1)]
FORMULAS = Literal["median_frequency", "sqrt_median_frequency", "inverse", "effective_number"]  # of class_weights
AUTO = 0  # what the text "auto" is, until a run has put a number in its place


def _number_or_auto(given: Any) -> Any:
    if type(given) is int and given < 1:
        raise ValueError("a whole number from 1 on is needed, or auto")
    return AUTO if given == "auto" else given


def _as_written(number: Any) -> Any:
    return "auto" if type(number) is int and number == AUTO else number


Number = Annotated[int, BeforeValidator(_number_or_auto), PlainSerializer(_as_written)]
RENAMED = {"train": {"encoder_lr": "encoder_lr_mult"}}  # keys of 0.1, by table


class Settings(BaseModel):
    """A table of a config: unknown keys are refused, and no value is converted in silence."""

    # validate_default costs nothing and keeps the defaults honest
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False)


class DataSettings(Settings):
    """``[data]``: how images reach the network, in training, evaluation and prediction alike.

    Args:
        resize: a factor, or [height, width]; scores are still taken at each mask's own size.
        cache: where images are kept decoded, once a run: ram; device; auto: on CUDA the device if they fit into 40 % of
            its free memory, else ram if they fit into 70 %; on a CPU none, as it saves little there.
        on_bad: skip leaves out what cannot be used, with a warning that names it.
        scan: a dataset that does not name its files is read whole at each start; or once, and then believed if eight
            samples of each split are as they were.
        bands: which channels of the images are used, from 1 and in this order; left out: all.
        rgb: which of the channels that are used people are shown as red, green and blue, or one as grey, from 1,
            stretched from the 1st to the 99th percentile; left out: the first three, or of two the first.
        no_data: pixels that are no numbers: stop refuses their images; void makes them void, and with them those that
            hold in all channels what the file declares as no data; a number: those that hold it, too.
        allow_leaks: go on although the same picture is in two splits.
    """

    resize: Annotated[float, Field(gt=0, le=8)] | Pair | None = None
    cache: Literal["auto", "none", "ram", "device"] = "auto"
    on_bad: Literal["stop", "skip"] = "stop"
    scan: Literal["all", "once"] = "all"
    bands: Counts | None = None
    rgb: Annotated[Counts, Field(max_length=3)] | None = None
    no_data: Annotated[float, Field(strict=True)] | Literal["stop", "void"] = "stop"
    allow_leaks: bool = False


class AugmentSettings(Settings):
    """``[augment]``: one random view of every training image an epoch; void where there is no image.

    Args:
        crop: pixels, or [height, width]; left out: whole images, padded to the largest of the batch; auto: the largest
            square that most images hold and two of which fit into memory, up to 512 pixels, on a CPU 256.
        scale: the image is resized, as by data.resize, by a factor drawn from this range (log-uniform).
        flip: how often to mirror left and right; 0 where left and right have a meaning.
        flip_vertical: how often to mirror top and bottom; 0.5 for images from above.
        rotation: degrees, drawn from -rotation..rotation.
        colour: strength of brightness, contrast, saturation and hue jitter; 0.5 is usual; of other images than RGB of
            8 bits, of brightness and contrast, each channel for itself.
        class_balanced: share of the crops that are centred on a class drawn evenly from those in the image, the
            training images' largest class aside; 0.33 is usual.
        max_class_share: a crop that one class fills beyond this share is drawn anew, at most 9 times; 0.75 is usual.
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
            raise ValueError(f"scale = {self.scale}: the smaller factor comes first")
        if self.crop is None and self.class_balanced:
            raise ValueError(f"class_balanced = {self.class_balanced} chooses crops: give crop, in pixels, too")
        if self.crop is None and self.max_class_share < 1:
            raise ValueError(f"max_class_share = {self.max_class_share} chooses crops: give crop, in pixels, too")
        return self


class TrainSettings(Settings):
    """``[train]``: the loop.

    Args:
        epochs: passes over the training images; left out with minutes: what fits.
        max_steps: end after so many steps, whatever epochs says.
        minutes: that the run may take, scores and report included: steps are timed, and how many fit and the schedule
            follow; with epochs or max_steps, whichever is first.
        repeat: passes that count as one epoch; for small datasets; with minutes an epoch becomes so long that scoring
            val takes a twentieth of the time, and a third of the run at most.
        batch_size: images a step, over all devices and accumulated parts; auto: as many as fit into memory, up to 16,
            on a CPU 8.
        accumulate: parts of a batch, where memory is short; means over pixels stay those of the batch.
        optimizer: adamw is the best known; `list optimizers` names all, those of plugins too.
        lr: the highest learning rate; left out it is the optimizer's own: 1e-3 with adamw, 0.01 with sgd.
        init_from: a run folder or a file of weights (.safetensors, .pt, .pth) to begin with: what fits the model by
            name and shape is loaded, what does not is begun anew and named; a run's normalisation comes with it.
        encoder_lr_mult: factor on lr for a model's encoder; 0.1 keeps more of what pretrained weights know, 0 leaves
            them and the statistics of its normalisation as they are.
        weight_decay: not applied to biases and normalisation layers.
        momentum: of sgd.
        schedule: poly: power 0.9.
        warmup: share of all steps in which the learning rate rises.
        clip_norm: largest norm of the gradient; 0 is off.
        ema: decay of the average of the weights that is evaluated; 0 is off.
        precision: auto: bf16 where device or CPU has it.
        channels_last: faster convolutions on CUDA and on CPUs with AMX.
        compile: torch.compile for training; pays off in long runs on CUDA.
        cuda_graph: replay the network, compiled or not, as a CUDA graph; faster where a step is short; one crop size.
        deterministic: bit-equal repetition on CUDA, at a price.
        seed: of all that is drawn at random.
        device: auto, cpu, cuda, cuda:N or mps (Apple; not measured).
        workers: processes that load data; auto: on CUDA one a core of this process, at most 8.
        patience: epochs without a better score after which to stop; 0 is off.
        stop_on_collapse: end the run when val stays at the floor; without it there is one warning.
        best: what the best checkpoint is chosen by, on val: a metric, or loss.
        best_mode: whether more of best is better: auto: less for loss, else as the metric's higher_is_better.
        log_every: steps between two readings of the loss from the device.
        checkpoint_minutes: a checkpoint within an epoch after so long: the most that a kill can cost.
        max_skipped: steps in a row whose loss or gradient is no number, after which to end; each is skipped.
        sync_batch_norm: batch normalisation over all processes that train together; on CUDA only.
    """

    epochs: Count | None = 50
    max_steps: Count | None = None
    minutes: Positive | None = None
    repeat: Count = 1
    batch_size: Number = 8
    accumulate: Count = 1
    optimizer: str = "adamw"
    lr: Positive = 1e-3
    init_from: str | None = None
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
            raise ValueError("epochs = none: give minutes or max_steps, so that the run ends")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate = {self.accumulate} must divide batch_size = {self.batch_size}")
        return self


class OutputSettings(Settings):
    """``[output]``: the run folder.

    Args:
        dir: left out: runs/<name of the config>.
        samples: images whose predictions are drawn each epoch, and at the end; 0 is off.
    """

    dir: str | None = None
    samples: Annotated[int, Field(ge=0)] = 4


TABLES: dict[str, type[Settings]] = {
    "data": DataSettings,
    "augment": AugmentSettings,
    "train": TrainSettings,
    "output": OutputSettings,
}
