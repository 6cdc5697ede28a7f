"""Runs from the first step to the result: what they write, and that a stopped one goes on."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchmetrics
from safetensors.torch import load_file
from torch import nn
from training import train_and_evaluate

import segkit
from segkit.data.augment import RandomTransform
from segkit.data.batch_sampler import TrainBatchSampler
from segkit.data.loader import SampleSource, batch_loader
from segkit.data.sample import Batch
from segkit.data.scan import Scan
from segkit.engine import checkpoint
from segkit.engine.criterion import Criterion, as_criterion
from segkit.engine.inputs import TrainerInputs
from segkit.engine.optim import sgd
from segkit.engine.precision import peak_memory, resolve_precision
from segkit.engine.step import TrainingLoop
from segkit.errors import ConfigError, DataError, ModelError, RunFolderError, TrainingError, WriteError
from segkit.model.unet import UNet
from segkit.settings import AugmentSettings, TrainSettings
from segkit_losses.cross_entropy import CrossEntropy, Focal, Ohem
from segkit_losses.lovasz import Lovasz
from segkit_losses.region import Dice, Tversky

CPU = torch.device("cpu")
MakeJob = Callable[..., TrainerInputs]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder / "last.pt")["model"]  # type: ignore[no-any-return]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_learns_and_writes_all_it_promises(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    job = make_job(epochs=8)
    result = train_and_evaluate(job)
    folder = job.folder
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {
        "run.json", "config.json", "metrics.jsonl", "last.pt", "previous.pt", "best.pt", "model.safetensors",
        "details.json", "result.json",
    }  # fmt: skip
    stored = json.loads((folder / "result.json").read_text())
    assert set(stored) == {
        "splits", "best_epoch", "collapsed", "stopped_early",
        "seconds", "images_per_second", "peak_memory_bytes", "precision", "device",
    }  # fmt: skip
    test = stored["splits"]["test"]
    assert set(test) >= {"mean_iou", "pixel_accuracy", "mean_dice", "class_iou", "loss", "floor"}
    assert set(test["floor"]) >= {"mean_iou", "pixel_accuracy", "class"}
    assert test["floor"]["class"] == "dark"
    assert result.splits["test"]["mean_iou"] == test["mean_iou"] > 0.9 > test["floor"]["mean_iou"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert lines[stored["best_epoch"] - 1]["val"]["mean_iou"] == max(line["val"]["mean_iou"] for line in lines)
    assert same(load_file(folder / "model.safetensors"), checkpoint.load(folder / "best.pt")["model"])
    printed = capsys.readouterr().out
    floor = lines[0]["val"]["floor"]
    beside = rf"[01]\.\d{{3}}  {floor['mean_iou']:.3f}   [01]\.\d{{3}}  {floor['pixel_accuracy']:.3f}  "
    assert re.findall(rf"^ +(\d)/8 +\d+\.\d{{4}} +\d+\.\d{{4}}  {beside}", printed, re.MULTILINE) == list("12345678")
    assert printed.count("score  floor   score  floor  classes  images/s\n") == 1
    assert "floor of val, all 'dark'" in printed


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    settings = {"epochs": 5, "ema": 0.9, "clip_norm": 1.0, "schedule": "one_cycle", "optimizer": optimizer}
    state = UNet(2, width=2, depth=1).state_dict()

    def job(folder: str) -> TrainerInputs:
        model = UNet(2, width=2, depth=1)
        model.load_state_dict(state)
        return make_job(folder, {"model": model}, **settings)

    whole, stopped = job("whole"), job("stopped")
    train_and_evaluate(whole)

    real = TrainingLoop.run_epoch
    calls = []

    def until_the_third(self: TrainingLoop, *arguments: Any) -> dict[str, Any]:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(TrainingLoop, "run_epoch", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(stopped)
    with pytest.raises(RunFolderError, match="unfinished"):
        train_and_evaluate(job("stopped"))
    train_and_evaluate(job("stopped"), resume=True)

    assert same(weights(whole.folder), weights(stopped.folder))
    assert same(load_file(whole.folder / "model.safetensors"), load_file(stopped.folder / "model.safetensors"))
    one, two = (checkpoint.load(job.folder / "last.pt")["history"]["lines"] for job in (whole, stopped))
    timeless = [
        [{**line, "train": line["train"] | {"seconds": 0, "images_per_second": 0}} for line in h] for h in (one, two)
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.fault("F35")
def test_the_same_seed_is_the_same_run_and_another_seed_is_not(make_job: MakeJob) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_and_evaluate(make_job(name, epochs=1, seed=seed))
    folder = make_job("a").folder.parent
    assert same(weights(folder / "a"), weights(folder / "b"))
    assert not same(weights(folder / "a"), weights(folder / "c"))


def test_what_is_said_to_python_is_in_pythons_words(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    train_and_evaluate(make_job(epochs=1))
    folder = os.path.relpath(make_job().folder)
    assert capsys.readouterr().out.endswith(f"\nnext:   segkit.load('{folder}', model=...).predict('photo.jpg')\n")
    with pytest.raises(RunFolderError, match="resume=True continues it, overwrite=True replaces it") as caught:
        train_and_evaluate(make_job(epochs=1))
    assert "--" not in str(caught.value)
    train_and_evaluate(make_job(epochs=1), overwrite=True, quiet=True)
    assert "next:" not in capsys.readouterr().out


def test_what_a_program_has_turned_on_or_off_changes_nothing(make_job: MakeJob) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        train_and_evaluate(make_job("around", epochs=1))
        assert not torch.is_grad_enabled()
    train_and_evaluate(make_job("alone", epochs=1))
    folder = make_job().folder.parent
    assert same(weights(folder / "around"), weights(folder / "alone"))


def test_overwriting_starts_anew(make_job: MakeJob) -> None:
    train_and_evaluate(make_job(epochs=2))
    train_and_evaluate(make_job(epochs=1), overwrite=True)
    lines = (make_job().folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 1


def test_max_steps_ends_the_run_and_plans_the_rate_for_it(make_job: MakeJob) -> None:
    job = make_job(epochs=100, max_steps=3, schedule="poly", warmup=0.0, lr=1.0)
    train_and_evaluate(job)
    state = checkpoint.load(job.folder / "last.pt")
    assert state["step"] == 3
    assert state["history"]["lines"][-1]["train"]["lr"] == pytest.approx((1 / 3) ** 0.9)


def test_patience_ends_a_run_that_stands_still(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    job = make_job(epochs=50, patience=2, lr=1e-9)
    train_and_evaluate(job)
    assert len((job.folder / "metrics.jsonl").read_text().splitlines()) < 10
    assert "stopped early" in capsys.readouterr().out
    train_and_evaluate(make_job(epochs=50, patience=2, lr=1e-9), resume=True)
    again = capsys.readouterr().out
    assert "images/s" not in again, "no epoch is trained, and the heading of their table stands alone"
    assert "stopped early" in again


def test_best_may_be_the_loss_and_an_unknown_score_is_named(make_job: MakeJob) -> None:
    job = make_job(best="loss")
    result = train_and_evaluate(job)
    history = checkpoint.load(job.folder / "last.pt")["history"]["lines"]
    assert history[result.best_epoch - 1]["val"]["loss"] == min(line["val"]["loss"] for line in history)
    with pytest.raises(ConfigError, match=r'train\.best = "miou".*mean_iou'):
        train_and_evaluate(make_job("other", best="miou"))


def test_accumulation_gives_the_gradient_of_the_whole_batch(halves: Any) -> None:
    def after_a_step(accumulate: int) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Conv2d(3, 2, 1)
        mean = Criterion([("mse", 1.0, lambda logits, target: (logits.mean((1, 2, 3)) - 1).square().mean())])
        settings = TrainSettings(batch_size=4, accumulate=accumulate, optimizer="sgd", precision="fp32")
        inputs = TrainerInputs(model, mean, Scan({"train": halves(8)}, {}, []), Path(), train=settings, optimizer=sgd)
        loop = TrainingLoop(inputs, steps=10)
        transform, sampler = RandomTransform(AugmentSettings(), 0), TrainBatchSampler(8, 4, seed=0)
        batches = batch_loader(SampleSource(halves(8)), sampler, transform, workers=0, device=CPU)
        loop.train_step(next(iter(batches)))
        return list(loop.model.parameters())

    torch.testing.assert_close(after_a_step(1), after_a_step(2))
    torch.testing.assert_close(after_a_step(1), after_a_step(4))


def told_by(values: list[float], more: bool | None) -> torchmetrics.Metric:
    """A metric of torchmetrics that scores each epoch as it is told."""

    class Told(torchmetrics.Metric):
        higher_is_better = more
        calls = 0

        def update(self, logits: torch.Tensor, target: torch.Tensor) -> None:
            pass

        def compute(self) -> float:
            self.calls += 1
            return values[min(self.calls, len(values)) - 1]

    return Told()


@pytest.mark.parametrize(
    ("more", "mode", "best"), [(True, "auto", 2), (False, "auto", 3), (None, "max", 2), (None, "min", 3)]
)
def test_the_metric_says_which_way_is_better_or_the_config(
    make_job: MakeJob, more: bool | None, mode: str, best: int
) -> None:
    metric = told_by([0.5, 0.9, 0.2, 0.4, 0.4], more)
    job = make_job(best="told", best_mode=mode, epochs=5, patience=2, fields={"metrics": {"told": metric}})
    result = train_and_evaluate(job)
    assert result.best_epoch == best
    assert result.stopped_early == "no better told for 2 epochs" if best + 2 < 5 else not result.stopped_early
    lines = [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["best"]][-1] == best


@pytest.mark.parametrize(
    ("more", "name", "mode", "words"),
    [
        (None, "told", "auto", r'"auto": .*higher_is_better of told is None; .* set train\.best_mode = "max" or "min"'),
        (False, "told", "max", r'train\.best_mode = "max": .*higher_is_better of told is False; .* leave it out'),
        (None, "loss", "max", r'train\.best_mode = "max": .*higher_is_better of loss is False; .* leave it out'),
        (None, "mean_iou", "min", r'train\.best_mode = "min": .*higher_is_better of mean_iou is True; .* leave it out'),
    ],
)
def test_a_best_without_a_direction_or_with_two_is_refused(
    make_job: MakeJob, more: bool | None, name: str, mode: str, words: str
) -> None:
    job = make_job(best=name, best_mode=mode, fields={"metrics": {"told": told_by([0.5], more)}})
    with pytest.raises(ConfigError, match=words):
        train_and_evaluate(job)
    assert not job.folder.exists()


def test_an_infinite_score_is_not_bettered_by_a_finite_one(make_job: MakeJob) -> None:
    metric = told_by([0.5, 0.5, math.inf, 0.7, math.nan], True)
    job = make_job(best="told", epochs=5, fields={"metrics": {"told": metric}})
    assert train_and_evaluate(job).best_epoch == 3


def test_a_run_without_its_normalisation_is_not_resumed_with_another_one(make_job: MakeJob) -> None:
    train_and_evaluate(make_job(epochs=1))
    config = make_job().folder / "config.json"
    config.write_text('{"normalisation": {"mean": 3}}')
    with pytest.raises(RunFolderError, match=r"config\.json is damaged: its normalisation is \{'mean': 3\}"):
        train_and_evaluate(make_job(epochs=2), resume=True)
    config.unlink()
    with pytest.raises(RunFolderError, match=r"it holds no config\.json"):
        train_and_evaluate(make_job(epochs=2), resume=True)


UNEVEN = {  # labelled pixels of four images: the second part all void, unequal parts, all of one class in a part
    "half void": [20, 12, 0, 0],
    "unequal": [20, 3, 1, 0],
    "first void": [0, 0, 7, 9],
    "all void": [0, 0, 0, 0],
}


class ByHand(nn.Module):
    """As many write it: of a target that is all void it is NaN, and so is its gradient."""

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        known = target != 255
        costs = nn.functional.cross_entropy(logits, target * known, reduction="none")
        return (costs * known).sum() / known.sum()


class ConstantAtVoid(ByHand):
    """Or so: a 0 that depends on nothing."""

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return super().forward(logits, target) if (target != 255).any() else torch.zeros(())


MEANS: dict[str, Callable[[], nn.Module]] = {
    "cross_entropy": lambda: CrossEntropy(2),
    "weighted": lambda: CrossEntropy(2, class_weights=[0.2, 3.0], label_smoothing=0.1),
    "focal": lambda: Focal(2, class_weights=[1.0, 0.5]),
    "torch's own": lambda: nn.CrossEntropyLoss(ignore_index=255),
    "by hand": ByHand,
    "constant at void": ConstantAtVoid,
}


def a_step(cost: nn.Module, labelled: list[int], accumulate: int, **settings: Any) -> tuple[list[float], TrainingLoop]:
    """What is reported of a step on four images, and the loop after it."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (4, 3, 4, 6), generator=generator, dtype=torch.uint8)
    masks = torch.randint(0, 2, (4, 24), generator=generator, dtype=torch.uint8)
    for mask, count in zip(masks, labelled, strict=True):
        mask[count:] = 255
    torch.manual_seed(0)
    chosen = TrainSettings(batch_size=4, accumulate=accumulate, optimizer="sgd", precision="fp32", **settings)
    network, train = nn.Conv2d(3, 2, 3, padding=1), SimpleNamespace(classes=("a", "b"), ignore_index=255)
    scan = Scan({"train": train}, {}, [])  # type: ignore[dict-item]
    inputs = TrainerInputs(network, as_criterion(cost), scan, Path(), train=chosen, optimizer=sgd)
    loop = TrainingLoop(inputs, steps=10)
    return loop.train_step(Batch(images, masks.view(4, 4, 6), None, list("abcd"))).tolist(), loop


@pytest.mark.parametrize("labelled", UNEVEN.values(), ids=UNEVEN)
@pytest.mark.parametrize("make_loss", MEANS.values(), ids=MEANS)
@pytest.mark.parametrize("accumulate", [2, 4])
def test_a_mean_over_pixels_in_parts_is_that_of_the_batch(
    make_loss: Callable[[], nn.Module], labelled: list[int], accumulate: int
) -> None:
    if not any(labelled) and type(make_loss()) in (nn.CrossEntropyLoss, ByHand):
        return  # NaN as one batch; in parts it counts for nothing
    (told, whole), (told_of_parts, parts) = (a_step(make_loss(), labelled, count) for count in (1, accumulate))
    assert told_of_parts == pytest.approx(told, rel=1e-5)
    assert bool(told[0]) == any(labelled)
    torch.testing.assert_close(list(parts.model.parameters()), list(whole.model.parameters()), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("make_loss", [Dice, Lovasz, Ohem, Tversky])
def test_a_part_without_labels_weighs_nothing_whatever_the_loss(make_loss: type[nn.Module]) -> None:
    (told, whole), (told_of_parts, parts) = (a_step(make_loss(2), [20, 12, 0, 0], count) for count in (1, 2))
    assert told_of_parts == pytest.approx(told, rel=1e-5)
    torch.testing.assert_close(list(parts.model.parameters()), list(whole.model.parameters()), rtol=1e-5, atol=1e-7)


def test_fp32_and_bf16_agree_within_noise(make_job: MakeJob) -> None:
    scores = [
        train_and_evaluate(make_job(precision, epochs=6, precision=precision)).splits["test"]["mean_iou"]
        for precision in ("fp32", "bf16")
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.03)


def test_a_compiler_that_fails_is_told_once_and_eager_goes_on(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken_compile(model: nn.Module, **options: object) -> Callable[..., Any]:
        def fail(*arguments: object) -> None:
            raise RuntimeError("no compiler\nlong story")

        return fail

    monkeypatch.setattr(torch, "compile", broken_compile)
    train_and_evaluate(make_job("compiled", compile=True))
    told = capsys.readouterr().err
    assert told.count("train.compile failed") == 1
    assert "long story" not in told
    monkeypatch.undo()
    train_and_evaluate(make_job("eager"))
    folder = make_job().folder.parent
    assert same(weights(folder / "compiled"), weights(folder / "eager"))


def test_the_average_is_what_is_evaluated_and_kept(make_job: MakeJob) -> None:
    job = make_job(ema=0.999, epochs=2)
    train_and_evaluate(job)
    state = checkpoint.load(job.folder / "last.pt")
    assert not same(state["model"], state["ema"])
    assert state["step"] == 4


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_what_the_caller_holds_are_the_best_weights(ema: float, make_job: MakeJob) -> None:
    job = make_job(ema=ema, epochs=4, patience=1, lr=0.5)  # it stops after an epoch that is no better, or at the end
    result = train_and_evaluate(job)
    kept = load_file(job.folder / "model.safetensors")
    assert same(dict(job.model.state_dict()), kept)
    assert not job.model.training  # it predicts by the statistics that were kept
    again = make_job(ema=ema, epochs=4, patience=1, lr=0.5)
    assert train_and_evaluate(again, resume=True).best_epoch == result.best_epoch
    assert same(dict(again.model.state_dict()), kept)


def test_the_peak_of_a_card_that_nothing_was_done_on_is_not_asked_for() -> None:
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_initialized", lambda: False)
        patch.setattr(torch.cuda, "reset_peak_memory_stats", asked.append)
        peak_memory(torch.device("cuda", 0), restart=True)  # it raises where torch knows nothing of the card yet
    assert not asked


def test_peak_memory_is_that_of_this_run_alone(make_job: MakeJob) -> None:
    torch.ones(1 << 27).sum()  # half a GiB, by somebody before it
    before = peak_memory(torch.device("cpu"))
    result = train_and_evaluate(make_job(epochs=1))
    assert 1 << 27 < result.peak_memory_bytes < before - (1 << 28)


def test_wrong_labels_stop_a_run_before_anything_is_written(tmp_path: Path, halves: Any) -> None:
    class Wrong(halves):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:
            sample = super().__getitem__(index)
            sample.mask[0, :3] = 9 if index % 2 else 0
            return sample

    with pytest.raises(DataError) as caught:
        segkit.fit(
            model=nn.Conv2d(3, 2, 1),
            loss=nn.CrossEntropyLoss(ignore_index=255),
            train=Wrong(8),
            val=halves(2, 100),
            output=tmp_path / "run",
            device="cpu",
        )
    message = str(caught.value)
    assert message.startswith(
        "train: 4 files: labels that are not allowed, 9 (12 pixels in 4 of them): train/halves-1, "
        "train/halves-3, train/halves-5, train/halves-7; allowed are 0 to 1 and 255 (void)"
    )
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_trained_is_refused_before_the_data_is_read(
    tmp_path: Path, halves: Any, tiny_net: Any
) -> None:
    class Unread(halves):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:
            raise AssertionError("it was read")

    data = {"train": Unread(8), "val": Unread(4, 100), "output": tmp_path / "run"}
    with pytest.raises(ModelError, match=r"the weights of TinyNet are torch\.float64"):
        segkit.fit(model=tiny_net().double(), loss=nn.CrossEntropyLoss(), **data, device="cpu")


def test_splits_that_do_not_belong_together_are_refused(make_job: MakeJob, halves: Any) -> None:
    class Other(halves):  # type: ignore[misc]
        classes = ("dark", "bright", "third")

    with pytest.raises(DataError, match="train and val differ in their classes"):
        train_and_evaluate(make_job(fields={"splits": {"train": halves(4), "val": Other(2)}}))
    with pytest.raises(DataError, match="no val split"):
        train_and_evaluate(make_job(fields={"splits": {"train": halves(4)}}))


def test_classes_of_one_name_are_refused(make_job: MakeJob, halves: Any) -> None:
    class Twice(halves):  # type: ignore[misc]
        classes = ("dark", "dark")

    with pytest.raises(DataError, match="several classes are called dark"):
        train_and_evaluate(make_job(fields={"splits": {"train": Twice(4), "val": Twice(2)}}))


def test_precision_is_chosen_by_the_device() -> None:
    assert resolve_precision("fp32", CPU).name == "fp32"
    assert resolve_precision("auto", CPU).name in {"bf16", "fp32"}
    with pytest.raises(ConfigError, match="needs CUDA"):
        resolve_precision("fp16", CPU)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r'train\.device = "cuda"'):
            train_and_evaluate_on("cuda")


def train_and_evaluate_on(device: str) -> None:
    from segkit.engine.precision import pick_device

    pick_device(device)


def test_a_kill_between_two_files_keeps_the_best_weights_and_their_epoch_together(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_job("whole", epochs=4)
    train_and_evaluate(whole)
    real = checkpoint.save
    for name, written in (("before", False), ("after", True)):  # last.pt is written, or only just not
        saves: list[Path] = []

        def save(path: Path, *content: Any, written: bool = written, saves: list[Path] = saves) -> None:
            saves.append(path)
            if len(saves) < 2 or written:
                real(path, *content)
            if len(saves) == 2:
                raise KeyboardInterrupt

        monkeypatch.setattr(checkpoint, "save", save)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(make_job(name, epochs=4))
        monkeypatch.undo()
        job = make_job(name, epochs=4)
        train_and_evaluate(job, resume=True)
        assert same(weights(job.folder), weights(whole.folder))
        assert same(load_file(job.folder / "model.safetensors"), load_file(whole.folder / "model.safetensors"))
        best, state = checkpoint.load(job.folder / "best.pt"), checkpoint.load(job.folder / "last.pt")
        assert same(best["model"], state["best"])


def test_a_finished_run_that_goes_on_shows_no_result_until_it_ends(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_and_evaluate(make_job(epochs=2))
    folder = make_job().folder
    assert (folder / "result.json").exists()

    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingLoop, "run_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(make_job(epochs=3), resume=True)
    assert not (folder / "result.json").exists()
    assert not (folder / "model.safetensors").exists()


def test_a_run_that_stopped_early_keeps_its_result_while_it_is_scored_again(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def job() -> TrainerInputs:
        return make_job(best="told", patience=1, fields={"metrics": {"told": told_by([0.5], True)}})

    assert train_and_evaluate(job()).stopped_early
    half = job().folder / ".model.safetensors.1.tmp"
    half.write_text("a process was killed")
    monkeypatch.setattr(checkpoint, "write_model", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_and_evaluate(job(), resume=True)
    assert not half.exists()
    assert segkit.read_run(job().folder).result["stopped_early"]


@pytest.mark.fault("F02")
@pytest.mark.parametrize("room", [True, False])
def test_a_last_epoch_that_could_not_be_saved_is_tried_again_and_the_best_weights_are_not_taken_for_it(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    job, real, failed = make_job(best="told", fields={"metrics": {"told": told_by([0.5], True)}}), checkpoint.save, []

    def save(path: Path, state: Any, previous: Path | None = None) -> None:
        if len(state.get("history", {}).get("lines", ())) == 3 and len(failed) < 2 - room:
            failed.append(state["model"]["layers.0.weight"].clone())
            raise WriteError(f"{path} could not be written: the disk is full")
        real(path, state, previous)

    def fail(*arguments: Any) -> None:
        raise DataError("an image has gone")

    monkeypatch.setattr(checkpoint, "save", save)
    monkeypatch.setattr(checkpoint, "write_model", fail)  # there the network holds the weights of the first epoch
    with pytest.raises(DataError, match="an image has gone"):
        train_and_evaluate(job)
    state = checkpoint.load(job.folder / "last.pt")
    assert len(state["history"]["lines"]) == 2 + room
    assert torch.equal(state["model"]["layers.0.weight"], failed[-1]) == room
    assert len(segkit.read_run(job.folder).epochs) == 3


def test_metrics_that_cannot_be_written_cost_no_checkpoint(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path, *arguments: Any, **options: Any) -> None:
        raise WriteError(f"{path.name} could not be written: another program has opened it")

    monkeypatch.setattr(checkpoint, "write_json", fail)
    job = make_job(epochs=2)
    train_and_evaluate(job)
    assert len(checkpoint.load(job.folder / "last.pt")["history"]["lines"]) == 2
    assert "metrics.jsonl could not be written" in capsys.readouterr().err


@pytest.mark.fault("F16")
def test_a_run_is_not_resumed_with_other_settings(make_job: MakeJob) -> None:
    record = {"config": {"train": {"batch_size": 4, "epochs": 1}, "loss": [{"name": "dice"}]}}
    train_and_evaluate(make_job(epochs=1, fields={"record": record}))
    other = {"config": {"train": {"batch_size": 2, "epochs": 3}, "loss": [{"name": "dice"}]}}
    with pytest.raises(RunFolderError, match=r"other settings: train\.batch_size was 4 and is 2; start a new run"):
        train_and_evaluate(make_job(epochs=2, batch_size=2, fields={"record": other}), resume=True)
    newer = {"stop_on_collapse": False, "clip_norm": 0.0}  # settings that the first version did not know, unchanged
    longer = {"config": {"train": {"batch_size": 4, "epochs": 2, **newer}, "loss": [{"name": "dice"}]}}
    train_and_evaluate(make_job(epochs=2, fields={"record": longer}), resume=True)
    for steps in (5, 6, 6):  # of two an epoch, so that there are four epochs in the end
        longer["config"]["train"] |= {"epochs": 3, "max_steps": steps}
        job = make_job(epochs=3, max_steps=steps, fields={"record": longer})
        train_and_evaluate(job, resume=True)
        assert checkpoint.load(job.folder / "last.pt")["step"] == steps
    clipped = {"config": {"train": {"batch_size": 4, "epochs": 3, "clip_norm": 1.0}, "loss": [{"name": "dice"}]}}
    with pytest.raises(RunFolderError, match=r"train\.clip_norm was 0\.0 and is 1\.0"):
        train_and_evaluate(make_job(epochs=3, fields={"record": clipped}), resume=True)
    turned = {"config": {"train": {"batch_size": 4, "epochs": 3, "best_mode": "min"}, "loss": [{"name": "dice"}]}}
    with pytest.raises(
        RunFolderError, match=r"train\.best_mode was 'auto' and is 'min'"
    ):  # best.pt is of the other way
        train_and_evaluate(make_job(epochs=3, fields={"record": turned}), resume=True)


def test_weights_that_two_layers_share_are_kept(make_job: MakeJob) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.second.weight = self.first.weight
            self.last = nn.Conv2d(3, 2, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.last(self.second(self.first(images)))

    job = make_job(epochs=1, ema=0.5, fields={"model": Tied()})
    train_and_evaluate(job)
    stored = load_file(job.folder / "model.safetensors")
    assert torch.equal(stored["first.weight"], stored["second.weight"])


def test_samples_that_break_the_contract_are_named(make_job: MakeJob, halves: Any) -> None:
    from segkit.data.sample import Sample

    class Wrong(halves):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return Sample(sample.image[:, ::2], sample.mask, sample.name)

    with pytest.raises(
        DataError,
        match=r"8 files: its .* wrong type or shape \(torch.uint8 \[3, 6, 16\] and torch.uint8 \[12, 16\]\): halves-0",
    ):
        train_and_evaluate(make_job(fields={"splits": {"train": Wrong(8), "val": halves(4)}}))

    class Negative(halves):  # type: ignore[misc]
        ignore_index = -100

    with pytest.raises(DataError, match="ignore_index = -100 with 2 classes"):
        train_and_evaluate(make_job("other", fields={"splits": {"train": Negative(8), "val": Negative(4)}}))


def test_a_metric_may_give_numpys_numbers_and_be_used_afterwards(make_job: MakeJob) -> None:
    import numpy as np

    from segkit.metric.scores import MeanIoU

    class Numpy:
        def update(self, logits: torch.Tensor, target: torch.Tensor) -> None:
            self.seen = np.float32(target.shape[0])

        def compute(self) -> dict[str, Any]:
            deep = {"of": ([np.float32(0.5)], torch.tensor(0.25))}
            return {"numpy": self.seen, "several": np.arange(2), "deep": deep, "none": None}

        def reset(self) -> None:
            self.seen = np.float32(0)

    ours = MeanIoU(2, 255)
    job = make_job(epochs=1, fields={"metrics": {"numpy": Numpy(), "mean_iou": ours}})
    result = train_and_evaluate(job)
    assert result.splits["val"]["numpy"] == 4.0
    kept = checkpoint.load(job.folder / "last.pt")["history"]["lines"][0]["val"]
    assert (kept["several"], kept["deep"], kept["none"]) == ([0, 1], {"of": [[0.5], 0.25]}, None)
    ours.reset()
    ours.update(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long))
    assert ours.compute()["mean_iou"] == 1.0


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda logits, target: logits.mean((2, 3)), r"the loss 'broken' returned a tensor \[4, 2\]"),
        (lambda logits, target: 0.5, "the loss 'broken' returned float"),
        (lambda logits, target: logits.mean() * 1j, r"the loss 'broken' returned a tensor \[\], torch.complex64"),
        (lambda logits, target: logits.mean().detach(), "the loss does not depend on the model's weights"),
        (lambda logits, target: torch.ones((), requires_grad=True), "the loss does not depend on the model's weights"),
        (lambda logits, target: (logits.argmax(1) == target).float().mean(), "not from their argmax"),
        (lambda logits: logits.mean(), r"the loss 'broken' failed: TypeError: .*logits \[4, 2, 8, 8\]"),
        (nn.BCEWithLogitsLoss(), r"the loss 'broken' failed: ValueError: .* class indices \[4, 8, 8\]"),
    ],
)
def test_a_loss_that_returns_no_number_is_named(make_job: MakeJob, broken: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        train_and_evaluate(make_job(fields={"criterion": Criterion([("broken", 1.0, broken)])}))


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (lambda logits: {"logits": logits}, "dict; it must return logits"),
        (lambda logits: logits[..., ::2, ::2], r"float32 \[4, 2, 4, 4\] for 4 images of 8 x 8 and 2 classes"),
        (lambda logits: logits[:, :1], r"float32 \[4, 1, 8, 8\]"),
        (lambda logits: logits.argmax(1), r"int64 \[4, 8, 8\]"),
    ],
)
def test_a_model_that_returns_no_logits_is_told_what_they_are(
    make_job: MakeJob, tiny_net: Any, output: Any, found: str
) -> None:
    class Wrong(tiny_net):  # type: ignore[misc]
        def forward(self, images: torch.Tensor) -> Any:
            return output(super().forward(images))

    with pytest.raises(ModelError, match=f"the model returned {found}"):
        train_and_evaluate(make_job(fields={"model": Wrong()}))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"model": lambda images: images}, "model is function; a model is a torch.nn.Module"),
        ({"model": nn.Conv2d(3, 2, 1).double()}, r"weights of Conv2d are torch\.float64.* pass model\.float\(\)"),
        ({"metrics": {"f1": "f1"}}, "metrics: f1 = 'f1'; a metric is an object with update, compute, reset"),
        ({"metrics": {"mean": torchmetrics.MeanMetric}}, "metrics: mean = <class"),
    ],
)
def test_what_is_no_model_and_no_metric_is_refused_before_the_data_is_read(
    make_job: MakeJob, fields: dict[str, Any], told: str
) -> None:
    with pytest.raises((ModelError, ConfigError), match=told):
        train_and_evaluate(make_job(fields=fields))


@pytest.mark.parametrize("loss", [{}, {"dice": "dice"}, "dice"])
def test_what_is_no_loss_is_refused(loss: Any) -> None:
    with pytest.raises(ConfigError, match="a loss is called with logits and target"):
        as_criterion(loss)


def test_best_among_several_metrics_wants_a_name_of_its_own(make_job: MakeJob) -> None:
    several = torchmetrics.MetricCollection({"accuracy": torchmetrics.Accuracy("multiclass", num_classes=2)})
    with pytest.raises(ConfigError, match=r'train\.best = "mine", .* higher_is_better of mine is None'):
        train_and_evaluate(make_job(best="mine", fields={"metrics": {"mine": several}}))


def test_a_compiled_model_is_kept_as_the_one_it_is_made_of(make_job: MakeJob, tiny_net: Any) -> None:
    job = make_job(epochs=1, fields={"model": torch.compile(tiny_net(), backend="eager")})
    train_and_evaluate(job)
    kept = load_file(job.folder / "model.safetensors")
    model = tiny_net()
    checkpoint.load_weights(model, kept, "model.safetensors")
    assert same(model.state_dict(), {key.removeprefix("_orig_mod."): v for key, v in job.model.state_dict().items()})
    assert not any("_orig_mod" in key for key in kept)


def test_a_layer_called_module_keeps_its_name(make_job: MakeJob) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module, self.weight = nn.Conv2d(3, 2, 1), nn.Parameter(torch.ones(2, 1, 1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.module(images) * self.weight

    job = make_job(epochs=1, fields={"model": Net()})
    train_and_evaluate(job)
    kept = load_file(job.folder / "model.safetensors")
    assert same(dict(job.model.state_dict()), kept)
    again = Net()
    checkpoint.load_weights(again, kept, "model.safetensors")
    assert same(dict(again.state_dict()), kept)


def test_a_metric_that_gives_what_no_checkpoint_can_hold_is_refused(make_job: MakeJob) -> None:
    metric = SimpleNamespace(update=print, reset=print, compute=lambda: {"seen": [{1, 2}]})
    with pytest.raises(ConfigError, match=r"the metric 'odd' returns \{1, 2\}; it must be a number or a dict of"):
        train_and_evaluate(make_job(fields={"metrics": {"odd": metric}}))


def test_a_metric_cannot_replace_a_score(make_job: MakeJob) -> None:
    class Liar:
        def update(self, logits: torch.Tensor, target: torch.Tensor) -> None:
            pass

        def compute(self) -> dict[str, float]:
            return {"mean_iou": 99.0}

        def reset(self) -> None:
            pass

    with pytest.raises(ConfigError, match="the metric 'liar' returns 'mean_iou', a name that is taken"):
        train_and_evaluate(make_job(fields={"metrics": {"liar": Liar()}}))


def test_a_validation_loss_that_is_no_number_ends_the_run(make_job: MakeJob) -> None:
    def cost(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return logits.sum() * (float("nan") if not logits.requires_grad else 0.0)

    job = make_job(fields={"criterion": Criterion([("cost", 1.0, cost)])})
    with pytest.raises(
        TrainingError, match=r"after epoch 1, the loss on val is nan; the training loss is 0: .*check these images"
    ):
        train_and_evaluate(job)


@pytest.mark.parametrize("lr", [1e4, 1e30])
def test_a_run_that_diverged_is_told_to_lower_the_learning_rate(make_job: MakeJob, lr: float) -> None:
    record = {"config": {"train": {"lr": lr, "optimizer": "sgd"}}}
    job = make_job(fields={"record": record}, lr=lr, optimizer="sgd", epochs=20, max_skipped=3)
    with pytest.raises(TrainingError, match=r"diverged: lower train\.lr or set train\.clip_norm"):
        train_and_evaluate(job)


def test_steps_that_fail_from_the_start_are_no_matter_of_the_learning_rate(make_job: MakeJob) -> None:
    def cost(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return logits.sum() * math.nan

    with pytest.raises(TrainingError, match=r"after epoch 1, .*; otherwise check these images and the loss$"):
        train_and_evaluate(make_job(fields={"criterion": Criterion([("cost", 1.0, cost)])}, epochs=9))


@pytest.mark.fault("F49")
def test_a_network_that_gives_no_numbers_on_val_ends_the_run(make_job: MakeJob, tiny_net: Any) -> None:
    class NanInEvaluation(tiny_net):  # type: ignore[misc]
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images) * (1 if self.training else float("nan"))

    with pytest.raises(
        TrainingError, match=r"after epoch 1, val: 4 of 4 images \(halves-100, .*check these images and the loss$"
    ):
        train_and_evaluate(make_job(fields={"model": NanInEvaluation()}))


def test_a_run_that_an_older_version_began_goes_on(make_job: MakeJob) -> None:
    job = make_job(epochs=1)
    tables = {"config": {"train": job.train.model_dump()}}
    train_and_evaluate(replace(job, record=tables))
    record = json.loads((job.folder / "run.json").read_text())
    record["config"]["train"]["encoder_lr"] = record["config"]["train"].pop("encoder_lr_mult")
    (job.folder / "run.json").write_text(json.dumps(record))
    assert train_and_evaluate(replace(job, record=tables), resume=True).best_epoch == 1
