"""Which precision ``auto`` is on a CPU: a function of the CPU alone, kept by a run that began with another."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from training import train_and_evaluate

from segkit.engine import precision
from segkit.engine.inputs import TrainerInputs
from segkit.engine.precision import Precision, device_name, pick_device, resolve_precision, widest_float
from segkit.errors import ConfigError

CPU = torch.device("cpu")


@pytest.mark.parametrize(("instructions", "name"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_where_the_cpu_has_it(instructions: bool, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: instructions)
    assert resolve_precision("auto", CPU) == Precision(name, CPU)
    assert resolve_precision("auto", CPU, "fp32") == Precision("fp32", CPU)  # a run began with it
    assert resolve_precision("auto", CPU, "fp16") == Precision("fp32", CPU)
    assert resolve_precision("bf16", CPU) == Precision("bf16", CPU)


def test_a_gpu_of_apple_is_taken_where_torch_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a fake, as none was there: what it has not, is not asked of it."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r'train\.device = "mps": torch finds 1 cpu, \d+ cuda, 0 mps'):
        pick_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    mps = pick_device("mps")
    assert (mps, device_name(mps)) == (torch.device("mps"), "mps")
    assert pick_device("auto") == CPU  # it was never measured
    assert resolve_precision("auto", mps) == Precision("fp32", mps)
    assert (widest_float(mps), widest_float(CPU)) == (torch.float32, torch.float64)
    with pytest.raises(ConfigError, match="needs CUDA"):
        resolve_precision("fp16", mps)
    with pytest.raises(ConfigError, match="allowed are auto, cpu, cuda, cuda:N and mps"):
        pick_device("mps:1")


def test_a_run_keeps_the_precision_that_it_began_with(
    make_job: Callable[..., TrainerInputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    job = make_job(precision="fp32", epochs=1, schedule="constant")
    assert train_and_evaluate(job).precision == "fp32"
    assert json.loads((job.folder / "config.json").read_text())["precision"] == "fp32"
    longer = replace(job, train=job.train.model_copy(update={"epochs": 2, "precision": "auto"}))
    assert train_and_evaluate(longer, resume=True).precision == "fp32"


def test_a_run_that_cannot_keep_its_precision_says_so(
    make_job: Callable[..., TrainerInputs], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    job = make_job(precision="auto", epochs=1, schedule="constant")
    assert train_and_evaluate(job).precision == "bf16"
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    longer = replace(job, train=job.train.model_copy(update={"epochs": 2}))
    assert train_and_evaluate(longer, resume=True).precision == "fp32"
    assert "warning: the run began in bf16 and continues in fp32" in capsys.readouterr().err


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
@pytest.mark.parametrize("call", ["precision.use_cpu()", "Predictor(torch.nn.Identity(), classes=['a'], palette=())"])
def test_the_memory_of_a_freed_tensor_is_used_again_and_not_cleared_page_by_page(call: str) -> None:
    program = f"""if True:
        import resource, torch
        from segkit.engine import precision
        from segkit.inference.predictor import Predictor
        {call}
        faults = []
        for _ in range(24):
            torch.empty(48 << 20, dtype=torch.uint8).fill_(1)  # 12,288 pages
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        print(faults[-1] - faults[-4])
    """
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 5_000


@pytest.mark.parametrize(("most", "trims"), [(64, True), (32, False)])
def test_an_older_glibc_keeps_its_own_limits(most: int, trims: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that keeps no large blocks would be slower, were it told alone how much of them to keep."""
    taken = {}

    def mallopt(option: int, value: int) -> int:
        fits = option != -3 or value <= most << 20
        taken.update({option: value} if fits else {})
        return int(fits)

    monkeypatch.setattr(precision.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    precision.use_cpu()
    assert taken == ({-3: most << 20, -1: 1 << 30} if trims else {})
