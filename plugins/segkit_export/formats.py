"""The three formats: how each is written, and how what was written is run again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import nn

import segkit
from segkit.data.read import Pixels
from segkit.errors import ModelError
from segkit.files import write_json
from segkit_export.graph import named, quiet

Runner = Callable[[Pixels], NDArray[Any]]  # [B,I,H,W] -> labels [B,H,W] or logits [B,C,H,W]

# The first in which Resize has `antialias`, which data.resize takes, and what torch's exporter itself writes: newer
# ones need a newer runtime, older ones a conversion that may fail.
OPSET = 18
MOST_BYTES = (1 << 31) - (1 << 24)  # of weights in one ONNX file: protobuf ends at 2 GiB


def write_onnx(
    program: torch.export.ExportedProgram, path: Path, answer: str, free: tuple[str, ...], metadata: Mapping[str, str]
) -> None:
    """Write a graph as one ONNX file.

    Args:
        program: of one input and one output.
        path: of the file.
        answer: what the output is called.
        free: the names of the dimensions that are free.
        metadata: for ``metadata_props``.

    Raises:
        ModelError: torch.onnx cannot convert it, or it is too large.
    """
    size = sum(weight.nbytes for weight in program.state_dict.values())
    if size > MOST_BYTES:
        raise ModelError(f"{size:,} bytes of weights do not fit into an ONNX file; --to torch-export has no such limit")
    with quiet("torch.onnx cannot convert the model"):
        converted: Any = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=[answer],
            dynamic_shapes={"image": named(free)},  # of a program these are only names
            verbose=False,
        )
        converted.model.metadata_props.update(metadata)
        converted.model.producer_name = "segkit"
        converted.save(str(path), external_data=False)


def run_onnx(path: Path) -> Runner:
    """What an ONNX file computes, by onnxruntime on the CPU.

    Raises:
        ModelError: onnxruntime cannot load it, or run it when it is called.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised too
    with quiet("onnxruntime cannot load the file"):
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: Pixels) -> NDArray[Any]:
        with quiet("onnxruntime cannot run the file"):
            answer: NDArray[Any] = session.run(None, {"image": images})[0]
        return answer

    return run


def write_program(program: torch.export.ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a graph as a ``.pt2`` file, the metadata as its extra files.

    Raises:
        ModelError: torch.export cannot save it.
    """
    with quiet("torch.export cannot save the graph"):
        torch.export.save(program, path, extra_files=dict(metadata))


def run_program(path: Path) -> Runner:
    """What a ``.pt2`` file computes.

    Raises:
        ModelError: torch.export cannot load it, or run it when it is called.
    """
    with quiet("torch.export cannot load the file"):
        module = torch.export.load(path).module()

    def run(images: Pixels) -> NDArray[Any]:
        with quiet("the exported graph cannot be run"), torch.no_grad():
            answer: NDArray[Any] = module(torch.from_numpy(images)).numpy()
        return answer

    return run


def write_weights(model: nn.Module, path: Path, config: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write the weights as ``model.safetensors``, and beside them the ``config.json`` that builds their model again."""
    state = model.state_dict()
    weights = {key: value.clone(memory_format=torch.contiguous_format) for key, value in state.items()}
    path.write_bytes(save(weights, {"format": "pt", **metadata}))  # save_file would let nobody else read it
    write_json(path.with_name("config.json"), config)


def run_weights(path: Path, model: nn.Module | None = None) -> Runner:
    """What ``segkit.load`` makes of a folder of weights.

    Args:
        path: of the weights.
        model: into which they are loaded; left out: ``config.json`` says which.
    """
    predictor = segkit.load(path, model=model, device="cpu", precision="fp32")
    return lambda images: np.stack([predictor.predict(image.transpose(1, 2, 0)) for image in images])  # [B,H,W]
