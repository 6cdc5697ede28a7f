"""Every row of the table of faults is named by a test: ``@pytest.mark.fault("F01")``, or several rows at once."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROWS = {
    "F01": "kill -9 during a save",
    "F02": "disk full in a save",
    "F03": "log on /dev/full",
    "F04": "a flipped byte in a checkpoint",
    "F05": "truncated, empty or HTML checkpoint",
    "F06": "a pickle bomb as checkpoint",
    "F07": "checkpoint of another model or class count",
    "F08": "SIGTERM to the main process",
    "F09": "SIGTERM to the process group with workers",
    "F10": "SIGTERM in validation, in the first batch, in the label scan",
    "F11": "Ctrl-C; a second Ctrl-C",
    "F12": "one rank killed",
    "F13": "SIGTERM to torchrun",
    "F14": "one rank raises",
    "F15": "kill at step 0, mid-epoch, last step, epoch edge, in validation; resume",
    "F16": "resume with another batch size, distributed size or seed",
    "F17": "resume with nothing there",
    "F18": "the folder of a finished run",
    "F19": "two runs in one folder",
    "F20": "read-only folder, missing parent, a file in its place",
    "F21": "a label beyond the classes",
    "F22": "mask and image of different size",
    "F23": "palette, RGB, 16-bit, grey, 0/255, JPEG masks",
    "F24": "mask all void; class absent",
    "F25": "truncated, empty, renamed, CMYK, EXIF-rotated, 1-pixel image",
    "F26": "decompression bomb",
    "F27": "EPS, PSD, FPX disguised as .png",
    "F28": "missing pair, duplicate stem, wrong case, empty split",
    "F29": "NaN loss or gradient at a step",
    "F30": "float16 Dice of large images",
    "F31": "CUDA out of memory",
    "F32": "an exception in a worker",
    "F33": "a worker killed",
    "F34": "another number of workers",
    "F35": "same seed twice",
    "F36": "deterministic = true",
    "F37": "no synchronisation between log points",
    "F38": "archive with .., absolute paths, links, devices, a bomb",
    "F39": "download: wrong hash, cut stream, 404, HTML body, no network",
    "F40": "TOML: syntax error, unknown key, wrong type, missing file, unknown name",
    "F41": "plugin: import error, clash, misspelt hook, needs a newer segkit",
    "F42": "cache build killed; data changed after",
    "F43": "symlink as run folder",
    "F44": "spawn start method",
    "F45": "python -O",
    "F46": "compile fails or recompiles",
    "F47": "a script without the main guard where workers are started anew",
    "F48": "a crop, batch or image that needs more memory than there is",
    "F49": "NaN logits in evaluation, prediction, export's comparison",
    "F50": "pictures of more than 8 bits, more or fewer than three channels, several pages; alpha that varies",
    "F51": "palettes that differ between masks, or from the data set's; zero that is white",
    "F52": "the same folder on two systems",
}
GPU_ALONE = {"F31", "F36", "F37", "F46"}  # of these nothing can be shown without a card
GPU_TOO = {"F35"}  # on the CPU, and on a card


def named(decorator: ast.expr, mark: str) -> list[str] | None:
    """The arguments of a decorator ``@pytest.mark.<mark>(...)``; None if it is another one."""
    call, of = (decorator.func, decorator.args) if isinstance(decorator, ast.Call) else (decorator, [])
    return [ast.literal_eval(one) for one in of] if ast.unparse(call) == f"pytest.mark.{mark}" else None


@cache
def marks() -> tuple[set[str], set[str]]:
    """The rows that tests name, those of a CPU and those of a card, read from the sources of all tests."""
    cpu, gpu = set[str](), set[str]()
    for path in Path(__file__).parents[1].rglob("test_*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        whole = [each.value for each in tree.body if isinstance(each, ast.Assign) and "pytestmark" in ast.unparse(each)]
        for test in ast.walk(tree):
            if isinstance(test, ast.FunctionDef):
                here = [*test.decorator_list, *whole]
                rows = {row for each in here for row in named(each, "fault") or []}
                (gpu if any(named(each, "gpu") is not None for each in here) else cpu).update(rows)
    return cpu, gpu


@pytest.mark.parametrize("row", ROWS)
def test_a_test_names_the_row(row: str) -> None:
    cpu, gpu = marks()
    assert row in GPU_ALONE or row in cpu, f"no test on the CPU names {row}: {ROWS[row]}"
    assert row not in GPU_ALONE | GPU_TOO or row in gpu, f"no test of those for a card names {row}: {ROWS[row]}"


def test_no_test_names_a_row_that_is_not_in_the_table() -> None:
    cpu, gpu = marks()
    assert cpu | gpu <= ROWS.keys()
    assert not GPU_ALONE & cpu  # else it is not of a card alone
