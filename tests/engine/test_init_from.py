"""Weights that a run begins with, and an encoder that stays as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from training import train_and_evaluate

import segkit
from segkit.data.normalise import IMAGENET, Normalisation
from segkit.engine import checkpoint
from segkit.engine.init_from import init_from
from segkit.engine.inputs import TrainerInputs, open_trainer
from segkit.errors import CheckpointError, ModelError, RunFolderError
from segkit.model.smp import Smp
from segkit.settings import TrainSettings

MakeJob = Callable[..., TrainerInputs]
BEFORE = Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.fixture
def donor(tmp_path: Path, tiny_net: type[nn.Module]) -> Path:
    """The folder of a run on three classes."""
    torch.manual_seed(7)
    folder = tmp_path / "donor"
    folder.mkdir()
    checkpoint.write_model(tiny_net(3), folder)
    (folder / "config.json").write_text(json.dumps({"normalisation": BEFORE.record()}))
    return folder


def test_what_fits_is_loaded_and_what_does_not_is_named(
    make_job: MakeJob, donor: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(init_from=str(donor), max_steps=1, lr=1e-9)
    head = {key: value.clone() for key, value in job.model.state_dict().items() if key.startswith("layers.4")}
    train_and_evaluate(job)
    line = f"train.init_from = {donor}: 2 of 9 tensors not loaded: layers.4.weight, layers.4.bias"
    assert line in " ".join(capsys.readouterr().out.split())
    given, found = load_file(donor / "model.safetensors"), load_file(job.folder / "model.safetensors")
    for key in ("layers.0.weight", "layers.0.bias", "layers.1.weight"):
        torch.testing.assert_close(found[key], given[key], atol=1e-6, rtol=0)
    for key, value in head.items():
        torch.testing.assert_close(found[key], value, atol=1e-6, rtol=0)
    assert json.loads((job.folder / "config.json").read_text())["normalisation"]["mean"] == [0.1, 0.2, 0.3]
    assert Normalisation.of_record(segkit.read_run(job.folder).model["normalisation"]) == BEFORE


def test_a_resumed_run_does_not_read_them_again(make_job: MakeJob, donor: Path) -> None:
    whole = make_job("whole", init_from=str(donor), epochs=4, schedule="constant")
    train_and_evaluate(whole)
    train_and_evaluate(make_job("two", init_from=str(donor), epochs=2, schedule="constant"))
    (donor / "model.safetensors").unlink()
    resumed = make_job("two", init_from=str(donor), epochs=4, schedule="constant")
    train_and_evaluate(resumed, resume=True)
    one, two = (load_file(job.folder / "model.safetensors") for job in (whole, resumed))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert Normalisation.of_record(segkit.read_run(resumed.folder).model["normalisation"]) == BEFORE


def said(model: nn.Module, place: Path, chosen: Normalisation = IMAGENET) -> tuple[Normalisation, str]:
    lines: list[str] = []

    class Lines:
        say = staticmethod(lines.append)

    found = init_from(model, str(place), chosen, Lines())  # type: ignore[arg-type]
    return found, "\n".join(lines)


def test_files_of_weights_and_the_names_that_others_put_before_them(tmp_path: Path, tiny_net: type[nn.Module]) -> None:
    weights = {key: torch.full_like(value, 3) for key, value in tiny_net().state_dict().items()}
    files = {
        "plain.pt": weights,
        "parallel.pth": {"state_dict": {f"module.{key}": value for key, value in weights.items()}},
        "lightning.pt": {"epoch": 1, "state_dict": {f"model.net.{key}": value for key, value in weights.items()}},
        "averaged.pt": {"model": {key: value * 0 for key, value in weights.items()}, "ema": weights, "format": 3},
    }
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        model = tiny_net()
        normalisation, text = said(model, tmp_path / name)
        assert text.endswith("all 9 tensors fit"), name
        assert all((value == 3).all() for value in model.state_dict().values()), name
        assert normalisation == IMAGENET  # a file alone says nothing of it
        wrapped = nn.ModuleDict({"network": tiny_net()})  # as smp's networks are here, which others save without
        assert said(wrapped, tmp_path / name)[1].endswith("all 9 tensors fit"), name
        assert all((value == 3).all() for value in wrapped.state_dict().values()), name


def test_an_encoder_alone_begins_that_of_a_network(tmp_path: Path, tiny_net: type[nn.Module]) -> None:
    weights = {key: torch.full_like(value, 3) for key, value in tiny_net().layers.state_dict().items()}
    save_file(weights, tmp_path / "encoder.safetensors")
    model = nn.ModuleDict({"encoder": tiny_net().layers, "head": nn.Conv2d(2, 2, 1)})
    told = "2 of 11 tensors not loaded: head.weight, head.bias"
    assert said(model, tmp_path / "encoder.safetensors")[1].endswith(told)
    assert (model["encoder"][0].weight == 3).all()


def test_what_a_deeper_network_has_beside_is_named(tmp_path: Path, tiny_net: type[nn.Module]) -> None:
    weights = tiny_net().state_dict()
    torch.save({**weights, "layers.5.weight": torch.zeros(2, 2, 1, 1)}, tmp_path / "deeper.pt")
    told = "all 9 tensors fit; 1 tensors there have no place in the model: layers.5.weight"
    assert said(tiny_net(), tmp_path / "deeper.pt")[1].endswith(told)


def test_the_normalisation_of_other_channels_is_not_taken(donor: Path, tiny_net: type[nn.Module]) -> None:
    own = Normalisation((1.0,) * 4, (2.0,) * 4, "float32", no_data=True)
    found, text = said(tiny_net(3, 4), donor, own)
    assert found == own
    assert "1 of 9 tensors not loaded: layers.0.weight" in text
    assert "its images had 3 channels of uint8 and these have 4 of float32" in text
    same = replace(IMAGENET, no_data=True)
    assert said(tiny_net(), donor, same)[0] == replace(BEFORE, no_data=True)  # void belongs to the data of now


def test_what_cannot_be_begun_with(tmp_path: Path, donor: Path, tiny_net: type[nn.Module]) -> None:
    small = {"layers.1.num_batches_tracked": torch.tensor(3), "layers.4.bias": torch.zeros(2)}  # of another width
    save_file({"other.weight": torch.zeros(2), **small}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"none of its 3 tensors fits a layer of TinyNet: .*unexpected: other\.weight"):
        said(tiny_net(), tmp_path / "a.safetensors")
    checkpoint.write_model(nn.Sequential(nn.Conv2d(3, 8, 1)), donor)
    with pytest.raises(ModelError, match=r"2 of another shape: layers\.0\.weight \(8, 3, 1, 1\) for \(4, 3, 1, 1\)"):
        said(tiny_net(), donor)
    with pytest.raises(CheckpointError, match=r"there is no weights file .*nowhere"):
        said(tiny_net(), tmp_path / "nowhere")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(CheckpointError, match=r"photo\.jpg is not a weights file, or is damaged: it does not begin"):
        said(tiny_net(), tmp_path / "photo.jpg")
    with pytest.raises(RunFolderError, match=rf"{tmp_path} is not a run folder: it holds no weights"):
        said(tiny_net(), tmp_path)
    (tmp_path / "config.json").write_text('{"normalisation": {"mean": [0.5], "std": [0]}}')
    with pytest.raises(RunFolderError, match=r"config\.json is damaged: its normalisation is \{'mean'"):
        said(tiny_net(), tmp_path / "a.safetensors")
    (tmp_path / "config.json").unlink()

    class Trap:
        def __reduce__(self) -> Any:
            return (open, (str(tmp_path / "trapped"), "w"))

    torch.save({"layers.0.weight": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(CheckpointError, match=r"trap\.pt holds more than tensors"):
        said(tiny_net(), tmp_path / "trap.pt")
    assert not (tmp_path / "trapped").exists()


def encoder(folder: Path) -> dict[str, torch.Tensor]:
    found = load_file(folder / "model.safetensors")
    return {key: value for key, value in found.items() if key.startswith("network.encoder.")}


def test_an_encoder_that_is_left_as_it_is_keeps_its_statistics(make_job: MakeJob, tmp_path: Path) -> None:
    """With moving averages, and stopped after an epoch: they and the weights are the file's, to the last bit."""
    torch.manual_seed(3)
    donor = Smp(2, encoder="tu-test_efficientnet")
    for layer in donor.encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
    given = {key: value for key, value in donor.state_dict().items() if key.startswith("network.encoder.")}
    save_file(
        {key.removeprefix("network.encoder.model."): each for key, each in given.items()}, tmp_path / "e.safetensors"
    )

    def job(folder: str, **settings: Any) -> TrainerInputs:
        torch.manual_seed(5)
        model = Smp(2, encoder="tu-test_efficientnet", weights=str(tmp_path / "e.safetensors"))
        return make_job(folder, {"model": model}, encoder_lr_mult=0, ema=0.9, schedule="constant", **settings)

    train_and_evaluate(job("whole", epochs=3))
    train_and_evaluate(job("two", epochs=1))
    train_and_evaluate(job("two", epochs=3), resume=True)
    for key, value in encoder(tmp_path / "whole").items():
        assert torch.equal(value, given[key]), key
    one, two = (checkpoint.load(tmp_path / name / "last.pt") for name in ("whole", "two"))
    for part in ("model", "ema"):
        assert all(torch.equal(value, two[part][key]) for key, value in one[part].items())
        moved = [key for key, value in one[part].items() if not torch.equal(value, donor.state_dict()[key])]
        assert not [key for key in moved if key in given]
        assert any("decoder" in key and "running_mean" in key for key in moved)  # those go on


def test_with_any_other_factor_the_statistics_follow(make_job: MakeJob) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
            self.head = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(self.encoder(image))
            return logits

    modes = {}
    for factor in (0, 0.1):
        with open_trainer(make_job(fields={"model": Network()}, encoder_lr_mult=factor)) as trainer:
            layers = [layer for layer in trainer.loop.model.modules() if isinstance(layer, nn.BatchNorm2d)]
        modes[factor] = [layer.training for layer in layers]
    assert modes == {0: [False, True], 0.1: [True, True]}
    assert TrainSettings().encoder_lr_mult == 1
