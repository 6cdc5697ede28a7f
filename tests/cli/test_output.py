"""What is printed: as wide as it may be, without bars or colours in a pipe, and for programs nothing but JSON."""

from __future__ import annotations

import argparse
import io
import json
import os
import pty
import re
import subprocess
import sys
import termios
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tqdm import tqdm

import segkit
from segkit.cli import main
from segkit.cli.output import Stream, hanging, messages, print_json, table
from segkit.engine.console import Console, epoch_heading, epoch_line, final_table, wrapped
from segkit.registry import REGISTRIES

CONFIG = """
[dataset]
name = "shapes"
size = 32
images = [4, 2, 2]
[model]
name = "unet"
width = 2
depth = 1
[[loss]]
name = "cross_entropy"
[train]
epochs = 2
repeat = 20
lr = 1e-2
batch_size = 2
device = "cpu"
workers = 0
[output]
samples = 0
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, two finished runs of it, and images with their masks."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "tiny.toml").write_text(CONFIG)
    segkit.run(folder / "tiny.toml", {"output.dir": str(folder / "run")})
    segkit.run(folder / "tiny.toml", {"output.dir": str(folder / "another"), "train.repeat": 1})
    for part in ("images", "masks"):
        (folder / part).mkdir()
    dataset = segkit.datasets["shapes"](split="val", size=32, images=[4, 2, 2])
    for number in range(2):
        sample = dataset[number]
        Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(folder / "images" / f"{number}.png")
        Image.fromarray(sample.mask.numpy()).save(folder / "masks" / f"{number}.png")
    return folder


def words(place: Path, line: str) -> list[str]:
    for word, path in {"CONFIG": "tiny.toml", "RUN": "run", "IMAGES": "images", "MASKS": "masks"}.items():
        line = line.replace(word, str(place / path))
    return line.split()


def started(place: Path, line: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "COLUMNS": "80", "FORCE_COLOR": "1"}
    variables.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "segkit", *words(place, line)]
    return subprocess.run(command, env=variables, cwd=place, text=True, timeout=120, check=True, **streams)


def too_wide(out: str, place: Path) -> list[str]:
    """Lines of more than 80 characters; without warnings, a line each, and the test's own paths."""
    rows = [row for row in out.splitlines() if not row.startswith("warning: ")]
    return [row for row in rows if len(row) > 80 and str(place) not in row]


FIGURES = {  # of each command a line that prints figures or a list, with one word of it
    "run": ("run CONFIG output.dir=another train.repeat=1 --overwrite", "mean_iou"),
    "check": ("check CONFIG", "floor"),
    "evaluate": ("evaluate RUN", "mean_iou"),
    "predict": ("predict RUN IMAGES --out predicted --compare-with MASKS", "mean_iou"),
    "compare": ("compare RUN another", "mean_iou"),
    "calibrate": ("calibrate RUN", "temperature"),
    "bench": ("bench CONFIG --seconds 0.2", "images_per_second"),
    "export": ("export RUN --to safetensors", "agreement"),
    "list": ("list", "summary"),
    "plugins": ("plugins", "offers"),
    "show": ("show loss dice", "options"),
    "check-plugin": ("check-plugin pixel_accuracy", "state"),
}
COMMANDS = [  # beside those of FIGURES, of which bench alone is not quick there
    "--help", "show train", "show data", "show augment", "predict RUN IMAGES --out predicted", FIGURES["bench"][0],
    *(f"{command} --help" for command in REGISTRIES["command"] if "/" not in command),
    *(f"show {kind} {name}" for kind in ("model", "loss", "dataset", "metric") for name in REGISTRIES[kind]),
]  # fmt: skip


@pytest.mark.parametrize("line", COMMANDS)
def test_what_is_printed_fits_eighty_columns(
    line: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(place)
    with suppress(SystemExit):  # after --help
        assert main(words(place, line)) == 0
    printed = capsys.readouterr()
    assert printed.out
    assert too_wide(printed.out, place) == []
    assert not {"\r", "\x1b"} & set(printed.out + printed.err)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "bench")) for name in FIGURES],  # it measures
)
def test_figures_for_programs_and_alone(
    name: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(place)
    line, word = FIGURES[name]
    loud, quiet, document, both = (
        printed(capsys, *words(place, line), *options)
        for options in ([], ["--quiet"], ["--json"], ["--json", "--quiet"])
    )
    assert loud[0]
    assert quiet[0]
    assert len(quiet[0].splitlines()) <= len(loud[0].splitlines())
    assert too_wide(loud[0] + quiet[0], place) == []
    for out, _ in (document, both):
        assert word in out
        assert json.loads(out)
    assert not {"\r", "\x1b"} & set("".join((*loud, *quiet, *document, *both)))


def test_every_command_that_prints_figures_has_both_options() -> None:
    silent = {"new-plugin", "report", "completion", "init"}  # which write files, and say where, or speak to a shell
    commands = {component.name: component.load() for component in REGISTRIES["command"].components()}
    assert set(commands) == set(FIGURES) | silent
    for name in FIGURES:
        commands[name].add_arguments(parser := argparse.ArgumentParser())
        assert {"--json", "--quiet"} <= set(parser._option_string_actions), name


@pytest.mark.slow
def test_nothing_is_coloured_even_where_it_is_asked_for(place: Path) -> None:
    """There are no colours; so NO_COLOR has nothing to turn off, and FORCE_COLOR nothing to turn on."""
    done = started(place, "run CONFIG output.dir=coloured --overwrite", capture_output=True)
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    sources = [path for folder in ("segkit", "plugins") for path in (Path(__file__).parents[2] / folder).rglob("*.py")]
    assert [path for path in sources if "\\x1b[" in path.read_text("utf-8").replace("``\\\\x1b[``", "")] == []


@pytest.mark.parametrize(("option", "bars"), [("", True), pytest.param("--quiet", False, marks=pytest.mark.slow)])
def test_a_terminal_sees_progress_unless_it_is_to_be_quiet(place: Path, option: str, bars: bool) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    done = started(place, f"evaluate RUN {option}", stdout=subprocess.PIPE, stderr=theirs)
    os.write(theirs, b"end")
    told = os.read(ours, 1 << 20).decode()
    os.close(ours)
    os.close(theirs)
    assert ("scores on val" in told) is bars
    assert "mean_iou" in done.stdout


def test_a_bar_of_any_library_is_off_where_it_is_quiet() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with redirect_stderr(Terminal()) as terminal:
        with messages(quiet=True):
            list(tqdm(range(3), "quiet", disable=None))
            print("a warning", file=sys.stderr)
        list(tqdm(range(3), "loud", disable=None))
    assert terminal.getvalue().startswith("a warning\n\rloud: ")


def test_a_stream_escapes_all_but_line_breaks_and_the_return_of_a_bar() -> None:
    inner = io.StringIO()
    stream = Stream(inner)
    stream.write("\ra bar of a\rb.png\x1b[2J")
    print("\ud800 ü\nnext\u202e", file=stream)
    assert inner.getvalue() == "\ra bar of a\\rb.png\\x1b[2J\\ud800 ü\nnext\\u202e\n"
    assert not stream.isatty()


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main(arguments) == 0
    told = capsys.readouterr()
    return told.out, told.err


def test_a_quiet_run_prints_its_table_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed(capsys, *words(place, f"run CONFIG --quiet output.dir={place}/quiet"))
    best = json.loads((place / "quiet" / "result.json").read_text())["best_epoch"]
    assert out.startswith(f"\nbest epoch: {best} of 2, by mean_iou on val;")
    assert [line.partition(":")[0] for line in err.splitlines()] == ["warning"] * 3
    assert "images/s" not in out
    assert "\nmean_iou " in out


def test_a_run_as_json_is_its_result_and_tells_the_rest_aside(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed(capsys, *words(place, f"run CONFIG --json output.dir={place}/json"))
    stored = json.loads((place / "json" / "result.json").read_text())
    assert json.loads(out) == {"folder": str(place / "json"), **stored}
    assert "\n  2/2 " in err
    assert "\nmean_iou " in err


def test_a_quiet_check_is_its_table_and_what_is_wrong(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loud, _ = printed(capsys, "check", str(place / "tiny.toml"))
    assert loud.startswith("shapes: 8 images and masks in ")
    quiet, _ = printed(capsys, "check", str(place / "tiny.toml"), "--quiet")
    assert loud.partition("\n\n")[2] == quiet
    assert "warning" in quiet


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("evaluate RUN --split val", {"splits"}),
        ("check CONFIG", {"splits", "median_frequency", "errors", "warnings"}),
        ("run CONFIG --resume output.dir=RUN", {"folder", "splits", "best_epoch", "seconds", "precision", "device"}),
        ("show train", {"kind", "name", "text", "options"}),
        ("show loss dice", {"kind", "name", "place", "plugin", "version", "use", "summary", "text", "options"}),
        ("show observer tensorboard", {"kind", "name", "options"}),
    ],
)
def test_the_keys_of_a_document(line: str, keys: set[str], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = printed(capsys, *words(place, line), "--json")
    found = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert set(found) >= keys


def test_options_are_told_alike_of_a_component_and_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    dice = {o["name"]: o for o in json.loads(printed(capsys, "show", "loss", "dice", "--json")[0])["options"]}
    assert dice["smooth"] | {"text": ""} == {
        "name": "smooth", "type": "float", "default": 0.0, "text": "", "required": False, "given": False,
    }  # fmt: skip
    assert dice["num_classes"]["given"]
    folder = {o["name"]: o for o in json.loads(printed(capsys, "show", "folder", "--json")[0])["options"]}
    assert (folder["root"]["required"], folder["root"]["default"]) == (True, None)
    data = {o["name"]: o for o in json.loads(printed(capsys, "show", "data", "--json")[0])["options"]}
    assert data["resize"]["type"] == "float | list[int] | None"
    assert data["cache"]["type"] == "Literal['auto', 'none', 'ram', 'device']"
    assert set(data["resize"]) == set(dice["smooth"])


def test_plugins_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = {plugin["name"]: plugin for plugin in json.loads(printed(capsys, "plugins", "--json")[0])}
    assert found["voc"] == {
        "name": "voc", "distribution": "segkit", "version": segkit.__version__, "place": "segkit_voc",
        "offers": {"datasets": ["voc"]}, "problems": [],
    }  # fmt: skip
    assert "segkit_epoch_ended" in found["tensorboard"]["offers"]["events"]


def test_an_error_is_no_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "focla", "--json"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("segkit: there is no component 'focla'")


def test_what_is_no_number_is_null_and_what_a_library_prints_is_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    with messages(aside=True):
        print("a library's greeting")
        print_json({"a": [float("nan"), float("inf"), 1.5], "b": Path("x"), "c": {1}})
    told = capsys.readouterr()
    assert json.loads(told.out) == {"a": [None, None, 1.5], "b": "x", "c": "{1}"}
    assert told.err == "a library's greeting\n"


# --- text


def test_a_docstring_is_wrapped_where_it_is_too_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert hanging("Short\nlines.\n\nA line that is too wide\nfor it.\n\n    f(x) = 1 + 2 + 3 + 4") == (
        "Short\nlines.\n\nA line that is too\nwide for it.\n\n    f(x) = 1 + 2 + 3\n      + 4"
    )


def test_prose_is_wrapped_and_a_row_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert (
        wrapped("one-two three four five\nname  0.123  4.567  8.9")
        == "one-two three four\nfive\nname  0.123  4.567  8.9"
    )
    predicted = {"classes": 1}
    name = "a name that is longer than frequency_weighted_iou"
    table = final_table(
        {"val": {"class_iou": {name: 0.5}, "predicted": predicted, "floor": {}}}, [name], {"val": [1.0]}
    )
    assert "a name that is long...    0.500 100.00%" in table


@pytest.mark.parametrize("epochs", [9, 24, 1000])
def test_the_epochs_stand_under_their_heading(epochs: int) -> None:
    scores = {"loss": 10.5, "mean_iou": 0.5, "pixel_accuracy": float("nan"), "class_iou": dict.fromkeys("abc")}
    scores["predicted"] = {"classes": 2}
    floor = {"mean_iou": 0.25, "pixel_accuracy": 0.75}
    trained = {"loss": 1.25, "images_per_second": 1234.5}
    line = epoch_line({"epoch": epochs, "train": trained, "val": {**scores, "floor": floor}, "best": True}, epochs)
    heads = epoch_heading(epochs).splitlines()
    assert max(map(len, [line, *heads])) <= 80
    assert line.split() == [
        f"{epochs}/{epochs}",
        "1.2500",
        "10.5000",
        *("0.500", "0.250", "-", "0.750"),
        "2/3",
        "1234.5",
        "*",
    ]
    ends = [match.end() for match in re.finditer(r"val loss|\S+", heads[1])]
    assert [line[:end].split()[-1] for end in ends] == line.split()[:-1]
    assert all(line[end : end + 1] in ("", " ") for end in ends)


@pytest.mark.parametrize("text", ["", "a", "ab"])
def test_a_column_that_may_be_shortened_may_be_short(text: str) -> None:
    assert table([("name", text)], flexible=1) == f"  name  {text}".rstrip()


def test_a_letter_that_the_output_does_not_know_silences_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, "ascii"))
    console = Console()
    console.say("Fußgänger")
    console.say("and on")
    assert file.getvalue() == b"Fu?g?nger\nand on\n"


def test_a_console_that_is_quiet_prints_results_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    console.say("how it goes")
    console.warn("careful")
    console.result("what it came to")
    assert capsys.readouterr() == ("what it came to\n", "warning: careful\n")
