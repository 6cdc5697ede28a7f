"""Observers of a run: each is told, none can change the run, and one that fails is named and costs nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import segkit
from segkit import plugins
from segkit.engine import checkpoint
from segkit.errors import SegkitError

ARGUMENTS = {"run_started": "run", "epoch_ended": "run, epoch, metrics", "run_ended": "run, result"}
RUN = SimpleNamespace(config={}, folder=Path("nowhere"), splits={"val": ()})
EPOCH = {"run": RUN, "epoch": 3, "metrics": {"epoch": 3, "val": {"floor": {}}}}


def observer(**bodies: str) -> str:
    """The source of a plugin that does something at each of these events; it may keep what it ``heard``."""
    hooks = [f"@segkit.hookimpl\ndef segkit_{e}({ARGUMENTS[e]}):\n    {body}\n" for e, body in bodies.items()]
    return "import sys\nimport segkit\nheard = []\n" + "\n".join(hooks)


def run(folder: Path, **options: Any) -> Any:
    config = {
        "dataset": {"name": "shapes", "size": 32, "images": [4, 2, 2]},
        "model": {"name": "unet", "width": 2, "depth": 1},
        "loss": [{"name": "cross_entropy"}],
        "train": {"epochs": 2, "batch_size": 2, "device": "cpu", "precision": "fp32", "workers": 0},
        "output": {"dir": str(folder), "samples": 0},
    }
    return segkit.run(config, **options)


def test_none_can_change_the_run_or_the_scores_that_another_is_told(site: Any, tmp_path: Path) -> None:
    alone = run(tmp_path / "alone")
    vandal = observer(
        run_started="run.config.clear(), run.floors.clear()",
        epoch_ended="metrics['val'].clear()",
        run_ended="result.splits.clear()",
    )
    ear = observer(
        epoch_ended="heard.append(metrics['val']['floor']['mean_iou'])",
        run_ended="heard.append(result.splits['val']['mean_iou'])",
    )
    site.install("aaa-vandal", "aaa", vandal)
    site.install("mmm-ear", "watch", ear)
    site.install("zzz-vandal", "zzz", vandal)
    plugins.installed.cache_clear()  # the run alone has filled it
    watched = run(tmp_path / "watched")
    val = alone.splits["val"]
    assert sys.modules["mmm_ear"].heard == [val["floor"]["mean_iou"], val["floor"]["mean_iou"], val["mean_iou"]]
    assert repr(watched.splits) == repr(alone.splits)  # as text: absent classes are NaN
    one, two = (checkpoint.load(tmp_path / name / "last.pt") for name in ("alone", "watched"))
    assert all(torch.equal(one["model"][key], two["model"][key]) for key in one["model"])
    assert repr([line["val"] for line in one["history"]["lines"]]) == repr(
        [line["val"] for line in two["history"]["lines"]]
    )


def test_one_that_fails_is_named_and_loses_neither_the_run_nor_the_others(
    site: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("segkit-trip", "trip", observer(epoch_ended="metrics['miou']"))
    for name in ("aaa-ear", "zzz-ear"):  # before and after it
        site.install(name, name, observer(epoch_ended="heard.append(epoch)"))
    assert run(tmp_path / "run").best_epoch
    told = [line for line in capsys.readouterr().err.splitlines() if "failed" in line]
    where = f"({site.folder}/segkit_trip.py, line 6)"
    cause = f"KeyError: 'miou' {where}"
    line = f"segkit: plugin 'trip' (segkit-trip 1.5) failed in segkit_epoch_ended: {cause}; the run continues"
    assert told == [line] * 2  # in each of two epochs
    assert sys.modules["aaa_ear"].heard == sys.modules["zzz_ear"].heard == [1, 2]


def test_a_broken_observer_is_named_when_a_run_starts(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    site.install("segkit-deaf", "deaf", "import segkit\n@segkit.hookimpl\ndef segkit_epoch_end(run): ...\n")
    plugins.notify("segkit_run_started", run=None)
    plugins.notify("segkit_epoch_ended", **EPOCH)
    cause = "there is no hook 'segkit_epoch_end'; did you mean 'segkit_epoch_ended'?"
    told = f"segkit: plugin 'deaf' (segkit-deaf 1.5) is broken: {cause}"
    assert [line for line in capsys.readouterr().err.splitlines() if " broken" in line] == [told]


def test_they_are_called_in_the_order_of_their_marks(site: Any) -> None:
    code = "import segkit\n@segkit.hookimpl({})\ndef segkit_run_started(run):\n    run.append({!r})\n"
    for name, mark in (("last", "trylast=True"), ("middle", ""), ("first", "tryfirst=True")):
        site.install(f"segkit-{name}", name, code.format(mark, name))
    calls: list[str] = []
    plugins.notify("segkit_run_started", run=calls)
    assert calls == ["first", "middle", "last"]


def test_ctrl_c_within_an_observer_interrupts(site: Any) -> None:
    site.install("segkit-slow", "slow", observer(epoch_ended="raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        plugins.notify("segkit_epoch_ended", **EPOCH)


def test_strict_mode_raises_what_an_observer_raised(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("segkit-trip", "trip", observer(epoch_ended="metrics['miou']"))
    monkeypatch.setenv("SEGKIT_STRICT", "1")
    with pytest.raises(KeyError):
        plugins.notify("segkit_epoch_ended", **EPOCH)


def test_an_observer_hears_where_a_resumed_run_goes_on(site: Any, tmp_path: Path) -> None:
    site.install("segkit-ear", "ear", observer(run_started="heard.append(run.first_epoch)"))
    run(tmp_path / "run")
    run(tmp_path / "run", overrides=["train.epochs=3"], resume=True)
    assert sys.modules["segkit_ear"].heard == [1, 3]


def test_what_they_answer_is_handed_on_and_anything_but_text_is_a_failure(
    site: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("segkit-a", "stopper", observer(epoch_ended="return f'enough after {epoch}'"))
    site.install("segkit-b", "number", observer(epoch_ended="return 3"))
    site.install("segkit-c", "silent", observer(epoch_ended="return None"))
    assert plugins.notify("segkit_epoch_ended", **EPOCH) == ["enough after 3"]
    told = capsys.readouterr().err
    assert "plugin 'number' (segkit-b 1.5) failed in segkit_epoch_ended: TypeError: it returned 3; a text or" in told


def test_an_observer_stops_a_run_by_the_reason_it_returns(
    site: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopping = observer(epoch_ended="heard.append(epoch); return 'enough' if len(heard) == 1 else None")
    site.install("segkit-stop", "stop", stopping)
    site.install("segkit-trip", "trip", observer(epoch_ended="1 / 0"))  # stops nothing
    assert run(tmp_path / "run").stopped_early == "enough"
    assert "stopped early: enough" in capsys.readouterr().out
    assert run(tmp_path / "run", resume=True).stopped_early == "enough"  # the checkpoint keeps it
    assert sys.modules["segkit_stop"].heard == [1]
    longer = run(tmp_path / "run", overrides=["train.epochs=3"], resume=True)
    assert (longer.stopped_early, sys.modules["segkit_stop"].heard) == ("", [1, 2, 3])


def test_an_observer_warns_predicts_and_has_the_last_word(
    site: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "run.warn(str(run.predict('val', 0).shape)); return str(len(run.splits['val'])) + ' images'"
    site.install("segkit-ear", "ear", observer(run_ended=body))
    run(tmp_path / "run")
    out = capsys.readouterr()
    assert "warning: (32, 32)" in out.err
    assert out.out.index("\n2 images\n") < out.out.index("\nnext: ")


def test_a_plugin_chooses_numbers_for_auto_which_a_resumed_run_keeps(site: Any, tmp_path: Path) -> None:
    body = "import segkit\nasked = []\n@segkit.hookimpl\ndef segkit_run_prepared(inputs, processes):\n"
    body += "    assert len(inputs.scan.statistics['train']) == 4 and processes == 1\n"
    site.install(
        "segkit-size", "size", body + "    asked.append(inputs.auto)\n    return dict.fromkeys(inputs.auto, 4)\n"
    )
    run(tmp_path / "run", overrides=["train.batch_size=auto"])
    run(tmp_path / "run", overrides=["train.batch_size=auto", "train.epochs=3"], resume=True)
    record = segkit.read_run(tmp_path / "run")
    assert record.config["train"]["batch_size"] == 4
    assert record.replaced == {"train.batch_size": "auto"}
    assert sys.modules["segkit_size"].asked == [["train.batch_size"], []]  # it is asked again, as it may refuse
    assert record.epochs[-1]["step"] == 3
    with pytest.raises(SegkitError, match=r"train\.batch_size was 4 and is 2"):
        run(tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "return {'train.momentun': 3}",
            "plugin 'odd' .* 'train.momentun' is not \"auto\" in this config, so no number",
        ),
        ("return {'train.batch_size': 4}", "plugin 'odd' .* 'train.batch_size' is not \"auto\" in this config"),
        ("return {'augment.crop': 'abc'}", "plugin 'odd' .* Input should be a valid int"),
        ("1 / 0", r"plugin 'odd' .* failed in segkit_run_prepared: ZeroDivisionError: division by zero \("),
        ("raise segkit.ConfigError('not on a Sunday')", "^not on a Sunday$"),
    ],
)
def test_settings_that_are_none_and_refusals_end_a_run_before_it_begins(
    site: Any, tmp_path: Path, body: str, told: str
) -> None:
    hook = f"import segkit, segkit.errors\n@segkit.hookimpl\ndef segkit_run_prepared(inputs):\n    {body}\n"
    site.install("segkit-odd", "odd", hook.replace("segkit.ConfigError", "segkit.errors.ConfigError"))
    with pytest.raises(SegkitError, match=told):
        run(tmp_path / "run", overrides=["augment.crop=auto"])
    assert not (tmp_path / "run").exists()
