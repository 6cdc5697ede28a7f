"""What a run writes beside its checkpoints: what it was asked for, the model, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes
from torch import nn

from segkit.data.scan import Scan
from segkit.data.subset import whole_of
from segkit.engine.checkpoint import plain_keys, write_atomically
from segkit.engine.distributed import launcher
from segkit.engine.evaluate import Images
from segkit.engine.events import Result
from segkit.engine.folder import write_json
from segkit.engine.job import Job
from segkit.engine.precision import Precision


def begin(job: Job, scan: Scan, floors: Mapping[str, Any], precision: Precision, identity: str) -> None:
    """Write ``run.json``, and ``config.json``, which is all besides the weights that a prediction needs."""
    warnings = [issue.record() for issue in scan.warnings]
    told = {"floors": floors, "data": contents(scan), "warnings": warnings, "launcher": launcher(), "id": identity}
    write_json(job.folder / "run.json", {**job.record, **told})
    first = scan.splits["train"]
    facts = {
        "num_classes": len(first.classes),
        "ignore_index": first.ignore_index,
        "classes": list(first.classes),
        "palette": [list(colour) for colour in first.palette],
        "stored": getattr(whole_of(first), "stored", None),
        "resize": job.data.resize,
        "crop": job.augment.crop,
        "precision": precision.name,
        "normalisation": job.normalisation.record(),
    }
    write_json(job.folder / "config.json", {**job.model_record, **facts})


def contents(scan: Scan) -> dict[str, Any]:
    """Per split its ``images``, the ``size`` of the first, height before width, and the pixels by class and of void."""
    found = {}
    for split, dataset in scan.splits.items():
        counts = scan.counts(split)
        pixels = dict(zip(dataset.classes, counts.pixels.tolist(), strict=True))
        facts = scan.facts[split]
        found[split] = {"images": len(facts), "size": list(facts[0].size), "pixels": pixels, "void": counts.void}
    return found


def write_model(model: nn.Module, folder: Path) -> None:
    """Write the weights as ``model.safetensors``."""
    # safetensors takes neither channels_last nor weights that two layers share
    kept, layout = model.state_dict(), torch.contiguous_format
    weights = {plain: kept[key].clone(memory_format=layout) for key, plain in plain_keys(kept).items()}
    content = safetensors_bytes(weights, {"format": "pt"})
    write_atomically(folder / "model.safetensors", lambda file: file.write(content), needed=len(content))


def write_result(result: Result, images: Mapping[str, Images]) -> None:
    """Write ``details.json``, a confusion matrix and a score for each image of every split, and ``result.json``."""
    details = {split: found.as_json() for split, found in images.items()}
    write_json(result.folder / "details.json", {"splits": details}, indent=None)
    write_json(result.folder / "result.json", {key: each for key, each in asdict(result).items() if key != "folder"})


def forget_the_end(folder: Path) -> None:
    """Remove what an earlier end wrote: where a run goes on, it is no longer the result."""
    for name in ("model.safetensors", "details.json", "result.json", "samples/best.png"):
        (folder / name).unlink(missing_ok=True)
    for path in [*folder.glob("samples/hardest_*.png"), *folder.glob("samples/easiest_*.png")]:
        path.unlink()
