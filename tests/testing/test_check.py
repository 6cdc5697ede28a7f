"""A check by itself: what it is called, how it fails, and what becomes of a failure that is declared."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from segkit.errors import ComponentNotFound, ConfigError
from segkit.testing import CheckFailed, checks
from segkit.testing.check import Check, Subject, require


class Constant:
    """Seven, whatever is asked."""

    def __init__(self, num_classes: int, ignore_index: int = 255, value: float = 7.0) -> None:
        if value < 0:
            raise ValueError("value is below 0")
        self.value = value

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        return torch.tensor(self.value)


def seven(subject: Subject) -> None:
    """It is 7."""
    found = subject.build(num_classes=2, ignore_index=255, classes=("a", "b"))(torch.zeros(1), torch.zeros(1))
    require(found == 7, f"it is {float(found)}, not 7")


def breaks_down(subject: Subject) -> None:
    """It does not come to that."""
    raise ZeroDivisionError("7 / 0")


def check(rule: Any = seven, known: str = "", **options: Any) -> Check:
    return Check(rule.__name__, "", Subject("loss", "constant", Constant, options), rule, known)


def test_a_rule_that_is_kept_says_nothing() -> None:
    check()()


def test_a_rule_that_is_broken_says_how() -> None:
    with pytest.raises(CheckFailed, match=r"^it is 8\.0, not 7$"):
        check(value=8.0)()


def test_an_error_of_the_component_is_a_failure_that_names_both() -> None:
    with pytest.raises(CheckFailed, match=r"^constant, breaks_down: ZeroDivisionError: 7 / 0$"):
        check(breaks_down)()
    with pytest.raises(
        CheckFailed, match=r"constant cannot be built with .*'num_classes': 2.*: ValueError: value is b"
    ):
        check(value=-1.0)()


@pytest.mark.parametrize("rule", [seven, breaks_down])
def test_a_failure_that_is_declared_is_an_expected_one_under_pytest(rule: Any) -> None:
    with pytest.raises(pytest.xfail.Exception, match=r"it has its reason \((it is 8|7 / 0)"):
        check(rule, known="it has its reason", value=8.0)()


def test_a_failure_that_is_declared_passes_without_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pytest")
    check(known="it has its reason", value=8.0)()


def test_a_rule_that_is_kept_may_not_be_declared_as_broken() -> None:
    with pytest.raises(
        CheckFailed, match=r"constant, seven: declared as .* \(it has its reason\), and it is kept: take"
    ):
        check(known="it has its reason")()


def test_what_a_component_does_not_ask_for_is_not_given() -> None:
    subject = check().subject
    assert subject.has_option("value")
    assert not subject.has_option("classes")
    assert subject.build(num_classes=2, classes=("a", "b"), value=1.0).value == 1
    assert check(value=3.0).subject.build(num_classes=2, value=1.0).value == 3  # an option is the user's own wish


def test_checks_are_called_as_their_rules_and_say_them_in_a_sentence() -> None:
    asked = checks("loss", Constant)
    assert len({str(each) for each in asked}) == len(asked)
    assert "void_has_no_gradient" in [str(each) for each in asked]
    assert all(each.rule.endswith(".") and each.subject.name == "Constant" for each in asked)


@pytest.mark.parametrize("name", ["dice", "losses/dice", "segkit:losses/dice"])
def test_a_component_may_be_named_in_each_way_that_a_config_may(name: str) -> None:
    (first, *_) = checks("loss", name, {"smooth": 1.0}, {"picklable": "why"})
    assert (first.subject.name, first.subject.options, first.known) == ("dice", {"smooth": 1.0}, "")
    assert {
        each.name: each.known for each in checks("loss", name, known_failures={"picklable": "why"}) if each.known
    } == {"picklable": "why"}


def test_names_that_there_are_not_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"no checks for the kind 'losses'; did you mean 'loss'. there are loss, model"
    ):
        checks("losses", "dice")
    with pytest.raises(ComponentNotFound, match="there is no loss 'dise'; did you mean 'dice'"):
        checks("loss", "dise")
    with pytest.raises(ConfigError, match=r"dice: dice has no option 'smoth'; did you mean 'smooth'"):
        checks("loss", "dice", {"smoth": 1.0})
    with pytest.raises(
        ConfigError, match=r"there is no check 'pickleable'; did you mean 'picklable'. there are named_"
    ):
        checks("loss", "dice", known_failures={"pickleable": "why"})
