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
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from segkit import no_such_name", "ImportError: cannot import name 'no_such_name'"),
        (
            "import segkit\n@segkit.hookimpl\ndef segkit_loss():\n    return {}",
            "^there is no hook 'segkit_loss'; did you mean 'segkit_losses'[?]$",
        ),
        ("def segkit_losses():\n    return {}", "^it has no function that is marked with @segkit.hookimpl; is"),
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
    assert "dice" in segkit.losses
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
def test_two_distributions_with_the_same_plugin_name_are_both_kept(site: Any) -> None:
    site.offer("aaa-voc", "voc", "datasets", {"voc_extra": "aaa:Voc"})
    keys = [plugin.key for plugin in plugins.installed() if plugin.name == "voc"]
    assert keys == ["segkit:voc", "aaa-voc:voc"]
    assert {"voc", "voc_extra"} <= set(segkit.datasets)


def test_a_second_plugin_of_the_same_module_is_refused(site: Any) -> None:
    site.install("aaa-voc", "other", "", module="unused")
    (site.folder / "aaa_voc-1.5.dist-info/entry_points.txt").write_text("[segkit]\nother = segkit_voc\n")
    assert "already registered" in found("aaa-voc").error
    assert "voc" in segkit.datasets


@pytest.mark.fault("F41")
@pytest.mark.parametrize(
    ("source", "cause"),
    [
        # what is no Exception: an exit of asyncio, of pytest, of a library in Rust
        ("import asyncio\nraise asyncio.CancelledError", "^CancelledError "),
        ("import pytest\npytest.importorskip('no_such_library')", "^Skipped: could not import 'no_such_library'"),
        ("raise BaseException('odd')", "^BaseException: odd "),
        ("raise ValueError('x' * 100_000)", r"^ValueError: x{300} \.\.\. \("),
        ("import segkit\n\n@segkit.hookimp\ndef segkit_losses(): ...", r"'hookimp' \(.*segkit_bad.py, line 3\)$"),
        ("", "^it has no function .* @segkit.hookimpl; is this the right module[?]$"),
        ("import segkit\n@segkit.hookimpl\ndef segkit_losses(): return {'0': 'm:C'}", "not '0': 'm:C'$"),
        ("import segkit\n@segkit.hookimpl\ndef segkit_losses(): return {'-h': 'm:C'}", "not '-h': 'm:C'$"),
        ("import segkit\n@segkit.hookimpl\ndef segkit_losses(): return {'x.y': 'm:C'}", "not 'x.y': 'm:C'$"),
    ],
)
def test_whatever_a_plugin_does_it_is_named_and_the_rest_works(site: Any, source: str, cause: str) -> None:
    site.install("segkit-bad", "bad", source)
    assert re.search(cause, found("segkit-bad").error), found("segkit-bad").error
    assert "dice" in segkit.losses


def test_what_a_plugin_prints_when_it_is_imported_goes_to_stderr(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    source = "import sys\nprint('loud')\n" + FINE.replace("\n    ", "\n")
    site.install("segkit-loud", "loud", source)
    assert "poly" in segkit.losses
    print("still here")
    assert capsys.readouterr() == ("still here\n", "loud\n")
