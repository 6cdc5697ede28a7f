"""The wheel: it holds the core and every bundled plugin, and works where it is installed."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed; it comes with segkit[dev]")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (path,) = folder.glob("segkit-*.whl")
    return path


def test_the_wheel_holds_the_core_and_the_plugins_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    core = {str(path.relative_to(ROOT)) for path in (ROOT / "segkit").rglob("*.py")}
    bundled = {str(path.relative_to(ROOT / "plugins")) for path in (ROOT / "plugins").rglob("*.py")}
    templates = {str(path.relative_to(ROOT / "plugins")) for path in (ROOT / "plugins").glob("*/templates/*")}
    assert core | bundled | templates | {"segkit/py.typed"} <= names
    assert "segkit/data/sample.py" in names  # an unanchored `data/` among the ignored files would drop it
    packages = {path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py")}
    assert {name.split("/")[0] for name in names} == {"segkit"} | packages
    assert not [name for name in names if "test_" in name or "__pycache__" in name]


def test_the_wheel_names_every_bundled_plugin(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
    points = configparser.ConfigParser()
    points.read_string(archive.read(name).decode())
    packages = {path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py")}
    assert set(points["segkit"].values()) == packages
    assert dict(points["console_scripts"]) == {"segkit": "segkit.__main__:main"}


def test_the_versions_agree() -> None:
    import segkit

    assert tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"] == segkit.__version__


def test_the_installed_wheel_lists_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check"]
    installed = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(wheel)]
    subprocess.run(installed, check=True, timeout=120)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(target), "SEGKIT_STRICT": "1"}

    def python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=elsewhere, env=environment, check=True, capture_output=True, text=True, timeout=60
        ).stdout

    listed = python("-m", "segkit", "list")
    for name in ("unet", "cross_entropy", "voc", "mean_iou", "run"):
        assert f"\n  {name} " in listed
    # an editable installation may lie on the path too: nothing may come from there
    code = "import sys\nplugins = __import__('segkit.plugins').plugins.installed()\n"
    code += "for plugin in plugins:\n    print(sys.modules[plugin.place].__file__)"
    files = python("-c", code).splitlines()
    assert len(files) > 1
    assert all(file.startswith(str(target)) for file in files), files
