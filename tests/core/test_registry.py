"""Names of components: short, qualified, ambiguous, misspelt; and nothing imported before its use."""

from __future__ import annotations

from typing import Any

import pytest

import segkit
from segkit.errors import ComponentNotFound, PluginError
from segkit.registry import Component, commands


@pytest.fixture
def clash(site: Any) -> Any:
    """Another distribution that also offers a loss ``dice``, and one called ``own``."""
    site.offer("segkit-clash", "clash", "losses", {"dice": "clash_loss:Dice", "own": "clash_loss:Own"})
    site.module("clash_loss", "class Dice:\n    pass\nclass Own:\n    pass\n")
    return site


def test_a_name_is_found_without_importing_its_class(site: Any) -> None:
    site.offer("segkit-lazy", "lazy", "models", {"lazy": "no_such_module:Net"})
    found = segkit.models.find("lazy")
    assert found == Component("model", "lazy", "no_such_module:Net", "lazy", "segkit-lazy", "1.5")
    assert "lazy" in list(segkit.models)
    with pytest.raises(PluginError) as caught:
        segkit.models["lazy"]
    assert str(caught.value) == (
        "model 'lazy' of plugin 'lazy' (segkit-lazy 1.5) cannot be imported from 'no_such_module:Net': "
        "ModuleNotFoundError: No module named 'no_such_module'"
    )


def test_a_class_that_its_module_lacks_is_named(site: Any) -> None:
    site.offer("segkit-lazy", "lazy", "models", {"lazy": "lazy_module:Net"})
    site.module("lazy_module", "class Other:\n    pass\n")
    with pytest.raises(PluginError, match="AttributeError: module 'lazy_module' has no attribute 'Net'"):
        segkit.models["lazy"]


@pytest.mark.fault("F41")
def test_a_clash_is_an_error_only_when_the_ambiguous_name_is_used(clash: Any) -> None:
    with pytest.raises(ComponentNotFound) as caught:
        segkit.losses.find("dice")
    assert str(caught.value) == "several plugins offer the loss 'dice'; say which: 'clash/dice' or 'losses/dice'"
    assert segkit.losses["clash/dice"].__module__ == "clash_loss"
    assert segkit.losses.find("losses/dice").distribution == "segkit"
    assert segkit.losses["own"].__name__ == "Own"
    assert segkit.losses.find("focal").plugin == "losses"


def test_a_mapping_lists_what_can_be_used(clash: Any) -> None:
    names = list(segkit.losses)
    assert {"clash/dice", "losses/dice", "focal", "own"} <= set(names)
    assert len(segkit.losses) == len(names) == len(set(names))
    assert "dice" not in segkit.losses
    assert "losses/dice" in segkit.losses
    assert 5 not in segkit.losses
    with pytest.raises(TypeError):
        segkit.losses["dice"] = object  # type: ignore[index]


def test_a_plugin_named_like_a_bundled_one_replaces_nothing(site: Any) -> None:
    site.offer("aaa-voc", "voc", "datasets", {"voc": "aaa:Voc"})
    for name in ("voc", "voc/voc"):
        assert segkit.datasets.find(name).place == "segkit_voc.dataset:VocDataset"


def test_an_unknown_name_is_answered_with_the_known_ones(site: Any) -> None:
    with pytest.raises(ComponentNotFound) as caught:
        segkit.losses["dcie"]
    known = ", ".join(segkit.losses)
    assert str(caught.value) == f"there is no loss 'dcie'; did you mean 'dice'? There are: {known}."
    assert isinstance(caught.value, KeyError)
    with pytest.raises(ComponentNotFound, match=r"; did you mean 'losses/dice'[?]"):
        segkit.losses.find("losses/dcie")
    with pytest.raises(ComponentNotFound, match=r"no loss 'x'. There are: cross.*\. Its plugin may not be installed"):
        segkit.losses.find("x")


@pytest.mark.fault("F41")
def test_an_unknown_name_is_answered_with_the_broken_plugins_too(site: Any) -> None:
    site.install("segkit-bad", "bad", "import no_such_library")
    with pytest.raises(ComponentNotFound, match=r"\nplugin 'bad' \(segkit-bad 1.5\) is broken: ModuleNotFoundError"):
        segkit.losses.find("poly")


def test_a_command_of_the_cores_stays_what_it_is(site: Any) -> None:
    site.offer("segkit-cuckoo", "cuckoo", "commands", {"list": "no_such_module:List", "more": "no_such_module:More"})
    assert commands.find("list").distribution == "segkit"
    assert {"list", "cuckoo/list", "more"} <= set(commands)
    assert commands.find("cuckoo/list").distribution == "segkit-cuckoo"
    shown = site.segkit("plugins", "cuckoo")
    assert "commands: cuckoo/list, more\n" in shown.stdout
