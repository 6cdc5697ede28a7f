from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from segkit.cli import main
from segkit_predict.command import class_shares


def indices(path):
    with Image.open(path) as mask:
        assert mask.mode == "P"
        return np.asarray(mask)


def test_masks_and_overlays_at_the_images_own_size(run_folder, picture, labels, tmp_path, capsys):
    out = tmp_path / "out" / "deeper"
    assert main(["predict", str(run_folder), str(picture), "--out", str(out), "--device", "cpu"]) == 0
    assert np.array_equal(indices(out / "street.png"), labels)
    with Image.open(out / "street_overlay.jpg") as overlay:
        assert overlay.size == (18, 13)
    printed = capsys.readouterr()
    shares = np.bincount(labels.ravel()) / labels.size
    assert "1 of 1 images predicted" in printed.out
    assert f"red {shares[1]:.1%}" in printed.out
    assert printed.err == ""


def test_folders_files_and_checkpoints(run_folder, picture, tmp_path):
    (picture.parent / "notes.txt").write_text("no image")
    shutil.copy(picture, tmp_path / "single.PNG")
    out = tmp_path / "out"
    arguments = [str(picture.parent), str(tmp_path / "single.PNG"), str(picture)]  # one of them twice
    assert main(["predict", str(run_folder / "model.safetensors"), *arguments, "--out", str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "single.png",
        "single_overlay.jpg",
        "street.png",
        "street_overlay.jpg",
    ]


def test_a_bad_image_is_named_and_the_rest_done(run_folder, picture, labels, tmp_path, capsys):
    (picture.parent / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    out = tmp_path / "out"
    images = [str(picture.parent), str(tmp_path / "missing.png")]
    assert main(["predict", str(run_folder), *images, "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert "broken.jpg" in printed.err
    assert "missing.png: no such file" in printed.err
    assert "1 of 3 images predicted" in printed.out
    assert np.array_equal(indices(out / "street.png"), labels)


def test_images_of_one_stem_keep_their_folders_or_their_suffixes(run_folder, picture, labels, paint, tmp_path):
    other = picture.parent / "others" / "street.bmp"
    other.parent.mkdir()
    Image.fromarray(paint(np.zeros((3, 4), np.uint8))).save(other)
    out = tmp_path / "out"
    assert main(["predict", str(run_folder), str(picture), str(other.parent), "--out", str(out)]) == 0
    assert np.array_equal(indices(out / "street.png"), labels)
    assert indices(out / "others" / "street.png").shape == (3, 4)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png")) == [
        "others/street.png",
        "street.png",
    ]
    (other.parent / "street.gif").write_bytes(other.read_bytes())
    out = tmp_path / "numbered"
    assert main(["predict", str(run_folder), str(other.parent), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.rglob("*.png")) == ["street_bmp.png", "street_gif.png"]


def test_no_image_is_written_over(run_folder, picture, capsys):
    before = picture.read_bytes()
    assert main(["predict", str(run_folder), str(picture), "--out", str(picture.parent)]) == 2
    assert "would write over" in capsys.readouterr().err
    assert picture.read_bytes() == before


def test_a_prediction_of_the_background_alone_is_seen():
    assert class_shares({"background": 1.0, "car": 0.0, "person": 0.0}) == [
        "pixels: background 100.0%",
        "never predicted: car, person",
    ]


@pytest.mark.parametrize("place", ["empty", "file"])
def test_folders_that_cannot_be_used(run_folder, picture, tmp_path, capsys, place):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    images, out = (tmp_path / "empty", tmp_path / "out") if place == "empty" else (picture, tmp_path / "file")
    assert main(["predict", str(run_folder), str(images), "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert ("holds no image" if place == "empty" else f"--out {out} cannot be written") in message
    assert not (tmp_path / "out").exists()


def test_no_run(picture, tmp_path, capsys):
    assert main(["predict", str(tmp_path / "run"), str(picture), "--out", str(tmp_path / "out")]) == 2
    assert "is not a folder; give a run folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_archive_of_somebodys_is_left_alone(run_folder, picture, tmp_path, capsys):
    archive = tmp_path / "street.npz"
    np.savez(archive, mine=np.zeros(3))
    damaged = archive.read_bytes().replace(b"PK\1\2", b"PK__")  # its end is that of an archive
    archive.write_bytes(damaged)
    assert main(["predict", str(run_folder), str(picture), "--out", str(tmp_path), "--probabilities"]) == 2
    assert f"holds files that segkit has not written: {archive}" in capsys.readouterr().err
    assert archive.read_bytes() == damaged


def test_nothing_is_written_through_a_link_or_over_an_image_of_somebodys(run_folder, picture, tmp_path, capsys):
    out, precious = tmp_path / "out", tmp_path / "precious.jpg"
    out.mkdir()
    precious.write_bytes(b"precious")
    links = {"street.png": "nowhere.png", "street_overlay.jpg": "precious.jpg"}
    for name, target in links.items():
        (out / name).symlink_to(tmp_path / target)
        assert main(["predict", str(run_folder), str(picture), "--out", str(out)]) == 2
        assert f"holds files that segkit has not written: {out / name}" in capsys.readouterr().err
        (out / name).unlink()
    (out / "street_overlay.jpg").write_bytes(b"mine")
    assert main(["predict", str(run_folder), str(picture), "--out", str(out)]) == 2
    assert (out / "street_overlay.jpg").read_bytes() == b"mine"
    (out / "street_overlay.jpg").unlink()
    os.mkfifo(out / "street.png")
    assert main(["predict", str(run_folder), str(picture), "--out", str(out)]) == 2
    (out / "street.png").unlink()
    assert precious.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere.png").exists()
    for _ in range(2):  # its own are replaced
        assert main(["predict", str(run_folder), str(picture), "--out", str(out)]) == 0


def test_names_are_no_orders_to_the_terminal(run_folder, picture, write_config, tmp_path, capsys):
    write_config(run_folder, classes=["dark\x1b[2J", "red", "blue\x9b"])
    odd = tmp_path / "a\x1b]0;title\x07\nb.png"
    odd.write_bytes(picture.read_bytes())
    (tmp_path / "bad\x1b[31m.png").write_bytes(b"none")
    arguments = [str(odd), str(odd), str(tmp_path / "bad\x1b[31m.png"), str(picture)]
    assert main(["predict", str(run_folder), *arguments, "--out", str(tmp_path / "out")]) == 1
    printed = "".join(capsys.readouterr())
    assert printed.replace("\n", "").isprintable()
    assert r"bad\x1b[31m.png: not an image" in printed
    assert r"dark\x1b[2J" in printed
    assert sorted(path.parent for path in tmp_path.rglob("*b*.png") if path != odd)[0] == tmp_path


@pytest.mark.fault("F49")
@pytest.mark.parametrize("more", [[], ["--probabilities"], ["--tile", "16"]], ids=" ".join)
def test_a_network_whose_output_is_no_number_predicts_nothing(run_folder, picture, tmp_path, capsys, more):
    weights = load_file(run_folder / "model.safetensors")
    weights["classifier.bias"][:] = float("nan")
    save_file(weights, run_folder / "model.safetensors")
    assert main(["predict", str(run_folder), str(picture), "--out", str(tmp_path / "out"), *more]) == 1
    printed = capsys.readouterr()
    assert f"{picture}: the model's output is NaN or infinite, so there is no class" in printed.err
    assert not list((tmp_path / "out").iterdir())
