"""The same training in several precisions, from the same weights and on the same batches.

Speed alone recommends the coarsest format. What it costs is seen in the logits before any training, and in the scores
after the same number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from segkit.data.sample import Batch
from segkit.engine.evaluate import evaluate
from segkit.engine.precision import Precision
from segkit.inference.sliding_window import Inferer
from segkit_bench.arithmetic import arithmetic, precision_of, unavailable
from segkit_bench.clock import Amount, throughput
from segkit_bench.outcome import outcome
from segkit_bench.report import Report, gibibytes, row
from segkit_bench.subject import HARDLY, Subject, Supply

SCORES = ("mean_iou", "pixel_accuracy")
HEAD = ("", "images/s", "GiB", "loss", "val loss", "mean_iou", "accuracy", "max diff", "argmax")
WIDTHS = (4, 8, 6, 7, 8, 8, 8, 8, 7)


def compare(subject: Subject, names: Sequence[str], amount: Amount, steps: int, report: Report) -> None:
    """A row for each precision, told as soon as it is there; one that the device does not have says so."""
    report.say(row(HEAD, WIDTHS))
    with subject.supply() as supply:
        batch = next(supply.endless()).to(subject.device)
        reference = _logits(subject, batch, "fp32")
        for name in names:
            missing = unavailable(name, subject.device)
            facts: dict[str, Any] = {"left_out": missing}
            if not missing:
                facts = outcome(partial(_measured, subject, supply, batch, reference, name, amount, steps))
            base = "fp32" if name == "tf32" else name
            report.add("precision", {"precision": base, "arithmetic": name, "compare_steps": steps, **facts})
            report.say(_line(name, facts))
    report.say(
        f"\nloss of the last of {steps} steps and scores of val after them; diff and argmax, before any of them: the "
        "logits of one batch against those of strict fp32, and the share of pixels whose largest one is another"
    )


def _measured(
    subject: Subject, supply: Supply, batch: Batch, reference: Tensor, name: str, amount: Amount, steps: int
) -> dict[str, Any]:
    precision = precision_of(name, subject.device)
    facts: dict[str, Any] = _differences(_logits(subject, batch, name), reference)
    with arithmetic(name, subject.job.train.deterministic):
        facts |= throughput(subject.loop(amount.total, precision, **HARDLY), subject.resident(), amount, name)
        return facts | _trained(subject, supply, precision, steps)


def _logits(subject: Subject, batch: Batch, name: str) -> Tensor:
    """Of the first weights, in evaluation, where nothing is random; ``[B,C,H,W]`` on the CPU, to hold no memory."""
    precision = precision_of(name, subject.device)
    model = subject.loop(1, precision, compile=False, cuda_graph=False).model.eval()
    with arithmetic(name, deterministic=True), torch.no_grad():  # a search might find another algorithm
        classes = len(subject.scan.splits["train"].classes)
        classes = len(subject.scan.splits["train"].classes)
        inferer = Inferer(model, precision, classes, normalisation=subject.job.normalisation)
        return inferer.logits(batch.image, batch.mask.shape[1:]).cpu()


def _differences(logits: Tensor, reference: Tensor) -> dict[str, float]:
    apart = (logits - reference).abs()
    other = logits.argmax(1) != reference.argmax(1)
    return {
        "logits_max_difference": float(apart.max()),
        "logits_mean_difference": float(apart.mean()),
        "argmax_differs": float(other.float().mean()),
    }


def _trained(subject: Subject, supply: Supply, precision: Precision, steps: int) -> dict[str, Any]:
    """What so many steps come to; they are a whole run's, with its schedule."""
    loop = subject.loop(steps, precision)
    batches = tqdm(islice(supply.ahead(), steps), "training", steps, unit=" steps", leave=False, disable=None)
    values = torch.stack([loop.train_step(batch)[0] for batch in batches]).tolist()
    skipped = loop.non_finite.check()
    loss = math.nan if int(loop.non_finite.skipped[1]) else values[-1]  # of a step that was skipped there is none
    scores = evaluate(
        loop.evaluated,
        subject.scan.splits["val"],
        precision=precision,
        criterion=subject.job.criterion,
        batch_size=subject.job.train.batch_size,
        resize=subject.job.data.resize,
        crop=subject.job.augment.crop,
        normalisation=subject.job.normalisation,
        workers=supply.feed.workers,
        source=supply.feed.sources["val"],
        description="scores on val",
    )
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
