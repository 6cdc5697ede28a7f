"""Conformance checks: one named check for every rule that a component's contract has.

For pytest, in a plugin's own tests::

    import pytest
    import segkit.testing


    @pytest.mark.parametrize("check", segkit.testing.checks("loss", "poly"), ids=str)
    def test_poly(check):
        check()

Each check is to be a test of its own, as one that does not apply is skipped. ``python -m segkit check-plugin poly``
asks the same without pytest; so does ``check.ask()``, which raises nothing and says what came of it.
"""

from __future__ import annotations

from segkit.testing.check import Check, CheckFailed
from segkit.testing.suite import checks

__all__ = ["Check", "CheckFailed", "checks"]
