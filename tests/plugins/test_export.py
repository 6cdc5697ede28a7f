"""The command ``export``: what it writes is run here as somebody else would, and what cannot be done is told."""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageOps
from torch import Tensor, nn
from training import logits_of

import segkit
import segkit_export
from segkit.data.normalise import Normalisation
from segkit.data.resize import resized_size
from segkit.errors import ConfigError, ModelError, NotFiniteError, PluginError, SegkitError
from segkit.inference.predictor import Predictor
from segkit.model.unet import UNet
from segkit_export import place
from segkit_export.card import escaped
from segkit_export.command import Export
from segkit_export.comparison import compare
from segkit_export.graph import Deployed, resized_sides

NAMES = ("background", 'a|b "c" <img src=x> `d`', "[e](http://f) *g*\n# h")
onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="segkit[onnx] is not installed",
)


def image(height: int, width: int, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8))
    return np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))


def train(folder: Path, model: dict[str, Any], **tables: Any) -> Path:
    config = {
        "dataset": {"name": "shapes", "size": 32, "images": [4, 3, 2]},
        "model": model,
        "loss": [{"name": "cross_entropy"}],
        "train": {"epochs": 1, "batch_size": 2, "device": "cpu", "precision": "fp32", "workers": 0, "lr": 1e-2},
        "output": {"dir": str(folder), "samples": 0},
        **tables,
    }
    segkit.run(config)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "unet", {"name": "unet", "width": 4, "depth": 2})


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def export(*options: object) -> int:
    parser = argparse.ArgumentParser()
    Export.add_arguments(parser)
    return Export.run(parser.parse_intermixed_args([str(option) for option in options]))


def run_onnx(path: Path, pixels: Any) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])})[0][0]


def run_code(readme: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The block of Python in a card, run in its folder with a photo in it, 40 x 56 once it is upright."""
    upright = Image.Exif()
    upright[0x0112] = 6
    Image.fromarray(image(56, 40)).save(readme.parent / "photo.jpg", exif=upright)
    (code,) = re.findall(r"^```python\n(.*?)^```$", readme.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    found: dict[str, Any] = {}
    monkeypatch.chdir(readme.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, as it loads
        exec(code, found)
    return found


def front_matter(readme: Path) -> Any:
    return yaml.safe_load(readme.read_text("utf-8").split("---\n")[1])


@onnx
def test_onnx_takes_any_size_and_batch_and_says_what_it_is(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    assert export(run, "--to", "onnx") == 0
    told = capsys.readouterr()
    assert told.err == ""
    folder = run / "export" / "onnx"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.onnx"]
    assert "image uint8 [B,3,H,W] -> labels uint8 [B,H,W]; H and W from 5" in told.out
    assert "equal to PyTorch: 100.000 % of" in told.out
    assert "3 images of val of 32 x 32, 27 x 23, 22 x 14" in " ".join(told.out.split())
    predictor = segkit.load(run, device="cpu", precision="fp32")
    for pixels in (image(5, 6), image(33, 47), image(64, 48)):
        labels = run_onnx(folder / "model.onnx", pixels)
        assert labels.dtype == np.uint8
        assert (labels == predictor.predict(pixels)).mean() > 0.999
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    assert [(each.name, each.shape) for each in (*session.get_inputs(), *session.get_outputs())] == [
        ("image", ["batch", 3, "height", "width"]),
        ("labels", ["batch", "height", "width"]),
    ]
    assert session.run(None, {"image": np.zeros((3, 3, 9, 8), np.uint8)})[0].shape == (3, 9, 8)
    metadata = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(metadata["classes"])) == predictor.classes
    assert [tuple(colour) for colour in json.loads(metadata["palette"])] == list(predictor.palette)
    assert json.loads(metadata["segkit_export"])["model"] == "unet"
    found = run_code(folder / "README.md", monkeypatch)
    expected = predictor.predict(folder / "photo.jpg")
    assert (found["labels"] == expected).mean() > 0.999


@pytest.mark.parametrize(
    "model",
    [
        {"name": "unet", "width": 2, "depth": 1, "patch_size": 2},
        pytest.param({"name": "smp", "encoder": "resnet18"}, marks=pytest.mark.slow),
    ],
)
def test_torch_export_takes_any_size_and_is_loaded_anew(
    model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path / "run", model)
    capsys.readouterr()
    assert export(run, "--to", "torch-export", "--output", tmp_path / "a b" / "net.pt2", "--logits", "--json") == 0
    told = capsys.readouterr()
    assert told.err == ""
    done = json.loads(told.out)
    assert done["free"] == ["batch", "height", "width"]
    assert done["output"] == "logits"
    assert done["agreement"] > 0.999
    assert done["files"] == [str(tmp_path / "a b" / name) for name in ("net.pt2", "README.md")]
    found = run_code(tmp_path / "a b" / "README.md", monkeypatch)
    predictor = segkit.load(run, device="cpu", precision="fp32")
    assert found["answer"].shape == (1, 6, 40, 56)
    logits = logits_of(predictor, np.array(ImageOps.exif_transpose(Image.open("photo.jpg")))).numpy()
    np.testing.assert_allclose(found["answer"][0], logits, rtol=0, atol=1e-5 * np.abs(logits).max())
    assert tuple(found["classes"]) == predictor.classes


@pytest.mark.slow
@onnx
def test_smp_as_onnx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path / "run", {"name": "smp", "encoder": "resnet18"})
    assert export(run, "--to", "onnx", "--json") == 0
    done = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))
    assert done["free"] == ["batch", "height", "width"]
    assert done["agreement"] >= 0.999
    pixels = image(65, 40)
    expected = segkit.load(run, device="cpu", precision="fp32").predict(pixels)
    assert (run_onnx(run / "export" / "onnx" / "model.onnx", pixels) == expected).mean() > 0.999


def test_safetensors_is_a_folder_that_load_takes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((run / "config.json").read_text())
    config["model"]["options"]["weights"] = "/home/somebody/secret.pth"
    (run / "config.json").write_text(json.dumps(config))
    folder = tmp_path / "hub"
    assert export(run, "--to", "safetensors", "--output", folder) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert "secret" not in "".join(path.read_text("latin-1") for path in folder.iterdir())
    for own, given in zip(
        segkit.load(folder).model.state_dict().values(), segkit.load(run).model.state_dict().values(), strict=True
    ):
        assert torch.equal(own, given)
    found = run_code(folder / "README.md", monkeypatch)
    assert (found["labels"] == segkit.load(run).predict(folder / "photo.jpg")).all()


def test_without_the_run_s_folder_too_an_export_predicts_as_the_model_does(tmp_path: Path) -> None:
    facts = {"classes": ("a", "b"), "palette": ((0, 0, 0), (9, 9, 9)), "device": "cpu", "precision": "fp32"}
    own = Predictor(UNet(2, width=2, depth=1), **facts, resize=0.5, crop=[600, 700], stored=[[0], [7, 11]])
    segkit_export.export(own, to="safetensors", output=tmp_path / "hub")
    found = segkit.load(tmp_path / "hub", model=UNet(2, width=2, depth=1), device="cpu")
    assert found.stored == own.stored
    for name in ("resize", "crop"):  # by which large images are tiled
        assert list(np.ravel(getattr(found, name))) == list(np.ravel(getattr(own, name)))


def test_the_card_has_the_scores_beside_their_floors_and_what_the_hub_reads(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())["splits"]["test"]
    result_floor = result["floor"]["mean_iou"]
    assert export(run, "--to", "safetensors") == 0
    readme = run / "export" / "safetensors" / "README.md"
    facts = front_matter(readme)
    assert facts["library_name"] == "segkit"
    assert facts["pipeline_tag"] == "image-segmentation"
    assert {"image-segmentation", "unet"} <= set(facts["tags"])
    (results,) = facts["model-index"][0]["results"]
    assert results["dataset"] == {"type": "shapes", "name": "shapes", "split": "test"}
    assert results["metrics"][0] == {
        "type": "mean_iou",
        "value": result["mean_iou"],
        "name": f"mean_iou on test (floor {result_floor:.3f})",
    }
    text = readme.read_text("utf-8")
    assert f"| test | mean_iou | {result['mean_iou']:.3f} | {result_floor:.3f} |" in text
    shown = "–" if result["class_iou"]["disc"] is None else f"{result['class_iou']['disc']:.3f}"  # test may hold none
    assert f"| 1 | disc | #800000 | {shown} |" in text
    assert "| epochs | 1 |" in text
    assert f"torch {torch.__version__.partition('+')[0]}" in text


def test_scores_of_other_weights_are_not_claimed(run: Path) -> None:
    assert export(run / "last.pt", "--to", "safetensors") == 0
    readme = run / "export" / "safetensors" / "README.md"
    assert "None are known of these weights." in readme.read_text()
    assert "model-index" not in front_matter(readme)


def test_names_of_strangers_stay_text_in_the_card(run: Path) -> None:
    config, record = (json.loads((run / name).read_text()) for name in ("config.json", "run.json"))
    config["classes"][:3] = NAMES
    record["config"]["dataset"]["name"] = "x: [y\n---\n\x1b[31m\x85"
    for name, content in (("config.json", config), ("run.json", record)):
        (run / name).write_text(json.dumps(content))
    assert export(run, "--to", "safetensors") == 0
    readme = run / "export" / "safetensors" / "README.md"
    text = readme.read_text("utf-8")
    assert front_matter(readme)["model-index"][0]["results"][0]["dataset"]["type"] == "x: [y\n---\n\x1b[31m\x85"
    assert "\x1b" not in text
    assert r"| 1 | a\|b " in text
    assert "<img" not in text.replace(r"\<img", "")
    assert "](http" not in text.replace(r"\](", "")
    assert "\n# h" not in text


@pytest.mark.parametrize(
    ("given", "shown"), [("a_b", r"a\_b"), ("1.5 (x)", "1.5 (x)"), ("www.x http://y", r"www\.x http\://y")]
)
def test_markdown_is_escaped(given: str, shown: str) -> None:
    assert escaped(given) == shown


@pytest.mark.parametrize("resize", [0.5, 0.3, 0.55, 0.7, 0.75, 1.15, 1.5, 2, [20, 30], None])
def test_sides_are_rounded_as_the_data_is(resize: Any) -> None:
    for side in range(4, 400):
        assert resized_sides(side, side + 1, resize) == resized_size(side, side + 1, resize), (side, resize)


HALF, DEEP = Normalisation((0.5,) * 3, (0.5,) * 3), Normalisation((1077.0,) * 3, (24.0,) * 3, "float32")


@pytest.mark.parametrize("resize", [None, 0.5, 1.5, [46, 30]])
@pytest.mark.parametrize("any_size", [True, False])
@pytest.mark.parametrize("how", [HALF, DEEP], ids=["half", "float32"])
def test_the_graph_is_what_the_predictor_does(resize: Any, any_size: bool, how: Normalisation) -> None:
    torch.manual_seed(0)
    model = UNet(5, width=4, depth=2, patch_size=3).eval()
    facts = {"classes": list("abcde"), "palette": ((0, 0, 0),) * 5, "device": "cpu", "precision": "fp32"}
    predictor = Predictor(model, **facts, resize=resize, normalisation=how)  # type: ignore[arg-type]
    module = Deployed(predictor, logits=True, any_size=any_size)
    pixels = image(61, 45)
    if how is DEEP:
        pixels = 1024 + pixels.astype(np.float32) / 3
    with torch.no_grad():
        logits = module(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])[0]
    assert (logits.argmax(0) == logits_of(predictor, pixels).argmax(0)).float().mean() > 0.999
    warm = Predictor(model, **facts, resize=resize, normalisation=how, temperature=2.0)  # type: ignore[arg-type]
    cooler = Deployed(warm, logits=True, any_size=any_size)
    with torch.no_grad():
        halved = cooler(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])[0]
    assert torch.equal(halved, logits / 2)


@onnx
@pytest.mark.fault("F50")
@pytest.mark.parametrize("channels", [1, 12])
def test_a_model_of_more_than_8_bits_takes_the_values_as_they_are_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    torch.manual_seed(0)
    facts: dict[str, Any] = {
        "classes": ("a", "b"),
        "palette": ((0, 0, 0), (9, 9, 9)),
        "device": "cpu",
        "precision": "fp32",
    }
    how = replace(DEEP, mean=DEEP.mean[:1] * channels, std=DEEP.std[:1] * channels, no_data=channels == 12)
    predictor = Predictor(UNet(2, channels, width=4, depth=1), **facts, normalisation=how)
    done = segkit_export.export(predictor, to="onnx", output=tmp_path)
    assert done.signature == f"image float32 [B,{channels},H,W] -> labels uint8 [B,H,W]"
    assert done.agreement.share > 0.999
    stored = (1024 + image(40, 56)[..., 0].astype(np.uint16) // 3).astype(np.uint16)
    pixels = stored[..., None].repeat(channels, axis=2)
    if channels == 12:
        pixels = pixels.astype(np.float32)
        pixels[10:20, 10:20, 5] = np.nan  # no data
    np.save(tmp_path / "image.npy", pixels)
    labels = run_code(tmp_path / "README.md", monkeypatch)["labels"]
    own = predictor.predict(pixels)
    assert (own == 255).sum() == (100 if channels == 12 else 0)  # a graph knows no void
    assert (labels == own)[own != 255].mean() > 0.999
    assert len(np.unique(labels)) == 2


@pytest.mark.slow
@onnx
def test_a_resize_is_part_of_the_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path / "run", {"name": "unet", "width": 4, "depth": 1}, data={"resize": 0.5})
    capsys.readouterr()
    assert export(run, "--to", "onnx", "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["free"], done["least"]) == (["batch", "height", "width"], 6)
    predictor = segkit.load(run, device="cpu", precision="fp32")
    pixels = image(61, 45)
    labels = run_onnx(run / "export" / "onnx" / "model.onnx", pixels)
    assert (labels == predictor.predict(pixels)).mean() > 0.999


class Branching(nn.Module):
    """Is another network for larger images: no graph of any size can be that."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.near(image) if image.shape[-1] < 40 else self.far(image)
        return out


def predictor_of(model: nn.Module, classes: int = 2) -> Predictor:
    names, palette = [f"class {label}" for label in range(classes)], ((0, 0, 0),) * classes
    return Predictor(model, classes=names, palette=palette, device="cpu", precision="fp32")


def test_a_model_that_asks_for_the_size_gets_one_and_it_is_said(tmp_path: Path) -> None:
    predictor = predictor_of(Branching())
    done = segkit_export.export(predictor, to="torch-export", output=tmp_path, images=[image(24, 32)])
    assert (done.free, done.size) == (("batch",), (24, 32))
    assert done.signature == "image uint8 [B,3,24,32] -> labels uint8 [B,24,32]"
    (told,) = [line for line in done.lines() if "fixed" in line]
    assert told.startswith("the size is fixed, and --size H W chooses another: torch.export cannot follow the model: ")
    chosen = segkit_export.export(predictor, to="torch-export", output=tmp_path, size=(48, 64))
    assert (chosen.size, chosen.fixed_because) == ((48, 64), "")
    assert ".resize((64, 48))" in (tmp_path / "README.md").read_text()


class Counting(nn.Module):
    """Returns something else than it did in the graph: what was traced is not what it is."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, image: Tensor) -> Tensor:
        sign = -1.0 if torch.compiler.is_exporting() else 1.0
        return torch.cat([image[:, :1], image[:, 1:2]], 1) * self.scale * sign


def test_what_does_not_agree_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"agrees with PyTorch on \d+\.\d+ % of [\d,]+ pix.*at least 99\.9% .*--size"):
        segkit_export.export(predictor_of(Counting()), to="torch-export", output=tmp_path / "new" / "place")
    assert list(tmp_path.iterdir()) == []
    good = predictor_of(UNet(2, width=2, depth=1))
    segkit_export.export(good, to="torch-export", output=tmp_path)
    before = (tmp_path / "model.pt2").read_bytes()
    with pytest.raises(ModelError, match="agrees with PyTorch"):
        segkit_export.export(predictor_of(Counting()), to="torch-export", output=tmp_path)
    assert (tmp_path / "model.pt2").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "model.pt2"]


class Unfollowable(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        if float(image.mean()) > 0:  # a branch on values
            image = image + 1
        return image[:, :2]


def test_what_torch_cannot_follow_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError) as caught:
        segkit_export.export(predictor_of(Unfollowable()), to="torch-export", output=tmp_path)
    assert str(caught.value).startswith("torch.export cannot follow the model: ")
    assert "\n" not in str(caught.value)
    assert "; --to safetensors writes the weights alone" in str(caught.value)
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_model_given_as_an_object_is_exported_in_python(tmp_path: Path) -> None:
    shapes = segkit.datasets["shapes"]
    model = segkit.models["unet"](num_classes=6, width=2, depth=1)
    segkit.fit(
        model=model,
        loss=segkit.losses["cross_entropy"](num_classes=6, ignore_index=255),
        train=shapes(split="train", size=32, images=[2, 2, 2]),
        val=shapes(split="val", size=32, images=[2, 2, 2]),
        output=tmp_path / "run",
        epochs=1,
        batch_size=2,
        device="cpu",
        samples=0,
    )
    with pytest.raises(ConfigError, match=r"given as an object.*segkit_export\.export\(segkit\.load\(.*model=\.\.\.\)"):
        export(tmp_path / "run", "--to", "safetensors")
    assert not (tmp_path / "run" / "export").exists()
    predictor = segkit.load(tmp_path / "run", model=model)
    done = segkit_export.export(predictor, to="safetensors", output=tmp_path / "out", run=tmp_path / "run")
    assert done.agreement.share == 1
    assert "generated images" in str(done.agreement)
    assert segkit.load(tmp_path / "out", model=segkit.models["unet"](num_classes=6, width=2, depth=1)).classes
    assert 'segkit.load(".", model=model)' in (tmp_path / "out" / "README.md").read_text()


MISTAKES: list[tuple[Callable[[Path], list[object]], str]] = [
    (lambda run: [run, "--to", "onx"], r"--to onx: allowed are onnx, torch-export, safetensors; did you mean 'onnx'\?"),
    (lambda run: [run / "nowhere", "--to", "torch-export"], "nowhere is not a folder; give a run folder"),
    (lambda run: [run.parent, "--to", "torch-export"], "holds no weights .*; runs are .*unet"),
    (lambda run: [run, "--to", "safetensors", "--logits"], "writes weights, not a graph"),
    (
        lambda run: [run, "--to", "safetensors", "--output", "a.safetensors"],
        "a folder of model.safetensors, conf",
    ),
    (lambda run: [run, "--to", "torch-export", "--output", "a.onnx"], r"a file of --to torch-export ends in \.pt2"),
    (
        lambda run: [run, "--to", "safetensors", "--output", run],
        r"holds files that segkit has not written: .*model\.safetensors, .*config\.json",
    ),
    (lambda run: [run, "--to", "torch-export", "--output", run / "run.json"], "is not a folder"),
    (lambda run: [run, "--to", "torch-export", "--output", run / "run.json" / "a.pt2"], "is not a folder"),
    (lambda run: [run, "--to", "torch-export", "--output", "/proc/nowhere"], "/proc.* (cannot|could not) be written"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes_are_told(trained: Path, arguments: Callable[[Path], list[object]], message: str) -> None:
    before = sorted(trained.rglob("*"))
    with pytest.raises(SegkitError, match=message):
        export(*arguments(trained))
    assert sorted(trained.rglob("*")) == before


def test_files_of_others_stay(run: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# mine")
    with pytest.raises(ConfigError, match=r"holds files that segkit has not written: .*README\.md; choose another"):
        export(run, "--to", "safetensors", "--output", tmp_path)
    assert [path.name for path in tmp_path.glob("*.*")] == ["README.md"]
    assert export(run, "--to", "safetensors") == 0
    assert export(run, "--to", "safetensors") == 0  # its own it replaces
    (run / "export" / "safetensors" / "README.md").unlink()
    (run / "export" / "safetensors" / "README.md").symlink_to(tmp_path / "README.md")
    with pytest.raises(ConfigError, match=r"not written: .*README\.md"):
        export(run, "--to", "safetensors")
    assert (tmp_path / "README.md").read_text() == "# mine"


def test_without_the_extra_it_says_what_to_install(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = find_spec("json")
    monkeypatch.setattr(place, "find_spec", lambda name: None if name == "onnxruntime" else there)
    with pytest.raises(PluginError) as caught:
        export(trained, "--to", "onnx")
    assert str(caught.value) == "--to onnx needs onnxruntime: pip install onnxruntime"


@pytest.mark.parametrize("side", ["0", "-3", "x", "70000"])
def test_a_size_is_checked(trained: Path, side: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        export(trained, "--to", "torch-export", f"--size={side}", "3")
    assert "--size" in capsys.readouterr().err


@pytest.mark.fault("F49")
@pytest.mark.parametrize("inside", [True, False])
def test_an_output_that_is_no_number_is_told_and_not_compared(trained: Path, inside: bool) -> None:
    predictor = segkit.load(trained, device="cpu", precision="fp32")
    if inside:
        with torch.no_grad():
            next(predictor.model.parameters()).fill_(math.nan)
    classes, told = len(predictor.classes), "in PyTorch" if inside else "the exported file"
    with pytest.raises(
        NotFiniteError, match=f"^{told}, image 1 of the pictures: the model's output is NaN or infinite"
    ):
        compare(
            lambda batch: np.full((len(batch), classes, *batch.shape[2:]), 0.0 if inside else math.nan, np.float32),
            predictor,
            [image(32, 32)],
            "pictures",
            several=False,
        )


def test_images_without_data_do_not_say_that_a_file_differs() -> None:
    void = np.full((8, 8), 255, np.uint8)
    predictor: Any = SimpleNamespace(predict=lambda *_, **__: void, ignore_index=255)
    found = compare(lambda batch: np.zeros((1, 8, 8), np.uint8), predictor, [image(8, 8)], "pictures", several=False)
    assert (found.share, found.pixels) == (1.0, 0)
