"""The tables of a config that are not components: what each key means, and why its default is what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Pair = Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=2, max_length=2)]
Share = Annotated[float, Field(ge=0, le=1)]
AUTO = 0  # what the text "auto" is, until a run has put a number in its place


def _number_or_auto(given: Any) -> Any:
    if type(given) is int and given < 1:
        raise ValueError(f"{given}: a whole number from 1 on is needed, or auto")
    return AUTO if given == "auto" else given


Auto = BeforeValidator(_number_or_auto)
RENAMED = {"train": {"encoder_lr": "encoder_lr_mult"}}  # keys of 0.1, by table
RATES = {"adamw": 1e-3, "sgd": 1e-2}  # learning rates that serve most, by optimizer of the core


class Settings(BaseModel):
    """A table of a config: unknown keys are refused, and no value is converted in silence."""

    # validate_default costs nothing and keeps the defaults honest
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False)


class DataSettings(Settings):
    """``[data]``: how images reach the network, in training, evaluation and prediction alike."""

    resize: Annotated[float, Field(gt=0, le=8)] | Pair | None = Field(
        None, description="a factor, or [height, width]; scores are still taken at each mask's own size"
    )
    cache: Literal["auto", "none", "ram", "device"] = Field(
        "auto",
        description="where images are kept decoded: ram, in one file that is mapped into memory; device; auto: on CUDA "
        "the device if they fit into 40 % of its free memory, else ram; on a CPU none, as it saves little there",
    )
    on_bad: Literal["stop", "skip"] = Field(
        "stop", description="skip leaves out what cannot be used, with a warning that names it"
    )
    scan: Literal["all", "once"] = Field(
        "all",
        description="a dataset that does not name its files is read whole at each start; or once, and then believed if "
        "eight samples of each split are as they were",
    )
    bands: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1)] | None = Field(
        None, description="which channels of the images are used, from 1 and in this order; left out: all"
    )
    rgb: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1, max_length=3)] | None = Field(
        None,
        description="which of the channels that are used people are shown as red, green and blue, or one as grey, from "
        "1, stretched from the 1st to the 99th percentile; left out: the first three, or of two the first",
    )
    no_data: Annotated[float, Field(strict=True)] | Literal["stop", "void"] = Field(
        "stop",
        description="pixels that are no numbers: stop refuses their images; void makes them void, and with them those "
        "that hold in all channels what the file declares as no data; a number: those that hold it, too",
    )
    allow_leaks: bool = Field(False, description="go on although the same picture is in two splits")


class AugmentSettings(Settings):
    """``[augment]``: one random view of every training image an epoch; void where there is no image."""

    crop: Annotated[int, Auto] | Pair | None = Field(
        None,
        description="pixels, or [height, width]; left out: whole images, padded to the largest of the batch; auto: the "
        "largest square that most images hold and two of which fit into memory, up to 512 pixels, on a CPU 256",
    )
    scale: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2, max_length=2)] = Field(
        [1.0, 1.0],
        description="the image is resized, as by data.resize, by a factor drawn from this range (log-uniform)",
    )
    flip: Share = Field(0.5, description="how often to mirror left and right; 0 where left and right have a meaning")
    flip_vertical: Share = Field(0.0, description="how often to mirror top and bottom; 0.5 for images from above")
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="degrees, drawn from -rotation..rotation")
    colour: Share = Field(
        0.0,
        description="strength of brightness, contrast, saturation and hue jitter; 0.5 is usual; of "
        "other images than RGB of 8 bits, of brightness and contrast, each channel for itself",
    )
    class_balanced: Share = Field(
        0.0,
        description="share of the crops that are centred on a class drawn evenly from those in the image, the training "
        "images' largest class aside; 0.33 is usual",
    )
    max_class_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="a crop that one class fills beyond this share is drawn anew, at most 9 times; 0.75 is usual"
    )

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
    """``[train]``: the loop."""

    epochs: Annotated[int, Field(gt=0)] | None = Field(
        50, description="passes over the training images; left out with minutes: what fits"
    )
    max_steps: int | None = Field(None, gt=0, description="end after so many steps, whatever epochs says")
    minutes: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="that the run may take, scores and report included: steps are timed, and how many fit and the "
        "schedule follow; with epochs or max_steps, whichever is first",
    )
    repeat: int = Field(
        1,
        gt=0,
        description="passes that count as one epoch; for small datasets; with minutes a multiple of it, so that "
        "scoring val takes a twentieth of the time",
    )
    batch_size: Annotated[int, Auto] = Field(
        8,
        description="images a step, over all devices and accumulated parts; auto: as many as fit into memory, up to "
        "16, on a CPU 8",
    )
    accumulate: int = Field(
        1,
        gt=0,
        description="parts of a batch, where memory is short; means over pixels stay those of the batch",
    )
    optimizer: str = Field(
        "adamw",
        description="adamw is the best known; `list optimizers` names all, those of plugins too",
    )
    lr: float = Field(
        RATES["adamw"],
        gt=0,
        description="the highest learning rate; left out it is the optimizer's own: 1e-3 with adamw, 0.01 with sgd",
    )
    init_from: str | None = Field(
        None,
        description="a run folder or a file of weights (.safetensors, .pt, .pth) to begin with: what fits the model by "
        "name and shape is loaded, what does not is begun anew and named; a run's normalisation comes with it",
    )
    encoder_lr_mult: float = Field(
        1.0,
        ge=0,
        description="factor on lr for a model's encoder; 0.1 keeps more of what pretrained weights know, 0 leaves them "
        "and the statistics of its normalisation as they are",
    )
    weight_decay: float = Field(0.01, ge=0, description="not applied to biases and normalisation layers")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    schedule: Literal["poly", "cosine", "one_cycle", "constant"] = Field("poly", description="poly: power 0.9")
    warmup: Share = Field(0.05, description="share of all steps in which the learning rate rises")
    clip_norm: float = Field(0.0, ge=0, description="largest norm of the gradient; 0 is off")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the average of the weights that is evaluated; 0 is off")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where device or CPU has it"
    )
    channels_last: bool = Field(True, description="faster convolutions on CUDA and on CPUs with AMX")
    compile: bool = Field(False, description="torch.compile for training; pays off in long runs on CUDA")
    cuda_graph: bool = Field(
        False,
        description="replay the network, compiled or not, as a CUDA graph; faster where a step is short; one crop size",
    )
    deterministic: bool = Field(False, description="bit-equal repetition on CUDA, at a price")
    seed: int = Field(0, ge=0, le=2**32 - 1)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps (Apple; not measured)")
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto",
        description="processes that load data; auto: on CUDA one a core of this process, at most 8",
    )
    patience: int = Field(0, ge=0, description="epochs without a better score after which to stop; 0 is off")
    stop_on_collapse: bool = Field(
        False, description="end the run when val stays at the floor; without it there is one warning"
    )
    best: str = Field("mean_iou", description="what the best checkpoint is chosen by, on val: a metric, or loss")
    best_mode: Literal["auto", "max", "min"] = Field(
        "auto", description="whether more of best is better: auto: less for loss, else as the metric's higher_is_better"
    )
    log_every: int = Field(20, gt=0, description="steps between two readings of the loss from the device")
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="a checkpoint within an epoch after so long: the most that a kill can cost"
    )
    max_skipped: int = Field(
        10, gt=0, description="steps in a row whose loss or gradient is no number, after which to end; each is skipped"
    )
    sync_batch_norm: bool = Field(
        True, description="batch normalisation over all processes that train together; on CUDA only"
    )

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
    """``[output]``: the run folder."""

    dir: str | None = Field(None, description="left out: runs/<name of the config>")
    samples: int = Field(4, ge=0, description="images whose predictions are drawn each epoch, and at the end; 0 is off")


TABLES: dict[str, type[Settings]] = {
    "data": DataSettings,
    "augment": AugmentSettings,
    "train": TrainSettings,
    "output": OutputSettings,
}
