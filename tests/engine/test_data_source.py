"""Where batches come from: wherever images are kept, a run learns the same from them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.data.loader import SampleSource
from segkit.data.scan import Scan, scan_splits
from segkit.data.stores import DeviceCache, MemmapCache
from segkit.engine import checkpoint, data_source
from segkit.engine.data_source import open_sources, prefetched, training_batches
from segkit.engine.distributed import DistributedContext, MainProcessFailed
from segkit.engine.inputs import TrainerInputs
from segkit.engine.trainer import train_and_evaluate
from segkit.errors import ConfigError, WriteError
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


def scanned(job: TrainerInputs) -> Scan:
    return scan_splits(job.splits, job.data)


def weights(job: TrainerInputs) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = checkpoint.load(job.folder / "last.pt")["model"]
    return state


@pytest.mark.parametrize("resize", [None, 0.7])
def test_a_run_from_the_decoded_file_is_the_same_to_the_bit(
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


def test_on_a_cpu_auto_decodes_each_time_and_writes_nothing(kept: Callable[..., TrainerInputs], tmp_path: Path) -> None:
    job = kept("auto")
    found = open_sources(job, scanned(job), CPU, DistributedContext())
    assert {type(source) for source in found.values()} == {SampleSource}
    assert not list((tmp_path / "cache").glob("decoded*"))


def on_a_card(monkeypatch: pytest.MonkeyPatch, free: int, has: int = 1 << 40) -> torch.device:
    """Something that is no CPU, and has so much memory."""
    monkeypatch.setattr(data_source, "free_memory", lambda device: has if device.type == "cpu" else free)
    return torch.device("meta")


@pytest.mark.parametrize(
    ("free", "has", "kinds"),
    [
        (1 << 30, 1 << 40, {"train": DeviceCache, "val": DeviceCache}),
        (30_000, 1 << 40, {"train": DeviceCache, "val": MemmapCache}),  # 0.4 of it holds train alone: 9,216 of 13,824
        (100, 1 << 40, {"train": MemmapCache, "val": MemmapCache}),
        (100, 100, {"train": SampleSource, "val": SampleSource}),
    ],
)
def test_elsewhere_auto_takes_the_fastest_place_that_it_fits_in(
    kept: Callable[..., TrainerInputs], monkeypatch: pytest.MonkeyPatch, free: int, has: int, kinds: dict[str, type]
) -> None:
    monkeypatch.setattr(data_source, "DeviceCache", _Held)
    job = kept("auto")
    found = open_sources(job, scanned(job), on_a_card(monkeypatch, free, has), DistributedContext())
    expected = {name: _Held if kind is DeviceCache else kind for name, kind in kinds.items()}
    assert {name: type(source) for name, source in found.items()} == expected


class _Held(DeviceCache):
    """In the place of one that would need a card."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        pass


def test_what_does_not_fit_on_the_device_is_refused_with_its_size(
    kept: Callable[..., TrainerInputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = kept("device")
    with pytest.raises(ConfigError, match=r'"device": the splits decoded are 0\.0 GB, more than 40% of the 0\.0 GB'):
        open_sources(job, scanned(job), on_a_card(monkeypatch, 100), DistributedContext())


def test_ram_needs_files(make_job: MakeJob) -> None:
    job = make_job(fields={"data": DataSettings(cache="ram")})
    with pytest.raises(ConfigError, match=r'data\.cache = "ram": Halves does not say which files'):
        train_and_evaluate(job)
    assert not job.folder.exists()


def test_an_unwritable_cache_stops_a_run_that_asked_for_it_and_no_other(
    kept: Callable[..., TrainerInputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGKIT_CACHE", "/dev/null/cache")
    job = kept("ram")
    with pytest.raises(WriteError, match=r"/dev/null/cache.*SEGKIT_CACHE"):
        open_sources(job, scanned(job), CPU, DistributedContext())
    auto = kept("auto")
    found = open_sources(auto, scanned(auto), on_a_card(monkeypatch, 100), DistributedContext())
    assert {type(source) for source in found.values()} == {SampleSource}


class _Together(DistributedContext):
    """Two threads in place of two processes, which fail where one of them asks for what the other does not."""

    said: tuple[threading.Barrier, dict[int, Any]]

    def gather(self, value: Any) -> list[Any]:
        barrier, values = self.said
        barrier.wait(5)
        values[self.rank] = value
        barrier.wait(5)
        return [values[0], values[1]]

    def broadcast_from_main(self, function: Callable[[], Any]) -> Any:
        answer: tuple[Any, Exception | None] = None, None
        if self.is_main_process:
            try:
                answer = function(), None
            except Exception as error:
                answer = None, error
        result, raised = self.gather(answer)[0]
        if raised:
            raise raised if self.is_main_process else MainProcessFailed(1)
        return result


@pytest.mark.parametrize("unlike", ["free memory", "memory of the machine", "an unwritable cache"])
def test_processes_go_the_same_way_whatever_each_has_of_memory(
    kept: Callable[..., TrainerInputs], monkeypatch: pytest.MonkeyPatch, unlike: str
) -> None:
    def rank() -> int:
        return int(threading.current_thread().name[-1])

    free = (1 << 30, 100) if unlike == "free memory" else (100, 100)
    has = (1 << 40, 100) if unlike == "memory of the machine" else (1 << 40, 1 << 40)
    monkeypatch.setattr(_Together, "said", (threading.Barrier(2), {}), raising=False)
    monkeypatch.setattr(data_source, "DeviceCache", _Held)
    monkeypatch.setattr(data_source, "free_memory", lambda device: (has if device.type == "cpu" else free)[rank()])
    job = kept("auto")
    scan = scanned(job)
    if unlike == "an unwritable cache":
        monkeypatch.setenv("SEGKIT_CACHE", "/dev/null/cache")

    def open_in(number: int) -> list[type]:
        threading.current_thread().name = f"rank {number}"
        found = open_sources(job, scan, torch.device("meta"), _Together(number, 2))
        return [type(source) for source in found.values()]

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(open_in, range(2))
    assert one == other


def on(device: torch.device, job: TrainerInputs) -> Any:
    scan = scanned(job)
    source = open_sources(job, scan, device, DistributedContext())["train"]
    return training_batches(job, scan, source, device, DistributedContext())


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
