"""The same training in several precisions, from the same weights and on the same batches.

    python benchmarks/precisions.py examples/quickstart.toml --precisions fp32,bf16 --compare-steps 20

Speed alone recommends the coarsest format. What it costs is seen in the logits before any training, and in the scores
after the same number of steps. A precision that the device does not have says so.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import torch
from arithmetic import NAMES, arithmetic, outcome, precision_of, row, unavailable
from torch import Tensor
from tqdm import tqdm
from trainers import introduced, opened, prepared

from segkit.config import read_config
from segkit.data.sample import Batch
from segkit.engine.inputs import TrainerInputs
from segkit_bench.clock import endless, throughput
from segkit_bench.text import gibibytes

SCORES = ("mean_iou", "pixel_accuracy")
HEAD = ("", "images/s", "GiB", "loss", "val loss", "mean_iou", "accuracy", "max diff", "argmax")
WIDTHS = (4, 8, 6, 7, 8, 8, 8, 8, 7)


def compare(
    inputs: TrainerInputs,
    batch: Batch,
    names: Sequence[str],
    seconds: float,
    steps: int,
    add: Callable[[Mapping[str, Any]], None],
) -> None:
    """A row for each precision, reported as soon as it is there."""
    print(row(HEAD, WIDTHS), flush=True)
    reference = _logits(inputs, batch, "fp32")
    for name in names:
        missing = unavailable(name, inputs.precision.device)
        facts: dict[str, Any] = {"left_out": missing}
        if not missing:
            facts = outcome(partial(_measured, inputs, batch, reference, name, seconds, steps))
        base = "fp32" if name == "tf32" else name
        add({"precision": base, "arithmetic": name, "compare_steps": steps, **facts})
        print(_line(name, facts), flush=True)
    print(
        f"\nloss of the last of {steps} steps and scores of val after them; diff and argmax, before any of them: the\n"
        "logits of one batch against those of strict fp32, and the share of pixels whose largest one is another"
    )


def _measured(
    inputs: TrainerInputs, batch: Batch, reference: Tensor, name: str, seconds: float, steps: int
) -> dict[str, Any]:
    precision = precision_of(name, inputs.precision.device).name
    logits = _logits(inputs, batch, name)
    apart = (logits - reference).abs()
    facts: dict[str, Any] = {
        "logits_max_difference": float(apart.max()),
        "logits_mean_difference": float(apart.mean()),
        "argmax_differs": float((logits.argmax(1) != reference.argmax(1)).float().mean()),
    }
    with arithmetic(name, inputs.train.deterministic):
        with opened(inputs, precision=precision, lr=1e-6, schedule="constant") as trainer:
            facts |= throughput(trainer, repeat(batch), seconds, name)
        return facts | _trained(inputs, precision, steps)


def _logits(inputs: TrainerInputs, batch: Batch, name: str) -> Tensor:
    """Of the first weights, in evaluation, where nothing is random; ``[B,C,H,W]`` on the CPU, to hold no memory."""
    precision = precision_of(name, inputs.precision.device).name
    with opened(inputs, precision=precision, compile=False, cuda_graph=False) as trainer:
        inferer = trainer.evaluators["val"].inferer
        inferer.model.eval()
        with arithmetic(name, deterministic=True), torch.no_grad():  # a search might find another algorithm
            return inferer.logits(batch.image, batch.mask.shape[1:]).cpu()


def _trained(inputs: TrainerInputs, precision: str, steps: int) -> dict[str, Any]:
    """What so many steps come to; they are a whole run's, with its schedule."""
    with opened(inputs, inputs.data.cache, precision=precision) as trainer:
        loop, device = trainer.loop, inputs.precision.device
        loop.steps = steps
        shown = tqdm(islice(endless(trainer), steps), "training", steps, unit=" steps", leave=False, disable=None)
        values = torch.stack([loop.train_step(batch.to(device))[0] for batch in shown]).tolist()
        skipped = loop.non_finite.check()
        loss = math.nan if int(loop.non_finite.skipped[1]) else values[-1]  # of a step that was skipped there is none
        scores = trainer.evaluators["val"].evaluate("scores on val").scores
    return {"loss": loss, "skipped": skipped, "val_loss": scores["loss"]} | {name: scores[name] for name in SCORES}


def _line(name: str, facts: dict[str, Any]) -> str:
    if "left_out" in facts:
        return f"{name:{WIDTHS[0]}}  left out: {facts['left_out']}"
    cells = [
        name,
        f"{facts['images_per_second']:.1f}",
        gibibytes(facts["peak_memory_bytes"]).removesuffix(" GiB"),
        *(f"{facts[key]:.3f}" for key in ("loss", "val_loss", *SCORES)),
        f"{facts['logits_max_difference']:.1e}",
        f"{facts['argmax_differs']:.2%}",
    ]
    return row(cells, WIDTHS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare the precisions that the command line names."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="a TOML file, as for segkit run")
    parser.add_argument("overrides", nargs="*", metavar="table.key=value")
    parser.add_argument("--precisions", default=",".join(NAMES), help="by commas")
    parser.add_argument("--compare-steps", type=int, default=100 if cuda else 20)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement of a speed")
    given = parser.parse_intermixed_args(arguments)
    names = [name.strip() for name in given.precisions.split(",")]
    if wrong := [name for name in names if name not in NAMES]:
        parser.error(f"--precisions {given.precisions}: '{wrong[0]}' is none; allowed are {', '.join(NAMES)}")
    config = read_config(given.config, given.overrides)
    inputs, batch = prepared(config)
    with given.json.open("w", encoding="utf-8") if given.json else nullcontext() as file:
        add = introduced(config, inputs, batch, file, "precision")
        compare(inputs, batch, names, given.seconds, given.compare_steps, add)


if __name__ == "__main__":
    main()
