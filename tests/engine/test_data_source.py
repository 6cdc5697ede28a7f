"""Where batches come from: wherever images are kept, a run learns the same from them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training import train_and_evaluate

from segkit.data.loader import SampleSource
from segkit.engine import checkpoint, data_source
from segkit.engine.data_source import open_sources, prefetched, training_batches
from segkit.engine.distributed import DistributedContext
from segkit.engine.inputs import TrainerInputs
from segkit.engine.precision import Precision
from segkit.errors import ConfigError
from segkit.settings import AugmentSettings, DataSettings
from segkit_folder.files import PairedFiles

CPU = torch.device("cpu")
MakeJob = Callable[..., TrainerInputs]


@pytest.fixture
def kept(make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainerInputs]:
    """A job whose splits are files; ``data.cache`` is the argument."""
    monkeypatch.setenv("SEGKIT_CACHE", str(tmp_path / "cache"))

    def paired(split: str, count: int) -> PairedFiles:
        folder = tmp_path / split
        folder.mkdir(exist_ok=True)
        pairs = [(folder / f"{index}.png", folder / f"{index}_mask.png") for index in range(count)]
        for index, (image, mask) in enumerate(pairs):
            if not image.exists():
                random = np.random.default_rng((len(split), index))
                labels = np.zeros((14 + 2 * (index % 2), 18), np.uint8)
                labels[:, 9 + index % 3 :] = 1
                noise = random.integers(0, 60, (*labels.shape, 3))
                Image.fromarray((noise + 150 * labels[..., None]).astype(np.uint8)).save(image)
                Image.fromarray(labels).save(mask)
        return PairedFiles(pairs, classes=["dark", "bright"], palette=[(0, 0, 0), (255, 255, 255)])

    def make(cache: str, optimizer: str = "adamw", **fields: Any) -> TrainerInputs:
        splits = {"train": paired("train", 8), "val": paired("val", 4)}
        given = {"splits": splits, "data": DataSettings(cache=cache, resize=fields.pop("resize", None))}  # type: ignore[arg-type]
        augment = AugmentSettings(crop=8, scale=[0.8, 1.25], colour=0.3, **fields)
        return make_job(cache, {**given, "augment": augment}, optimizer=optimizer)

    return make


def at(job: TrainerInputs, device: torch.device) -> TrainerInputs:
    return replace(job, precision=Precision("fp32", device))


def weights(job: TrainerInputs) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = checkpoint.load(job.folder / "last.pt")["model"]
    return state


@pytest.mark.parametrize("resize", [None, 0.7])
def test_a_run_from_decoded_samples_is_the_same_to_the_bit(
    kept: Callable[..., TrainerInputs], resize: float | None
) -> None:
    plain, ram = kept("none", resize=resize), kept("ram", resize=resize)
    results = [train_and_evaluate(job) for job in (plain, ram)]
    assert all(torch.equal(value, weights(ram)[key]) for key, value in weights(plain).items())
    assert results[0].splits == results[1].splits


def test_a_run_from_the_device_comes_to_the_same_but_for_rounding(kept: Callable[..., TrainerInputs]) -> None:
    # AdamW makes much of a gradient that is nearly 0
    plain, resident = (kept(cache, "sgd", max_class_share=0.9) for cache in ("none", "device"))
    ours, other = train_and_evaluate(resident), train_and_evaluate(plain)
    assert ours.splits["val"]["mean_iou"] == pytest.approx(other.splits["val"]["mean_iou"], abs=0.05)
    for key, value in weights(plain).items():
        torch.testing.assert_close(weights(resident)[key], value, atol=0.02, rtol=0.02)


def test_a_run_may_go_on_with_another_cache(kept: Callable[..., TrainerInputs]) -> None:
    job = kept("none")
    train_and_evaluate(replace(job, train=job.train.model_copy(update={"epochs": 1, "schedule": "constant"})))
    longer = job.train.model_copy(update={"epochs": 2, "schedule": "constant"})
    went_on = replace(kept("ram"), folder=job.folder, train=longer)
    assert train_and_evaluate(went_on, resume=True).best_epoch <= 2


def places(found: dict[str, SampleSource]) -> list[str]:
    """Where each split is kept."""
    return [str(found[name][0].image.device) if found[name].samples else "files" for name in found]


def on_a_card(monkeypatch: pytest.MonkeyPatch, free: int, has: int = 1 << 40) -> torch.device:
    """Something that is no CPU, and has so much memory."""
    monkeypatch.setattr(data_source, "free_memory", lambda device: has if device.type == "cpu" else free)
    return torch.device("meta")


def test_on_a_cpu_auto_decodes_each_time(kept: Callable[..., TrainerInputs]) -> None:
    job = kept("auto")
    assert places(open_sources(at(job, CPU))) == ["files", "files"]


@pytest.mark.parametrize(
    ("free", "has", "expected"),
    [
        (1 << 30, 1 << 40, ["meta", "meta"]),
        (30_000, 1 << 40, ["cpu", "cpu"]),  # 0.4 of it holds train alone: 8,640 of 12,960
        (100, 1 << 40, ["cpu", "cpu"]),
        (100, 100, ["files", "files"]),
    ],
)
def test_elsewhere_auto_takes_the_fastest_place_that_it_fits_in(
    kept: Callable[..., TrainerInputs], monkeypatch: pytest.MonkeyPatch, free: int, has: int, expected: list[str]
) -> None:
    job = kept("auto")
    assert places(open_sources(at(job, on_a_card(monkeypatch, free, has)))) == expected


@pytest.mark.parametrize("cache", ["device", "ram"])
def test_what_does_not_fit_where_it_is_asked_for_is_refused_with_its_size(
    kept: Callable[..., TrainerInputs], monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    job = kept(cache)
    with pytest.raises(
        ConfigError, match=rf'"{cache}": the images take 0\.0 GB when decoded, and 0\.0 of the 0\.0 GB of free'
    ):
        open_sources(at(job, on_a_card(monkeypatch, 100, 100)))


def test_processes_go_the_same_way_and_share_the_memory_of_a_machine(
    kept: Callable[..., TrainerInputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(DistributedContext):
        has = 100_000

        def gather(self, value: Any) -> list[Any]:
            return [value, self.has]  # what the other process has

    job = at(kept("auto"), on_a_card(monkeypatch, 1 << 40, 1 << 40))
    monkeypatch.setattr(data_source, "PROCESSES", Other(0, 2))
    assert places(open_sources(job)) == ["meta", "meta"]
    Other.has = 30_000  # 0.7 of it would hold the 12,960 bytes, and half of that does not
    assert places(open_sources(job)) == ["files", "files"]


def on(device: torch.device, job: TrainerInputs) -> Any:
    job = at(job, device)
    return training_batches(job, open_sources(job)["train"])


@pytest.mark.gpu
def test_batches_ahead_are_the_batches(kept: Callable[..., TrainerInputs]) -> None:
    device = torch.device("cuda")
    for cache in ("none", "ram", "device"):
        job = kept(cache)
        batches, order = on(device, job)
        alone = [batch.to(device) for batch in batches]
        ahead = [batch for (batch,) in prefetched(([batch] for batch in batches), device)]
        assert len(alone) == len(ahead) == len(order)
        assert all(torch.equal(a.image, b.image) for a, b in zip(alone, ahead, strict=True))


@pytest.mark.gpu
def test_batches_made_on_the_card_wait_for_nothing(
    kept: Callable[..., TrainerInputs], no_waiting: Callable[[], AbstractContextManager[None]]
) -> None:
    device = torch.device("cuda")
    job = kept("device")
    batches, _ = on(device, job)
    list(batches)  # the first ones set things up
    with no_waiting():
        assert len(list(prefetched(([batch] for batch in batches), device))) == 2
