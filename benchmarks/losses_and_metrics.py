"""Our losses and metrics beside those of other libraries: time, and memory beyond the logits.

    python benchmarks/losses_and_metrics.py [--device cuda] [--json rows.jsonl]

The same logits and labels for all, in the layout and the type that a network in bf16 or fp32 leaves; 5 % of the pixels
are void. Time is the fastest of several, taken in turns; memory is the most that was allocated at a time beyond the
logits, their gradient included, as a multiple of the logits' own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from segkit.metric.confusion import ConfusionMatrix
from segkit_losses.cross_entropy import CrossEntropy
from segkit_losses.region import Dice, DiceCrossEntropy

VOID = 255
Loss = Callable[[Tensor, Tensor], Tensor]


def losses(classes: int, device: torch.device) -> dict[str, Loss]:
    """By library and name."""
    cross_entropy, dice = CrossEntropy(classes, VOID).to(device), Dice(classes, VOID)
    found: dict[str, Loss] = {
        "segkit dice_cross_entropy": DiceCrossEntropy(classes, VOID).to(device),
        "segkit dice + cross_entropy": lambda logits, target: dice(logits, target) + cross_entropy(logits, target),
        "segkit cross_entropy": cross_entropy,
        "segkit dice": dice,
        "torch cross_entropy": _torch_cross_entropy,
    }
    try:
        from segmentation_models_pytorch.losses import DiceLoss

        smp = DiceLoss("multiclass", ignore_index=VOID)
        found["smp dice + torch cross_entropy"] = lambda logits, target: (
            smp(logits, target.long()) + _torch_cross_entropy(logits, target)
        )
        found["smp dice"] = lambda logits, target: smp(logits, target.long())
    except ImportError as error:
        _missing(error)
    try:
        from monai.losses import DiceCELoss

        monai = DiceCELoss(to_onehot_y=True, softmax=True)  # it has no void: it is shown a class there
        found["monai DiceCELoss (no void)"] = lambda logits, target: monai(
            logits, target.long().clamp(max=classes - 1)[:, None]
        )
    except ImportError as error:
        _missing(error)
    return found


def metrics(classes: int, device: torch.device) -> dict[str, Any]:
    """By library and name; each has ``update(logits, target)``."""
    found: dict[str, Any] = {"segkit confusion matrix": ConfusionMatrix(classes, VOID)}
    try:
        from torchmetrics.classification import MulticlassJaccardIndex

        jaccard = MulticlassJaccardIndex(classes, ignore_index=VOID, validate_args=False)
        found["torchmetrics Jaccard index"] = jaccard.to(device)
    except ImportError as error:
        _missing(error)
    return found


def _torch_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), target.long(), ignore_index=VOID)


def _missing(error: ImportError) -> None:
    print(f"{error}: pip install -r benchmarks/requirements.txt", file=sys.stderr)


def batch(shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits ``[B,C,H,W]`` and labels ``[B,H,W]``, uint8."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator).to(device, dtype)
    if layout == "channels_last":
        logits = logits.contiguous(memory_format=torch.channels_last)
    target = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator, dtype=torch.uint8)
    target[torch.rand(target.shape, generator=generator) < 0.05] = VOID
    return logits, target.to(device)


def seconds(tasks: dict[str, Callable[[], None]], device: torch.device, rounds: int) -> dict[str, float]:
    """The shortest time of each, in turns."""
    best: dict[str, float] = {}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            began = time.perf_counter()
            task()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:  # the first one sets things up
                best[name] = min(best.get(name, float("inf")), time.perf_counter() - began)
    return best


def most_allocated(task: Callable[[], None], device: torch.device) -> int:
    """Bytes that are allocated at a time while it runs, beyond those before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        task()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        task()
    now = most = 0
    for event in found.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


def rows(device: torch.device, rounds: int) -> Iterator[dict[str, Any]]:
    """One for each library, shape, type and layout."""
    cases = [
        ((4, 21, 512, 512), dtype, layout)
        for dtype in (torch.float32, torch.bfloat16)
        for layout in ("channels_last", "contiguous")
    ]
    for shape, dtype, layout in [*cases, ((8, 19, 512, 1024), torch.bfloat16, "channels_last")]:
        logits, target = batch(shape, dtype, layout, device)
        logits.requires_grad_()
        own = logits.numel() * logits.element_size()

        def step(loss: Loss, logits: Tensor = logits, target: Tensor = target) -> None:
            logits.grad = None
            loss(logits, target).backward()

        tasks = {name: lambda loss=loss: step(loss) for name, loss in losses(shape[1], device).items()}  # type: ignore[misc]
        case = {"device": device.type, "shape": list(shape), "dtype": str(dtype)[6:], "layout": layout}
        for name, time_taken in seconds(tasks, device, rounds).items():
            logits.grad = None
            memory = most_allocated(tasks[name], device) / own
            yield {"what": name, **case, "milliseconds": 1000 * time_taken, "times_the_logits": memory}
        fixed = logits.detach()
        counted = {
            name: lambda metric=metric: metric.update(fixed, target)  # type: ignore[misc]  # noqa: B023
            for name, metric in metrics(shape[1], device).items()
        }
        for name, time_taken in seconds(counted, device, rounds).items():
            memory = most_allocated(counted[name], device) / own
            yield {"what": name, **case, "milliseconds": 1000 * time_taken, "times_the_logits": memory}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="a file for the rows, one a line")
    arguments = parser.parse_args()
    found, case = [], None
    for row in rows(torch.device(arguments.device), arguments.rounds):
        found.append(row)
        now = (row["shape"], row["dtype"], row["layout"])
        if now != case:
            print(f"\n{row['device']}, torch {torch.__version__}, {row['shape']}, {row['dtype']}, {row['layout']}")
            print(f"{'':32}{'ms':>9}{'x logits':>10}")
            case = now
        print(f"{row['what']:32}{row['milliseconds']:9.2f}{row['times_the_logits']:10.2f}", flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:  # noqa: PTH123
            file.writelines(json.dumps(row) + "\n" for row in found)


if __name__ == "__main__":
    main()
