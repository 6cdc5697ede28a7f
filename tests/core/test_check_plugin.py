"""``check-plugin``: which components it asks, with which options, and what it says of those it cannot ask."""

from __future__ import annotations

import re
from typing import Any

import pytest

from segkit.cli import main

HOOKS = """
    import segkit

    @segkit.hookimpl
    def segkit_losses():
        return {"needy": "mine_losses:Needy", "plain": "mine_losses:Plain", "torn": "mine_losses:Torn"}
"""
LOSSES = """
    import torch
    import torch.nn.functional as F
    from torch import nn


    class Plain(nn.Module):
        def __init__(self, num_classes: int, ignore_index: int = 255, present: float = 1.0) -> None:
            super().__init__()
            self.ignore_index = ignore_index

        def forward(self, logits, target):
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            logits = logits.masked_fill((target == self.ignore_index)[:, None], 0)
            cost = F.cross_entropy(logits, target.long(), ignore_index=self.ignore_index, reduction="sum")
            return cost / (target != self.ignore_index).sum().clamp_min(1)


    class Needy(Plain):
        def __init__(self, num_classes: int, gamma: float, ignore_index: int = 255) -> None:
            super().__init__(num_classes, ignore_index)
            if gamma < 0:
                raise ValueError(f"gamma = {gamma}: 0 or more is needed")


    class Torn(Plain):
        def forward(self, logits, target):
            raise RuntimeError("torn")
"""


@pytest.fixture
def mine(site: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "500")  # a message a line
    site.module("mine_losses", LOSSES)
    site.install("segkit-mine", "mine", HOOKS)
    return site


def test_one_that_cannot_be_built_is_told_and_the_others_are_asked(
    mine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-plugin", "mine"]) == 1
    told = capsys.readouterr().out
    needed = "cannot be checked: needy.gamma is needed; `show loss needy` describes it"
    assert f"loss 'needy' of plugin 'mine' (segkit-mine 1.5)\n  {needed}\n" in told
    assert re.search(r"loss 'torn' .*\n  copies .* FAILED: .* copies: RuntimeError: torn", told)
    assert re.search(r"  right_beats_wrong +\d+\.\d\d s  FAILED: as copies\n", told)  # told once
    assert re.search(r"loss 'plain' (.*\n)*  scalar_float32 +\d+\.\d\d s  ok", told)
    assert re.search(r"  class_weights .* not asked: it has no option class_weights\n", told)
    assert re.search(r"\n\d+ failures, \d of \d+ not asked\n$", told)


def test_options_are_toml_and_go_to_those_that_have_them(mine: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-plugin", "needy", "--option", "gamma=2.0"]) == 0
    assert "no failures, 1 of" in capsys.readouterr().out
    assert main(["check-plugin", "needy", "--option", "gamma=two"]) == 1
    assert "\n  cannot be checked: needy.gamma = 'two': should be a valid number" in capsys.readouterr().out
    assert main(["check-plugin", "mine", "--option", "gamma=2.0"]) == 1  # of torn alone
    told = capsys.readouterr().out
    assert "cannot be checked" not in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["mine", "--option", "gama=2.0"],
            "--option gama=2.0: there is no 'gama' in any checked component; did you mean 'gamma'?",
        ),
        (["mine", "--option", "gamma"], "--option gamma: write KEY=VALUE, e.g. gamma=2.0"),
        (["plain", "--kind", "dataset"], "there is no dataset 'plain'; 'plain' is a loss"),
        (["min"], "there is no component and no plugin 'min'; did you mean 'mine'?"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_asked(
    arguments: list[str], message: str, mine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-plugin", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err


def test_a_kind_without_checks_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check-plugin", "tensorboard", "--kind", "observer"])
    assert "invalid choice: 'observer' (choose from " in capsys.readouterr().err


def test_options_of_one_that_cannot_be_imported_are_not_said_to_be_wrong(
    site: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("segkit-torn", "torn", HOOKS.replace("mine_losses:Plain", "no_such_package:Plain"))
    assert main(["check-plugin", "plain", "--option", "present=2.0"]) == 2
    told = capsys.readouterr().err
    assert "No module named 'no_such_package'" in told
    assert "has no 'present'" not in told


def test_a_broken_plugin_is_named_with_its_cause(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    source = "import segkit\n\n@segkit.hookimpl\ndef segkit_loses():\n    return {}\n"
    site.install("segkit-broke", "broke", source)
    assert main(["check-plugin", "broke"]) == 1
    told = capsys.readouterr().out
    assert told.startswith("plugin 'broke' (segkit-broke 1.5) is broken: ")
    assert "there is no hook 'segkit_loses'; did you mean 'segkit_losses'?" in told
    assert told.endswith("\n1 failure\n")


def test_of_an_observer_there_is_nothing_to_check(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    source = """
        import segkit

        @segkit.hookimpl
        def segkit_run_started(run):
            pass

        @segkit.hookimpl
        def segkit_commands():
            return {"watch": "watch:Watch"}
    """
    site.install("segkit-watch", "watch", source)
    assert main(["check-plugin", "watch"]) == 0
    told = "plugin 'watch' (segkit-watch 1.5): nothing to check; `plugins watch` shows what it offers\n"
    assert capsys.readouterr().out == told
    assert main(["check-plugin", "tensorboard"]) == 0
    assert "nothing to check; `plugins tensorboard` shows what it offers" in capsys.readouterr().out


def test_an_option_for_what_has_nothing_to_check_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-plugin", "tensorboard", "--option", "a=1"]) == 2
    told = "segkit: --option a=1: there is no 'a' in any checked component; there are none\n"
    assert capsys.readouterr() == ("", told)


def test_a_value_that_the_constructor_refuses_is_not_told_by_every_check(
    mine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-plugin", "needy", "--option", "gamma=-1.0"]) == 1
    told = capsys.readouterr().out
    assert told.count("ValueError: gamma = -1.0: 0 or more is needed") <= 2
    assert "FAILED: as copies\n" in told
