"""What ``predict`` writes and tells is right: masks, probabilities, views, error pictures, scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from training import logits_of

import segkit
from segkit.cli import main
from segkit.data.visualize import VOID_COLOUR
from segkit.errors import LabelError
from segkit.inference import window_grid
from segkit.inference.predictor import Predictor
from segkit.model.unet import UNet
from segkit_folder.files import PairedFiles
from segkit_predict import ground_truth
from segkit_predict.ground_truth import GroundTruth

FACTS = {"classes": ("dark", "red", "blue"), "palette": ((0, 0, 0), (200, 0, 0), (0, 0, 200)), "device": "cpu"}
COLOURS = {"class": [(0, 0, 0), (90, 0, 0), (0, 90, 0)], "void": (255, 255, 255)}
CONFIG = """
[dataset]
name = "folder"
root = "data"
classes = ["background", "first", "second"]
{dataset}
[model]
name = "unet"
width = 4
depth = 2

[[loss]]
name = "cross_entropy"

[train]
epochs = 1
batch_size = 2
device = "cpu"
precision = "fp32"

[data]
resize = {resize}

[output]
samples = 1
"""


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """Smooth noise of 90 x 130 pixels."""
    coarse = torch.rand(1, 3, 12, 17, generator=torch.Generator().manual_seed(1))
    return (nn.functional.interpolate(coarse, (90, 130), mode="bilinear")[0] * 255).byte().permute(1, 2, 0).numpy()


@pytest.fixture
def random_run(run_folder: Path, write_config) -> Path:
    """A run whose network answers otherwise at nearly every pixel, and sees what is around."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    options = {"width": 4, "depth": 2, "norm": "none"}
    save_file(UNet(3, **options).state_dict(), run_folder / "model.safetensors")
    write_config(run_folder, model={"name": "unet", "options": options})
    return run_folder


def predict(run: Path, *arguments: object) -> int:
    return main(["predict", str(run), *map(str, arguments), "--device", "cpu"])


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["--tile", "64", "--overlap", "0.25", "--batch-size", "3"], {"tile": 64, "overlap": 0.25, "batch_size": 3}),
        (["--tta"], {"flips": "horizontal", "scales": (0.75, 1, 1.25)}),
        (["--flip", "both", "--scales", "0.5,1", "--tile", "64"], {"flips": "both", "scales": (0.5, 1), "tile": 64}),
    ],
)
@pytest.mark.parametrize("probabilities", [False, True])
def test_the_mask_is_what_the_model_predicts(random_run, photograph, tmp_path, arguments, options, probabilities):
    image, out = tmp_path / "photo.png", tmp_path / "out"
    Image.fromarray(photograph).save(image)
    assert predict(random_run, image, "--out", out, *arguments, *["--probabilities"] * probabilities) == 0
    expected = segkit.load(random_run, device="cpu").predict(photograph, **options)
    with Image.open(out / "photo.png") as mask:
        labels = np.asarray(mask)
        assert mask.getpalette()[:9] == [0, 0, 0, 200, 0, 0, 0, 0, 200]
    assert np.array_equal(labels, expected)
    assert len(np.unique(labels)) > 1
    if not probabilities:
        return
    with np.load(out / "photo.npz") as arrays:
        found, names = arrays["probabilities"], arrays["classes"]
    assert names.tolist() == ["dark", "red", "blue"]
    assert found.dtype == np.float16
    assert found.shape == (3, 90, 130)
    np.testing.assert_allclose(found.astype(np.float32).sum(0), 1, atol=1e-3)  # three numbers of 11 bits
    assert np.array_equal(np.take_along_axis(found, labels[None].astype(int), 0)[0], found.max(0))


@pytest.mark.parametrize(("flips", "axes"), [("horizontal", [(), (1,)]), ("both", [(), (1,), (0,), (0, 1)])])
def test_views_are_averaged_as_probabilities(photograph, flips, axes):
    torch.manual_seed(0)
    predictor = Predictor(UNet(3, width=4, depth=2, norm="none"), **FACTS, precision="fp32")
    views = []
    for each in axes:
        seen = logits_of(predictor, np.flip(photograph, each)).softmax(0).numpy()
        views.append(np.flip(seen, tuple(axis + 1 for axis in each)))
    averaged = predictor.probabilities(photograph, flips=flips)
    np.testing.assert_allclose(averaged, np.mean(views, 0), atol=1e-6)
    assert np.abs(averaged - views[0]).max() > 1e-3, "all views are the same: the test shows nothing"
    turned = predictor.probabilities(photograph[:, ::-1], flips=flips)
    np.testing.assert_allclose(turned[:, :, ::-1], averaged, atol=1e-6)


def test_scales_are_those_of_the_image(photograph):
    sizes = []

    class Probe(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sizes.append(tuple(images.shape[2:]))
            return images

    whole = Predictor(Probe(), **FACTS, precision="fp32")
    found = whole.probabilities(photograph, scales=(0.5, 1.0, 2.0))
    assert sizes == [(45, 65), (90, 130), (180, 260)]
    each = [whole.probabilities(photograph, scales=(scale,)) for scale in (0.5, 1.0, 2.0)]
    np.testing.assert_allclose(found, np.mean(each, 0), atol=1e-6)
    np.testing.assert_allclose(each[1], logits_of(whole, photograph).softmax(0).numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", ["Path", "str", "array", "Pillow", "Pillow with transparency"])
def test_the_same_image_in_any_form(colour_model, picture, labels, kind):
    with Image.open(picture) as opened:
        given = {
            "Path": picture,
            "str": str(picture),
            "array": np.asarray(opened),
            "Pillow": opened.copy(),
            "Pillow with transparency": opened.convert("RGBA"),
        }[kind]
    assert np.array_equal(Predictor(colour_model, **FACTS).predict(given), labels)


def test_an_error_picture_pixel_by_pixel(run_folder, paint, tmp_path, capsys):
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 20:40], labels[:, 40:] = 1, 2
    truth = labels.copy()
    truth[:10, :20] = 255  # void, of which nothing is said
    truth[10:20, 20:40] = 2  # wrong
    truth[39, 59] = 0  # wrong
    (tmp_path / "masks").mkdir()
    Image.fromarray(paint(labels)).save(tmp_path / "photo.png")
    Image.fromarray(truth).save(tmp_path / "masks" / "photo.png")
    arguments = [tmp_path / "photo.png", "--out", tmp_path / "out", "--compare-with", tmp_path / "masks", "--json"]
    assert predict(run_folder, *arguments) == 0
    with Image.open(tmp_path / "out" / "photo_error.png") as opened:
        page = np.asarray(opened.convert("RGB"))
    top, step = 6 + 20, 360 + 6  # the margin and the caption; a picture, six times as large, and what lies between two
    tiles = (page[top : top + 240, 6 + k * step : 366 + k * step] for k in range(4))
    image, true, predicted, errors = (tile[3::6, 3::6] for tile in tiles)
    colours = np.array(FACTS["palette"], np.uint8)
    assert np.abs(image.astype(int) - paint(labels)).mean() < 2  # enlarged smoothly
    assert np.array_equal(predicted, colours[labels])
    assert np.array_equal(true[truth != 255], colours[truth[truth != 255]])
    assert (true[truth == 255] == VOID_COLOUR).all()
    expected = np.repeat((paint(labels).mean(axis=2, keepdims=True) * 0.5).astype(np.uint8), 3, axis=2)
    expected[truth == 255] = VOID_COLOUR
    expected[10:20, 20:40] = expected[39, 59] = (230, 25, 25)
    assert np.array_equal(errors, expected)
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores["pixel_accuracy"] == pytest.approx(1 - 201 / 2200, abs=1e-6)
    assert scores["class_iou"] == pytest.approx({"dark": 600 / 601, "red": 600 / 800, "blue": 799 / 1000}, abs=1e-6)
    assert scores["mean_iou"] == pytest.approx((600 / 601 + 600 / 800 + 799 / 1000) / 3, abs=1e-6)
    assert scores["floor"]["class"] == "blue"
    assert scores["floor"]["mean_iou"] == pytest.approx(999 / 2200 / 3, abs=1e-6)


def repaint(masks: Path, stored: str) -> None:
    """Store the labels of all masks in another way; the first row of each becomes void."""
    for path in masks.rglob("*.png"):
        with Image.open(path) as mask:
            labels = np.asarray(mask).copy()
        labels[0] = 255
        if stored == "colours":
            table = np.full((256, 3), COLOURS["void"], np.uint8)
            table[:3] = COLOURS["class"]
            labels = table[labels]
        elif stored == "values":
            labels = np.where(labels == 255, 7, labels * 50).astype(np.uint8)
        Image.fromarray(labels).save(path)


DATASETS = {
    "indices": "",
    "values": 'value_map = {"0" = 0, "50" = 1, "100" = 2, "7" = 255}',
    "colours": "colour_map = {background = [0, 0, 0], first = [90, 0, 0], second = [0, 90, 0], void = [255, 255, 255]}",
}


@pytest.mark.parametrize("whole", [window_grid.MAX_WHOLE_PIXELS, 400])
@pytest.mark.parametrize(("stored", "resize"), [("indices", "1.5"), ("values", "0.5"), ("colours", "[24, 40]")])
def test_scores_are_those_of_evaluate(tmp_path, monkeypatch, capsys, stored, resize, whole):
    """Those of images that are too large to be seen whole too."""
    monkeypatch.setattr(window_grid, "MAX_WHOLE_PIXELS", whole)
    monkeypatch.setattr(window_grid, "MIN_SIDE", 32)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGKIT_REPORT", "0")
    segkit.datasets["folder"].write_sample(tmp_path / "data")
    repaint(tmp_path / "data" / "masks", stored)
    (tmp_path / "mine.toml").write_text(CONFIG.format(dataset=DATASETS[stored], resize=resize))
    assert main(["run", "mine.toml", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "runs/mine", "--split", "val", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["splits"]["val"]
    command = ["data/images/val", "--out", "out", "--compare-with", "data/masks/val"]
    assert predict(Path("runs/mine"), *command, "--json") == 0
    found = json.loads(capsys.readouterr().out)["scores"]
    assert set(expected) - set(found) == {"loss", "losses"}
    assert found["floor"] == expected["floor"]
    for name in ("class_iou", "predicted"):
        assert found.pop(name) == pytest.approx(expected.pop(name), abs=1e-3)
    numbers = {name: value for name, value in found.items() if isinstance(value, float)}
    assert len(numbers) >= 5
    # one image at a time or a batch: the last bits of a logit differ, and so may one pixel in a million
    assert numbers == pytest.approx({name: expected[name] for name in numbers}, abs=1e-3)
    assert 0 < found["pixel_accuracy"] < 1
    assert predict(Path("runs/mine"), *command, "--quiet") == 0
    assert "data/masks/val, read as the run's:" in capsys.readouterr().out
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # where there is no folder "data"
    command = [tmp_path / place if "/" in place else place for place in command]
    status = predict(tmp_path / "runs" / "mine", *command)
    printed = capsys.readouterr()
    if stored == "indices":
        assert status == 0
        told = " ".join(printed.out.split())
        assert "read as class indices, as the run's own data is not at hand" in told
        assert f"mean_iou {found['mean_iou']:.3f} {found['floor']['mean_iou']:.3f}" in told
    else:
        assert status == 2
        assert "the run's masks do not store class indices, and the run's own data" in printed.err


def test_scores_count_the_images_that_were_done_and_no_others(run_folder, labels, paint, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    wrong = (labels + 1) % 3
    kinds = {"good": labels, "wrong": wrong, "size": labels[:5], "label": labels + 3, "jpeg": labels, "broken": labels}
    for name, truth in kinds.items():
        Image.fromarray(paint(labels)).save(tmp_path / "images" / f"{name}.png")
        ending = {"good": "tif", "wrong": "bmp", "jpeg": "jpg"}.get(name, "png")  # a mask's ending is its own
        Image.fromarray(truth).save(tmp_path / "masks" / f"{name}.{ending}")
    (tmp_path / "images" / "broken.png").write_bytes(b"none")
    out = tmp_path / "out"
    arguments = [tmp_path / "images", "--out", out, "--compare-with", tmp_path / "masks", "--no-overlay", "--json"]
    assert predict(run_folder, *arguments) == 1
    document = json.loads(capsys.readouterr().out)
    told = {
        "size": "image and mask differ in size (18 x 5, image",
        "label": "labels that are not allowed (3: ",
        "jpeg": "the mask is a JPEG, and that changes labels",
        "broken": "not an image of a known format",
    }
    assert {Path(path).stem for path in document["failed"]} == set(told)
    for path, reason in document["failed"].items():
        assert told[Path(path).stem] in reason
    assert document["scores"]["pixel_accuracy"] == pytest.approx(0.5)
    assert sorted(path.name for path in out.iterdir()) == ["good.png", "good_error.png", "wrong.png", "wrong_error.png"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda masks: (masks / "street.png").unlink(), "has no mask for"),
        (lambda masks: shutil.copy(masks / "street.png", masks / "street.bmp"), "has several masks of one name"),
        (lambda masks: shutil.rmtree(masks), "is no folder; give the folder of the true masks"),
        (
            lambda masks: (masks / "street.png").rename(masks / "street_mask.png"),
            "would be street.png, .tif or another picture alone (see --mask-suffix)",
        ),
    ],
)
def test_masks_that_are_not_one_an_image(run_folder, picture, labels, tmp_path, capsys, change, told):
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(labels).save(masks / "street.png")
    change(masks)
    assert predict(run_folder, picture, "--out", tmp_path / "out", "--compare-with", masks) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_masks_of_another_name_beside_the_images(run_folder, picture, labels, tmp_path, capsys):
    Image.fromarray(labels).save(picture.parent / "street_mask.png")
    arguments = [picture, "--out", tmp_path / "out", "--compare-with", picture.parent, "--mask-suffix", "_mask"]
    assert predict(run_folder, *arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)["scores"]["mean_iou"] == 1


def test_masks_beside_the_images_in_a_folder_each(run_folder, labels, paint, tmp_path, capsys):
    for flight, truth in (("a", labels), ("b", (labels + 1) % 3)):
        (tmp_path / "all" / flight).mkdir(parents=True)
        Image.fromarray(paint(labels)).save(tmp_path / "all" / flight / "tile_0.tif")
        Image.fromarray(truth).save(tmp_path / "all" / flight / "tile_0_mask.tif")
    arguments = ["--out", tmp_path / "out", "--compare-with", tmp_path / "all", "--mask-suffix", "_mask", "--json"]
    assert predict(run_folder, tmp_path / "all" / "**" / "*.tif", *arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["images"] == 2
    assert document["scores"]["pixel_accuracy"] == pytest.approx(0.5)


def test_masks_in_a_file_of_several_pictures_are_told(run_folder, labels, paint, tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    np.savez(tmp_path / "all.npz", a=paint(labels), b=paint(labels))
    np.savez(tmp_path / "masks" / "all.npz", a=labels, b=labels)
    arguments = ["--out", tmp_path / "out", "--compare-with", tmp_path / "masks"]
    assert predict(run_folder, tmp_path / "all.npz", *arguments) == 2
    assert "masks in a file of several pictures are not read here" in capsys.readouterr().err


def test_true_masks_are_not_written_over(run_folder, picture, tmp_path, capsys):
    """Predictions of another model may be compared with, and are ours: nothing else would keep them."""
    assert predict(run_folder, picture, "--out", tmp_path / "teacher") == 0
    (tmp_path / "link").symlink_to("teacher")
    before = (tmp_path / "teacher" / "street.png").stat().st_mtime_ns
    for out in ("teacher", "link"):
        assert predict(run_folder, picture, "--out", tmp_path / out, "--compare-with", tmp_path / "teacher") == 2
        assert "--out and --compare-with are the same folder" in capsys.readouterr().err
    assert (tmp_path / "teacher" / "street.png").stat().st_mtime_ns == before
    assert predict(run_folder, picture, "--out", tmp_path / "pupil", "--compare-with", tmp_path / "teacher") == 0


@pytest.mark.parametrize("json_", [False, True])
def test_masks_that_are_all_void_cost_no_prediction(run_folder, picture, labels, tmp_path, capsys, json_):
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.full_like(labels, 255)).save(tmp_path / "masks" / "street.png")
    arguments = ["--out", tmp_path / "out", "--compare-with", tmp_path / "masks", *["--json"] * json_]
    assert predict(run_folder, picture, *arguments) == 1
    printed = capsys.readouterr()
    assert "no pixel is labelled" in printed.err
    if json_:
        document = json.loads(printed.out)
        assert document["scores"] is None
        assert document["predicted"]["red"] == pytest.approx((labels == 1).mean())
    else:
        assert "1 of 1 images predicted" in printed.out


@pytest.mark.parametrize(
    "content", ["[]", "none", '{"config": {"dataset": {"name": 5}}}', '{"config": {"dataset": {"name": "gone"}}}']
)
def test_a_run_json_that_says_nothing_leaves_class_indices(run_folder, picture, labels, tmp_path, capsys, content):
    (run_folder / "run.json").write_text(content)
    (tmp_path / "masks").mkdir()
    Image.fromarray(labels).save(tmp_path / "masks" / "street.png")
    assert predict(run_folder, picture, "--out", tmp_path / "out", "--compare-with", tmp_path / "masks", "--quiet") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "read as class indices, as the run's own data is not at hand" in told
    assert "mean_iou 1.000" in told


@pytest.mark.fault("F51")
def test_true_masks_in_the_colours_of_other_classes_are_not_scored(run_folder, picture, labels, tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    mask = Image.fromarray((labels + 1) % 3).convert("P")
    mask.putpalette([0, 0, 200, 0, 0, 0, 200, 0, 0])  # blue, dark, red: all labels are one too high
    mask.save(tmp_path / "masks" / "street.png")
    arguments = [picture, "--out", tmp_path / "out", "--compare-with", tmp_path / "masks"]
    assert predict(run_folder, *arguments) == 1
    assert "the palette draws labels in the colours of others" in capsys.readouterr().err


@pytest.mark.fault("F51")
def test_the_second_of_two_true_masks_that_contradict_each_other_is_refused(tmp_path, monkeypatch):
    own = PairedFiles([], classes=("dark", "red", "blue"), palette=FACTS["palette"])
    own.palette_is_assumed = True
    for name, colours in (("a", [0, 0, 0, 9, 0, 0, 0, 9, 0]), ("b", [0, 0, 0, 0, 9, 0, 9, 0, 0])):
        Image.new("RGB", (6, 4)).save(tmp_path / f"{name}.png")
        mask = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) % 3).convert("P")
        mask.putpalette(colours)
        (tmp_path / "masks").mkdir(exist_ok=True)
        mask.save(tmp_path / "masks" / f"{name}.png")
    monkeypatch.setattr(ground_truth, "_dataset_of", lambda *_: own)
    truth = GroundTruth({tmp_path / f"{name}.png": name for name in "ab"}, tmp_path / "masks", "", tmp_path, None, 1000)
    assert truth.mask(tmp_path / "a.png").shape == (4, 6)
    with pytest.raises(LabelError, match="the palettes of these two masks differ"):
        truth.mask(tmp_path / "b.png")
    assert truth.mask(tmp_path / "a.png").shape == (4, 6)


def test_true_masks_are_divided_as_those_of_the_run_and_are_read_for_blank_images_too(tmp_path, monkeypatch):
    own = PairedFiles([], classes=("dark", "red"), palette=[(0, 0, 0), (255, 0, 0)], values={0: 0, 255: 1})
    grey = np.repeat(np.arange(0, 256, 51, dtype=np.uint8), 4).reshape(6, 4).T  # 0, 51, ... 255
    (tmp_path / "masks").mkdir()
    for name, mask in (("a", Image.fromarray(grey).quantize(6)), ("b", Image.fromarray(grey > 127))):
        Image.new("RGB", (6, 4)).save(tmp_path / f"{name}.png")
        mask.save(tmp_path / "masks" / f"{name}.png")
    own.threshold, own.blank = 128, [tmp_path / "a.png"]
    monkeypatch.setattr(ground_truth, "_dataset_of", lambda *_: own)
    images = {tmp_path / f"{name}.png": name for name in "ab"}
    truth = GroundTruth(images, tmp_path / "masks", "", tmp_path, None, 1000)
    assert [truth.mask(image)[0].tolist() for image in images] == [[0, 0, 0, 1, 1, 1]] * 2


def test_true_masks_of_0_and_255_are_not_scored_where_255_may_be_the_foreground(
    run_folder, write_config, picture, tmp_path, capsys
):
    facts = {"model": {"name": "unet", "options": {"width": 2, "depth": 1, "norm": "none"}}, "num_classes": 2}
    write_config(run_folder, **facts, classes=["dark", "red"], palette=[[0, 0, 0], [200, 0, 0]])
    model = UNet(2, width=2, depth=1, norm="none")
    save_file(model.state_dict(), run_folder / "model.safetensors")
    (tmp_path / "masks").mkdir()
    truth = np.zeros((13, 18), np.uint8)
    truth[:5] = 255
    Image.fromarray(truth).save(tmp_path / "masks" / "street.png")
    assert predict(run_folder, picture, "--out", tmp_path / "out", "--compare-with", tmp_path / "masks") == 1
    assert "the masks hold 0 and 255 alone, and 255 is void where nothing else is said" in capsys.readouterr().err
    write_config(run_folder, **facts, classes=["dark", "red"], palette=[[0, 0, 0], [200, 0, 0]], stored=[[0], [255]])
    assert predict(run_folder, picture, "--out", tmp_path / "out", "--compare-with", tmp_path / "masks") == 2
    assert "the run's masks do not store class indices" in capsys.readouterr().err
    truth[6:] = 1
    write_config(run_folder, **facts, classes=["dark", "red"], palette=[[0, 0, 0], [200, 0, 0]])
    Image.fromarray(truth).save(tmp_path / "masks" / "street.png")
    assert predict(run_folder, picture, "--out", tmp_path / "out", "--compare-with", tmp_path / "masks") == 0
