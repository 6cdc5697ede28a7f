"""The command: what it prints, and with which status it leaves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import segkit
from segkit.cli import main
from segkit.options import read_options
from segkit.registry import REGISTRIES, Component

CONFIG = '[dataset]\nname = "shapes"\n[model]\nname = "unet"\n[[loss]]\nname = "dice"\n'
FAILING = '''
    """Imports nothing heavy."""
    import segkit.errors

    class Fail:
        """Fail in a chosen way. Not for use."""

        @staticmethod
        def add_arguments(parser):
            parser.add_argument("way")
            parser.add_argument("more", nargs="*", default=[])
            parser.add_argument("--loudly", action="store_true")

        @staticmethod
        def run(arguments):
            if arguments.way == "status":
                return eval(arguments.more[0])
            if arguments.way == "print":
                print(arguments.more, arguments.loudly)
                return 7
            raise {
                "mistake": segkit.errors.DataError("two\\nlines"),
                "training": segkit.errors.TrainingError("NaN"),
                "interrupt": KeyboardInterrupt(),
                "bug": ZeroDivisionError("oops"),
                "full": RuntimeError("CUDA out of memory"),
                "fork": OSError(12, "Cannot allocate memory"),
                "words": ZeroDivisionError("out of memory cards"),
            }[arguments.way]
'''


@pytest.fixture
def fail(site: Any) -> Any:
    """A third party's command, ``fail``."""
    site.offer("segkit-fail", "failing", "commands", {"fail": "fail_command:Fail"})
    site.module("fail_command", FAILING)
    return site


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


# --- main


def test_help_lists_every_command_with_its_summary(fail: Any) -> None:
    helped = fail.segkit("--help")
    assert helped.returncode == 0
    assert helped.stderr == ""
    assert "usage: python -m segkit [--help] [--version] COMMAND ..." in helped.stdout
    for name in ("run", "predict", "evaluate", "list", "show", "plugins"):
        assert re.search(rf"\n  {name}\b", helped.stdout)
    assert re.search(r"\n  fail +Fail in a chosen way\. Not for use\.\n", helped.stdout)
    assert max(map(len, helped.stdout.splitlines())) <= 80
    assert fail.segkit().stdout == helped.stdout


def test_version(site: Any) -> None:
    assert site.segkit("--version").stdout == f"segkit {segkit.__version__}\n"


def test_a_command_has_its_own_help_and_arguments(fail: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["fail", "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert "usage: segkit fail [-h] [--loudly] way [more ...]" in text
    assert "Fail in a chosen way. Not for use." in text
    assert main(["fail", "print", "a", "--loudly", "b"]) == 7
    assert capsys.readouterr().out == "['a', 'b'] True\n"


@pytest.mark.parametrize(
    ("way", "status", "message"),
    [
        ("mistake", 2, "segkit: two\nlines\n"),
        ("training", 1, "segkit: NaN\n"),
        ("interrupt", 130, "segkit: interrupted\n"),
    ],
)
def test_an_expected_error_is_its_message_and_a_status(
    fail: Any, capsys: pytest.CaptureFixture[str], way: str, status: int, message: str
) -> None:
    assert main(["fail", way]) == status
    assert capsys.readouterr().err == message


def test_a_rank_without_other_processes_silences_nobody(
    fail: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")  # a script's own
    assert main(["fail", "interrupt"]) == 130
    assert main(["run", "nowhere.toml"]) == 2
    assert capsys.readouterr().err == "segkit: interrupted\nsegkit: there is no config nowhere.toml\n"


@pytest.mark.parametrize(("status", "left"), [("None", 0), ("True", 1), ("255", 255)])
def test_a_command_without_a_status_is_well(fail: Any, status: str, left: int) -> None:
    assert main(["fail", "status", status]) == left


def test_only_a_full_memory_is_answered_with_advice(fail: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for way in ("full", "fork"):
        assert main(["fail", way]) == 1
        assert "a smaller train.batch_size" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        main(["fail", "words"])


def test_an_unexpected_error_keeps_its_traceback(fail: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        main(["fail", "bug"])


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_is_no_error(site: Any, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # it has left before anything is written, however quick the command is
    command = subprocess.run(
        [sys.executable, "-m", "segkit", "list"],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=120,
    )
    os.close(writing)
    assert command.stderr == b""
    assert command.returncode == 141


def test_mistakes_in_the_command_line_leave_with_status_2(fail: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fial"]) == 2
    known = ", ".join(segkit.registry.commands)
    assert capsys.readouterr().err == f"segkit: there is no command 'fial'; did you mean 'fail'? There are: {known}.\n"
    for wrong in (["--nonsense"], ["list", "--nonsense"], ["fail"]):
        with pytest.raises(SystemExit) as left:
            main(wrong)
        assert left.value.code == 2


def test_strict_mode_stops_at_a_broken_plugin(site: Any) -> None:
    site.install("segkit-bad", "bad", "import no_such_library")
    assert site.segkit("list").returncode == 0
    stopped = site.segkit("list", SEGKIT_STRICT="1")
    assert stopped.returncode == 2
    assert stopped.stderr.startswith(
        "segkit: plugin 'bad' (segkit-bad 1.5): ModuleNotFoundError: No module named 'no_such"
    )


@pytest.mark.fault("F40")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[dataset\n", "CONFIG: not valid TOML: Expected ']' at the end of a table declaration (at line 1, column 9)"),
        (CONFIG + "[train]\nepoch = 3\n", "CONFIG: train.epoch: [train] has no such key; did you mean 'epochs'?"),
        (CONFIG + "[train]\nepochs = 'x'\n", "CONFIG: train.epochs = 'x': should be a valid integer"),
        (
            CONFIG.replace("dice", "dcie"),
            "CONFIG: loss[0].name: there is no loss 'dcie'; did you mean 'dice'? There are:",
        ),
        (None, "there is no config CONFIG; did you mean '"),
    ],
)
def test_a_mistake_in_a_config_is_told_in_a_line(
    tmp_path: Path, text: str | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    (path if text is not None else tmp_path / "mime.toml").write_text(text or "")
    assert main(["run", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"segkit: {words.replace('CONFIG', str(path))}")
    assert len(told.splitlines()) == 1


# --- list, plugins


def test_list_shows_every_component_its_summary_and_its_plugin(site: Any) -> None:
    site.offer("segkit-clash", "clash", "losses", {"dice": "clash_loss:Dice"})
    site.module("clash_loss", f'import torch\nclass Dice:\n    """{"A very long summary " * 9}. Second."""\n')
    site.install("segkit-bad", "bad", "import no_such_library")
    text = site.segkit("list").stdout
    blocks = dict(block.split("\n", 1) for block in text.split("\n\n"))
    assert {"Models", "Losses", "Datasets", "Metrics", "Commands"} <= set(blocks)
    losses = blocks["Losses"].splitlines()
    (clash,) = [line for line in losses if line.startswith("  clash/dice ")]
    assert re.search(r" A very long summary .* [.]{3} +clash \(segkit-clash\)$", clash)
    assert any(line.startswith("  losses/dice ") and line.endswith("  losses") for line in losses)
    assert max(map(len, losses)) <= 80
    assert "Plugin 'bad' (segkit-bad 1.5) is broken: ModuleNotFoundError: No module" in text
    assert site.segkit("list", "losses").stdout.startswith("Losses\n")
    assert "Models" not in site.segkit("list", "loss").stdout


def test_list_as_markdown_cuts_nothing(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    site.offer("segkit-long", "long", "losses", {"long": "long_loss:Long"})
    site.module("long_loss", f'import torch\nclass Long:\n    """A {"very " * 30}long | loss. Second."""\n')
    lines = printed(capsys, "list", "--markdown", "losses").splitlines()
    assert lines[:2] == ["| kind | name | what it is |", "|---|---|---|"]
    assert f"|  | `long` | A {'very ' * 30}long \\| loss (long, segkit-long) |" in lines
    assert [line.partition(" | ")[0] for line in lines[2:4]] == ["| losses", "| "]


def test_list_as_json(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    site.offer("segkit-json", "fine", "metrics", {"fine": "json_metric:Fine"})
    site.offer("segkit-json-check", "seen", "checks", {"seen": "json_metric:Fine"})
    site.offer("segkit-json-move", "moved", "transforms", {"moved": "json_metric:Fine"})
    site.module("json_metric", 'class Fine:\n    """As fine as can be."""\n')
    found = json.loads(printed(capsys, "list", "--json"))
    assert {
        "kind": "metric",
        "name": "fine",
        "place": "json_metric:Fine",
        "plugin": "fine",
        "distribution": "segkit-json",
        "version": "1.5",
        "use": "fine",
        "summary": "As fine as can be",
    } in found
    assert {facts["kind"] for facts in found} == set(REGISTRIES)


@pytest.mark.fault("F41")
def test_plugins_shows_origin_offers_and_causes(site: Any) -> None:
    site.install("segkit-bad", "bad", "import segkit\n@segkit.hookimpl\ndef segkit_loss(): ...")
    site.install("segkit-tell", "tell", "import segkit\n@segkit.hookimpl\ndef segkit_run_ended(result): ...")
    text = site.segkit("plugins").stdout
    cause = "there is no hook 'segkit_loss'; did you mean 'segkit_losses'?"
    assert f"bad: broken, segkit-bad 1.5, segkit_bad\n    {cause}\n" in text
    assert "tell: ok, segkit-tell 1.5, segkit_tell\n    events: segkit_run_ended\n" in text
    assert f"losses: ok, segkit {segkit.__version__}, segkit_losses\n    losses: " in text


def test_plugins_tells_what_is_offered_and_not_there(site: Any) -> None:
    losses = {"gone": "no_such_module:Loss", "near": "some_losses:SymetricLoss", "made": "made_losses:Any"}
    site.offer("segkit-off", "off", "losses", losses | {"torn": "torn_losses:Loss"})
    site.module("some_losses", "import torch\nclass SymmetricLoss: ...\n")
    site.module("made_losses", "globals().update(Any=object)\n")
    site.module("torn_losses", "\n\ndef (:\n")
    done = site.segkit("plugins", "segkit-off", COLUMNS="400")
    assert done.returncode == 1
    head, offers, *problems = done.stdout.splitlines()
    assert head == "off: broken, segkit-off 1.5, segkit_off"
    assert offers == "    losses: gone, made, near, torn"
    for told, cause in zip(
        problems,
        (
            r"'gone' .* cannot be imported .*: No module named 'no_such_module'$",
            r"'near' .* AttributeError: .* no attribute 'SymetricLoss'$",
            r"'torn' .* SyntaxError: invalid syntax \(torn_losses.py, line 3\)",
        ),
        strict=True,
    ):
        assert re.search(cause, told), told
    assert site.segkit("plugins", "losses").returncode == 0


def test_plugins_of_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "loses"]) == 2
    assert capsys.readouterr().err == "segkit: there is no plugin 'loses'; did you mean 'losses'?\n"


def test_an_observer_is_listed_and_shown(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    source = '"""Tells a pager. Of all."""\nimport segkit\n@segkit.hookimpl\ndef segkit_run_ended(result): ...\n'
    site.install("segkit-pager", "pager", source)
    listed = printed(capsys, "list", "observers")
    assert re.search(r"^Observers\n(  .*\n)*  pager +Tells a pager +pager \(segkit-pager\)\n", listed)
    shown = printed(capsys, "show", "pager")
    assert shown == printed(capsys, "show", "observer", "pager")
    assert shown == (
        "observer 'pager' of plugin 'pager' (segkit-pager 1.5)\nsegkit_pager\n\nTells a pager. Of all.\n\n"
        "It observes every run by itself; `plugins pager` shows its events.\n"
    )


def test_an_observer_that_is_broken_is_told_with_its_cause(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    hooks = "@segkit.hookimpl\ndef segkit_run_ended(result): ...\n@segkit.hookimpl\ndef segkit_epoch_endet(run): ...\n"
    site.install("segkit-pager", "pager", f"import segkit\n{hooks}")
    assert main(["show", "observer", "pager"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("segkit: there is no observer 'pager'")
    assert "plugin 'pager' (segkit-pager 1.5) is broken: there is no hook 'segkit_epoch_endet'; did you mean" in told


def test_what_has_no_docstring_leaves_no_column_empty(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    site.install("segkit-mute", "mute", "import segkit\n@segkit.hookimpl\ndef segkit_run_ended(result): ...\n")
    assert re.search(r"^  mute +no docstring found +mute \(", printed(capsys, "list", "observers"), re.MULTILINE)
    markdown = printed(capsys, "list", "--markdown", "observers")
    assert re.search(r"\| `mute` \| no docstring found \(mute, segkit-mute\) \|\n", markdown)


def test_what_a_plugin_prints_is_not_in_the_answer(site: Any) -> None:
    site.install(
        "segkit-loud", "loud", "print('hello')\nimport segkit\n@segkit.hookimpl\ndef segkit_losses(): return {}"
    )
    done = site.segkit("list", "--json")
    assert json.loads(done.stdout)
    assert done.stderr == "hello\n"


# --- show


def every_component() -> list[Component]:
    return [c for kind in ("model", "loss", "dataset", "metric") for c in REGISTRIES[kind].components()]


@pytest.mark.parametrize("component", every_component(), ids=lambda component: f"{component.kind} {component.name}")
def test_show_prints_a_table_that_a_config_accepts(component: Component, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "show", component.kind, component.name)
    table: Any = tomllib.loads(text.split("In a config\n")[1])[component.kind]
    (table,) = table if component.kind in ("loss", "metric") else [table]
    assert table.pop("name") == component.name
    table |= {"classes": ["a", "b"]} if "# classes =   # required: list[str] | str" in text else {}
    assert read_options(component, table, "here")[1] == []


def test_show_prints_docstring_options_and_what_is_given(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    site.offer("segkit-show", "shown", "losses", {"shown": "shown_loss:Shown"})
    site.module(
        "shown_loss",
        '''
        class Shown:
            """One sentence.

            Another.

            Args:
                gamma: how much.
                paths: where.
            """
            def __init__(
                self, num_classes: int, paths: dict[str, list[float]], gamma: float = 2.0, on: bool | None = None
            ): ...
        ''',
    )
    expected = """
        loss 'shown' of plugin 'shown' (segkit-show 1.5)
        shown_loss:Shown

        One sentence.

        Another.

        Options
          paths: dict[str, list[float]] (required)
              where.
          gamma: float = 2.0
              how much.
          on: bool | None = (left out)

        Set by segkit, not in a config: num_classes

        In a config

        [[loss]]
        name = "shown"
        # paths =   # required: dict[str, list[float]]
        gamma = 2.0
        # on = ...
    """
    assert printed(capsys, "show", "losses", "shown").split("\n") == [line[8:] for line in expected.split("\n")][1:]
    assert "loss 'shown'" in printed(capsys, "show", "shown")
    assert "`list --help` shows its options" in printed(capsys, "show", "command", "list")


def test_show_writes_as_a_comment_what_no_file_can_hold(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    site.offer("segkit-odd", "odd", "losses", {"odd": "odd_loss:Odd"})
    site.module(
        "odd_loss",
        """
        import enum
        class Mode(enum.Enum):
            FAST = "fast"
        class Odd:
            def __init__(
                self, rate: float, text: str, mode: Mode = Mode.FAST, raw: bytes = b"x", some: set = {1},
                kind: type = int, gaps: list = [1, None], face: str = "\U0001f600",
                scale: float = 9.0, big: float = float("inf")
            ): ...
        """,
    )
    table = printed(capsys, "show", "odd").partition("[[loss]]\n")[2]
    assert table.splitlines() == [
        'name = "odd"',
        "# rate =   # required: float",
        'text = "..."  # required',
        'mode = "FAST"',
        "# raw = b'x'",
        "# some = {1}",
        "# kind = <class 'int'>",
        "# gaps = [1, None]",
        'face = "\U0001f600"',
        "big = inf",
    ]
    assert tomllib.loads(table)["big"] == float("inf")


def test_show_prints_the_name_of_an_enums_member(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """torchvision's weights are an enum whose members hold the names of a thousand classes."""
    site.offer("segkit-wide", "wide", "models", {"wide": "wide_model:Wide"})
    site.module(
        "wide_model",
        """
        import enum
        class Weights(enum.Enum):
            BEST = {"categories": [f"class {number}" for number in range(1000)]}
        class Wide:
            def __init__(self, num_classes: int, weights: Weights | None = Weights.BEST, of: list = [0] * 1000): ...
        """,
    )
    shown = printed(capsys, "show", "wide")
    assert "\n  weights: 'BEST' | None = \"BEST\"\n" in shown
    assert '\nweights = "BEST"\n' in shown
    assert len(shown.partition("In a config")[0]) < 500
    as_json = json.loads(printed(capsys, "show", "wide", "--json"))
    assert next(o for o in as_json["options"] if o["name"] == "weights")["default"] == "BEST"


def test_show_asks_which_plugin_is_meant(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    site.offer("segkit-other", "other", "losses", {"dice": "no_such_module:Dice"})
    assert main(["show", "dice"]) == 2
    which = "'losses/dice' or 'other/dice'"
    assert capsys.readouterr().err == f"segkit: several plugins offer the loss 'dice'; say which: {which}\n"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("trian", "there is no component 'trian'; did you mean 'train'?"),
        ("train.lr", "there is no component 'train.lr'; did you mean 'train'?"),
    ],
)
def test_show_answers_what_is_no_component(name: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name]) == 2
    assert told in capsys.readouterr().err


def test_show_tells_what_a_table_allows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "train"]) == 0
    told = capsys.readouterr().out
    assert "\n  schedule: 'poly' | 'cosine' | 'one_cycle' | 'constant' = \"poly\"\n" in told
    assert "\n  max_steps: int | None = (left out)\n" in told
    assert "\n  compile: bool = false\n" in told
    assert "\n      images per step" in told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["run"], "error: the following arguments are required: config\n"),
        (["run", "mine.toml", "--resmue"], "unrecognized arguments: --resmue; did you mean '--resume'?\n"),
        (["run", "mine.toml", "--zzz"], "--zzz; keys of the config are set without dashes, as in train.epochs=3\n"),
    ],
)
def test_an_option_that_is_none(line: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(line)
    assert left.value.code == 2
    assert capsys.readouterr().err.endswith(told)


def test_show_asks_which_kind_is_meant(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    site.offer("segkit-both", "both", "metrics", {"focal": "both_metric:Focal"})
    assert main(["show", "focal"]) == 2
    which = "say which: 'show loss focal' or 'show metric focal'"
    assert capsys.readouterr().err == f"segkit: 'focal' is the name of several components; {which}\n"
    assert main(["show", "focla"]) == 2
    assert "no component 'focla'; did you mean 'focal'? `list` prints them all." in capsys.readouterr().err
    assert main(["show", "los", "focal"]) == 2
    assert "there is no kind 'los'; did you mean 'loss'?" in capsys.readouterr().err


# --- speed


def processor_time(run: Callable[[], Any]) -> float:
    """Seconds of the processor that the processes take that ``run`` starts, the best of five."""
    seconds = []
    for _ in range(5):
        before = os.times()
        run()
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(seconds)


def limit(site: Any) -> float:
    """0.3 s; on a slow or busy machine three times what Python and what every command needs take there."""
    return max(0.3, 3 * processor_time(lambda: site.python("-c", "import argparse, importlib.metadata, pluggy")))


def test_help_takes_less_than_a_third_of_a_second(site: Any) -> None:
    assert 0 < processor_time(lambda: site.segkit("--help")) < limit(site)


def test_list_is_quick_with_twenty_plugins(site: Any) -> None:
    for number in range(20):
        site.offer(f"segkit-p{number}", f"p{number}", "losses", {f"loss{number}": f"loss_{number}:Loss"})
        site.module(f"loss_{number}", 'import torch\n\n\nclass Loss(torch.nn.Module):\n    """A loss. Long."""\n')
    code = "from segkit.cli import main\nmain(['list'])\nimport sys\nassert 'torch' not in sys.modules\n"
    listed = []
    assert 0 < processor_time(lambda: listed.append(site.python("-c", code).stdout)) < limit(site)
    assert re.search(r"\n  loss19 +A loss +p19 \(segkit-p19\)\n", listed[0])


@pytest.mark.parametrize(
    "arguments",
    ["--help", "--version", "list", "show augment", "lits", "run CONFIG"],
)
def test_nothing_heavy_is_imported_to_answer(arguments: str, tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("")
    code = (
        "import sys\n"
        "from segkit.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'torchvision', 'timm', 'numpy', 'PIL', 'packaging'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    words = [word.replace("CONFIG", str(tmp_path / "empty.toml")) for word in arguments.split()]
    subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("train mine.toml", "there is no command 'train'; did you mean 'run'?"),
        ("test runs/a", "there is no command 'test'; did you mean 'evaluate'?"),
        ("infer runs/a", "there is no command 'infer'; did you mean 'predict'? `predict --help`"),
        ("benchmark mine.toml", "there is no command 'benchmark'; did you mean 'bench'?"),
        ("run CONFIG --epochs 3", "--epochs 3; keys of the config are set without dashes, as in train.epochs=3"),
        ("check CONFIG --root data", "keys of the config are set without dashes, as in train.epochs=3"),
        ("run CONFIG epochs=3", "epochs: an override is written table.key=value, as in train.epochs=3"),
        ("run CONFIG model.name=resnet50", "as options: model.name=smp model.architecture=... model.encoder=..."),
        ("evaluate CONFIG", "mine.toml is a config; give a run folder, which `run "),
        ("evaluate .", "is not a run folder: it holds no run.json; runs are a, b"),
        ("evaluate a train", "train: a split is given as --split train"),
        ("predict CONFIG photo.jpg --out masks", "mine.toml is a config; give a run folder"),
        ("predict . photo.jpg --out masks", "holds no weights (model.safetensors, best.pt, last.pt); runs are a, b"),
        ("export CONFIG --to onnx", "mine.toml is a config; give a run folder"),
        ("report CONFIG", "mine.toml is a config; give a run folder"),
        ("report .", "runs are a, b"),
        ("compare CONFIG", "mine.toml is a config; give a run folder"),
        ("run a", "a is a run folder, which is for evaluate, predict and report; give a config"),
        ("run .", ". is a folder; give a config, a TOML file"),
    ],
)
def test_what_is_nearly_right_is_answered_with_what_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text('[dataset]\nname = "shapes"\n[model]\nname = "unet"\n[[loss]]\nname = "dice"\n')
    for name in ("a", "b", "pictures"):
        Path(name).mkdir()
    for name in ("a", "b"):
        (Path(name) / "run.json").write_text("{}")
    try:
        status: Any = main(line.replace("CONFIG", "mine.toml").split())
    except SystemExit as left:
        status = left.code
    err = capsys.readouterr().err
    assert status == 2
    assert told in " ".join(err.split())
    assert "Errno" not in err
