"""The command ``predict`` with input that nobody had in mind: it names what is wrong, and does the rest."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

import segkit
from segkit.cli import main
from segkit.errors import ConfigError, DataError
from segkit_predict import geotiff, outputs, writer
from segkit_predict.images import list_images
from segkit_predict.outputs import name_outputs
from segkit_predict.writer import Writer
from segkit_samples.marked import refuse_foreign


def indices(path):
    with Image.open(path) as mask:
        return np.asarray(mask)


@pytest.fixture
def predict(run_folder, tmp_path):
    def run(*arguments, out=tmp_path / "out"):
        return main(["predict", str(run_folder), *map(str, arguments), "--out", str(out), "--device", "cpu"])

    return run


def standard_input(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))


def test_what_is_no_image_is_named_and_the_rest_done(predict, picture, labels, tmp_path, capsys):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "page.jpg").write_text("<html>")
    (tmp_path / "cut.png").write_bytes(picture.read_bytes()[:-40])
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    told = {
        "empty.png": "the file is empty",
        "text.png": "not an image of a known format",
        "page.jpg": "not an image but text in HTML or XML",
        "cut.png": "damaged or cut short",
        "loop.png": "cannot be read (Too many levels of symbolic links)",
        "dangling.png": "no such file",
        "pipe.png": "not a regular file",
        "n" * 300 + ".png": "cannot be read (File name too long)",
    }
    assert predict(*[tmp_path / name for name in told], picture) == 1
    printed = capsys.readouterr()
    for name, reason in told.items():
        assert f"segkit: {tmp_path / name}: {reason}" in printed.err
    assert "1 of 9 images predicted" in printed.out
    assert np.array_equal(indices(tmp_path / "out" / "street.png"), labels)


def test_lists_of_lines_and_of_names_that_zero_bytes_end(picture, tmp_path, monkeypatch):
    odd = tmp_path / "two\nlines.png"
    odd.write_bytes(picture.read_bytes())
    pattern = str(tmp_path / "**" / "str*.png")
    for content, expected in [
        (f"{picture}\r\n\n{picture.parent}\n{pattern}\n", [picture]),
        (f"{odd}\0{picture}\0", [odd, picture]),
    ]:
        standard_input(monkeypatch, content.encode())
        assert [*list_images(["-"])] == expected
    for content in (b"", b"\n \n", b"\0\0"):
        standard_input(monkeypatch, content)
        with pytest.raises(DataError, match="the standard input names no image"):
            list_images(["-"])
    standard_input(monkeypatch, b"n" * 5000 + b"\n\xff.png\n")
    assert list(map(os.fsencode, list_images(["-"]))) == [b"n" * 5000, b"\xff.png"]


def test_a_folder_is_not_searched_and_a_pattern_is(picture, tmp_path):
    deep = picture.parent / "deep" / "er" / "road.JPG"
    deep.parent.mkdir(parents=True)
    deep.write_bytes(picture.read_bytes())
    (picture.parent / "folder.png").mkdir()
    assert [*list_images([picture.parent])] == [picture]
    assert [*list_images([picture.parent / "**" / "*"])] == [deep, picture]
    assert [*list_images([picture.parent / "**" / "*.JPG"])] == [deep]
    with pytest.raises(DataError, match=r"no image matches .*\*\.gif; looked for \.jpg, "):
        list_images([picture.parent / "*.gif"])


@pytest.mark.parametrize("images", [48, [48, 16], None])
def test_an_option_of_the_data_set_that_is_no_pattern_selects_no_images(picture, images):
    assert list_images([picture.parent], pattern=images) == {picture: "street"}


def test_a_folder_that_cannot_be_read_is_told(picture, monkeypatch):
    def refused(folder):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(type(picture), "iterdir", refused)
    with pytest.raises(DataError, match=r"pictures cannot be read: Permission denied"):
        list_images([picture.parent])


def test_a_name_that_is_too_long_for_what_is_written_is_told(predict, picture, tmp_path, capsys):
    long = picture.with_name("n" * 250 + ".png")
    long.write_bytes(picture.read_bytes())
    assert predict(picture.parent) == 1
    assert f"{long.stem}.png could not be written: File name too long" in capsys.readouterr().err


def test_folders_that_are_kept_do_not_lead_out_of_the_folder_for_the_files(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    images = {Path(f"{name}.png"): name[-1] for name in ("../a/1", "b/1", "b/c/../2")}
    named = name_outputs(images, Path("out"), ["mask"])
    assert [files["mask"].as_posix() for files in named] == ["out/a/1.png", "out/here/b/1.png", "out/here/b/2.png"]
    assert name_outputs(dict([*images.items()][1:]), Path("out"), ["mask"])[0]["mask"] == Path("out/1.png")


def test_no_file_of_an_image_is_that_of_another(tmp_path):
    images = {tmp_path / f"{name}.png": name for name in ("a", "b", "a_2", "a_overlay")}
    images |= {tmp_path / "a.jpg": "a", tmp_path / "other" / "B.png": "B"}
    named = name_outputs(images, tmp_path / "out", [*outputs.ENDINGS])
    files = [str(path).casefold() for each in named for path in each.values()]
    assert len(set(files)) == len(files)
    assert [each["mask"].relative_to(tmp_path / "out").as_posix() for each in named] == [
        *("a_png.png", "b_png.png", "a_2_png.png", "a_overlay_png.png", "a_jpg.png", "other/B_png.png")
    ]
    for one, other in (("a", "A"), ("a", "a_error")):
        with pytest.raises(ConfigError, match=rf"several images would be written to .*{one}.*png, .*{other}.*png"):
            name_outputs(
                {tmp_path / f"{name}.png": name for name in (one, other)}, tmp_path / "out", ["errors", "mask"]
            )


MODES = ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "turned"]


@pytest.mark.parametrize("mode", MODES)
def test_images_of_every_kind(predict, picture, labels, paint, tmp_path, mode):
    image, path, options = Image.fromarray(paint(labels)), tmp_path / "odd.png", {}
    expected = labels
    if mode == "turned":
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 8
        image = image.transpose(Image.Transpose.ROTATE_270)
    elif mode in ("1", "L", "LA"):
        image = Image.fromarray(np.where(labels == 1, 0, 255).astype(np.uint8)).convert(mode)
        expected = np.where(labels == 1, 0, 2)  # white counts for blue, whose mean is the lowest in photographs
    elif mode == "P":
        image, options = image.quantize(3), {"transparency": bytes([9] * 256)}
    else:
        path = tmp_path / ("odd.png" if mode == "RGBA" else "odd.tif")
        image = image.convert(mode)
    image.save(path, **options)
    assert predict(path) == 0
    assert np.array_equal(indices(tmp_path / "out" / "odd.png"), expected)


def test_files_that_are_skipped_and_georeferences_that_are_lost_are_told(predict, picture, labels, paint, capsys):
    folder = picture.parent
    for name in ("a.ecw", "b.ECW", "notes.txt", "README", ".hidden"):
        (folder / name).write_text("")
    (folder / "sub").mkdir()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[33550], tags.tagtype[33550] = (10.0, 10.0, 0.0), 12  # metres a pixel
    with Image.open(picture) as opened:
        opened.save(folder / "map.tif", tiffinfo=tags)
    assert predict(folder) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "2 of 2 images predicted" in told
    assert "skipped 4 of 6 files, which are not read: 2 .ecw, 1 without an ending, 1 .txt" in told
    assert "1 of 2 images say where on Earth their pixels lie; " in told
    assert ("NAME.tif beside" if geotiff.is_installed() else "the masks do not: they are PNG") in told
    assert predict(folder, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["skipped"] == {".ecw": 2, "": 1, ".txt": 1}
    assert told["georeferenced"] == 1
    picture.unlink()
    (folder / "map.tif").unlink()
    assert predict(folder) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "holds no image; looked for" in told
    assert "and it holds 2 .ecw, 1 without an ending" in told
    assert "in its folders" not in told
    photo = Image.fromarray(paint(labels))
    photo.save(folder / "sub" / "below.png")
    assert predict(folder) == 2
    assert f'1 images are in its folders: give "{folder}/**/*"' in " ".join(capsys.readouterr().err.split())
    assert predict(f"{folder}/**/*") == 0
    photo.save(folder / "beside.png")
    capsys.readouterr()
    assert predict(folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["skipped"][".png in its folders"] == 1
    (folder / "beside.png").unlink()
    (folder / "run.json").write_text("{}")  # RUN and IMAGES in the wrong order
    assert predict(folder) == 2
    assert "is the folder of a run, not of images; the run comes first" in " ".join(capsys.readouterr().err.split())


@pytest.mark.fault("F50")
def test_a_model_of_8_bits_refuses_more_and_the_reverse(predict, picture, labels, write_config, run_folder, capsys):
    deep = picture.with_name("deep.png")
    Image.fromarray((labels * 1000.0).astype(np.uint16)).save(deep)
    assert predict(deep, picture) == 1
    assert "deep.png: its values are float32, but the model was trained on images of 8 bits per channel" in (
        capsys.readouterr().err
    )
    write_config(run_folder, normalisation={"mean": [1000.0] * 3, "std": [900.0] * 3, "dtype": "float32"})
    assert predict(deep, picture) == 1
    assert "street.png: its values are uint8, but the model was trained on images of more than 8 bits per channel" in (
        capsys.readouterr().err
    )


@pytest.mark.fault("F50")
def test_what_would_be_cut_is_named_and_the_rest_is_done(predict, picture, labels, paint, tmp_path, capsys):
    photo = Image.fromarray(paint(labels))
    photo.save(tmp_path / "pages.tif", save_all=True, append_images=[photo])
    photo.putalpha(Image.fromarray((labels * 100).astype(np.uint8)))
    photo.save(tmp_path / "cut-out.png")
    assert predict(tmp_path / "pages.tif", tmp_path / "cut-out.png", picture) == 1
    told = capsys.readouterr()
    assert "3 of 4 images predicted" in told.out
    assert np.array_equal(indices(tmp_path / "out" / "pages_2.png"), labels)
    assert "cut-out.png: transparency or a fourth channel that varies (0 to 200)" in told.err


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (70_000, 1), (1, 70_000)])
def test_images_of_every_shape(predict, tmp_path, size):
    Image.new("RGB", size, (250, 20, 20)).save(tmp_path / "thin.png")
    (tmp_path / "masks").mkdir()
    Image.new("L", size, 1).save(tmp_path / "masks" / "thin.png")
    assert predict(tmp_path / "thin.png", "--compare-with", tmp_path / "masks", "--tta", "--probabilities") == 0
    mask = indices(tmp_path / "out" / "thin.png")
    assert mask.shape == size[::-1]
    assert (mask == 1).all()
    with Image.open(tmp_path / "out" / "thin_overlay.jpg") as overlay:
        factor = 2 if max(size) == 70_000 else 1  # a JPEG has at most 65,500 pixels a side
        assert overlay.size == tuple(-(-side // factor) for side in size)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--tile", "8"], "tile = 8"),
        (["--tile", "-16"], "tile = -16"),
        (["--tile", "1.5"], "tile = 1.5: should be a valid integer, or should be 'auto' or 0"),
        (["--overlap", "0.95"], "overlap = 0.95"),
        (["--overlap", "nan"], "overlap = nan"),
        (["--batch-size", "-1"], "batch_size = -1"),
        (["--scales", ""], "scales = []: "),
        (["--scales", "1,nan"], "scales = [1, nan]"),
        (["--scales", "1e9"], "scales = [1000000000.0]"),
        (["--max-pixels", "0"], "--max-pixels: '0': give a whole number of at least 1"),
        (["--max-pixels", "-5"], "--max-pixels: '-5': give a whole number of at least 1"),
        (["--overlap", ".5"], "overlap = '.5': should be a valid number"),
        (["--mask-suffix", "_mask"], "--mask-suffix needs true masks; give their folder"),
        (["--metrics"], "--metrics compares predictions with true masks"),
    ],
)
def test_options_that_mean_nothing(predict, picture, tmp_path, capsys, options, told):
    try:
        status = predict(picture, *options)
    except SystemExit as left:
        status = left.code
    assert status == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_tiles_of_a_network_that_has_seen_whole_images_alone(
    predict, picture, run_folder, write_config, tmp_path, capsys
):
    write_config(run_folder, resize=[16, 20])
    assert predict(picture, "--tile", "256") == 2
    told = "tile = 256: no tiles are used, because the network was trained on whole images resized to [16, 20]"
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="tile = 256: no tiles are used"):
        segkit.load(run_folder, device="cpu").predict(picture, tile=256)
    assert predict(picture, "--tile", "0") == 0


def test_true_masks_may_be_as_large_as_the_images(predict, picture, labels, tmp_path, monkeypatch):
    (tmp_path / "masks").mkdir()
    Image.fromarray(labels).save(tmp_path / "masks" / "street.png")
    monkeypatch.setattr("segkit_folder.files.PairedFiles.most_pixels", 233)  # of a data set; the picture has 234
    assert predict(picture, "--compare-with", tmp_path / "masks", "--metrics") == 0
    assert predict(picture, "--compare-with", tmp_path / "masks", "--max-pixels", 233) == 1


def test_an_image_of_too_many_pixels_is_named(predict, picture, tmp_path, capsys):
    assert predict(picture, "--max-pixels", 233) == 1
    assert "street.png: larger than the limit of 233 pixels (18 x 13)" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []
    assert predict(picture, "--max-pixels", 234) == 0


@pytest.mark.parametrize("place", ["n" * 300, "loop", "loop/deeper", "file/deeper", "dangling"])
def test_a_place_where_nothing_can_be_written(predict, picture, tmp_path, capsys, place):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").write_text("")
    assert predict(picture, out=tmp_path / place) == 2
    assert f"--out {tmp_path / place} cannot be written: " in capsys.readouterr().err


def test_a_folder_that_others_may_not_look_into(picture, tmp_path, monkeypatch):
    def refused(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "street.png").write_text("content")
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ConfigError, match=r"out cannot be written: .*street\.png: Permission denied"):
        name_outputs({picture: "street"}, tmp_path / "out", ["mask"])


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")  # noqa: PTH110
def test_a_standard_output_that_is_full_or_closed(run_folder, picture, tmp_path):
    command = [sys.executable, "-m", "segkit", "predict", str(run_folder), str(picture), "--json", "--out"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run([*command, str(tmp_path / "a")], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "segkit: the output could not be written completely: No space left on device\n"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*command, str(tmp_path / "b")], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
    for out in ("a", "b"):
        refuse_foreign((tmp_path / out).iterdir(), out)


LIMITED = """
import resource, sys
from segkit.cli import main
from segkit_predict import geotiff
from segkit_predict.geotiff import is_installed
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits files as Linux does")
def test_a_file_that_cannot_be_written_to_its_end_is_not_there(run_folder, picture, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    command = ["predict", str(run_folder), str(picture), str(tmp_path / "noise.png"), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", LIMITED, *command], capture_output=True, text=True)
    assert done.returncode == 1
    assert "noise.png could not be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["street.png", "street_overlay.jpg"]


def test_few_images_wait_to_be_written_and_none_where_the_next_is_large(predict, picture, tmp_path, monkeypatch):
    asked, written, waited = [], [], []

    def predicted(_writer, job, _read):
        waited.append(len(asked) - len(written))
        asked.append(job)

    monkeypatch.setattr(Writer, "_predict", predicted)
    monkeypatch.setattr(Writer, "_write", lambda *_: (time.sleep(0.02), written.append(1)))
    (tmp_path / "many").mkdir()
    for place in range(20):
        os.link(picture, tmp_path / "many" / f"{place}.png")
    assert predict(tmp_path / "many") == 0
    assert 0 < max(waited) <= writer.THREADS
    asked.clear(), written.clear(), waited.clear()
    monkeypatch.setattr(writer, "MOST_AHEAD", 0)
    assert predict(tmp_path / "many") == 0
    assert max(waited) == 0


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_what_is_written_when_stopped_is_whole(run_folder, labels, paint, tmp_path, number, status, heeds_signals):
    image = Image.fromarray(paint(np.tile(labels, (30, 30))))
    (tmp_path / "many").mkdir()
    image.save(tmp_path / "image.png")
    for place in range(1000):  # however late the signal comes, it is not done
        os.link(tmp_path / "image.png", tmp_path / "many" / f"{place}.png")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "segkit", "predict", str(run_folder), str(tmp_path / "many"), "--probabilities"]
    command += ["--json", "--out", str(out)]
    program = subprocess.Popen(command, stdout=-1, stderr=-1, text=True, preexec_fn=heeds_signals)
    deadline = time.monotonic() + 120
    while not list(out.glob("*.npz")) and program.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    program.send_signal(number)
    printed, told = program.communicate(timeout=120)
    assert (program.returncode, printed) == (status, "")
    word = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
    assert told.strip() == f"segkit: {word}; the files in {out} are whole"
    files = sorted(out.iterdir())
    assert 0 < len(files) < 3000
    for path in files:
        assert path.suffix in (".png", ".jpg", ".npz"), "a temporary file was left"
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                assert arrays["probabilities"].shape == (3, 390, 540)
        else:
            with Image.open(path) as written:
                written.load()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals here")
def test_a_progress_bar_gives_the_terminal_no_orders(run_folder, paint, tmp_path):
    import fcntl
    import struct
    import termios

    image = tmp_path / "\x1b]0;owned\x07.png"
    Image.fromarray(paint(np.ones((300, 300), np.uint8))).save(image)
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = ["predict", str(run_folder), str(image), "--tile", "32", "--out", str(tmp_path / "out")]
    with subprocess.Popen([sys.executable, "-m", "segkit", *command], stdout=theirs, stderr=theirs):
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # the other side was closed
            pass
    os.close(ours)
    assert rb"\x1b]0;owned" in shown, "there was no bar: the test shows nothing"
    assert b"\x1b]0;" not in shown


def test_results_may_be_read_by_whom_the_umask_allows(predict, picture, tmp_path):
    before = os.umask(0o022)
    try:
        assert predict(picture) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out" / "street.png").stat().st_mode) == 0o644


# ---- where on Earth ----

WHERE = {"crs": "EPSG:32630", "transform": (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_500_000.0)}


@pytest.fixture
def map_of(picture):
    """The picture, as a GeoTIFF of three bands."""
    rasterio = pytest.importorskip("rasterio")
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    path = picture.with_name("map.tif")
    how = {"height": pixels.shape[0], "width": pixels.shape[1], "count": 3, "dtype": "uint8", "photometric": "RGB"}
    how |= {"crs": WHERE["crs"], "transform": rasterio.Affine(*WHERE["transform"])}
    with rasterio.open(path, "w", driver="GTiff", **how) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


def test_the_mask_has_the_transform_and_the_system_of_its_image(predict, picture, map_of, tmp_path, capsys):
    import rasterio

    assert predict(map_of, picture) == 0
    assert "1 of 2 images say where on Earth their pixels lie; NAME.tif beside NAME.png" in " ".join(
        capsys.readouterr().out.split()
    )
    (out,) = {path.parent for path in tmp_path.rglob("map_overlay.jpg")}
    assert sorted(path.name for path in out.glob("*.tif")) == ["map.tif"]
    with rasterio.open(out / "map.tif") as mask, rasterio.open(map_of) as image:
        assert (mask.crs, mask.transform, mask.shape) == (image.crs, image.transform, image.shape)
        np.testing.assert_array_equal(mask.read(1), np.asarray(Image.open(out / "map.png")))
        assert mask.colormap(1)[1][:3] == tuple(Image.open(out / "map.png").getpalette()[3:6])
    assert predict(map_of) == 0  # our own is replaced
    (out / "map.tif").write_bytes(map_of.read_bytes())  # somebody's own is not
    assert predict(map_of) == 2
    assert "holds files that segkit has not written" in capsys.readouterr().err


def test_a_large_map_is_read_by_rows_and_gives_the_same(predict, map_of, tmp_path, monkeypatch):
    import rasterio

    with rasterio.open(map_of) as file:
        profile, pixels = file.profile, file.read()
    pixels = np.tile(pixels, (1, 4, 4))
    pixels[:, :30, :20] = 7
    profile |= {"height": pixels.shape[1], "width": pixels.shape[2], "nodata": 7}
    with rasterio.open(map_of, "w", **profile) as file:
        file.write(pixels)
    how = ["--tile", "32", "--compare-with", tmp_path / "masks", "--metrics"]
    (tmp_path / "masks").mkdir()
    Image.fromarray((pixels[0] > 90).astype(np.uint8)).save(tmp_path / "masks" / "map.png")
    real, read = geotiff.GeoRows.rows, []
    monkeypatch.setattr(geotiff.GeoRows, "rows", lambda self, *rows: read.append(rows) or real(self, *rows))
    assert predict(map_of, *how, out=tmp_path / "whole") == 0
    assert not read
    monkeypatch.setattr(geotiff, "MOST_WHOLE", 1000)
    assert predict(map_of, *how, out=tmp_path / "rows") == 0
    assert read
    assert max(last - first for first, last in read) <= 40  # a row of windows at a time
    assert len(read) == len({*read})  # and each once
    for name in ("map.png", "map.tif", "map_overlay.jpg", "map_error.png"):
        assert (tmp_path / "rows" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_large_map_in_jpeg_2000_is_read_by_rows_and_gives_the_same(predict, map_of, tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(map_of) as file:
        how = {key: file.profile[key] for key in ("height", "width", "count", "dtype", "crs", "transform")}
        with rasterio.open(tmp_path / "map.jp2", "w", "JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES", **how) as other:
            other.write(file.read())
    assert predict(tmp_path / "map.jp2", out=tmp_path / "whole") == 0
    monkeypatch.setattr(geotiff, "MOST_WHOLE", 100)
    read = []
    real = geotiff.GeoRows.rows
    monkeypatch.setattr(geotiff.GeoRows, "rows", lambda self, *rows: read.append(rows) or real(self, *rows))
    assert predict(tmp_path / "map.jp2", out=tmp_path / "rows") == 0
    assert read
    for name in ("map.png", "map.tif"):
        assert (tmp_path / "rows" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_large_map_of_jpeg_is_read_whole(map_of, tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    monkeypatch.setattr(geotiff, "MOST_WHOLE", 100)
    assert geotiff.rows_of(map_of, 10**6, None, "stop") is not None
    with (
        rasterio.open(map_of) as source,
        rasterio.open(tmp_path / "jpeg.tif", "w", **{**source.profile, "compress": "jpeg"}) as file,
    ):
        file.write(source.read())
    assert geotiff.rows_of(tmp_path / "jpeg.tif", 10**6, None, "stop") is None


def test_rows_of_many_bands_have_their_values_and_holes(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    pixels = np.arange(4 * 20 * 30, dtype=np.int16).reshape(4, 20, 30)
    pixels[:, 2:4, 5] = -99
    how = {"driver": "GTiff", "height": 20, "width": 30, "count": 4, "dtype": "int16", "nodata": -99}
    with rasterio.open(tmp_path / "a.tif", "w", transform=rasterio.Affine(*WHERE["transform"]), **how) as file:
        file.write(pixels)
    rows = geotiff.GeoRows(tmp_path / "a.tif", [4, 2], "void")
    assert (rows.shape, rows.dtype) == ((2, 20, 30), np.float32)
    part = rows[:, 3:9, 4:30]
    assert np.array_equal(part[:, 1:], pixels[[3, 1], 4:9, 4:])
    assert part[:, 0, 1].isnan().all()
    assert rows.holes.sum() == 1  # of the rows that were read
    monkeypatch.setattr(geotiff, "_MOST_SHOWN", 24)
    shown, step = rows.reduced()
    assert (shown.shape, step) == ((4, 6, 2), 5)
    assert geotiff.GeoRows(tmp_path / "a.tif", [1], "stop").holes is None


def test_without_rasterio_it_is_told_what_to_install(predict, map_of, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(geotiff, "is_installed", lambda: False)
    assert predict(map_of) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "the masks do not: they are PNG, of the same size, pixel for pixel; after python -m pip install" in told
    assert not [path for path in tmp_path.rglob("map.tif") if path != map_of]


@pytest.mark.parametrize("stored", [[[0], [7], [24]], [[0], [7], [40_000]], [[[0, 0, 0]], [[255, 0, 0]], [[9, 8, 7]]]])
def test_stored_labels_are_written_as_geotiff_too(predict, map_of, tmp_path, write_config, run_folder, stored):
    import rasterio

    write_config(run_folder, stored=stored)
    assert predict(map_of, "--stored-labels") == 0
    (out,) = {path.parent for path in tmp_path.rglob("map_overlay.jpg")}
    with rasterio.open(out / "map.tif") as mask, Image.open(out / "map.png") as picture:
        np.testing.assert_array_equal(mask.read().transpose(1, 2, 0).squeeze(), np.asarray(picture))


def test_all_pictures_in_a_file_are_predicted(predict, tmp_path):
    pages = np.random.default_rng(0).integers(0, 255, (3, 20, 24, 3), np.uint8)
    np.save(tmp_path / "stack.npy", pages)
    for number, page in enumerate(pages, 1):
        Image.fromarray(page).save(tmp_path / f"alone_{number}.png")
    assert predict(tmp_path / "stack.npy", *tmp_path.glob("alone_*.png")) == 0
    for number in (1, 2, 3):
        stack, alone = (
            np.asarray(Image.open(tmp_path / "out" / f"{name}_{number}.png")) for name in ("stack", "alone")
        )
        np.testing.assert_array_equal(stack, alone)
    assert list_images([f"{tmp_path}/stack.npy#2"]) == {tmp_path / "stack.npy#2": "stack_2"}


def test_of_a_file_of_several_pictures_those_that_the_run_s_pattern_names_are_predicted(
    predict, run_folder, labels, paint, tmp_path, capsys
):
    np.savez(tmp_path / "all.npz", **{name: paint(labels) for name in ("x/1", "x/2", "y/1", "y/2")})
    assert predict(tmp_path / "all.npz", out=tmp_path / "every") == 0
    assert "4 of 4 images predicted" in capsys.readouterr().out
    config = {"dataset": {"name": "folder", "images": "{id}.npz#x/{n}"}}
    (run_folder / "run.json").write_text(json.dumps({"config": config}))
    assert predict(tmp_path / "all.npz") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "2 of 2 images predicted" in told
    assert "skipped 2 of 4 files, which are not read: 2 pictures of other names" in told
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["all_x_1.png", "all_x_2.png"]
    assert np.array_equal(indices(tmp_path / "out" / "all_x_2.png"), labels)
