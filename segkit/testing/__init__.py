"""Conformance checks: one named check for each rule of a component's contract.

Use them with pytest in a plugin's tests::

    import pytest
    import segkit.testing


    @pytest.mark.parametrize("check", segkit.testing.checks("loss", "poly"), ids=str)
    def test_poly(check):
        check()

Each check should be a separate test, because checks that do not apply are skipped. ``python -m segkit check-plugin
poly`` runs them without pytest; so does ``check.ask()``, which returns the result instead of raising an error.
"""

from __future__ import annotations

from segkit.testing.check import Check, CheckFailed
from segkit.testing.suite import checks

__all__ = ["Check", "CheckFailed", "checks"]
