"""What the bundled plugins import from segkit stands in CONTRIBUTING, and that list only becomes shorter."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def imported(files: list[Path]) -> set[str]:
    """``segkit.errors.DataError`` and so on, of all imports wherever they stand."""
    names = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ImportFrom) and not node.level and str(node.module).split(".")[0] == "segkit":
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names if alias.name.startswith("segkit.")}
    return names


def listed(text: str) -> set[str]:
    """The names of a block of lines such as ``segkit.errors: DataError, reason``."""
    (block,) = re.findall(r"<!-- the plugin API -->\n+```text\n(.*?)```", text, re.DOTALL)
    lines = [line.partition(": ") for line in block.splitlines()]
    return {f"{module}.{name.strip()}" for module, _, names in lines for name in names.split(",")}


def block(names: set[str]) -> str:
    """The lines for these names."""
    modules: dict[str, list[str]] = {}
    for name in sorted(names):
        modules.setdefault(name.rpartition(".")[0], []).append(name.rpartition(".")[2])
    return "\n".join(f"{module}: {', '.join(own)}" for module, own in modules.items())


def test_the_bundled_plugins_import_what_contributing_lists() -> None:
    found = imported(sorted((ROOT / "plugins").rglob("*.py")))
    known = listed((ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    new, gone = sorted(found - known), sorted(known - found)
    assert not new, f"take one of the names that are listed, or what the plugin is handed, instead of {new}"
    assert not gone, f"no bundled plugin imports {gone} any more: take them off the list, which is then\n{block(found)}"


def test_an_import_that_is_not_listed_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import segkit\nfrom segkit.errors import reason\ndef f():\n    import segkit.secret\n"
    )
    assert imported([tmp_path / "a.py"]) == {"segkit.errors.reason", "segkit.secret"}
    text = "<!-- the plugin API -->\n\n```text\nsegkit.errors: DataError, reason\n```\n"
    assert listed(text) == {"segkit.errors.DataError", "segkit.errors.reason"}
    assert listed(f"<!-- the plugin API -->\n\n```text\n{block(listed(text))}\n```") == listed(text)
