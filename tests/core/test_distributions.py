"""Other people's packages, installed: a fine one is equal to ours, a bad one is named and costs nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import segkit
from segkit import plugins
from segkit.config import read_config
from segkit.errors import ComponentNotFound, ConfigError
from segkit_predict.evaluate import evaluate_run

OFFER = "import segkit\n\n\n@segkit.hookimpl\ndef segkit_{kind}():\n    return {offer!r}\n"
HINGE = '''
    """A loss as anybody may write it."""

    from typing import Literal

    import torch


    class Hinge(torch.nn.Module):
        """Multi-class hinge loss of the labelled pixels.

        Args:
            num_classes: the number of classes.
            margin: by which the right class should lead.
            mode: how pixels are joined.
        """

        def __init__(
            self, num_classes: int, ignore_index: int = 255, margin: float = 1.0, mode: Literal["mean", "sum"] = "mean"
        ) -> None:
            super().__init__()
            self.margin, self.mode = margin, mode
'''
PIXEL = """
    import torch


    class Pixel(torch.nn.Conv2d):
        def __init__(self, num_classes: int) -> None:
            super().__init__(3, num_classes, 1)
"""
SOURCES = {  # plugin: its module, by file
    "hinge": {
        "__init__": OFFER.format(kind="losses", offer={"hinge": "segkit_hinge.loss:Hinge"}),
        "loss": dedent(HINGE),
    },
    "pixel": {
        "__init__": OFFER.format(kind="models", offer={"pixel": "segkit_pixel.model:Pixel"}),
        "model": dedent(PIXEL),
    },
    "rival": {
        "__init__": OFFER.format(kind="losses", offer={"dice": "segkit_rival.loss:Dice"}),
        "loss": "class Dice:\n    pass\n",
    },
    "broken": {"__init__": "import no_such_library\n"},
    "leaves": {"__init__": "raise SystemExit(3)\n"},
    "typo": {"__init__": OFFER.format(kind="loss", offer={})},
    "deaf": {"__init__": "import segkit\n\n\n@segkit.hookimpl\ndef segkit_epoch_end(run):\n    pass\n"},
    "future": {"__init__": "from segkit import invented_later\n"},
}
PROJECT = """
    [build-system]
    requires = ["hatchling"]
    build-backend = "hatchling.build"

    [project]
    name = "segkit-{name}"
    version = "0.3"
    dependencies = ["segkit>={minimum}"]

    [project.entry-points.segkit]
    {name} = "segkit_{name}"
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, unpacked: Callable[[Path], Path]) -> Path:
    """A folder where all of them are installed."""
    written = tmp_path_factory.mktemp("written")
    for name, modules in SOURCES.items():
        package = written / name / f"segkit_{name}"
        package.mkdir(parents=True)
        for module, source in modules.items():
            (package / f"{module}.py").write_text(source, "utf-8")
        minimum = "99" if name == "future" else "0.1"
        (written / name / "pyproject.toml").write_text(dedent(PROJECT.format(name=name, minimum=minimum)))
    return unpacked(written)


@pytest.fixture
def installed(site: Any, packages: Path) -> Any:
    shutil.copytree(packages, site.folder, dirs_exist_ok=True)
    return site


def config(loss: dict[str, Any], **tables: Any) -> dict[str, Any]:
    return {"dataset": {"name": "shapes"}, "model": {"name": "unet"}, "loss": [loss], **tables}


def problems(loss: dict[str, Any], **tables: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_config(config(loss, **tables))
    return caught.value.problems


@pytest.mark.fault("F41")
def test_every_command_works_and_the_bad_ones_are_named_by_distribution(installed: Any) -> None:
    for command in ("list", "plugins"):
        done = installed.segkit(command, COLUMNS="500")
        assert done.returncode == (1 if command == "plugins" else 0)
        assert done.stderr == ""
        for name, cause in (
            ("broken", "ModuleNotFoundError: No module named 'no_such_library' ("),
            ("leaves", "SystemExit: 3 ("),
            ("typo", "there is no hook 'segkit_loss'; did you mean 'segkit_losses'?"),
            ("future", "it needs segkit>=99 and this is"),
            ("deaf", "there is no hook 'segkit_epoch_end'; did you mean 'segkit_epoch_ended'?"),
        ):
            origin = f"{name}: broken, segkit-{name} 0.3, " if command == "plugins" else f"'{name}' (segkit-{name} 0.3)"
            (place,) = [number for number, line in enumerate(done.stdout.splitlines()) if origin in line]
            assert cause in "\n".join(done.stdout.splitlines()[place : place + 2])
    assert "update segkit, or install an older segkit-future" in done.stdout
    assert {plugin.name for plugin in plugins.broken()} == {"broken", "leaves", "typo", "future", "deaf"}


def test_its_options_are_shown_as_ours_are(installed: Any) -> None:
    done = installed.segkit("show", "hinge")
    assert done.stderr == ""
    shown = done.stdout
    assert shown.startswith("loss 'hinge' of plugin 'hinge' (segkit-hinge 0.3)\nsegkit_hinge.loss:Hinge\n")
    assert "  margin: float = 1.0\n      by which the right class should lead.\n" in shown
    assert "Set by segkit, not in a config: num_classes, ignore_index\n" in shown
    assert shown.endswith('[[loss]]\nname = "hinge"\nmargin = 1.0\nmode = "mean"\n')


@pytest.mark.fault("F40")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"gamam": 1.0}, {"margn": 1.0}),
        ({"gamma": "high"}, {"margin": "high"}),
        ({"num_classes": 3}, {"num_classes": 3}),
        ({"scale": "big"}, {"scale": "big"}),
    ],
)
def test_a_mistake_in_its_options_gets_the_words_that_ours_get(
    installed: Any, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    (about_ours,) = problems({"name": "focal", **ours})
    (about_theirs,) = problems({"name": "hinge", **theirs})
    for ours_word, word in (("focal", "hinge"), ("gamam", "margn"), ("gamma", "margin")):
        about_ours = about_ours.replace(ours_word, word)
    assert about_theirs.partition(" Its options")[0] == about_ours.partition(" Its options")[0]
    assert segkit.losses["hinge"](num_classes=3, margin=2.0).margin == 2.0


@pytest.mark.fault("F40")
def test_a_wrong_choice_is_told_with_what_is_allowed(installed: Any) -> None:
    (told,) = problems({"name": "hinge", "mode": "men"})
    assert told == "loss[0].mode = 'men': should be 'mean' or 'sum'; did you mean 'mean'?"


@pytest.mark.fault("F41")
def test_a_clash_is_told_to_who_uses_the_name_and_to_nobody_else(installed: Any) -> None:
    (told,) = problems({"name": "dice"})
    which = "say which: 'losses/dice' or 'rival/dice'"
    assert told == f"loss[0].name: several plugins offer the loss 'dice'; {which}"
    assert read_config(config({"name": "losses/dice", "smooth": 1})).loss[0].options == {"smooth": 1}
    assert segkit.losses["rival/dice"].__module__ == "segkit_rival.loss"
    assert read_config(config({"name": "focal"})).loss[0].name == "focal"


@pytest.mark.fault("F41")
def test_a_name_that_a_broken_plugin_may_have_offered_is_told_with_its_cause(installed: Any) -> None:
    with pytest.raises(ComponentNotFound) as caught:
        segkit.losses.find("no-such-loss")
    for name in ("broken", "typo", "future"):
        assert f"\nplugin '{name}' (segkit-{name} 0.3) is broken: " in str(caught.value)


@pytest.mark.fault("F41")
def test_a_config_that_pins_them_tells_what_is_missing_and_too_old(installed: Any) -> None:
    assert read_config(config({"name": "hinge"}, plugins=["segkit-hinge>=0.2"])).plugins == ("segkit-hinge>=0.2",)
    assert problems({"name": "hinge"}, plugins=["segkit-hinge>=0.4", "segkit-absent", "segkit-future"]) == [
        'plugins: segkit-hinge 0.3 is installed; >=0.4 is needed: pip install "segkit-hinge>=0.4"',
        'plugins: segkit-absent is not installed: pip install "segkit-absent"',
    ]


def test_a_run_whose_model_was_uninstalled_says_what_to_install(
    installed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    tables = {
        "plugins": ["segkit-pixel~=0.3"],
        "dataset": {"name": "shapes", "size": 32, "images": [4, 2, 2]},
        "model": {"name": "pixel"},
        "train": {"epochs": 1, "batch_size": 2, "device": "cpu", "precision": "fp32", "workers": 0},
        "output": {"dir": str(folder), "samples": 0},
    }
    segkit.run(config({"name": "cross_entropy"}, **tables))
    told = [line for line in capsys.readouterr().err.splitlines() if "is broken" in line]
    assert [line.split("'")[1] for line in told] == ["broken", "deaf", "future", "leaves", "typo"]
    assert told[1].startswith("segkit: plugin 'deaf' (segkit-deaf 0.3) is broken: there is no hook 'segkit_epoch_end'")
    assert segkit.load(folder, device="cpu").model.weight.shape[0] == 6
    shutil.rmtree(installed.folder / "segkit_pixel-0.3.dist-info")
    plugins.installed.cache_clear()
    with pytest.raises(ComponentNotFound) as missing:
        segkit.load(folder)
    assert str(missing.value).startswith(f"the model of {folder}: there is no model 'pixel'. There are: smp, unet.")
    assert str(missing.value).endswith('\nsegkit-pixel is not installed: pip install "segkit-pixel>=0.3"')
    with pytest.raises(ConfigError, match=r'plugins: segkit-pixel is not installed: pip install "segkit-pixel~=0\.3"'):
        evaluate_run(folder)


def test_a_network_of_torchvision_needs_no_wrapper(site: Any, tmp_path: Path) -> None:
    """Its keyword arguments are options, "none" is None, and its logits are found under "out"."""
    site.offer("segkit-tv", "tv", "models", {"lraspp": "torchvision.models.segmentation:lraspp_mobilenet_v3_large"})
    folder = tmp_path / "run"
    tables = {
        "dataset": {"name": "shapes", "size": 32, "images": [4, 2, 2]},
        "model": {"name": "lraspp", "weights_backbone": "none"},
        "train": {"epochs": 1, "batch_size": 4, "device": "cpu", "precision": "fp32", "workers": 0},
        "output": {"dir": str(folder), "samples": 0},
    }
    scores = segkit.run(config({"name": "cross_entropy"}, **tables)).splits["test"]
    assert repr(evaluate_run(folder)[0]["test"]) == repr(scores)
    with pytest.raises(ConfigError, match=r"weights_backbone = 'IMAGENET': should be .*IMAGENET1K_V1"):
        read_config(config({"name": "dice"}, **{**tables, "model": {"name": "lraspp", "weights_backbone": "IMAGENET"}}))
