"""Who may import whom, read from the source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Each may import those before it. Up to config, and at the top of every command, nothing heavy.
CHAIN = [
    *(
        "errors",
        "files",
        "signals",
        "settings",
        "hookspecs",
        "builtin",
        "plugins",
        "registry",
        "options",
    ),
    "config",
    *("compose", "loading", "runs", "cli", "__main__", "testing"),
]
LIGHT = CHAIN[: CHAIN.index("compose")]
WORKERS = ["data", "model", "metric", "engine", "inference"]  # handed objects, never names
_OF_FOLDER = (
    "class_file",
    "files",
    "layout",
    "lists",
    "masks",
    "meanings",
    "pairs",
    "pictures",
    "propose",
    "splits",
    "tables",
)
PUBLIC = (  # open to all plugins
    *(f"segkit_folder.{name}." for name in _OF_FOLDER),
    "segkit_inspect.describe.",
    "segkit_predict.evaluate.",
    "segkit_readers.joined.",
    "segkit_samples.marked.",
    "segkit_samples.sheets.",
)
HEAVY = {"torch", "torchvision", "timm", "segmentation_models_pytorch", "numpy", "PIL", "safetensors", "tqdm"}


def imports(path: Path, module: str) -> Iterator[tuple[str, bool]]:
    """(module, whether at the top of the file) of all that a file imports, but for type checkers."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def walk(node: ast.AST, top: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield from ((f"{base}.{alias.name}", top) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    return walk(ast.parse(path.read_bytes()), True)


def breaches(root: Path) -> list[str]:
    plugins = [folder.name for folder in sorted((root / "plugins").iterdir()) if (folder / "__init__.py").exists()]
    return [*core_breaches(root, plugins), *plugin_breaches(root, plugins)]


def core_breaches(root: Path, plugins: list[str]) -> Iterator[str]:
    for path in sorted((root / "segkit").rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        own = [*module.split("."), ""][1]
        if own and own not in CHAIN + WORKERS:
            yield f"{module} has no place in the chain"
            continue
        allowed = (
            set(WORKERS) | {"errors", "files", "settings", "signals"}
            if own in WORKERS
            else set(CHAIN[: CHAIN.index(own)] if own else [])
        )
        if own in CHAIN and own not in LIGHT:
            allowed |= set(WORKERS)
        for imported, top in imports(path, module):
            first, second = [*imported.split("."), ""][:2]
            if first in plugins:
                yield f"{module} imports the plugin {first}"
            if first in HEAVY and (own in LIGHT or own in ("", "__main__") or (own == "cli" and top)):
                yield f"{module} imports {first}"
            if first == "segkit" and (second in CHAIN + WORKERS):
                asks = module == "segkit.data.read" and second == "registry" and not top  # for readers, in any process
                if second not in allowed | {own} and not asks:
                    yield f"{module} imports {second}"
                elif own == "cli" and top and second not in [*LIGHT, "cli"]:
                    yield f"{module} imports {second} before it runs"


def plugin_breaches(root: Path, plugins: list[str]) -> Iterator[str]:
    for plugin in plugins:
        for path in sorted((root / "plugins" / plugin).rglob("*.py")):
            module = ".".join(path.relative_to(root / "plugins").with_suffix("").parts).removesuffix(".__init__")
            for imported, top in imports(path, module):
                first = imported.split(".")[0]
                if first in plugins and first != plugin and not imported.startswith(PUBLIC):
                    yield f"{module} imports the plugin {first}"
                its_own_later = first == plugin and not top
                if module == plugin and not (first == "segkit" or first in sys.stdlib_module_names or its_own_later):
                    yield f"{module} imports {first}"
                if imported.startswith("segkit.testing") and plugin != "segkit_scaffold":  # check-plugin
                    yield f"{module} imports testing"


def test_everybody_imports_only_what_they_may() -> None:
    assert breaches(ROOT) == []


@pytest.mark.parametrize(
    ("path", "source", "breach"),
    [
        ("segkit/errors.py", "import segkit.plugins", "segkit.errors imports plugins"),
        ("segkit/registry.py", "from segkit.options import create", "segkit.registry imports options"),
        ("segkit/registry.py", "def f():\n    from segkit import config", "segkit.registry imports config"),
        ("segkit/options.py", "def f():\n    import torch", "segkit.options imports torch"),
        ("segkit/config.py", "from segkit.data.sample import Sample", "segkit.config imports data"),
        ("segkit/__init__.py", "from segkit.errors import SegkitError", "segkit imports errors"),
        ("segkit/cli/run.py", "import torch.nn", "segkit.cli.run imports torch"),
        ("segkit/cli/run.py", "from segkit.runs import run", "segkit.cli.run imports runs before it runs"),
        ("segkit/engine/step.py", "from segkit.registry import losses", "segkit.engine.step imports registry"),
        ("segkit/model/unet.py", "from .. import plugins", "segkit.model.unet imports plugins"),
        ("segkit/compose.py", "import segkit.cli.run", "segkit.compose imports cli"),
        ("segkit/compose.py", "import segkit_a.loss", "segkit.compose imports the plugin segkit_a"),
        ("segkit/helpers.py", "", "segkit.helpers has no place in the chain"),
        ("plugins/segkit_a/__init__.py", "import torch", "segkit_a imports torch"),
        ("plugins/segkit_a/__init__.py", "from segkit_a import loss", "segkit_a imports segkit_a"),
        ("plugins/segkit_a/loss.py", "from segkit_b import x", "segkit_a.loss imports the plugin segkit_b"),
        (
            "plugins/segkit_a/loss.py",
            "from segkit_folder import patterns",
            "segkit_a.loss imports the plugin segkit_folder",
        ),
        ("plugins/segkit_a/loss.py", "import segkit.testing", "segkit_a.loss imports testing"),
    ],
)
def test_a_breach_is_seen(tmp_path: Path, path: str, source: str, breach: str) -> None:
    for plugin in ("segkit_a", "segkit_b", "segkit_folder"):
        (tmp_path / "plugins" / plugin).mkdir(parents=True)
        (tmp_path / "plugins" / plugin / "__init__.py").write_text("import segkit\n")
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(source)
    assert breaches(tmp_path) == [breach]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "segkit/hookspecs.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from segkit.engine.trainer import Run",
        ),
        ("segkit/cli/run.py", "def run():\n    import torch\n    from segkit.runs import run"),
        (
            "segkit/compose.py",
            "import torch\nfrom segkit.engine.trainer import x\nfrom segkit import config",
        ),
        ("segkit/engine/step.py", "import torch\nfrom segkit.data.sample import Sample\nfrom segkit import settings"),
        ("plugins/segkit_a/__init__.py", "import os\nimport segkit\ndef event():\n    from segkit_a import loss"),
    ],
)
def test_what_is_allowed_is_no_breach(tmp_path: Path, path: str, source: str) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    assert breaches(tmp_path) == []
