"""Architectures of segmentation_models_pytorch with its own encoders or timm's, as a baseline for comparison."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.data.normalise import MEAN, STD
from segkit.errors import ModelError, first_few
from segkit.model.encoder import freeze_unused, load_encoder_weights
from segkit.model.layers import doubled, pad_to_multiple

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_IMAGENET = {"mean": list(MEAN), "std": list(STD)}
_HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
_DEFAULTS = {  # name prefix of smp's own encoders -> normalisation of their default weights, if not ImageNet's
    **dict.fromkeys(("inception", "xception", "timm-tf_efficientnet_lite"), _HALF),
    "dpn": {"mean": [124 / 255, 117 / 255, 104 / 255], "std": [1 / (0.0167 * 255)] * 3},
}
_FILES = (".pth", ".pt", ".bin", ".safetensors")


class Smp(nn.Module):
    """A model of segmentation_models_pytorch with one of its encoders, or one of timm's.

    ``[B,in_channels,H,W] -> logits [B,num_classes,H,W]``, any H and W: the image is mirror-padded to a multiple
    of the encoder's output stride. For encoders with a fixed input size (swin, maxvit, ...) the image is
    resized to it. Pavel Iakubovskii: Segmentation Models PyTorch, github.com/qubvel-org, 2019.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the image; 3 for RGB.
        architecture: "unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "pan", "deeplabv3",
            "deeplabv3plus", "upernet", "segformer" or "dpt".
        encoder: "resnet34" (smp's default), "efficientnet-b0", "mit_b0", ..., or "tu-" and the name of a timm model.
        weights: "imagenet" or another set of weights of the encoder (for "tu-" the set is part of the name), fetched
            from the Hugging Face hub; or a local .pth or .safetensors file with the encoder's weights. None trains from
            scratch. Images are normalised as the configuration of the weights says; weights from a file use the
            normalisation of the encoder's default weights.

    Attributes:
        normalisation: mean and std of RGB in 0..1 with which the weights were trained; None without weights.

    Raises:
        ModelError: unknown name, unsupported combination, or weights that cannot be fetched or do not fit.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        architecture: str = "unet",
        encoder: str = "resnet34",
        weights: str | None = None,
    ) -> None:
        super().__init__()
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoderBlock

        named = weights is not None and not (weights.endswith(_FILES) or "/" in weights or Path(weights).is_file())
        _check_names(encoder, weights if named else None)
        # a timm encoder's name selects its weights, so smp expects True and warns about a string
        pretrained = (True if _timm_name(encoder) else weights) if named else None
        options: dict[str, Any] = {"encoder_name": encoder, "encoder_weights": pretrained}
        options |= {"in_channels": in_channels, "classes": num_classes}
        with _fetching(encoder, str(weights)) if named else contextlib.nullcontext():
            self.network, any_size = _create(architecture, options)
            self.normalisation = None if weights is None else _normalisation(encoder, weights if named else None)
        for block in self.network.modules():
            if type(block) is UnetDecoderBlock and block.interpolation_mode == "nearest":
                block.forward = partial(_decode, block)  # a bound method could not be pickled
        if weights is not None and not named:
            load_encoder_weights(_unwrapped(self.network.encoder), weights)
        self.fixed_size = None if any_size else _fixed_size(self.network.encoder)
        stride = self.network.encoder.output_stride
        self.multiple, self.least = (1, 0) if self.fixed_size else _padding(architecture, encoder, stride)
        size = self.fixed_size or (max(64, self.least),) * 2
        freeze_unused(self.network, self.network.encoder, (1, in_channels, *size))  # last layers, and timm's heads

    @property
    def encoder(self) -> nn.Module:
        """The part that may be pretrained; ``train.encoder_lr_mult`` scales its learning rate."""
        return self.network.encoder  # type: ignore[no-any-return]

    def forward(self, image: Tensor) -> Tensor:
        """``[B,in_channels,H,W] -> logits [B,num_classes,H,W]``."""
        height, width = image.shape[-2:]
        if self.fixed_size is not None:
            logits = self.network(F.interpolate(image, self.fixed_size, mode="bilinear", antialias=True))
            return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        logits = self.network(pad_to_multiple(image, self.multiple, self.least))
        return logits[..., :height, :width]  # type: ignore[no-any-return]


def _decode(
    block: Any, feature_map: Tensor, target_height: int, target_width: int, skip_connection: Tensor | None = None
) -> Tensor:
    """Run a decoder block of smp's Unet, but upsample in the input's dtype under autocast instead of in float32."""
    height, width = feature_map.shape[2:]
    if (target_height, target_width) == (2 * height, 2 * width):
        x = doubled(feature_map)
    else:
        x = F.interpolate(feature_map, (target_height, target_width), mode="nearest")
    if skip_connection is not None:
        x = block.attention1(torch.cat([x, skip_connection], dim=1))
    result: Tensor = block.attention2(block.conv2(block.conv1(x)))
    return result


def _timm_name(encoder: str) -> str | None:
    """Return the timm name of an encoder, or None for smp's own encoders."""
    return encoder.removeprefix("tu-") if encoder.startswith("tu-") else None


def _check_names(encoder: str, weights: str | None) -> None:
    """Refuse names that would fetch something else; ``weights`` is the name of a set of weights, not a file."""
    import timm

    if not _NAME.fullmatch(encoder):  # timm would load arbitrary content from "hf-hub:" or "local-dir:" names
        raise ModelError(f"smp: {encoder!r} is not an encoder name: letters, digits, '-', '_' and '.' are allowed")
    name = _timm_name(encoder)
    if name and weights is not None and (weights != "imagenet" or not timm.models.is_model_pretrained(name)):
        tags = [f"tu-{each}" for each in timm.list_pretrained(name.partition(".")[0])]
        hint = f'set weights = "imagenet" and select them by the encoder name: {first_few(tags) or "none exist"}'
        raise ModelError(f"smp: there are no weights '{weights}' of the encoder '{encoder}'; {hint}")


def _normalisation(encoder: str, weights: str | None) -> dict[str, list[float]]:
    """Return the normalisation of a set of weights; None means a file, taken for the encoder's default weights."""
    import segmentation_models_pytorch as smp
    import timm

    if name := _timm_name(encoder):
        config = timm.get_pretrained_cfg(name)
        return {"mean": list(config.mean), "std": list(config.std)} if config else _IMAGENET
    usual = next((_DEFAULTS[start] for start in _DEFAULTS if encoder.startswith(start)), _IMAGENET)
    if weights is None:
        return usual
    try:
        config = smp.encoders.get_preprocessing_params(encoder, pretrained=weights)  # from the hub, like the weights
    except KeyError:  # the file there has no normalisation
        return usual
    space, most = config["input_space"], max(config["input_range"])  # 1 or 255
    if space != "RGB":
        raise ModelError(f"smp: the weights '{weights}' of '{encoder}' expect {space} images, but segkit's are RGB")
    return {key: [value / most for value in config[key]] for key in ("mean", "std")}


def _create(architecture: str, options: dict[str, Any]) -> tuple[Any, bool]:
    """Create the model; also return whether its encoder was configured to accept images of any size."""
    import segmentation_models_pytorch as smp

    try:
        if architecture == "dpt":
            with contextlib.suppress(TypeError):  # not every transformer has the option
                return smp.create_model(architecture, **options, dynamic_img_size=True), True
        return smp.create_model(architecture, **options), False
    except OSError:  # a download failed; _fetching reports it
        raise
    except Exception as error:
        encoder = options["encoder_name"]
        raise ModelError(f"smp: '{architecture}' cannot be built on the encoder '{encoder}': {error}") from error


def _unwrapped(encoder: nn.Module) -> nn.Module:
    """Remove the wrappers of smp and timm around a timm model; weights files lack the name prefixes of these."""
    while isinstance(inner := getattr(encoder, "model", None) or getattr(encoder, "body", None), nn.Module):
        encoder = inner
    return encoder


def _padding(architecture: str, encoder: str, stride: int) -> tuple[int, int]:
    """Return the multiple and the minimum of H and W; two decoders need more than the encoder's stride."""
    if architecture == "dpt":  # downsamples to 1/32 for any patch size
        if 32 % stride:
            raise ModelError(f"smp: 'dpt' cannot use the encoder '{encoder}': its patches of {stride} do not divide 32")
        return 32, 0
    return stride, 128 if architecture == "pan" else 0  # pan pools three more times after a stride of 16


def _fixed_size(encoder: nn.Module) -> tuple[int, int] | None:
    config = getattr(getattr(encoder, "model", None), "pretrained_cfg", None) or {}
    return tuple(config["input_size"][1:]) if config.get("fixed_input_size") else None


@contextlib.contextmanager
def _fetching(encoder: str, weights: str) -> Iterator[None]:
    """Fetch weights from the hub, or from the local cache if the hub is unreachable; fail fast with a short message.

    huggingface_hub would retry for most of a minute and print a line per attempt. So one request tests the connection;
    if it fails, the library is set to offline mode and uses its cache only.
    """
    what = f"the weights '{weights}' of the encoder '{encoder}'"
    from huggingface_hub import constants, get_session

    offline, cause = constants.HF_HUB_OFFLINE, ""
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # of requests or httpx, depending on the release
        cause = " ".join(str(error).split())
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"smp: could not fetch {what} from {constants.ENDPOINT}: {cause or error}; fetch them on a machine with "
            'network and set weights = "path/to/model.safetensors", or leave weights out to train from scratch'
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline
