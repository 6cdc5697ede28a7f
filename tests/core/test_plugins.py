"""Plugins: a fine one is equal to ours, a broken one is named and harms nobody."""

from __future__ import annotations

import re
from typing import Any

import pytest

import segkit
from segkit import plugins
from segkit.errors import PluginError
from segkit.plugins import Plugin

FINE = """
    import segkit

    @segkit.hookimpl
    def segkit_losses():
        return {"poly": "fine_loss:Poly"}
"""


def found(distribution: str) -> Plugin:
    (info,) = [plugin for plugin in plugins.installed() if plugin.distribution == distribution]
    return info


def test_a_third_partys_loss_is_found_and_imported_on_first_use(site: Any) -> None:
    site.install("segkit-fine", "fine", FINE)
    site.module("fine_loss", "class Poly:\n    pass\n")
    assert found("segkit-fine") == Plugin("fine", "segkit-fine", "1.5", "segkit_fine")
    assert segkit.losses["poly"].__module__ == "fine_loss"


def test_the_core_and_the_bundled_plugins_are_whole(site: Any) -> None:
    bundled = {plugin.name: plugin.error for plugin in plugins.installed() if plugin.distribution == "segkit"}
    assert {"core", "losses", "shapes", "voc"} <= set(bundled)
    assert not any(bundled.values()), bundled


@pytest.mark.fault("F41")
@pytest.mark.parametrize(
    ("source", "cause"),
    [
        (
            "import no_such_library",
            r"ModuleNotFoundError: No module named 'no_such_library' \(.*segkit_bad.py, line 1\)",
        ),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("from segkit import no_such_name", "ImportError: cannot import name 'no_such_name'"),
        (
            "import segkit\n@segkit.hookimpl\ndef segkit_loss():\n    return {}",
            "^there is no hook 'segkit_loss'; did you mean 'segkit_losses'[?]$",
        ),
        ("def segkit_losses():\n    return {}", "^it has no function that is marked with @segkit.hookimpl; is"),
        (
            "import segkit\n@segkit.hookimpl\ndef segkit_losses():\n    return ['poly']",
            "^AttributeError: 'list' object has no attribute 'items'$",
        ),
        (
            "import segkit\n@segkit.hookimpl\ndef segkit_losses():\n    return {'poly': Poly}",
            r"^NameError: name 'Poly' is not defined \(.*segkit_bad.py, line 4\)$",
        ),
        (
            "import segkit\n@segkit.hookimpl\ndef segkit_run_started(rnu):\n    pass",
            r"hook 'segkit_run_started' .* Argument\(s\) {'rnu'} are declared in the hookimpl but can not be found",
        ),
    ],
)
def test_a_broken_plugin_is_named_with_its_cause_and_the_rest_works(
    site: Any, source: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("segkit-bad", "bad", source)
    info = found("segkit-bad")
    assert plugins.broken() == [info]
    assert re.search(cause, info.error), info.error
    assert "dice" in list(segkit.losses)
    monkeypatch.setenv("SEGKIT_STRICT", "1")
    plugins.installed.cache_clear()
    with pytest.raises(PluginError, match=r"plugin 'bad' \(segkit-bad 1.5\): "):
        plugins.installed()


@pytest.mark.fault("F41")
@pytest.mark.parametrize(
    ("requirement", "needed"),
    [
        ("segkit>=9.1", ">=9.1"),
        ("segkit (>9)", ">9"),
        ("segkit[onnx]~=9.0", "~=9.0"),
        ("segkit<0.1,>=0.0.5", "<0.1,>=0.0.5"),
        ("segkit>=0.0.1", ""),
        ("segkit-x>=9", ""),
    ],
)
def test_a_plugin_that_breaks_for_want_of_another_segkit_says_so(site: Any, requirement: str, needed: str) -> None:
    site.install("segkit-new", "new", "from segkit import invented_later", requires=["numpy>=99", requirement])
    assert found("segkit-new").error.startswith("ImportError")
    _, said, advice = found("segkit-new").error.partition("; it needs segkit")
    expected = f"{needed} and this is {segkit.__version__}: update segkit, or install an older segkit-new"
    assert advice == (expected if needed else "")
    assert bool(said) == bool(needed)


def test_a_hook_of_a_newer_segkit_may_be_optional(site: Any) -> None:
    source = "import segkit\n@segkit.hookimpl(optionalhook=True)\ndef segkit_invented_later():\n    return {}"
    site.install("segkit-new", "new", source)
    assert not plugins.broken()


@pytest.mark.fault("F41")
def test_of_two_plugins_of_the_same_name_ours_or_the_first_works_and_the_other_is_named(site: Any) -> None:
    site.offer("aaa-voc", "voc", "datasets", {"voc": "aaa:Voc"})
    site.offer("aaa-poly", "poly", "losses", {"poly": "aaa:Poly"})
    site.offer("bbb-poly", "poly", "losses", {"poly": "bbb:Poly"})
    for distribution in ("aaa-voc", "bbb-poly"):
        assert "Plugin name already registered" in found(distribution).error
    assert segkit.datasets.find("voc").distribution == "segkit"
    assert segkit.losses.find("poly").distribution == "aaa-poly"


def test_a_second_plugin_of_the_same_module_is_refused(site: Any) -> None:
    site.install("aaa-voc", "other", "", module="unused")
    (site.folder / "aaa_voc-1.5.dist-info/entry_points.txt").write_text("[segkit]\nother = segkit_voc\n")
    assert "already registered" in found("aaa-voc").error
    assert "voc" in list(segkit.datasets)


@pytest.mark.fault("F41")
@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("raise ValueError('x' * 100_000)", r"^ValueError: x{300} \.\.\. \("),
        ("import segkit\n\n@segkit.hookimp\ndef segkit_losses(): ...", r"module 'segkit' has no attribute 'hookimp'"),
        ("", "^it has no function .* @segkit.hookimpl; is this the right module[?]$"),
    ],
)
def test_whatever_a_plugin_does_it_is_named_and_the_rest_works(site: Any, source: str, cause: str) -> None:
    site.install("segkit-bad", "bad", source)
    assert re.search(cause, found("segkit-bad").error), found("segkit-bad").error
    assert "dice" in list(segkit.losses)


@pytest.mark.parametrize("offer", ["{'poly': 'no_colon'}", "{5: None}", "{'a/b': 'm:C'}"])
def test_what_is_no_name_or_no_place_harms_only_itself(site: Any, offer: str) -> None:
    site.install("segkit-bad", "bad", f"import segkit\n@segkit.hookimpl\ndef segkit_losses(): return {offer}")
    assert "dice" in list(segkit.losses)
    (component,) = [each for each in segkit.losses.components() if each.distribution == "segkit-bad"]
    with pytest.raises(PluginError, match=r"of plugin 'bad' \(segkit-bad 1.5\) cannot be imported from"):
        component.load()


def test_what_a_plugin_prints_when_it_is_imported_goes_to_stderr(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    source = "import sys\nprint('loud')\n" + FINE.replace("\n    ", "\n")
    site.install("segkit-loud", "loud", source)
    assert "poly" in list(segkit.losses)
    print("still here")
    assert capsys.readouterr() == ("still here\n", "loud\n")
