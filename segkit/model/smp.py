"""Architectures of segmentation_models_pytorch on its encoders and timm's: the baseline to compare with."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segkit.data.normalise import MEAN, STD
from segkit.errors import ModelError, did_you_mean, first_few
from segkit.model.encoder import freeze_unused, load_encoder_weights
from segkit.model.layers import doubled, pad_to_multiple

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_IMAGENET = {"mean": list(MEAN), "std": list(STD)}
_HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
_OTHERS = {  # encoders of smp's own whose usual weights were trained on others, by the beginning of their names
    **dict.fromkeys(("inception", "xception", "timm-tf_efficientnet_lite"), _HALF),
    "dpn": {"mean": [124 / 255, 117 / 255, 104 / 255], "std": [1 / (0.0167 * 255)] * 3},
}
_FILES = (".pth", ".pt", ".bin", ".safetensors")


class Smp(nn.Module):
    """A model of segmentation_models_pytorch with one of its encoders, or one of timm's.

    ``[B,in_channels,H,W] -> logits [B,num_classes,H,W]``, any H and W: the image is mirrored up to a multiple
    of the encoder's output stride. Encoders of a fixed input size (swin, maxvit, ...) see the image
    resized to it. Pavel Iakubovskii: Segmentation Models PyTorch, github.com/qubvel-org, 2019.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the image; 3 for RGB.
        architecture: "unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "pan", "deeplabv3",
            "deeplabv3plus", "upernet", "segformer" or "dpt".
        encoder: "resnet34" (smp's own default), "efficientnet-b0", "mit_b0", ..., or "tu-" and a model of timm.
        weights: "imagenet" or another set the encoder has (for "tu-" the set is part of the name), fetched from the
            Hugging Face hub; or a local .pth or .safetensors file with the encoder's weights. None trains from scratch.
            With weights, images are normalised as their own configuration says; a file's are taken for the usual ones
            of its encoder.

    Attributes:
        normalisation: mean and deviation of RGB in 0..1 that the weights were trained on; None without weights.

    Raises:
        ModelError: an unknown name, a combination that does not exist, or weights that cannot be fetched or do not fit.
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
        _check_names(architecture, encoder, weights if named else None)
        # of timm's encoders the name says which weights; smp warns of a string
        pretrained = (True if _of_timm(encoder) else weights) if named else None
        options: dict[str, Any] = {"encoder_name": encoder, "encoder_weights": pretrained}
        options |= {"in_channels": in_channels, "classes": num_classes}
        with _fetching(encoder, str(weights)) if named else contextlib.nullcontext():
            self.network, any_size = _create(architecture, options)
            self.normalisation = None if weights is None else _normalisation(encoder, weights if named else None)
        for block in self.network.modules():
            if type(block) is UnetDecoderBlock and block.interpolation_mode == "nearest":
                block.forward = partial(_decode, block)  # a bound method would not be pickled
        if weights is not None and not named:
            load_encoder_weights(_unwrapped(self.network.encoder), weights, _classifier_names(encoder))
        self.fixed_size = None if any_size else _fixed_size(self.network.encoder)
        stride = self.network.encoder.output_stride
        self.multiple, self.least = (1, 0) if self.fixed_size else _padding(architecture, encoder, stride)
        size = self.fixed_size or (max(64, self.least),) * 2
        freeze_unused(self.network, self.network.encoder, (1, in_channels, *size))  # last layers, and heads of timm's

    @property
    def encoder(self) -> nn.Module:
        """What may have been trained before; ``train.encoder_lr_mult`` is a factor on its learning rate."""
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
    """As a decoder block of smp's Unet, but that under autocast its upsampling is not in float32."""
    height, width = feature_map.shape[2:]
    if (target_height, target_width) == (2 * height, 2 * width):
        x = doubled(feature_map)
    else:
        x = F.interpolate(feature_map, (target_height, target_width), mode="nearest")
    if skip_connection is not None:
        x = block.attention1(torch.cat([x, skip_connection], dim=1))
    result: Tensor = block.attention2(block.conv2(block.conv1(x)))
    return result


def _of_timm(encoder: str) -> str | None:
    """The name of an encoder in timm; None of smp's own."""
    return encoder.removeprefix("tu-") if encoder.startswith("tu-") else None


def _check_names(architecture: str, encoder: str, weights: str | None) -> None:
    """Refuse names that there are not, before anything is fetched; ``weights`` are those of a name."""
    import segmentation_models_pytorch as smp
    import timm

    def require_known(what: str, name: str, known: Collection[str]) -> None:
        if name not in known:
            close = did_you_mean(name, known) or "."
            raise ModelError(f"smp: there is no {what} '{name}'{close} There are: {first_few(list(known), 12)}")

    require_known("architecture", architecture, smp.MODEL_ARCHITECTURES_MAPPING)
    if not _NAME.fullmatch(encoder):  # for timm "hf-hub:" and "local-dir:" lead to whatever somebody has put there
        raise ModelError(f"smp: {encoder!r} is no encoder's name: letters, digits, '-', '_' and '.' are allowed")
    name = _of_timm(encoder) or ""
    if not timm.is_model(name):
        require_known("encoder", encoder, [*smp.encoders.encoders, *(f"tu-{each}" for each in timm.list_models())])
    if weights is not None and not name:
        own = smp.encoders.encoders[encoder]["pretrained_settings"]
        require_known(f"local file ({', '.join(_FILES)}), and no set of weights of '{encoder}',", weights, own)
    elif weights is not None and (weights != "imagenet" or not timm.models.is_model_pretrained(name)):
        tags = [f"tu-{each}" for each in timm.list_pretrained(name.partition(".")[0])]
        told = f'with weights = "imagenet" the encoder\'s name says which; there are: {first_few(tags) or "none"}'
        raise ModelError(f"smp: there are no weights '{weights}' of the encoder '{encoder}'; {told}")


def _normalisation(encoder: str, weights: str | None) -> dict[str, list[float]]:
    """What the configuration of pretrained weights says; None are the usual ones of the encoder, from a file."""
    import segmentation_models_pytorch as smp
    import timm

    if name := _of_timm(encoder):
        config = timm.get_pretrained_cfg(name)
        return {"mean": list(config.mean), "std": list(config.std)} if config else _IMAGENET
    usual = next((_OTHERS[start] for start in _OTHERS if encoder.startswith(start)), _IMAGENET)
    if weights is None:
        return usual
    try:
        config = smp.encoders.get_preprocessing_params(encoder, pretrained=weights)  # from the hub, as the weights
    except KeyError:  # the file there says nothing
        return usual
    space, most = config["input_space"], max(config["input_range"])  # 1 or 255
    if space != "RGB":
        raise ModelError(f"smp: the weights '{weights}' of '{encoder}' take {space}, and images are RGB")
    return {key: [value / most for value in config[key]] for key in ("mean", "std")}


def _create(architecture: str, options: dict[str, Any]) -> tuple[Any, bool]:
    """The model, and whether a transformer in it was told to take images of any size."""
    import segmentation_models_pytorch as smp

    try:
        if architecture == "dpt":
            with contextlib.suppress(TypeError):  # not every transformer has the option
                return smp.create_model(architecture, **options, dynamic_img_size=True), True
        return smp.create_model(architecture, **options), False
    except OSError:  # what was to be fetched could not be
        raise
    except Exception as error:
        encoder = options["encoder_name"]
        raise ModelError(f"smp: '{architecture}' cannot be built on the encoder '{encoder}': {error}") from error


def _unwrapped(encoder: nn.Module) -> nn.Module:
    """A timm model without what smp and timm put around it, whose levels of names no file from elsewhere has."""
    while isinstance(inner := getattr(encoder, "model", None) or getattr(encoder, "body", None), nn.Module):
        encoder = inner
    return encoder


def _classifier_names(encoder: str) -> set[str]:
    """What timm's classifier calls its tensors, of which some are left out where only its features are wanted."""
    name = _of_timm(encoder)
    if name is None:
        return set()
    import timm

    with torch.random.fork_rng(devices=[]):
        return set(timm.create_model(name).state_dict())


def _padding(architecture: str, encoder: str, stride: int) -> tuple[int, int]:
    """What the sides must be a multiple of, and the smallest side: two decoders want more than smp's stride says."""
    if architecture == "dpt":  # halves on to 1/32, whatever the size of the patches
        if 32 % stride:
            raise ModelError(f"smp: 'dpt' cannot use the encoder '{encoder}': its patches of {stride} do not divide 32")
        return 32, 0
    return stride, 128 if architecture == "pan" else 0  # pan pools three times more after a stride of 16


def _fixed_size(encoder: nn.Module) -> tuple[int, int] | None:
    config = getattr(getattr(encoder, "model", None), "pretrained_cfg", None) or {}
    return tuple(config["input_size"][1:]) if config.get("fixed_input_size") else None


@contextlib.contextmanager
def _fetching(encoder: str, weights: str) -> Iterator[None]:
    """Fetch from the hub, or from its cache where the hub is out of reach; fail at once and in one line.

    The hub's library tries for most of a minute and prints a line for each attempt. So it is asked once; without an
    answer it is set offline, and then looks in its cache only.
    """
    what = f"the weights '{weights}' of the encoder '{encoder}'"
    from huggingface_hub import constants, get_session

    offline, cause = constants.HF_HUB_OFFLINE, ""
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # requests' or httpx's, according to the release
        cause = " ".join(str(error).split())
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"smp: could not fetch {what} from {constants.ENDPOINT}: {cause or error}; fetch them where there is a "
            'network and set weights = "path/to/model.safetensors", or leave weights out to train from scratch'
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline
