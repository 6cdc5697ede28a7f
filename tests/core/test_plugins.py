"""Plugins: a fine one is equal to ours, a broken one is named and harms nobody."""

from __future__ import annotations

import re
from typing import Any

import pytest

import segkit
from segkit import plugins
from segkit.errors import PluginError
from segkit.plugins import PluginInfo

FINE = """
    import segkit

    @segkit.hookimpl
    def segkit_losses():
        return {"poly": "fine_loss:Poly"}
"""


def found(distribution: str) -> PluginInfo:
    (info,) = [plugin for plugin in plugins.table().plugins if plugin.distribution == distribution]
    return info


def test_a_third_partys_loss_is_found_and_imported_on_first_use(site: Any) -> None:
    site.install("segkit-fine", "fine", FINE)
    site.module("fine_loss", "class Poly:\n    pass\n")
    assert found("segkit-fine") == PluginInfo("fine", "segkit-fine", "1.5", "segkit_fine")
    assert segkit.losses["poly"].__module__ == "fine_loss"


def test_the_core_and_the_bundled_plugins_are_whole(site: Any) -> None:
    bundled = {plugin.name: plugin.error for plugin in plugins.table().plugins if plugin.distribution == "segkit"}
    assert {"core", "losses", "shapes", "voc"} <= set(bundled)
    assert not any(bundled.values()), bundled


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        (
            "import no_such_library",
            r"ModuleNotFoundError: No module named 'no_such_library' \(.*segkit_bad.py, line 1\)",
        ),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from segkit import no_such_name", "ImportError: cannot import name 'no_such_name'"),
        (
            "import segkit\n@segkit.hookimpl\ndef segkit_loss():\n    return {}",
            "^there is no hook 'segkit_loss'; did you mean 'segkit_losses'[?]$",
        ),
        ("def segkit_losses():\n    return {}", "^'segkit_losses' is not marked with @segkit.hookimpl$"),
        (
            "import segkit\n@segkit.hookimpl\ndef segkit_losses():\n    return ['poly']",
            "^segkit_losses must return a mapping of names to places, not list$",
        ),
        (
            "import segkit\n@segkit.hookimpl\ndef segkit_losses():\n    return {'poly': 'no_colon'}",
            "^segkit_losses must return names and places like 'package.module:Class', not 'poly': 'no_colon'$",
        ),
        (
            "import segkit\n@segkit.hookimpl\ndef segkit_losses():\n    return {'a/b': 'm:C'}",
            "not 'a/b': 'm:C'$",
        ),
        (
            "import segkit\n@segkit.hookimpl\ndef segkit_losses():\n    return {'poly': Poly}",
            "segkit_losses failed: NameError: name 'Poly' is not defined",
        ),
        (
            "import segkit\n@segkit.hookimpl\ndef segkit_run_started(rnu):\n    pass",
            "rnu.*can not be found in the hookspec",
        ),
        (
            "import segkit\n@segkit.hookimpl(wrapper=True)\ndef segkit_losses():\n    return (yield)",
            "'segkit_losses' is a wrapper",
        ),
    ],
)
def test_a_broken_plugin_is_named_with_its_cause_and_the_rest_works(
    site: Any, source: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # F41
    site.install("segkit-bad", "bad", source)
    info = found("segkit-bad")
    assert plugins.table().broken == [info]
    assert re.search(cause, info.error), info.error
    assert "dice" in segkit.losses
    monkeypatch.setenv("SEGKIT_STRICT", "1")
    plugins.table.cache_clear()
    with pytest.raises(PluginError, match=r"plugin 'bad' \(segkit-bad 1.5\): "):
        plugins.table()


def test_what_a_plugin_with_one_misspelt_hook_offers_rightly_is_kept(site: Any) -> None:
    source = "import segkit\n@segkit.hookimpl\ndef segkit_metric():\n    return {}\n"
    site.install("segkit-half", "half", FINE.replace("\n    ", "\n") + source)
    assert "there is no hook 'segkit_metric'" in found("segkit-half").error
    assert "poly" in segkit.losses


@pytest.mark.parametrize(
    ("requirement", "needed"),
    [
        ("segkit>=9.1", ">=9.1"),
        ("segkit (>9)", ">9"),
        ("segkit[onnx]~=9.0", "~=9.0"),
        ("segkit<0.1,>=0.0.5", "<0.1,>=0.0.5"),
        ("segkit>=9; python_version < '3'", ""),
        ("segkit>=0.0.1", ""),
        ("segkit-x>=9", ""),
    ],
)
def test_a_plugin_that_breaks_for_want_of_another_segkit_says_so(site: Any, requirement: str, needed: str) -> None:
    # F41
    site.install("segkit-new", "new", "from segkit import invented_later", requires=["numpy>=99", requirement])
    assert found("segkit-new").error.startswith("ImportError")
    _, said, advice = found("segkit-new").error.partition("; it needs segkit")
    expected = f"{needed} and this is {segkit.__version__}: pip install --upgrade segkit segkit-new"
    assert advice == (expected if needed else "")
    assert bool(said) == bool(needed)


def test_a_hook_of_a_newer_segkit_may_be_optional(site: Any) -> None:
    source = "import segkit\n@segkit.hookimpl(optionalhook=True)\ndef segkit_invented_later():\n    return {}"
    site.install("segkit-new", "new", source)
    assert not plugins.table().broken


def test_two_distributions_with_the_same_plugin_name_are_both_kept(site: Any) -> None:
    # F41
    site.offer("aaa-voc", "voc", "datasets", {"voc_extra": "aaa:Voc"})
    keys = [plugin.key for plugin in plugins.table().plugins if plugin.name == "voc"]
    assert keys == ["segkit:voc", "aaa-voc:voc"]
    assert {"voc", "voc_extra"} <= set(segkit.datasets)


def test_a_second_plugin_of_the_same_module_is_refused(site: Any) -> None:
    site.install("aaa-voc", "other", "", module="unused")
    (site.folder / "aaa_voc-1.5.dist-info/entry_points.txt").write_text("[segkit]\nother = segkit_voc\n")
    assert found("aaa-voc").error == "'segkit_voc' is already the plugin 'segkit:voc'"
