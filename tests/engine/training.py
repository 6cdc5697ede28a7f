"""A run of inputs that a test has made."""

from __future__ import annotations

from typing import Any

from segkit.engine.inputs import TrainerInputs
from segkit.engine.launch import launch
from segkit.engine.run_folder import Result


def train_and_evaluate(inputs: TrainerInputs, **how: Any) -> Result:
    return launch(lambda _: inputs, inputs.train, inputs.folder, **how)
