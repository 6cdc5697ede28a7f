"""The three formats: each function writes a file and returns a function that runs it."""

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
from segkit.files import write_json
from segkit_export.graph import Free, quiet

Runner = Callable[[NDArray[Any]], NDArray[Any]]  # [B,I,H,W] -> labels [B,H,W] or logits [B,C,H,W]

# The first opset in which Resize has `antialias`, which data.resize needs, and the one torch's exporter writes: newer
# opsets need a newer runtime, older ones a conversion that may fail.
OPSET = 18


def write_onnx(
    program: torch.export.ExportedProgram, path: Path, answer: str, free: Free, metadata: Mapping[str, str]
) -> Runner:
    """Write a graph as one ONNX file whose output is named ``answer``, and run it with onnxruntime on the CPU.

    Raises:
        ModelError: torch.onnx cannot convert it, or onnxruntime cannot load or run it.
    """
    import onnxruntime

    names: dict[str, Any] = {"input_names": ["image"], "output_names": [answer], "dynamic_shapes": {"image": free}}
    with quiet("torch.onnx cannot convert the model"):
        converted: Any = torch.onnx.export(program, (), dynamo=True, opset_version=OPSET, verbose=False, **names)
        converted.model.metadata_props.update(metadata)
        converted.model.producer_name = "segkit"
        converted.save(str(path), external_data=False)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # failures are raised anyway
    with quiet("onnxruntime cannot load the file"):
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: NDArray[Any]) -> Any:
        with quiet("onnxruntime cannot run the file"):
            return session.run(None, {"image": images})[0]

    return run


def write_program(program: torch.export.ExportedProgram, path: Path, metadata: Mapping[str, str]) -> Runner:
    """Write a graph as a ``.pt2`` file, with the metadata as extra files.

    Raises:
        ModelError: torch.export cannot save it, load it or run it.
    """
    with quiet("torch.export cannot save the graph"):
        torch.export.save(program, path, extra_files=dict(metadata))
    with quiet("torch.export cannot load the file"):
        module = torch.export.load(path).module()

    def run(images: NDArray[Any]) -> Any:
        with quiet("the exported graph cannot be run"), torch.no_grad():
            return module(torch.from_numpy(images)).numpy()

    return run


def write_weights(
    model: nn.Module, path: Path, config: Mapping[str, Any], metadata: Mapping[str, str], anew: nn.Module | None
) -> Runner:
    """Write a model's weights and the ``config.json`` from which ``segkit.load`` builds it again.

    The weights are loaded into the model ``anew`` if ``config.json`` does not name a model.
    """
    state = {key: value.clone(memory_format=torch.contiguous_format) for key, value in model.state_dict().items()}
    path.write_bytes(save(state, {"format": "pt", **metadata}))  # save_file would make it readable by its owner only
    write_json(path.with_name("config.json"), config)
    predictor = segkit.load(path, model=anew, device="cpu", precision="fp32")
    return lambda images: np.stack([predictor.predict(image.transpose(1, 2, 0)) for image in images])  # [B,H,W]
