from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import segkit
from segkit.cli import main
from segkit.engine import checkpoint
from segkit.errors import CheckpointError, ComponentNotFound, ConfigError, RunFolderError, SegkitError


def save_checkpoint(path, model, **others):
    torch.save({"format": checkpoint.FORMAT, "model": model, **others}, path)


def test_a_run_folder_predicts(run_folder, labels, paint):
    predictor = segkit.load(run_folder, device="cpu")
    assert np.array_equal(predictor.predict(paint(labels)), labels)
    assert predictor.classes == ("dark", "red", "blue")
    assert predictor.palette[1] == (200, 0, 0)
    assert not predictor.model.training


def test_each_of_its_files_does_too(run_folder, colour_model, labels, paint):
    good, bad = colour_model.state_dict(), {k: torch.zeros_like(v) for k, v in colour_model.state_dict().items()}
    save_checkpoint(run_folder / "best.pt", good)
    save_checkpoint(run_folder / "last.pt", bad, average={"model": good, "updates": 3})  # the average is preferred
    save_checkpoint(run_folder / "previous.pt", bad, average=None)
    for name, right in [("model.safetensors", True), ("best.pt", True), ("last.pt", True), ("previous.pt", False)]:
        predicted = segkit.load(run_folder / name, device="cpu").predict(paint(labels))
        assert np.array_equal(predicted, labels) is right, name


def test_a_checkpoint_of_a_newer_format_is_refused(run_folder, colour_model):
    torch.save({"format": checkpoint.FORMAT + 1, "model": colour_model.state_dict()}, run_folder / "best.pt")
    with pytest.raises(CheckpointError, match=r"best\.pt has format 4, and this segkit reads 3 at most"):
        segkit.load(run_folder / "best.pt")


def test_weights_of_a_run_without_an_epoch_are_told(run_folder, colour_model):
    for lines in ([], ["{}"]):
        save_checkpoint(run_folder / "last.pt", colour_model.state_dict(), history={"lines": lines, "stop": ""})
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            segkit.load(run_folder / "last.pt", device="cpu")
        assert [f"{each.message}" for each in told] == [
            f"{run_folder / 'last.pt'}: this run has not completed an epoch, so it has learned little or nothing"
        ][: not lines]


def test_weights_and_config_alone_are_enough_anywhere(run_folder, picture, labels, tmp_path, monkeypatch):
    place = tmp_path / "elsewhere"
    place.mkdir()
    for name in ("model.safetensors", "config.json"):
        (run_folder / name).rename(place / name)
    monkeypatch.chdir(place)
    for given in (place, "model.safetensors", "."):
        assert np.array_equal(segkit.load(given, device="cpu").predict(picture), labels)
    (place / "config.json").unlink()
    with pytest.raises(RunFolderError, match=r"it holds no config\.json"):
        segkit.load("model.safetensors")


@pytest.mark.fault("F05")
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "cut", "garbage", "nested"])
def test_the_command_tells_in_a_line_what_is_wrong_with_a_run(run_folder, picture, tmp_path, capsys, name, kind):
    path = run_folder / name
    content = {"empty": b"", "cut": path.read_bytes()[:-5], "garbage": bytes(range(256)), "nested": b"[" * 100_000}
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(content[kind])
    out = tmp_path / "out"
    assert main(["predict", str(run_folder), str(picture), "--out", str(out), "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("segkit: ")
    assert str(run_folder) in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_a_run_under_way_gives_its_best_weights_so_far(run_folder, colour_model, labels, paint):
    (run_folder / "model.safetensors").rename(run_folder / "elsewhere.safetensors")
    save_checkpoint(run_folder / "last.pt", {k: torch.zeros_like(v) for k, v in colour_model.state_dict().items()})
    assert not np.array_equal(segkit.load(run_folder, device="cpu").predict(paint(labels)), labels)
    save_checkpoint(run_folder / "best.pt", colour_model.state_dict())
    assert np.array_equal(segkit.load(run_folder, device="cpu").predict(paint(labels)), labels)


def test_facts_of_the_run_are_kept(run_folder, write_config):
    write_config(run_folder, resize=[20, 30], ignore_index=11)
    predictor = segkit.load(run_folder, device="cpu", precision="bf16")
    assert tuple(predictor.resize) == (20, 30)
    assert predictor.ignore_index == 11
    assert predictor.precision.name == "bf16"


def test_pretrained_weights_are_not_fetched_again(run_folder, write_config):
    import segmentation_models_pytorch as smp

    state = smp.create_model("fpn", encoder_name="resnet18", encoder_weights=None, classes=3).state_dict()
    save_file({f"network.{key}": value for key, value in state.items()}, run_folder / "model.safetensors")
    options = {"architecture": "fpn", "encoder": "resnet18", "weights": "imagenet"}
    write_config(run_folder, model={"name": "smp", "options": options})
    assert type(segkit.load(run_folder, device="cpu").model).__name__ == "Smp"


def test_a_run_that_was_given_an_object(run_folder, write_config, colour_model, labels, paint):
    write_config(run_folder, model=None)
    with pytest.raises(
        ConfigError,
        match=r"given as an object; give a model of the same architecture: segkit\.load\(.*, model=\.\.\.\)",
    ):
        segkit.load(run_folder)
    for parameter in colour_model.parameters():
        parameter.data.zero_()
    predictor = segkit.load(run_folder, model=colour_model, device="cpu")
    assert np.array_equal(predictor.predict(paint(labels)), labels)


def test_a_missing_plugin_is_named(run_folder, write_config):
    provider = {"distribution": "segkit-absent", "version": "1.0+here"}
    write_config(run_folder, model={"name": "nobodys", "options": {}, **provider})
    with pytest.raises(ComponentNotFound) as caught:
        segkit.load(run_folder)
    message = str(caught.value)
    assert message.startswith(f"the model of {run_folder}: there is no model 'nobodys'. There are: ")
    assert message.endswith('\nsegkit-absent is not installed: pip install "segkit-absent>=1.0"')


def test_a_config_cannot_bring_code_along(run_folder, write_config, tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text("from pathlib import Path\nPath('ran').touch()\nclass Model: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("stranger:Model", "stranger"):
        write_config(run_folder, model={"name": name, "options": {}}, place="stranger:Model")
        with pytest.raises(SegkitError):
            segkit.load(run_folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.fault("F06")
def test_a_checkpoint_cannot_run_code(run_folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    save_checkpoint(run_folder / "best.pt", Trap())
    with pytest.raises(CheckpointError, match=r"best\.pt holds more than tensors"):
        segkit.load(run_folder / "best.pt")
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_model_are_listed(run_folder, write_config):
    state = load_file(run_folder / "model.safetensors")
    state["extra"] = state.pop("classifier.bias")
    state["down.0.0.bias"] = torch.zeros(9)
    save_file(state, run_folder / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        segkit.load(run_folder)
    message = str(caught.value)
    for part in ("model.safetensors", "missing: classifier.bias", "unexpected: extra", "down.0.0.bias (9,) for (2,)"):
        assert part in message


@pytest.mark.fault("F05")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), RunFolderError, "holds no weights"),
        (lambda f: (f / "config.json").unlink(), RunFolderError, "is not a run folder: it holds no config.json"),
        (lambda f: (f / "config.json").write_text("{"), RunFolderError, "config.json cannot be read"),
        (
            lambda f: (f / "config.json").write_text("{}"),
            RunFolderError,
            "config.json is damaged: model: Field required",
        ),
        (
            lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 99),
            CheckpointError,
            "model.safetensors is not a weights file, or is damaged",
        ),
    ],
)
def test_a_folder_that_cannot_be_used(run_folder, change, error, message):
    change(run_folder)
    with pytest.raises(error) as caught:
        segkit.load(run_folder)
    assert message in str(caught.value)


@pytest.mark.fault("F05")
def test_a_file_cut_short_is_damaged(run_folder):
    path = run_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a weights file, or is damaged"):
        segkit.load(run_folder)


def test_class_counts_that_differ(run_folder, write_config):
    write_config(run_folder, classes=["dark", "red"])
    with pytest.raises(RunFolderError, match="num_classes, classes, palette and stored differ in length"):
        segkit.load(run_folder)


def test_places_that_are_none(run_folder, tmp_path):
    with pytest.raises(RunFolderError, match=r"nowhere is not a folder; give a run folder"):
        segkit.load(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match=r"config\.json is a file; give a run folder"):
        segkit.load(run_folder / "config.json")


@pytest.mark.fault("F05")
@pytest.mark.parametrize("name", ["model.safetensors", "best.pt"])
@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><html>404", b"PK\x03\x04", b"\x80\x02}.", b"\x08" + bytes(7) + b"{{{{{{{{"]
)
def test_what_is_no_checkpoint_is_told_in_a_line(run_folder, name, content):
    (run_folder / "model.safetensors").unlink()
    (run_folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(name)) as caught:
        segkit.load(run_folder)
    assert "\n" not in str(caught.value)


@pytest.mark.fault("F05")
@pytest.mark.filterwarnings("ignore:Validating sparse tensor:UserWarning")
@pytest.mark.parametrize(
    "state",
    [
        {"average": [1], "model": {"weight": 5}},
        {"average": torch.zeros(3), "model": [1]},
        {"average": {"model": {"weight": "text"}}},
        {"model": {"weight": torch.zeros(2, 2).to_sparse()}},
        {"model": {"weight": torch.zeros(2, 2, device="meta")}},
        {},
    ],
)
def test_a_checkpoint_of_other_values_than_tensors_is_refused(run_folder, state):
    torch.save({"format": checkpoint.FORMAT, **state}, run_folder / "best.pt")
    with pytest.raises(CheckpointError, match=r"best\.pt (holds no model$|belongs to another model)"):
        segkit.load(run_folder / "best.pt")


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"num_classes": 0, "classes": [], "palette": []}, "num_classes: Input should be greater"),
        ({"ignore_index": 10**9}, "ignore_index: Input should be less"),
        ({"palette": [[-1, 0, 0]] * 3}, "palette.0.0: Input should be greater"),
        ({"resize": 1e9}, "resize.*: Input should be less"),
        ({"resize": [0, 5]}, "resize"),
        ({"classes": ["dark", "red"]}, "num_classes, classes, palette and stored differ in length"),
        ({"palette": [[0, 0, 0]] * 4}, "num_classes, classes, palette and stored differ in length"),
    ],
)
def test_facts_that_nothing_can_be_done_with_are_refused(run_folder, write_config, facts, told):
    write_config(run_folder, **facts)
    with pytest.raises(RunFolderError, match=rf"config\.json is damaged: {told}"):
        segkit.load(run_folder)
