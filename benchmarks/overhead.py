"""What segkit's engine costs: its training step against the same step written by hand, on one resident batch.

    python benchmarks/overhead.py --model unet64

The steps by hand do what a step is for: normalise, forward in the precision, Dice in float32, backward, fused AdamW,
channels_last. The engine's also keep a learning rate and random numbers by the step, the loss and the norm of the
gradient on the device, and leave out a step that is not finite. Blocks of both alternate; the ratio is of each pair.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from types import SimpleNamespace

import torch
from contestants.task import CLASSES, MEAN, STD, VOID, build_model
from torch import nn

from segkit.data.loader import Batch
from segkit.data.scan import Scan
from segkit.engine.criterion import as_criterion
from segkit.engine.inputs import TrainerInputs
from segkit.engine.precision import Precision, device_name, pick_device, resolve_precision
from segkit.engine.step import TrainingLoop
from segkit.settings import TrainSettings
from segkit_losses.region import Dice

WARM_UP = 3  # pairs of blocks
Step = Callable[[], object]


def random_batch(size: int, crop: tuple[int, int], device: torch.device) -> Batch:
    """Random pixels and labels, a tenth of them void."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (size, *crop, 3), dtype=torch.uint8)  # [B,H,W,3]
    masks = torch.randint(0, len(CLASSES), (size, *crop), dtype=torch.uint8)  # [B,H,W]
    masks[torch.rand(masks.shape) < 0.1] = VOID
    return Batch(images.permute(0, 3, 1, 2), masks, None, [str(number) for number in range(size)]).to(device)


def by_engine(model: nn.Module, precision: Precision, batch: Batch, steps: int) -> Step:
    """A step of segkit's loop."""
    settings = TrainSettings(batch_size=len(batch.names), schedule="constant", warmup=0.0, weight_decay=0.0)
    scan = Scan({"train": SimpleNamespace(classes=CLASSES, ignore_index=VOID)}, {}, [])  # type: ignore[dict-item]
    criterion = as_criterion(Dice(len(CLASSES), VOID))
    loop = TrainingLoop(TrainerInputs(model, criterion, scan, Path(), train=settings, precision=precision), steps)
    return lambda: loop.train_step(batch)


def by_hand(model: nn.Module, precision: Precision, batch: Batch) -> Step:
    """The same step in a dozen lines."""
    device = precision.device
    network = model.to(memory_format=torch.channels_last).to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    loss_function = Dice(len(CLASSES), VOID)
    mean, std = (torch.tensor(each, device=device).view(3, 1, 1) for each in (MEAN, STD))

    def step() -> None:
        images = (batch.image.float() / 255 - mean) / std
        with precision.autocast():
            logits = network(images)  # [B,C,H,W]
        loss_function(logits, batch.mask).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds(step: Step, count: int) -> float:
    """A step, as the mean of a block that is waited for once."""
    began = time.perf_counter()
    for _ in range(count):
        step()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / count


def compare(hand: Step, engine: Step, steps: int, blocks: int) -> dict[str, object]:
    """Medians of both, the median of the ratios of pairs of blocks, and between what half of these lie."""
    taken = []
    for number in range(WARM_UP + blocks):
        pair = {}
        for step in (hand, engine) if number % 2 else (engine, hand):  # neither is always the first
            pair[step] = seconds(step, steps)
        taken.append((pair[hand], pair[engine]))
    del taken[:WARM_UP]
    ratios = [engine_took / hand_took for hand_took, engine_took in taken]
    low, _, high = quantiles(ratios, n=4)
    by_hand_took, engine_took = (median(each) for each in zip(*taken, strict=True))
    return {
        "by_hand_seconds": by_hand_took,
        "engine_seconds": engine_took,
        "ratio": median(ratios),
        "quartiles": [low, high],
    }


def main() -> None:
    """Measure, and print a JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="unet64", help="unet and a width, or an encoder for smp's U-Net: resnet34")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, nargs=2, default=[352, 480], help="height, width")
    parser.add_argument("--steps", type=int, default=5, help="of a block")
    parser.add_argument("--blocks", type=int, default=30, help=f"pairs of them, after {WARM_UP} that are not counted")
    arguments = parser.parse_args()
    precision = resolve_precision(arguments.precision, pick_device(arguments.device))
    torch.backends.cudnn.benchmark = True  # as the engine has it in training
    batch = random_batch(arguments.batch, tuple(arguments.crop), precision.device)
    total = (WARM_UP + arguments.blocks) * arguments.steps
    hand = by_hand(build_model(arguments.model), precision, batch)
    engine = by_engine(build_model(arguments.model), precision, batch, total)
    facts = {"device": device_name(precision.device), "torch": torch.__version__, "threads": torch.get_num_threads()}
    print(json.dumps({**vars(arguments), **facts, **compare(hand, engine, arguments.steps, arguments.blocks)}))


if __name__ == "__main__":
    main()
