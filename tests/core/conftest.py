"""Small real distributions, installed in a temporary folder for the length of a test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from textwrap import dedent

import pytest

from segkit import plugins
from segkit.registry import Component

OFFER = "import segkit\n\n@segkit.hookimpl\ndef segkit_{kind}():\n    return {offer!r}\n"


class Site:
    """A folder like site-packages, on the path of this process and of the commands it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def module(self, name: str, source: str) -> None:
        path = self.folder / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source), "utf-8")

    def install(
        self, distribution: str, plugin: str, source: str, module: str = "", requires: Sequence[str] = ()
    ) -> None:
        module = module or distribution.replace("-", "_")
        self.module(module, source)
        info = self.folder / f"{distribution.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        needed = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n{needed}", "utf-8")
        (info / "entry_points.txt").write_text(f"[segkit]\n{plugin} = {module}\n", "utf-8")

    def offer(self, distribution: str, plugin: str, kind: str, offer: dict[str, str], module: str = "") -> None:
        self.install(distribution, plugin, OFFER.format(kind=kind, offer=offer), module)

    def segkit(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.python("-W", "error", "-m", "segkit", *arguments, **environment)

    def python(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
        variables = {**os.environ, "PYTHONPATH": path, "COLUMNS": "80", **environment}
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=variables, cwd=self.folder, capture_output=True, text=True, timeout=120)


def unpack(package: Path, target: Path) -> None:
    """What pip leaves of a pure package in a folder, without building it, which takes a second each."""
    project = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]
    for module in package.glob("*/__init__.py"):
        shutil.copytree(module.parent, target / module.parent.name)
    info = target / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    needed = "".join(f"Requires-Dist: {each}\n" for each in project["dependencies"])
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n{needed}"
    (info / "METADATA").write_text(metadata, "utf-8")
    points = "".join(f"{name} = {place}\n" for name, place in project["entry-points"]["segkit"].items())
    (info / "entry_points.txt").write_text(f"[segkit]\n{points}", "utf-8")


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """The folder in which all packages of a folder are installed, as good as by pip; test_new_plugin.py builds some."""

    def make(written: Path) -> Path:
        target = tmp_path_factory.mktemp("installed")
        for package in written.iterdir():
            unpack(package, target)
        return target

    return make


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.delenv("SEGKIT_STRICT", raising=False)
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    plugins.installed.cache_clear()
    yield Site(folder)
    plugins.installed.cache_clear()
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


@pytest.fixture
def component(site: Site) -> Callable[..., Component]:
    """A loss (or another kind) called ``thing``, defined by source text as ``Thing`` in a module of its own."""

    def make(source: str, kind: str = "loss", module: str = "thing_module") -> Component:
        site.module(module, f"from __future__ import annotations\n{dedent(source)}")
        return Component(kind, "thing", f"{module}:Thing", "things", "segkit-things", "1.5")

    return make
