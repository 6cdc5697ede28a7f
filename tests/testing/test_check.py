"""A check by itself: what it is called, how it fails, and what becomes of a failure that is declared."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from segkit.errors import ComponentNotFound, ConfigError
from segkit.testing import CheckFailed, checks
from segkit.testing.check import Check, NotAsked, Subject, require
from segkit.testing.suite import KINDS


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


def does_not_apply(subject: Subject) -> None:
    """It is of another kind."""
    raise NotAsked("it is of this kind")


def check(rule: Any = seven, known: str | None = None, **options: Any) -> Check:
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


def test_a_failure_that_is_declared_passes_where_pytest_is_imported_but_runs_no_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # as in a command, and a plugin that imports pytest
    check(known="it has its reason", value=8.0)()
    check(does_not_apply)()


def test_what_does_not_apply_is_skipped_under_pytest_and_says_why() -> None:
    with pytest.raises(pytest.skip.Exception, match=r"^it is of this kind$"):
        check(does_not_apply)()
    assert check(does_not_apply, known="it has its reason").ask().state == "not asked"


RULES = {
    "loss": (Constant, 18),
    "model": (torch.nn.Conv2d, 13),
    "dataset": (Constant, 8),
    "metric": (Constant, 12),
    "transform": (Constant, 4),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_rules_of_a_kind_say_in_a_sentence_what_they_ask(kind: str) -> None:
    component, count = RULES[kind]
    asked = checks(kind, component)
    assert len({check.name for check in asked}) == len(asked) == count
    assert all(check.rule.endswith(".") for check in asked)


def test_a_rule_that_is_kept_may_not_be_declared_as_broken() -> None:
    with pytest.raises(
        CheckFailed, match=r"constant, seven: declared as .* \(it has its reason\), but the check passes: remove"
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


@pytest.mark.parametrize("name", ["dice", "losses/dice"])
def test_a_component_may_be_named_in_each_way_that_a_config_may(name: str) -> None:
    (*_, last) = checks("loss", name, {"smooth": 1.0}, {"copies": "why"})
    assert (last.subject.name, last.subject.options, last.known) == ("dice", {"smooth": 1.0}, None)
    assert {each.name: each.known for each in checks("loss", name, known_failures={"copies": "why"}) if each.known} == {
        "copies": "why"
    }


@pytest.mark.parametrize("reason", ["", " ", None, 3])
def test_a_known_failure_needs_a_reason(reason: Any) -> None:
    with pytest.raises(ConfigError, match="known_failures: 'gradcheck' has no reason; say why the component breaks"):
        checks("loss", "dice", known_failures={"gradcheck": reason})


def test_options_that_there_are_not_are_refused() -> None:
    with pytest.raises(ConfigError, match="there are no checks for the kind 'None'; there are loss, model"):
        checks(None, "dice")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"Constant\.valu: Constant has no such key; did you mean 'value'"):
        checks("loss", Constant, {"valu": 1.0})
    with pytest.raises(ConfigError, match=r"shapes\.siz: shapes has no such key; did you mean 'size'"):
        checks("dataset", "shapes", {"siz": 1})


def test_names_that_there_are_not_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"no checks for the kind 'losses'; did you mean 'loss'. there are loss, model"
    ):
        checks("losses", "dice")
    with pytest.raises(ComponentNotFound, match="there is no loss 'dise'; did you mean 'dice'"):
        checks("loss", "dise")
    with pytest.raises(ConfigError, match=r"dice\.smoth: dice has no such key; did you mean 'smooth'"):
        checks("loss", "dice", {"smoth": 1.0})
    with pytest.raises(ConfigError, match=r"there is no check 'copeis'; did you mean 'copies'. there are copies, "):
        checks("loss", "dice", known_failures={"copeis": "why"})
